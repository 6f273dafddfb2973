"""One batch from enqueue to its last end, and what it cost: the part that most workloads share."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import click

from bench.sampler import Sample, Sampler, backlog_until, utilisation
from bench.stack import FRAMES, PROMPTED, Running
from bench.usage import Usage, spent
from orchestrator.client import Batch


@dataclass(frozen=True)
class Ran:
    """What came of a batch. `seconds`: from the call of `enqueue_many` until the client knew the last end."""

    jobs: int
    seconds: float
    counts: dict[str, int]
    stats: dict[str, Any]
    samples: Sequence[Sample]
    usage: dict[str, Usage]


def prompts(
    jobs: int, word: str = "bench", characters: int = 0, provider: str = FRAMES
) -> Iterator[dict[str, str]]:
    """Parameters of jobs, no two alike, each prompt filled up to so many characters."""
    name = PROMPTED[provider]
    return ({name: f"{word} {number} ".ljust(characters, "x")} for number in range(jobs))


def warm(running: Running, jobs: int) -> None:
    """Run some jobs that are not measured: imports, connections and scripts that the first ones pay for."""
    if not jobs:
        return
    provider = running.setup.provider
    batch = running.client.enqueue_many(provider, prompts(jobs, "warm-up", provider=provider))
    if lost(jobs, ended(batch, running.patience(jobs))):
        raise click.ClickException("the jobs that warm up do not end")
    running.forget()


def run_batch(running: Running, jobs: int) -> Ran:
    """Enqueue and wait. Jobs that do not end are given up in the end, and counted as lost."""
    before = running.usage()
    with Sampler(running.stats_url) as sampler:
        begun = time.monotonic()
        provider = running.setup.provider
        batch = running.client.enqueue_many(provider, prompts(jobs, provider=provider), batch="bench")
        counts = ended(batch, running.patience(jobs))
        seconds = time.monotonic() - begun
        after = running.usage(aside=sampler.cpu_seconds)
    return Ran(jobs, seconds, counts, running.stats(), sampler.samples, spent(before, after))


def ended(batch: Batch, patience: float) -> dict[str, int]:
    """The counts once all of it has ended, or as they are when the patience is over."""
    try:
        return batch.wait(timeout=patience)
    except TimeoutError:
        return batch.counts()


def lost(jobs: int, counts: dict[str, int]) -> int:
    """Jobs that came to no end."""
    return jobs - sum(counts[state] for state in ("succeeded", "failed", "cancelled"))


def slot_figures(ran: Ran, slots: int) -> dict[str, Any]:
    """What keeping `slots` slots busy took, as the simulator counts it.

    Utilisation is over the window from the first submit to the last end. While a backlog waits, it is from
    the first submit to the last sample that saw a job unsubmitted, which is at most a quarter of a second
    before the last submit; None where the batch was over before such a sample.
    """
    stats = ran.stats
    first, last = stats["first_submit_at"] or 0.0, stats["last_end_at"] or 0.0
    until = backlog_until(ran.samples, ran.jobs) or first
    return {
        "jobs": ran.jobs,
        "succeeded": ran.counts["succeeded"],
        "seconds": ran.seconds,
        "jobs_per_second": ran.jobs / ran.seconds,
        "utilisation": stats["busy_seconds"] / (slots * (last - first)) if last > first else None,
        "utilisation_while_backlog": utilisation(ran.samples, slots, first, until),
        "posts": stats["posts"],
        "posts_per_job": stats["posts"] / ran.jobs,
        "refused_429": sum(count for kind, count in stats["refused"].items() if kind.startswith("429")),
        "max_in_flight": stats["max_concurrent"],
        "refills": stats["refills"],
        "refill_p50_ms": stats["refill_p50_ms"],
        "refill_p95_ms": stats["refill_p95_ms"],
    }
