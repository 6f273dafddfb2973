"""Every slot busy: many short jobs on few slots, with callbacks."""

from __future__ import annotations

import click

from bench.batch import lost, run_batch, slot_figures, warm
from bench.report import Report
from bench.stack import Place, Setup, started
from bench.workload import jobs_option, seconds_option, warm_up_option, workload


@workload
@jobs_option(1_000)
@seconds_option("2")
@warm_up_option()
@click.option("--accounts", type=click.IntRange(1), default=2, show_default=True)
@click.option("--slots", type=click.IntRange(1, 10), default=10, show_default=True, help="Of an account.")
@click.option("--progress", type=click.IntRange(0), default=2, show_default=True, help="Progress callbacks.")
def slots(
    place: Place, jobs: int, seconds: str, warm_up: int, accounts: int, slots: int, progress: int
) -> Report:
    """Keep the slots of a few accounts busy with many short jobs."""
    setup = Setup(accounts, slots, seconds, progress)
    with started(setup, place) as running:
        warm(running, warm_up)
        ran = run_batch(running, jobs)
    figures = slot_figures(ran, setup.all_slots)
    return Report(figures, jobs, ran.usage, lost(jobs, ran.counts), ran.stats["duplicates_by_prompt"])
