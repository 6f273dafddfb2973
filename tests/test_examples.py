"""The examples in deploy/examples run as their READMEs say."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from orchestrator import Orchestrator
from orchestrator.local.processes import Command, Processes
from tests.stack_kit import REPOSITORY

EXAMPLES = REPOSITORY / "deploy" / "examples"
SECONDS = 60.0


@pytest.fixture
def studio(environment: dict[str, str], tmp_path: Path) -> Iterator[dict[str, str]]:
    """The worker of the chain example, and the environment of what runs beside it."""
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    argv = (
        sys.executable,
        "-m",
        "celery",
        "-A",
        "workers",
        "worker",
        "-I",
        "studio",
        "-Q",
        "studio",
        "-n",
        "studio@%h",
    )
    log = tmp_path / "studio.log"
    ready = lambda: "ready." in log.read_text()  # noqa: E731
    with Processes() as processes:
        command = (*argv, "--concurrency=1", "--loglevel=INFO")
        processes.launch(Command("studio", command, env, EXAMPLES / "chain", log, ready, SECONDS))
        processes.wait("studio")
        yield env


def test_jobs_in_a_chain_and_a_chord_with_tasks_of_the_user_s_own(
    studio: dict[str, str], orchestrator: Orchestrator, tmp_path: Path
) -> None:
    sheet = tmp_path / "sheet.png"
    done = subprocess.run(
        [sys.executable, "studio.py", str(sheet)],
        env=studio, cwd=EXAMPLES / "chain", capture_output=True, text=True, timeout=4 * SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (job_id, path), (told_sheet,) = (line.split() for line in done.stdout.splitlines())
    parameters = orchestrator.job(job_id).record.parameters
    assert parameters["text_prompt"].startswith("a fox in the colour #")
    assert parameters["aspect_ratio"] == "1:1"
    assert Path(path).is_file()
    assert told_sheet == str(sheet)
    with Image.open(sheet) as picture:
        assert picture.size == (480, 480)  # seven pictures, three by three
