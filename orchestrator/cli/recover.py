"""The command for the day after Redis was lost."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from orchestrator.cli.plainly import json_option, with_orchestrator
from orchestrator.recovery import Recovery
from orchestrator.views.printing import counted, print_json

if TYPE_CHECKING:
    from orchestrator.client import Orchestrator


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be known again.")
@json_option
@with_orchestrator
def recover(orchestrator: Orchestrator, dry_run: bool, as_json: bool) -> None:
    """Once Redis was lost: take over what providers' lists, parked callbacks and kept pictures tell.

    Generates nothing. Jobs that waited are not known to anybody: enqueue them anew. Exits with 1 where
    something could not be asked.
    """
    found = Recovery(orchestrator.flow).run(dry_run)
    if as_json:
        print_json(asdict(found))
    else:
        again = "would be known again" if dry_run else "are known again"
        click.echo(f"{counted(found.lists, 'job')} {again} by the providers' lists")
        click.echo(f"{counted(found.callbacks, 'job')} {again} by parked callbacks")
        click.echo(f"{counted(found.pictures, 'job')} {again} by the pictures that were kept")
        click.echo(f"{counted(found.known, 'job')} known all the time")
        if found.left and not dry_run:
            left = counted(found.left, "parked callback")
            click.echo(f"{left} still of no known attempt: `orchestrator callbacks list --parked`")
        for trouble in found.troubles:
            click.echo(f"not asked: {trouble}")
    if found.troubles:
        raise SystemExit(1)
