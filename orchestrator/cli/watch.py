"""Commands that look on: at one batch until it is over, or at everything."""

from __future__ import annotations

import json
import time
from contextlib import closing
from typing import TYPE_CHECKING

import click

from orchestrator.cli.plainly import json_option, with_orchestrator
from orchestrator.cli.waiting import waiting
from orchestrator.views.printing import console, print_json

if TYPE_CHECKING:
    from orchestrator.client import Orchestrator

LOOK_SECONDS = 2.0

interval_option = click.option(
    "--every", type=click.FloatRange(0.2), metavar="SECONDS", help="Look so often.  [default: by itself]"
)
once_option = click.option("--once", is_flag=True, help="Look once.")


@click.command()
@click.argument("batch")
@once_option
@interval_option
@json_option
@with_orchestrator
def watch(orchestrator: Orchestrator, batch: str, once: bool, every: float | None, as_json: bool) -> None:
    """Show how a batch stands, until it is over; as JSON, one object a line.

    Exits with 0 where every job succeeded, with 1 where not. With --once it exits with 0.
    """
    from orchestrator.standing import standing, view
    from orchestrator.views.progress import Progress, line

    now = standing(orchestrator.insight, batch)
    if once:
        return print_json(view(now)) if as_json else click.echo(line(now, None))
    with waiting(orchestrator, orchestrator.batch(batch).counts):
        if as_json:
            click.echo(json.dumps(view(now)))
            while not now.is_over:
                time.sleep(every or LOOK_SECONDS)
                now = standing(orchestrator.insight, batch)
                click.echo(json.dumps(view(now)))
        else:
            with closing(Progress(orchestrator.insight, console, every)) as progress:
                progress.running(batch, 0)
                now = progress.until_over()
    if not now.all_succeeded:
        raise SystemExit(1)


@click.command()
@once_option
@interval_option
@json_option
@with_orchestrator
def top(orchestrator: Orchestrator, once: bool, every: float | None, as_json: bool) -> None:
    """Show everything, live: accounts, who waits, rates, the latest errors and callbacks. Ctrl-C ends it.

    As JSON, one object a line.
    """
    from orchestrator.overview import look
    from orchestrator.views.top import print_top, show_top, view

    every = every or LOOK_SECONDS
    before, now = None, look(orchestrator.flow)
    if not once and not as_json and console.is_terminal:
        return show_top(orchestrator.flow, console, every)
    while True:
        time.sleep(min(every, 1.0) if once else every)
        before, now = now, look(orchestrator.flow)
        if as_json:
            click.echo(json.dumps(view(now, before), indent=2 if once else None))
        else:
            print_top(console, now, before)
        if once:
            return
