"""Who waits at a command is told where no worker is there to do the work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator import Orchestrator
from orchestrator.cli import waiting
from tests.stack_kit import PATIENCE, REPOSITORY, eventually

FRAMES = "useapi_frames"
SOON = 0.2
COMMAND = (
    *(sys.executable, "-c"),
    "from orchestrator.cli import main, waiting; "
    f"waiting.STILL_SECONDS = waiting.ANSWER_SECONDS = {SOON}; main()",
)


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Of commands in a folder where nothing runs."""
    others = {name: text for name, text in os.environ.items() if not name.startswith("ORCHESTRATOR_")}
    own = {"ORCHESTRATOR_FOLDER": str(tmp_path / "run"), "ORCHESTRATOR_ARTIFACTS": "none"}
    return {**others, **own, "PYTHONPATH": str(REPOSITORY)}


@pytest.fixture
def start(environ: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    begun: list[subprocess.Popen[str]] = []

    def command(*words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*COMMAND, *words],
            env=environ, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        begun.append(process)
        return process

    yield command
    for process in begun:
        process.kill()
        process.communicate()


@pytest.fixture
def alone(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Orchestrator]:
    """The client of a server that it has started itself, and of no worker."""
    for name in os.environ.keys() - environ.keys():
        monkeypatch.delenv(name)
    for name, text in environ.items():
        monkeypatch.setenv(name, text)
    with Orchestrator.from_env() as made:
        yield made


def told(process: subprocess.Popen[str]) -> str:
    """What it says of workers; then it is ended."""
    assert process.stderr
    impatient = threading.Timer(PATIENCE, process.kill)
    impatient.start()
    try:
        said = next((line for line in process.stderr if "no worker answers" in line), "")
    finally:
        impatient.cancel()
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 130
    return said


def test_who_has_the_server_himself_is_told_to_start_the_rest_first(start, tmp_path):
    (tmp_path / "prompts.csv").write_text("text_prompt\na fox in snow\n")
    said = told(start("run", "prompts.csv", "--provider", FRAMES, "--out", "out.jsonl", "--json"))
    assert "start `orchestrator up` in another terminal first; what was enqueued is kept" in said


@pytest.mark.parametrize(
    "words",
    [("enqueue", FRAMES, "text_prompt=an owl", "--wait", "600"), ("watch", "b"), ("watch", "b", "--json")],
)
def test_who_waits_where_nobody_works_is_told_so(start, alone, words):
    alone.enqueue_many(FRAMES, [{"text_prompt": "a fox"}], batch="b")
    assert "`orchestrator up` starts all on one machine" in told(start(*words))


def test_while_anything_changes_nobody_is_asked(alone, monkeypatch, capsys):
    monkeypatch.setattr(waiting, "STILL_SECONDS", 0.01)
    looks: list[int] = []

    def look() -> int:
        looks.append(len(looks))
        return len(looks)

    with waiting.waiting(alone, look):
        eventually(lambda: len(looks) > 5)
    assert capsys.readouterr().err == ""


def test_where_a_worker_answers_nothing_is_said(orchestrator, monkeypatch, capsys):
    monkeypatch.setattr(waiting, "STILL_SECONDS", 0.01)
    with waiting.waiting(orchestrator, lambda: "the same"):
        eventually(lambda: "doubt" not in {thread.name for thread in threading.enumerate()})
    assert capsys.readouterr().err == ""
