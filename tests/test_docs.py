"""What the README shows is run as it stands there."""

from __future__ import annotations

import json
import re
import subprocess
from os import environ

from tests.api_kit import serving
from tests.stack_kit import REPOSITORY

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def test_first_example_of_the_readme_runs_as_written(environment, capsys):
    (example, *_) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(example, "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all(re.fullmatch(r"\S+\.png image/png [0-9a-f]{64}", line) for line in lines)


def test_changelog_has_the_version_of_the_package():
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    (version,) = re.findall(r'^version = "(.+)"', project, re.MULTILINE)
    assert f"## [{version}]" in (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")


def test_examples_from_other_languages_run_as_written(environment, orchestrator, tmp_path):
    """Their answers are JSON, lines of it, or those with a head before."""
    section = README.partition("## From other languages")[2]
    (example, *_) = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    (tmp_path / "requests.jsonl").write_text('{"text_prompt": "one"}\n{"text_prompt": "two"}\n')
    calls = [call for call in re.split(r"\n(?=api )", example) if call.startswith("api ")]
    define, job = example.partition("\n")[0], ""
    with serving(environment, tmp_path) as api:
        answers = []
        for call in calls:
            told = subprocess.run(
                ["sh", "-euc", f"{define}\n{call}"],
                env={**environ, "API": api.url, "KEY": api.key, "JOB": job},
                cwd=tmp_path, capture_output=True, text=True, timeout=90, check=True,
            )  # fmt: skip
            answers.append(told.stdout)
            job = job or json.loads(told.stdout)["id"]
    jobs = [json.loads(answer)["state"] for answer in answers[:2]]
    assert jobs[1] == "succeeded"
    assert json.loads(answers[2])["status"] == 409  # it has ended
    assert json.loads(answers[3]) == {"name": "autumn", "lines": 2, "enqueued": 2}
    assert json.loads(answers[4])["total"] == 2
    assert 'rel="next"' in answers[5] and '"state": "succeeded"' in answers[5]
    assert "is_over" in json.loads(answers[6]) and json.loads(answers[7])["providers"]
    assert len(answers) == 8
