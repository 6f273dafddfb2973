"""What the README shows is run as it stands there."""

from __future__ import annotations

import re

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
