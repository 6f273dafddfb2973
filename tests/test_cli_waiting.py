"""Who waits at a command is told where no worker is there to do the work."""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from click import ClickException

from orchestrator import Orchestrator
from orchestrator.cli import main, waiting
from orchestrator.errors import StoreUnavailable
from tests.stack_kit import PATIENCE, eventually

FRAMES = "useapi_frames"
NOBODY = "no worker answers, so nothing is begun"


class Ears(io.StringIO):
    """A standard error that knows when it was told that nobody works."""

    def __init__(self) -> None:
        super().__init__()
        self.told = threading.Event()

    def write(self, text: str) -> int:
        if NOBODY in text:
            self.told.set()
        return super().write(text)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where nothing runs; this process's environment is that of a command there."""
    for name in [name for name in os.environ if name.startswith("ORCHESTRATOR_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ORCHESTRATOR_FOLDER", str(tmp_path / "run"))
    monkeypatch.setenv("ORCHESTRATOR_ARTIFACTS", "none")
    monkeypatch.setattr(waiting, "LOOK_SECONDS", 0.005)
    return tmp_path


@pytest.fixture
def alone(folder: Path) -> Iterator[Orchestrator]:
    """The client of a server that it has started itself, and of no worker."""
    with Orchestrator.from_env() as made:
        yield made


@pytest.fixture
def said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What a command says that waits for batch `b`; the batch is cancelled once it says that nobody works."""

    def command(*words: str) -> str:
        ears = Ears()
        monkeypatch.setattr(sys, "stderr", ears)
        monkeypatch.setattr(waiting, "ANSWER_SECONDS", 0.1)

        def end() -> None:
            ears.told.wait(PATIENCE)
            # Once the jobs are cancelled, the command may end, and its own server with it.
            with suppress(StoreUnavailable), Orchestrator.from_env() as client:
                client.batch("b").cancel()

        ending = threading.Thread(target=end)
        ending.start()
        with pytest.raises((SystemExit, ClickException)):
            main(words, standalone_mode=False)
        ending.join()
        return ears.getvalue()

    return command


def test_who_has_the_server_himself_is_told_to_start_the_rest_first(said, folder):
    (folder / "b.csv").write_text("text_prompt\na fox in snow\n")
    told = said("run", str(folder / "b.csv"), "--provider", FRAMES, "--out", str(folder / "out.jsonl"))
    assert "start `orchestrator up` in another terminal first; what was enqueued is kept" in told


@pytest.mark.parametrize(
    "words", [("enqueue", FRAMES, "text_prompt=owl", "--batch", "b", "--wait", "600"), ("watch", "b")]
)
def test_who_waits_where_nobody_works_is_told_so_once(said, alone, words):
    alone.enqueue_many(FRAMES, [{"text_prompt": "a fox"}], batch="b")
    told = said(*words)
    assert f"{NOBODY}: start one; `orchestrator up` starts all" in told and told.count(NOBODY) == 1


def test_while_anything_changes_nobody_is_asked(alone, capsys):
    looks: list[int] = []

    def look() -> int:
        looks.append(len(looks))
        return len(looks)

    with waiting.waiting(alone, look):
        eventually(lambda: len(looks) > 3 * waiting.STILL_LOOKS)
    assert capsys.readouterr().err == ""


def test_where_a_worker_answers_nothing_is_said(orchestrator, monkeypatch, capsys):
    monkeypatch.setattr(waiting, "LOOK_SECONDS", 0.005)
    with waiting.waiting(orchestrator, lambda: "the same"):
        eventually(lambda: "doubt" not in {thread.name for thread in threading.enumerate()})
    assert capsys.readouterr().err == ""
