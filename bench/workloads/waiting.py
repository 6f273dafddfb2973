"""Waiting costs nothing: a great many jobs wait, for a slot or at the provider; then all of them end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import click
import redis

from bench.batch import ended, lost, prompts, warm
from bench.looks import looks
from bench.report import MEBIBYTE, Report
from bench.server import memory_of
from bench.stack import GENERIC, PROMPT_CHARACTERS, Place, Running, Setup, started
from bench.usage import Usage, in_sum, spent
from bench.workload import jobs_option, warm_up_option, workload

FOR_EVER = "1000000"
DAY = 86_400
LOOKS = 200
SETTLE_SECONDS = 2.0
IDLE_SECONDS = 5.0
PATIENCE_SECONDS = 60.0
PATIENCE_SECONDS_A_JOB = 0.1
ACCOUNTS, MOST_SLOTS, DRAIN_SLOTS = 10, 10_000, 100  # of an account: at most, and while all of them end
DRAIN_SECONDS = "0.2"


@workload
@jobs_option(100_000)
@warm_up_option()
@click.option("--in-flight", is_flag=True, help="All of them are submitted, and wait for their callback.")
@click.option(
    "--drain/--no-drain", default=True, show_default=True, help="Let all of them end after the look."
)
def waiting(place: Place, jobs: int, warm_up: int, in_flight: bool, drain: bool) -> Report:
    """A great many jobs wait at once, for a slot or at the provider; then all of them end."""
    slots = -(-jobs // ACCOUNTS) if in_flight else 1
    numbers = {"net_seconds": DAY, "deadline_seconds": 7 * DAY}
    setup = Setup(
        ACCOUNTS, min(slots, MOST_SLOTS), DRAIN_SECONDS, 0,
        provider=GENERIC, most_slots=ACCOUNTS * MOST_SLOTS, numbers=numbers,
    )  # fmt: skip
    with started(setup, place) as running:
        warm(running, warm_up)
        running.control(seconds=FOR_EVER)
        before, empty, begun = running.usage(), _redis_bytes(running), time.monotonic()
        parameters = prompts(jobs, characters=PROMPT_CHARACTERS, provider=GENERIC)
        batch = running.client.enqueue_many(GENERIC, parameters, batch="waiting")
        enqueued = time.monotonic() - begun
        patience = PATIENCE_SECONDS + PATIENCE_SECONDS_A_JOB * jobs
        _settled(lambda: batch.counts()["submitted"] >= min(jobs, setup.all_slots), patience)
        after, full, counts = running.usage(), _redis_bytes(running), batch.counts()
        waits = counts["submitted"] if in_flight else counts["queued"]
        figures = {
            "jobs": jobs,
            "waiting": waits,
            "enqueued_per_second": jobs / enqueued,
            "redis_bytes_per_waiting_job": (full - empty) / jobs,
            "cores_busy_while_they_wait": _idle(running),
        }
        cpu = time.process_time()
        figures |= looks(running.client, batch.name, _some(running, batch.name))
        aside = time.process_time() - cpu
        looked = running.usage()
        if drain:
            begun = time.monotonic()
            _drain(running, setup)
            counts = ended(batch, patience)
            figures |= {"done": counts["succeeded"], "drain_seconds": time.monotonic() - begun}
        done, stats = running.usage(aside), running.stats()
    figures |= _memory(before=before, waiting=after, done=done)
    grown = looked["worker"].rss_bytes - after["worker"].rss_bytes
    figures["worker_mib_grown_while_they_wait"] = grown / MEBIBYTE
    gone = lost(jobs, counts) if drain else jobs - _known(counts)
    return Report(figures, jobs, spent(before, done), gone, stats["duplicates_by_prompt"])


def _drain(running: Running, setup: Setup) -> None:
    """Generations become short, those that run end, and there are slots for the others."""
    running.control(seconds=DRAIN_SECONDS, end_all=1)
    for name in setup.names:
        running.client.operations.set_limits(name, {"max_jobs": max(setup.slots, DRAIN_SLOTS)})


def _some(running: Running, batch: str) -> list[str]:
    """Jobs from all over the batch."""
    ids = [each for some in running.client.flow.store.batches.ids(batch) for each in some]
    return ids[:: max(1, len(ids) // LOOKS)][:LOOKS]


def _known(counts: Mapping[str, int]) -> int:
    return sum(count for word, count in counts.items() if word != "total")


def _idle(running: Running) -> float:
    """CPU seconds a second of all our processes while nothing is asked of them, this one left out."""
    before = running.usage()
    time.sleep(IDLE_SECONDS)
    return in_sum(spent(before, running.usage())).cpu_seconds / IDLE_SECONDS


def _memory(**moments: Mapping[str, Usage]) -> dict[str, float]:
    return {
        f"{name}_mib_{when}": usages[name].rss_bytes / MEBIBYTE
        for name in ("worker", "receiver")
        for when, usages in moments.items()
    }


def _redis_bytes(running: Running) -> int:
    with redis.Redis.from_url(running.stack.redis_url) as server:
        return memory_of(server)


def _settled(check: Callable[[], bool], patience: float) -> None:
    """Wait until it is so, and then a little for what follows from it."""
    deadline = time.monotonic() + patience
    while not check() and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(SETTLE_SECONDS)
