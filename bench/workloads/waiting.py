"""Waiting costs nothing: a great many jobs wait for few slots that never become free."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import redis

from bench.batch import prompts
from bench.report import Report
from bench.stack import FRAMES, REPOSITORY, Place, Running, Setup, started
from bench.usage import Usage, spent
from bench.workload import jobs_option, workload
from orchestrator.environment import environment

FOR_EVER = "1000000"
DAY = 86_400
PROMPT_CHARACTERS = 200
LOOKS = 200
STARTS = 3
SETTLE_SECONDS = 2.0
PATIENCE_SECONDS = 60.0
CLI = (sys.executable, "-c", "from orchestrator.cli import main; main()")


@workload
@jobs_option(100_000)
def waiting(place: Place, jobs: int) -> Report:
    """Enqueue far more jobs than there are slots, and look at them while they wait."""
    setup = Setup(10, 1, FOR_EVER, 0, numbers={"net_seconds": DAY, "deadline_seconds": 7 * DAY})
    with started(setup, place) as running:
        before, empty = running.usage(), _redis_bytes(running)
        begun = time.monotonic()
        batch = running.client.enqueue_many(
            FRAMES, prompts(jobs, characters=PROMPT_CHARACTERS), batch="waiting"
        )
        seconds = time.monotonic() - begun
        _settled(lambda: batch.counts()["submitted"] >= min(jobs, setup.all_slots))
        after, full, counts = running.usage(), _redis_bytes(running), batch.counts()
        looks = _looks(running, batch.name)
        stats = running.stats()
    waits = counts["queued"]
    figures = {
        "jobs": jobs,
        "waiting": waits,
        "enqueue_seconds": seconds,
        "enqueued_per_second": jobs / seconds,
        "redis_bytes_per_waiting_job": (full - empty) / waits if waits else None,
        **_growth(before, after),
        **looks,
    }
    known = sum(count for word, count in counts.items() if word != "total")
    return Report(figures, jobs, spent(before, after), jobs - known, stats["duplicates_by_prompt"])


def _looks(running: Running, batch: str) -> dict[str, float]:
    """What people and programs ask while all wait: the median of many calls, in ms."""
    store = running.client.flow.store
    ids = [each for some in store.batches.ids(batch) for each in some]
    some = ids[:: max(1, len(ids) // LOOKS)][:LOOKS]
    calls: dict[str, Callable[[str], Any]] = {
        "store_job_ms": store.job,
        "batch_counts_ms": lambda _: running.client.batch(batch).counts(),
        "account_rows_ms": lambda _: store.accounts.rows(FRAMES, time.time()),
        "explain_ms": running.client.insight.explain,
        "forecast_ms": lambda _: running.client.insight.forecast(batch),
    }
    asked = {name: _median_ms(call, some) for name, call in calls.items()}
    typed = {
        f"{name}_command_ms": _median_ms(_typed, [words] * STARTS)
        for name, words in _commands(some[-1]).items()
    }
    return {**asked, **typed}


def _commands(job_id: str) -> dict[str, tuple[str, ...]]:
    """Name to the words after `orchestrator`: each is run as a process of its own, its start included."""
    return {
        "status": ("status",),
        "status_job": ("status", job_id),
        "accounts": ("accounts",),
        "explain": ("explain", job_id),
        "forecast": ("forecast", "waiting"),
    }


def _typed(words: tuple[str, ...]) -> None:
    subprocess.run([*CLI, *words], env=environment(), cwd=REPOSITORY, stdout=subprocess.DEVNULL, check=True)


def _median_ms(call: Callable[[Any], Any], arguments: Sequence[Any]) -> float:
    taken: list[float] = []
    for argument in arguments:
        begun = time.perf_counter()
        call(argument)
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken) * 1000


def _growth(before: Mapping[str, Usage], after: Mapping[str, Usage]) -> dict[str, int]:
    return {
        f"{name}_rss_bytes_{when}": usages[name].rss_bytes
        for name in ("worker", "receiver")
        for when, usages in (("before", before), ("after", after))
    }


def _redis_bytes(running: Running) -> int:
    with redis.Redis.from_url(running.stack.redis_url) as server:
        return int(server.info("memory")["used_memory"])


def _settled(check: Callable[[], bool]) -> None:
    """Wait until it is so, and then a little for what follows from it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not check() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(SETTLE_SECONDS)
