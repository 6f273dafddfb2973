"""A million jobs wait: what they take, and whether looks and steps stay as cheap as with a thousand."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import redis

from bench.batch import prompts
from bench.looks import looks
from bench.report import Report
from bench.rows import Row
from bench.server import cpu_seconds_of, memory_of
from bench.stack import FRAMES, NOT_THE_CALLERS, PROMPT_CHARACTERS, Place, Setup
from bench.usage import spent, usage_of
from bench.workload import jobs_option, workload
from orchestrator import Orchestrator
from orchestrator.environment import take_environment
from orchestrator.local.valkey import EmbeddedServer
from orchestrator.models import attempt_id

ACCOUNTS = Setup(10, 10, "1")
BATCH = "million"
A_CALL = 10_000
SIZES = (1_000, 10_000, 100_000, 1_000_000)
LOOKS = 20
TURNS = 5
DAY = 86_400.0
PICTURE: dict[str, Any] = {"artifact_urls": ["https://example.com/picture.png"], "source": "callbacks"}


@dataclass
class Site:
    """A server with jobs in it, a client, and the attempts that were granted a slot."""

    client: Orchestrator
    server: Any
    pid: int
    granted: list[str]
    jobs: int = 0


@workload
@jobs_option(1_000_000)
def million(place: Place, jobs: int) -> Report:
    """Queue ever more jobs; at each size look at them, and take steps. Nobody runs anything."""
    sizes = [size for size in SIZES if size < jobs] + [jobs]
    with _site() as site:
        begun, empty = usage_of({"valkey": site.pid}, 0.0), memory_of(site.server)
        rows = [_at(site, size, empty) for size in sizes]
        usage = spent(begun, usage_of({"valkey": site.pid}, 0.0))
        known = int(site.client.batch(BATCH).counts()["total"])
    first, last = rows[0].figures, rows[-1].figures
    flat = {
        f"{name}_times_that_at_{sizes[0]}": last[name][0] / first[name][0]  # type: ignore[operator]
        for name in last
        if name.startswith("step_")
    }
    return Report({"jobs": jobs, **flat}, jobs, usage, jobs - known, 0, rows)


def _at(site: Site, size: int, empty: int) -> Row:
    """Fill up to a size; then look, and step."""
    before, begun = site.jobs, time.monotonic()
    while site.jobs < size:
        count = min(A_CALL, size - site.jobs)
        # Another word for each call: no two prompts are alike.
        parameters = prompts(count, f"from {site.jobs}", PROMPT_CHARACTERS)
        site.client.enqueue_many(FRAMES, parameters, batch=BATCH)
        site.jobs += count
    seconds = time.monotonic() - begun
    kept = memory_of(site.server) - empty
    batches = site.client.flow.store.batches
    if not site.granted:
        site.granted.extend(attempt_id(each, 1) for each in batches.first_ids(BATCH, 0, ACCOUNTS.all_slots))
    ids = batches.first_ids(BATCH, size - LOOKS, LOOKS)
    figures = {
        "enqueued_per_second": (size - before) / seconds,
        "redis_bytes_per_job": kept / size,
        **_steps(site),
        **looks(site.client, BATCH, ids),
    }
    return Row(f"{size:,} jobs", {name: [value] for name, value in figures.items()})


def _steps(site: Site) -> dict[str, float]:
    """Microseconds of the server's CPU for a step of each kind; each settlement grants the next in line."""
    store, now = site.client.flow.store, time.time()
    taken: dict[str, list[float]] = {}

    def timed(name: str, step: Callable[[str], Any], attempts: list[str]) -> list[Any]:
        before = cpu_seconds_of(site.server)
        told = [step(each) for each in attempts]
        spent_seconds = cpu_seconds_of(site.server) - before
        taken.setdefault(f"step_{name}_us", []).append(spent_seconds / len(attempts) * 1e6)
        return told

    for _ in range(TURNS):
        attempts = site.granted
        timed("open", lambda each: store.open(each, now), attempts)
        timed("submitted", lambda each: store.submitted(each, each, now, now + DAY, FRAMES, True), attempts)
        settled = timed("settle", lambda each: store.settle(each, "succeeded", now, **PICTURE), attempts)
        timed("fill", lambda _: store.fill(FRAMES, now), attempts)
        timed("claim", lambda _: store.claim(now), attempts)
        site.granted = [attempt_id(m.job_id, m.attempt) for each in settled for m in each.grants]
    return {name: median(each) for name, each in taken.items()}


@contextmanager
def _site() -> Iterator[Site]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        accounts = Path(folder, "accounts.toml")
        accounts.write_text(ACCOUNTS.accounts_file("http://127.0.0.1:9"), encoding="utf-8")
        with EmbeddedServer.start(Path(folder, "valkey")) as server:
            take_environment(
                {
                    **NOT_THE_CALLERS,
                    "BENCH_TOKEN": "user:0-nobody",
                    "ORCHESTRATOR_REDIS_URL": server.url,
                    "ORCHESTRATOR_ACCOUNTS": str(accounts),
                }
            )
            with Orchestrator.from_env() as client, redis.Redis.from_url(server.url) as raw:
                client.flow.store.batch(BATCH)  # so that what a connection needs is not counted as a job's
                yield Site(client, raw, server.pid, [])
