"""`orchestrator report`: a batch as one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape

from orchestrator.cli.plainly import json_option, with_orchestrator
from orchestrator.views.printing import counted, print_json

if TYPE_CHECKING:
    from orchestrator.client import Orchestrator


@click.command()
@click.argument("batch")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), default="report.html",
    show_default=True, help="Where to write it.",
)  # fmt: skip
@click.option(
    "--thumbnails", type=click.Choice(["small", "none"]), default="small", show_default=True,
    help="Pictures in the page itself; the whole ones are links. They need Pillow.",
)  # fmt: skip
@click.option(
    "--limit", type=click.IntRange(0), default=5_000, show_default=True, metavar="JOBS",
    help="Show so many in the gallery; the figures are of all.",
)  # fmt: skip
@json_option
@with_orchestrator
def report(
    orchestrator: Orchestrator, batch: str, output: Path, thumbnails: str, limit: int, as_json: bool
) -> None:
    """Write what became of a batch as one page: pictures, figures, errors, spend."""
    from orchestrator.report.page import size  # brings Jinja and Pillow: not for `--help`
    from orchestrator.report.write import Wanted, write_report

    flow = orchestrator.flow
    wanted = Wanted(limit=limit, thumbnails=thumbnails == "small")
    try:
        with Console(stderr=True).status(f"Writing {escape(str(output))} …"):
            written = write_report(flow.store, flow.exchange.providers, flow.clock(), batch, output, wanted)
    except OSError as error:
        raise click.ClickException(f"{output} cannot be written: {error.strerror or error}") from None
    if as_json:
        return print_json(
            {
                "path": str(written.path),
                "bytes": written.bytes,
                "jobs": written.jobs,
                "shown": written.shown,
                "thumbnails": written.thumbnails,
                "note": written.note or None,
            }
        )
    told = [counted(written.jobs, "job"), counted(written.thumbnails, "thumbnail"), size(written.bytes)]
    click.echo(f"{written.path}: {', '.join(told)}")
    if written.note:
        click.echo(written.note, err=True)
