"""The command that takes a file of requests to a file of outcomes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from orchestrator.batches import Terms
from orchestrator.cli.plainly import json_option, names, pairs, with_orchestrator
from orchestrator.cli.waiting import waiting
from orchestrator.errors import BadFile, Invalid
from orchestrator.views.printing import amount, counted, print_json, span

if TYPE_CHECKING:
    from orchestrator.client import Orchestrator
    from orchestrator.files import Plan, Summary
    from orchestrator.files.display import Display

BAD_INPUT = 2


@click.command()
@click.argument("file", metavar="FILE|-")
@click.option(
    "--provider", "providers", multiple=True, required=True, metavar="PROVIDER[,PROVIDER...]",
    callback=lambda context, parameter, words: names(words), help="Of several, any will do.",
)  # fmt: skip
@click.option("--out", metavar="FILE|-", help="Where the outcomes go: .jsonl, .csv or .parquet.")
@click.option("--batch", default="", help="Name of the batch.  [default: the file's, without its suffix]")
@click.option("--tenant", default="", help="Whose batches share one part of the slots.")
@click.option("--priority", type=click.IntRange(0, 9), help="9 goes first, within the batch.")
@click.option("--weight", type=float, help="How many times the share of another batch it gets.")
@click.option("--max-spend", type=float, help="What the batch may cost; before more, it is paused.")
@click.option("--max-failures", type=int, help="Pause the batch once so many jobs have failed.")
@click.option("--max-failure-share", type=float, help="The same, from 0 to 1 of at least 20 that ended.")
@click.option("--notify-url", default="", help="Is told of the end of each job, and of the batch.")
@click.option("--max-attempts", type=int, help="Failures a job may have, where not as its account says.")
@click.option("--expires", type=float, metavar="SECONDS", help="No attempt is begun after so long.")
@click.option("--set", "shared", multiple=True, metavar="KEY=VALUE", help="A parameter of all records.")
@click.option("--format", "format_", type=click.Choice(("jsonl", "csv", "parquet")), help="Of FILE.")
@click.option("--retry-failed", is_flag=True, help="What failed before runs again; its outcome is replaced.")
@click.option("--wait-paused", is_flag=True, help="Go on waiting while the batch is paused.")
@click.option("--check", "only_check", is_flag=True, help="Check the file, say what it would take, and stop.")
@click.option("--errors", type=click.Path(path_type=Path, dir_okay=False), help="Write all faults here.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
@json_option
@with_orchestrator
def run(
    orchestrator: Orchestrator, file: str, providers: list[str], out: str | None, batch: str,
    tenant: str, weight: float | None, max_spend: float | None, max_failures: int | None,
    max_failure_share: float | None, notify_url: str, shared: tuple[str, ...], format_: str | None,
    retry_failed: bool, wait_paused: bool, only_check: bool, errors: Path | None, quiet: bool, as_json: bool,
    **options: Any,
) -> None:  # fmt: skip
    """Generate what a file asks for: a job a record, one outcome each in --out, as they end.

    FILE is JSONL, CSV or Parquet; `-` is standard input. A record has the provider's parameters, and may have
    a custom_id (else its number) and a priority. Everything is checked before anything is begun. Interrupted,
    by whatever, and run again the same, it goes on where it was, and pays for nothing twice.

    Exits with 0 where every job succeeded; with 2 where the file, or what is said of it, cannot be taken;
    with 130 where it was interrupted; with 1 else: a job did not succeed, the batch is paused, the settings
    are wrong, or Redis does not answer.
    """
    from orchestrator import files

    if out is None and not only_check:
        raise click.UsageError("where do the outcomes go? Say --out FILE, or --check")
    if out == "-" and as_json:
        raise click.UsageError("--json and --out - would both write to standard output")
    display = _display(orchestrator, quiet or as_json)
    terms = Terms(weight, max_spend, max_failures, max_failure_share, notify_url)
    try:
        source = files.Source(
            file, providers, batch, tenant, _shared(orchestrator, providers, shared),
            {name: value for name, value in options.items() if value is not None}, errors, format_ or "",
        )  # fmt: skip
        if only_check:
            plan = files.check_file(
                orchestrator, source, display, out=out or "-", terms=terms, retry_failed=retry_failed
            )
            return _show_plan(plan, as_json)
        with waiting(orchestrator, orchestrator.batch(source.full_name).counts):
            summary = files.run(
                orchestrator, source, str(out), terms=terms, retry_failed=retry_failed,
                wait_while_paused=wait_paused, display=display,
            )  # fmt: skip
    except (BadFile, Invalid) as error:
        display.close()
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(BAD_INPUT) from None
    except KeyboardInterrupt:
        display.close()  # what is said next stands below it
        click.echo("\ninterrupted: what was enqueued goes on; run the same again to write the rest", err=True)
        raise
    finally:
        display.close()
    _show_summary(summary, as_json, quiet)
    if not summary.all_succeeded:
        raise SystemExit(1)


def _display(orchestrator: Orchestrator, quiet: bool) -> Display:
    from orchestrator.views.progress import Progress
    from orchestrator.views.quiet import Quiet

    console = Console(stderr=True, markup=False, highlight=False)
    return Quiet() if quiet else Progress(orchestrator.insight, console)


def _shared(orchestrator: Orchestrator, providers: list[str], shared: tuple[str, ...]) -> dict[str, Any]:
    from orchestrator.files.source import declared
    from orchestrator.schemas import typed

    return typed(pairs(shared), declared(orchestrator.flow.exchange, providers))


def _show_plan(plan: Plan, as_json: bool) -> None:
    if as_json:
        return print_json(asdict(plan))
    written = f"; {plan.written} have their outcome already" if plan.written else ""
    click.echo(f"{plan.batch}: {counted(plan.jobs, 'job')}, all of them well{written}")
    click.echo(f"cost {amount(plan.cost)} at most, where each takes one generation")
    lasts = "nobody can say how long" if plan.seconds is None else f"about {span(plan.seconds)}"
    click.echo(f"{lasts}, by {plan.slots:.4g} slots as they are now")
    for note in plan.notes:
        click.echo(note)


def _show_summary(summary: Summary, as_json: bool, quiet: bool) -> None:
    from orchestrator.files.running import how_to_go_on

    if as_json:
        print_json(asdict(summary) | {"is_sound": summary.is_sound})
    elif not quiet:
        told = [f"{count} {word}" for word, count in summary.counts.items()]
        left = f", {summary.unfinished} not over" if summary.unfinished else ""
        where = "" if summary.out == "-" else f" in {summary.out}"
        click.echo(
            f"{summary.batch}: {summary.accepted} accepted = {' + '.join(told)}{left}{where}; "
            f"cost {amount(summary.cost)} at most, {span(summary.seconds)}",
            err=True,
        )
    if summary.paused and summary.unfinished and (quiet or as_json):
        click.echo(how_to_go_on(summary.batch, summary.paused), err=True)
    if not summary.is_sound:
        click.echo(
            f"THE OUTCOMES DO NOT ADD UP: {summary.accepted} were accepted, {sum(summary.counts.values())} "
            f"are in {summary.out}. Run the same again; if it stays so, please report it.",
            err=True,
        )
