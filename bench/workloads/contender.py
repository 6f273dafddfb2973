"""Every slot busy, although another client on the same accounts takes freed slots, too."""

from __future__ import annotations

from typing import Any

import click

from bench.batch import Ran, lost, run_batch, slot_figures
from bench.report import Report
from bench.sampler import utilisation
from bench.stack import Place, Setup, started
from bench.workload import jobs_option, seconds_option, workload


@workload
@jobs_option(1_000)
@seconds_option("2")
@click.option("--tasks", type=click.IntRange(1, 10), default=4, show_default=True,
              help="Slots that the other client tries to hold on each account of 10.")  # fmt: skip
@click.option(
    "--task-seconds", type=float, default=2.0, show_default=True, help="Of its tasks, before scaling."
)
def contender(place: Place, jobs: int, seconds: str, tasks: int, task_seconds: float) -> Report:
    """The same as `slots`, with another client on both accounts."""
    setup = Setup(2, 10, seconds)
    with started(setup, place) as running:
        for email in setup.emails:
            running.control(contender={"email": email, "tasks": tasks, "seconds": task_seconds})
        ran = run_batch(running, jobs)
    figures = {**slot_figures(ran, setup.all_slots), **_contended(ran, setup)}
    return Report(figures, jobs, ran.usage, lost(jobs, ran.counts), ran.stats["duplicates_by_prompt"])


def _contended(ran: Ran, setup: Setup) -> dict[str, Any]:
    """Slots freed are ours and the other client's; utilisation by all is over the same window as ours."""
    stats = ran.stats
    freed = stats["ended_by_account"]
    refused = {email: stats["refused_by_account"].get(email, {}).get("429A", 0) for email in setup.emails}
    first, last = stats["first_submit_at"] or 0.0, stats["last_end_at"] or 0.0
    return {
        "utilisation_by_all": utilisation(ran.samples, setup.all_slots, first, last, foreign=True),
        "foreign_busy_seconds": stats["foreign_busy_seconds"],
        "slots_freed": freed,
        "refused_429A": refused,
        "refused_per_freed_slot": {
            email: count / freed[email] if freed.get(email) else None for email, count in refused.items()
        },
    }
