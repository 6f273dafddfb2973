"""`orchestrator run` from file to file, killed and begun again; its memory against a file a tenth as long."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import click

from bench.batch import prompts
from bench.report import Report
from bench.stack import FRAMES, REPOSITORY, Place, Setup, started
from bench.usage import spent
from bench.workload import jobs_option, seconds_option, workload
from orchestrator.environment import environment

COMMAND = (sys.executable, "-c", "from orchestrator.cli import main; main()", "run")
LOOK_SECONDS = 0.05
KIB_OF_MAXRSS = 1024 if sys.platform == "linux" else 1


@workload
@jobs_option(10_000)
@seconds_option("2")
@click.option("--kills", type=click.IntRange(0), default=3, show_default=True, help="With kill -9.")
def files(place: Place, jobs: int, seconds: str, kills: int) -> Report:
    """A file of requests becomes a file of outcomes though the command is killed on its way."""
    with started(Setup(2, 10, seconds), place) as running, tempfile.TemporaryDirectory() as folder:
        before = running.usage()
        _, small = _run(Path(folder) / "small.jsonl", jobs // 10, [])
        small_posts = running.stats()["posts"]
        begun = time.monotonic()
        at = [round(jobs * (number + 1) / (kills + 1)) for number in range(kills)]
        outcomes, peak = _run(Path(folder) / "large.jsonl", jobs, at)
        took = time.monotonic() - begun
        usage, stats = spent(before, running.usage()), running.stats()
    states = Counter(each["state"] for each in outcomes)
    known = Counter(each["custom_id"] for each in outcomes)
    figures = {
        "outcomes": len(outcomes),
        **{state: count for state, count in sorted(states.items())},
        "outcomes_told_twice": sum(count - 1 for count in known.values()),
        "posts": stats["posts"] - small_posts,
        "seconds": took,
        "peak_mib_of_a_tenth": small / 2**20,
        "peak_mib": peak / 2**20,
    }
    gone = jobs - len(known)
    return Report(figures, jobs + jobs // 10, usage, gone, stats["duplicates_by_prompt"])


def _run(source: Path, jobs: int, kill_at: list[int]) -> tuple[list[dict[str, str]], int]:
    """The outcomes, and the largest memory of any of the commands in bytes; killed at so many outcomes."""
    source.write_text("".join(json.dumps(each) + "\n" for each in prompts(jobs, source.stem)))
    out = source.with_suffix(".out.jsonl")
    peak = 0
    for lines in [*kill_at, None]:
        words = [*COMMAND, str(source), "--provider", FRAMES, "--out", str(out), "--quiet"]
        process = subprocess.Popen(words, env={**environment(), "PYTHONPATH": str(REPOSITORY)})
        if lines is not None:
            _wait_for(out, lines, process)
            process.send_signal(signal.SIGKILL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        peak = max(peak, used.ru_maxrss * KIB_OF_MAXRSS)
    return [json.loads(line) for line in out.read_text().splitlines()], peak


def _wait_for(out: Path, lines: int, process: subprocess.Popen[bytes]) -> None:
    while not (out.exists() and out.read_bytes().count(b"\n") >= lines):
        if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return  # it has ended by itself
        time.sleep(LOOK_SECONDS)
