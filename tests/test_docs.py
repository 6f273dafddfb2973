"""What the README and the pages of docs/ show is run as it stands there, or at least checked."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from os import environ

import pytest
from click.testing import CliRunner

from orchestrator.accounts_file import ACCOUNT_NUMBERS, ACCOUNT_TEXTS
from orchestrator.build import registry
from orchestrator.cli import main
from tests.api_kit import serving
from tests.docs_kit import DOCS, PAGES, REPOSITORY, SHELLS, anchors, blocks, commands, fault, links
from tests.stack_kit import eventually

README = REPOSITORY / "README.md"
OTHER_LANGUAGES = {"text", "toml", "json", "csv", "yaml", "ini", "mermaid", "promql", "nginx", "dockerfile"}
# Pages whose commands are run, on the session's stack and in their order.
RUN = ("limits.md", "batches.md", "run-book.md")
# They go on until Ctrl-C, are processes of their own, or wait for all workers; each has tests elsewhere.
STAY = {"up", "demo", "simulate", "top", "openapi", "doctor"}
NOT_HERE = "--notify-url"  # the session's stack has no secret that signs what is told
MAY_END_WITH_1 = ("watch", "run")  # where jobs failed
ONCE = ("recover", "status", "accounts", "batches", "collecting")  # of a page: they change nothing
PYTHON_PAGES = [page for page in PAGES if any(block.language == "python" for block in blocks(page))]


def test_first_example_of_the_readme_runs_as_written(environment, capsys):
    example = next(block.text for block in blocks(README) if block.language == "python")
    exec(compile(example, "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all(re.fullmatch(r"\S+\.png image/png [0-9a-f]{64}", line) for line in lines)


@pytest.mark.parametrize(
    ("page", "prompt"),
    [(README, "a lighthouse in fog"), (DOCS / "quick-start.md", "a harbour at night")],
    ids=lambda each: getattr(each, "name", None),
)
def test_first_example_goes_on_where_a_prompt_is_refused(page, prompt, environment, capsys):
    example = next(block.text for block in blocks(page) if block.language == "python")
    refused = f"{prompt} [moderated]"
    example = example.replace(prompt, refused).replace('batch="', 'batch="refused-')
    exec(compile(example, str(page), "exec"), {})
    told = capsys.readouterr().out
    assert f"{refused} Moderated: Text did not pass content moderation." in told
    assert told.count(".png") == 1


def test_changelog_has_the_version_of_the_package():
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    (version,) = re.findall(r'^version = "(.+)"', project, re.MULTILINE)
    assert f"## [{version}]" in (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")


# --- blocks -------------------------------------------------------------------------------------------


def test_every_block_says_what_it_is():
    unknown = [
        f"{block}: {block.language or 'no language'}"
        for page in PAGES
        for block in blocks(page)
        if block.language not in {*OTHER_LANGUAGES, *SHELLS, "python"}
    ]
    assert not unknown


def test_every_command_exists_with_its_options():
    faults = [
        f"{block}: {' '.join(words)}: {why}"
        for page in PAGES
        for block in blocks(page)
        if block.language in SHELLS
        for words in commands(block)
        if (why := fault(words))
    ]
    assert not faults


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_of_commands_are_shell(page):
    for block in blocks(page):
        if block.language in SHELLS:
            told = subprocess.run(["sh", "-n"], input=block.text, capture_output=True, text=True, check=False)
            assert told.returncode == 0, f"{block}: {told.stderr}"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where a reader stands, with the file of the quick start."""
    monkeypatch.chdir(tmp_path)
    (written,) = [block.text for block in blocks(DOCS / "quick-start.md") if block.language == "csv"]
    (tmp_path / "prompts.csv").write_text(written, encoding="utf-8")
    return tmp_path


@pytest.fixture
def taken_back(orchestrator):
    """What a page tells the accounts, the batch autumn or the tenant acme, holds until its test is over."""
    yield
    for kind, name in (("account", "studio-1"), ("account", "studio-2"), ("provider", "useapi_frames")):
        orchestrator.operations.resume(kind, name)
    for kind, name in (("batch", "autumn"), ("tenant", "acme")):
        orchestrator.operations.weigh(kind, name, 1)
    orchestrator.operations.set_limits("studio-1", dict.fromkeys(("max_jobs", "max_spend"), None))


@pytest.mark.parametrize("page", PYTHON_PAGES, ids=lambda page: page.name)
def test_python_of_a_page_runs_as_written(page, environment, folder, taken_back):
    names: dict[str, object] = {"__name__": "docs"}
    for block in blocks(page):
        if block.language == "python":
            exec(compile("\n" * block.line + block.text, str(page), "exec", dont_inherit=True), names)
    if "orchestrator" in names:
        names["orchestrator"].close()


def test_the_example_of_a_provider_passes_the_contract(tmp_path):
    """Followed to the letter: its file, its row in SAMPLES, its row in the README."""
    example = blocks(DOCS / "adding-a-provider.md")
    file = next(block.text for block in example if block.language == "python")
    sample, row = (block.text for block in example if block.language == "text")
    readme, contract = README.read_text(encoding="utf-8"), REPOSITORY / "tests/test_contract.py"
    head, table, rest = readme.partition("|---|---|---|\n")
    asked = contract.read_text(encoding="utf-8").replace("SAMPLES = {\n", "SAMPLES = {\n" + sample)
    found = (
        f"import orchestrator.providers as known\nknown.__path__.append({str(tmp_path / 'providers')!r})\n"
    )
    for name, text in {
        "providers/atelier.py": file,
        "README.md": head + table + row + rest,
        "tests/conftest.py": found,
        "tests/test_contract.py": asked,
        "tests/test_atelier.py": "",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    options = ("-q", "-k", "atelier", "-c", str(REPOSITORY / "pyproject.toml"), "-p", "no:cacheprovider")
    told = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(tmp_path / "tests")],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stdout
    assert " passed" in told.stdout


@pytest.fixture
def scene(environment, orchestrator, taken_back):
    """What the pages speak of: the batch autumn, one of whose jobs failed. Gives what stands for what."""
    prompts = ["a leaf", "a gate", "a red boat [moderated]"]
    orchestrator.enqueue_many(
        "useapi_frames", [{"text_prompt": prompt} for prompt in prompts], batch="autumn", custom_ids=prompts
    )
    jobs = orchestrator.batch("autumn").jobs()
    eventually(lambda: orchestrator.batch("autumn").is_over)
    (heard,) = orchestrator.flow.store.journal.recent(1)
    return {"JOB": jobs[0].id, "FAILED": jobs[2].id, "BATCH": "autumn", "ID": heard.id}


@pytest.mark.parametrize("name", RUN)
def test_commands_of_a_page_run_as_written(name, scene, orchestrator, folder):
    seen = set[str]()
    for block in blocks(DOCS / name):
        for program, *arguments in commands(block) if block.language in SHELLS else ():
            if program != "orchestrator" or not _is_run(arguments) or str(arguments) in seen:
                continue
            if arguments[0] in ONCE and "set" not in arguments:
                seen.add(str(arguments))
            if arguments[0] == "purge":
                eventually(lambda: orchestrator.batch("autumn").is_over)
            told = CliRunner().invoke(main, [scene.get(word, word) for word in arguments], input="y\n")
            plainly = told.exception is None or isinstance(told.exception, SystemExit)
            assert plainly, f"{block}: {arguments}: {told.exception!r}"
            well = (0, 1) if arguments[0] in MAY_END_WITH_1 else (0,)
            assert told.exit_code in well, f"{block}: {arguments}: {told.output}"


def _is_run(arguments: list[str]) -> bool:
    return not STAY & set(arguments) and NOT_HERE not in arguments and "$" not in "".join(arguments)


# --- what stands in the pages -------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    lost = [
        link
        for link, path, anchor in links(page)
        if not path.exists() or (anchor and path.suffix == ".md" and anchor not in anchors(path))
    ]
    assert not lost


def test_the_index_names_every_page():
    named = {path for _, path, _ in links(DOCS / "README.md")}
    assert {page for page in DOCS.glob("*.md")} - named == {DOCS / "README.md"}


def test_settings_name_every_variable():
    page = (DOCS / "settings.md").read_text(encoding="utf-8")
    told = re.compile(r'"((?:ORCHESTRATOR|FLOWER|OTEL)_[A-Z_]+|WEB_CONCURRENCY|FORWARDED_ALLOW_IPS)"')
    ours = re.compile(r'env\.\w+\(\s*"([A-Z_]+)"')
    found = set()
    for folder in ("orchestrator", "workers", "webhooks", "deploy"):
        for file in (REPOSITORY / folder).rglob("*.py"):
            text = file.read_text(encoding="utf-8")
            found |= {*told.findall(text), *(f"ORCHESTRATOR_{name}" for name in ours.findall(text))}
    assert len(found) > 15
    assert {name for name in found if f"`{name}`" not in page} == set()


def test_settings_name_every_field_of_an_account():
    page = (DOCS / "settings.md").read_text(encoding="utf-8")
    missing = [
        f"{provider}: {name}"
        for provider, facts in registry().items()
        for name in facts.account_fields
        if f"| `{name}` |" not in page.partition(f"an account of `{provider}`")[2].partition("\n\n")[0]
    ]
    missing += [name for name in ACCOUNT_TEXTS if f"| `{name}` |" not in page]
    missing += [
        row
        for name, (_, low, high, default) in ACCOUNT_NUMBERS.items()
        if (row := f"| `{name}` | {default:g} | {low:g} | {high:.0f} |") not in page
    ]
    assert not missing


def test_examples_from_other_languages_run_as_written(environment, orchestrator, tmp_path):
    """Their answers are JSON, lines of it, or those with a head before."""
    (example,) = [block.text for block in blocks(DOCS / "http-api.md") if block.text.startswith("api() ")]
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
