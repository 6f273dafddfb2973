"""The same work done by us and by what a user would write today: see `bench/peers`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from bench.comparison import NAMES, SLOTS, THROUGHPUT, Work, compare
from bench.contestants import OURS, PYTHON
from bench.report import Report
from bench.stack import GENERIC, Place, Setup
from bench.workload import jobs_option, rounds_option, seconds_option, warm_up_option, workload


def only_option() -> Callable[..., Any]:
    return click.option("--only", multiple=True, type=click.Choice(NAMES), help="May be repeated.")


def progress_option() -> Callable[..., Any]:
    return click.option(
        "--progress", type=click.IntRange(0), default=0, show_default=True, help="Progress callbacks."
    )


@workload
@jobs_option(1_000)
@seconds_option("2")
@warm_up_option(20)
@rounds_option(3)
@only_option()
@progress_option()
def compare_slots(
    place: Place, jobs: int, seconds: str, warm_up: int, rounds: int, only: Sequence[str], progress: int
) -> Report:
    """Keep 20 slots of two accounts busy: we and the peers, in turns. No pictures are fetched."""
    setup = Setup(2, 10, seconds, progress, pictures=False)
    return compare(Work(setup, jobs, warm_up, SLOTS), place, rounds, contestants(only), _say)


@workload
@jobs_option(5_000)
@seconds_option("0.2")
@warm_up_option(100)
@rounds_option(3)
@only_option()
@progress_option()
def compare_throughput(
    place: Place, jobs: int, seconds: str, warm_up: int, rounds: int, only: Sequence[str], progress: int
) -> Report:
    """Jobs a second without a cap: we and the peers, in turns. No pictures are fetched."""
    setup = Setup(1, 10_000, seconds, progress, pictures=False, provider=GENERIC)
    return compare(Work(setup, jobs, warm_up, THROUGHPUT), place, rounds, contestants(only), _say)


def contestants(only: Sequence[str], python: Path = PYTHON) -> Sequence[str]:
    """All where none is named. Raises: `ClickException` where the peers are not installed."""
    names = only or NAMES
    if set(names) != {OURS} and not python.exists():
        raise click.ClickException("the peers are not installed: `make bench` does it")
    return names


def _say(words: str) -> None:
    click.echo(words, err=True)
