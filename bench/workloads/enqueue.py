"""How fast jobs are taken: `enqueue_many` beside a loop of Celery's `apply_async`, in turns."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import click
import redis

from bench.enqueuers import BATCH, ENQUEUERS
from bench.report import Report
from bench.stack import NOT_THE_CALLERS, REPOSITORY, Place, Setup
from bench.usage import CLIENT, Usage
from bench.workload import jobs_option, workload
from orchestrator.environment import environment
from orchestrator.local.valkey import EmbeddedServer

ACCOUNTS = Setup(10, 1, "1")


@workload
@jobs_option(100_000)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
def enqueue(place: Place, jobs: int, rounds: int) -> Report:
    """Enqueue, with nobody there to run anything. A process and a server of its own each time."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ENQUEUERS}
    for turn in range(rounds):
        for name in list(ENQUEUERS)[:: -1 if turn % 2 else 1]:
            found[name].append(_enqueued(name, jobs))
    rates = {name: [jobs / each["seconds"] for each in told] for name, told in found.items()}
    ratios = [ours / theirs for ours, theirs in zip(rates["product"], rates["celery"], strict=True)]
    figures: dict[str, Any] = {"jobs": jobs, "rounds": rounds}
    for name, told in found.items():
        figures |= _spread(f"{name}_jobs_per_second", rates[name])
        figures[f"{name}_peak_mebibytes"] = max(each["peak_bytes"] for each in told) / 1024**2
        figures[f"{name}_client_cpu_ms_per_job"] = median(each["cpu_seconds"] for each in told) * 1000 / jobs
    figures |= _spread("times_as_fast_as_celery", ratios)
    ours = found["product"][-1]
    usage = {CLIENT: Usage(ours["cpu_seconds"], ours["peak_bytes"])}
    return Report(figures, jobs, usage, lost=jobs - ours["known"], paid_twice=0)


def _spread(name: str, values: Sequence[float]) -> dict[str, float]:
    return {name: median(values), f"{name}_lowest": min(values), f"{name}_highest": max(values)}


def _enqueued(name: str, jobs: int) -> dict[str, Any]:
    """What an enqueuer told of itself; `known`: jobs of the batch that are in Redis."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        accounts = Path(folder, "accounts.toml")
        accounts.write_text(ACCOUNTS.accounts_file("http://127.0.0.1:9"), encoding="utf-8")
        with EmbeddedServer.start(Path(folder, "valkey")) as server:
            own = {
                **NOT_THE_CALLERS,
                "BENCH_TOKEN": "user:0-nobody",
                "ORCHESTRATOR_REDIS_URL": server.url,
                "ORCHESTRATOR_ACCOUNTS": str(accounts),
            }
            said = subprocess.run(
                [sys.executable, "-m", "bench.enqueuers", name, str(jobs)],
                cwd=REPOSITORY, env={**environment(), **own}, check=True, stdout=subprocess.PIPE, text=True,
            ).stdout  # fmt: skip
            with redis.Redis.from_url(server.url, decode_responses=True) as raw:
                known = int(raw.hget(f"orc:batch:{BATCH}", "total") or 0)
        return {**json.loads(said), "known": known}
