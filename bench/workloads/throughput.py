"""As many jobs a second as there is: nothing caps them, and a generation takes next to no time."""

from __future__ import annotations

import click

from bench.batch import lost, run_batch, slot_figures, warm
from bench.report import Report
from bench.stack import GENERIC, Place, Setup, started
from bench.workload import jobs_option, seconds_option, warm_up_option, workload


@workload
@jobs_option(5_000)
@seconds_option("0.2")
@warm_up_option(100)
@click.option("--slots", type=click.IntRange(1, 10_000), default=10_000, show_default=True)
@click.option("--progress", type=click.IntRange(0), default=0, show_default=True, help="Progress callbacks.")
@click.option("--pictures/--no-pictures", default=True, show_default=True, help="Fetch and keep them.")
def throughput(
    place: Place, jobs: int, seconds: str, warm_up: int, slots: int, progress: int, pictures: bool
) -> Report:
    """Jobs a second where one account takes all of them at once."""
    setup = Setup(1, slots, seconds, progress, pictures=pictures, provider=GENERIC)
    with started(setup, place) as running:
        warm(running, warm_up)
        ran = run_batch(running, jobs)
    told = slot_figures(ran, setup.all_slots)
    names = ("jobs", "succeeded", "seconds", "jobs_per_second", "posts_per_job", "max_in_flight")
    figures = {name: told[name] for name in names}
    return Report(figures, jobs, ran.usage, lost(jobs, ran.counts), ran.stats["duplicates_by_prompt"])
