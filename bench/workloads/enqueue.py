"""How fast jobs are taken: `enqueue_many` beside a loop of Celery's `apply_async`, in turns."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import redis

from bench.enqueuers import BATCH, ENQUEUERS
from bench.report import MEBIBYTE, Report
from bench.rows import Row, gathered, ratios
from bench.stack import NOT_THE_CALLERS, REPOSITORY, Place, Setup
from bench.usage import CLIENT, Usage
from bench.workload import jobs_option, rounds_option, workload
from orchestrator.environment import environment
from orchestrator.local.valkey import EmbeddedServer

ACCOUNTS = Setup(10, 1, "1")


@workload
@jobs_option(100_000)
@rounds_option(3)
def enqueue(place: Place, jobs: int, rounds: int) -> Report:
    """Enqueue, with nobody there to run anything. A process and a server of its own each time."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ENQUEUERS}
    for turn in range(rounds):
        for name in list(ENQUEUERS)[:: -1 if turn % 2 else 1]:
            found[name].append(_enqueued(name, jobs))
    ours, celery = (gathered(name, [_figures(each, jobs) for each in told]) for name, told in found.items())
    times = ratios(ours.figures["jobs_per_second"], celery.figures["jobs_per_second"])
    last = found[ours.name][-1]
    return Report(
        {"jobs": jobs, "rounds": rounds},
        jobs,
        {CLIENT: Usage(last["cpu_seconds"], last["peak_bytes"], last["peak_bytes"])},
        lost=jobs - last["known"],
        paid_twice=0,
        rows=[Row(ours.name, {**ours.figures, "times_celery": times}), celery],
    )


def _figures(told: dict[str, Any], jobs: int) -> dict[str, float | None]:
    return {
        "jobs_per_second": jobs / told["seconds"],
        "cpu_ms_per_job": told["cpu_seconds"] * 1000 / jobs,
        "peak_mib": told["peak_bytes"] / MEBIBYTE,
    }


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
