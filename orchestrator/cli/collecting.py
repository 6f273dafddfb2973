"""Commands about pictures that were made and are not kept yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from orchestrator.cli.plainly import json_option, with_orchestrator
from orchestrator.views.collecting import show_collecting
from orchestrator.views.printing import print_json

if TYPE_CHECKING:
    from orchestrator.client import Orchestrator

LISTED = 50


@click.command()
@click.option("--limit", type=click.IntRange(1), help=f"Show so many.  [default: {LISTED}; as JSON, all]")
@json_option
@with_orchestrator
def collecting(orchestrator: Orchestrator, limit: int | None, as_json: bool) -> None:
    """List jobs whose pictures could not be kept so far, the first to be lost first."""
    show_collecting(orchestrator, limit or (None if as_json else LISTED), as_json)


@click.command()
@click.argument("job_id", metavar="JOB")
@json_option
@with_orchestrator
def refresh(orchestrator: Orchestrator, job_id: str, as_json: bool) -> None:
    """Ask the provider for fresh URLs of a job's pictures, and collect those that are not kept."""
    urls = orchestrator.job(job_id).refresh()
    if as_json:
        return print_json({"id": job_id, "urls": urls})
    for url in urls:
        click.echo(url)
