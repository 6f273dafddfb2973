"""A large batch does not starve a small one that comes later."""

from __future__ import annotations

import time
from collections.abc import Sequence

import click

from bench.batch import ended, lost, prompts
from bench.report import Report
from bench.stack import FRAMES, Place, Running, Setup, started
from bench.usage import spent
from bench.workload import jobs_option, seconds_option, workload
from orchestrator.store import Store

HEAD_START_SECONDS = 2.0


@workload
@jobs_option(5_000)
@seconds_option("1")
@click.option(
    "--small", type=click.IntRange(1), default=10, show_default=True, help="Jobs of the small batch."
)
def fairness(place: Place, jobs: int, seconds: str, small: int) -> Report:
    """A small batch alone, then beside a large one that began two seconds (scaled) before it.

    What runs first is slower, so a batch that is not measured goes before both.
    """
    with started(Setup(2, 10, seconds), place) as running:
        patience = running.patience(jobs + 3 * small)
        _, warm = _timed(running, "warm-up", small, patience)
        alone_seconds, alone = _timed(running, "alone", small, patience)
        before = running.usage()
        batch = running.client.enqueue_many(FRAMES, prompts(jobs, "large"), batch="large")
        time.sleep(HEAD_START_SECONDS * place.scale)
        beside_seconds, beside = _timed(running, "beside", small, patience)
        queued = batch.counts()["queued"]
        large = ended(batch, patience)
        usage, stats, store = spent(before, running.usage()), running.stats(), running.client.flow.store
        enqueued = store.batch("beside")["created"]
        freed = freed_until_started(enqueued, _grants(store, "beside"), _grants(store, "large"))
    figures = {
        "alone_seconds": alone_seconds,
        "beside_seconds": beside_seconds,
        "times_as_long": beside_seconds / alone_seconds,
        "freed_slots_until_all_started": freed,
        "large_still_queued_then": queued,
        "posts": stats["posts"],
        "posts_per_job": stats["posts"] / (jobs + 3 * small),
    }
    gone = lost(jobs, large) + sum(lost(small, counts) for counts in (warm, alone, beside))
    return Report(figures, jobs + small, usage, gone, stats["duplicates_by_prompt"])


def freed_until_started(enqueued: float, small: Sequence[float], large: Sequence[float]) -> int:
    """How many slots were given away from the moment the small batch came until its last job had one.

    `small` and `large`: the moments at which each batch's jobs were given slots.
    """
    return sum(enqueued <= moment <= max(small) for moment in (*small, *large))


def _timed(running: Running, name: str, jobs: int, patience: float) -> tuple[float, dict[str, int]]:
    begun = time.monotonic()
    batch = running.client.enqueue_many(FRAMES, prompts(jobs, name), batch=name)
    counts = ended(batch, patience)
    return time.monotonic() - begun, counts


def _grants(store: Store, batch: str) -> list[float]:
    """The moments at which jobs of the batch were given slots."""
    jobs = (job for ids in store.batches.ids(batch) for job in store.jobs(ids))
    return [float(row["granted"]) for job in jobs for row in store.attempts(job)]
