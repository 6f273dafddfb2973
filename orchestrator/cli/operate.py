"""Commands that change what runs: limits, pauses, weights."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.plainly import json_option, pairs, with_orchestrator
from orchestrator.operations import KINDS
from orchestrator.views.accounts import show_accounts
from orchestrator.views.printing import console

if TYPE_CHECKING:
    from orchestrator.client import Orchestrator

LOOK_SECONDS = 0.5
OPEN_SHOWN = 10

kind_argument = click.argument("kind", type=click.Choice(KINDS))


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def accounts(context: click.Context, as_json: bool) -> None:
    """Show the accounts: slots, pace, what lowers them, why they rest."""
    if context.invoked_subcommand is None:
        _show(as_json)


@with_orchestrator
def _show(orchestrator: Orchestrator, as_json: bool) -> None:
    show_accounts(orchestrator, as_json)


@accounts.command("set")
@click.argument("name", metavar="[PROVIDER/]NAME")
@click.argument("limits", nargs=-1, required=True, metavar="KEY=VALUE...")
@with_orchestrator
def set_limits(orchestrator: Orchestrator, name: str, limits: tuple[str, ...]) -> None:
    """Change limits of an account while everything runs; they last. `KEY=`: as the accounts file says."""
    wanted = {limit: _number(text) for limit, text in pairs(limits).items()}
    orchestrator.operations.set_limits(name, wanted)
    provider, account = orchestrator.operations.account(name)
    rows = orchestrator.flow.store.accounts.rows(provider, orchestrator.flow.clock())
    (row,) = (row for row in rows if row["name"] == account)
    for limit in wanted:
        source = "" if limit in row["changed"] else ", as the accounts file says"
        click.echo(f"{provider}/{account}: {limit} is {float(row[limit]):g}{source}")


def _number(text: str) -> Any:
    """None for no text; what is no number stays text, for `Operations` to refuse."""
    try:
        return float(text) if text else None
    except ValueError:
        return text


@click.command()
@kind_argument
@click.argument("name")
@with_orchestrator
def pause(orchestrator: Orchestrator, kind: str, name: str) -> None:
    """Begin nothing more at an account or a provider, or of a batch; what is open goes on."""
    orchestrator.operations.pause(kind, name)
    click.echo(f"{kind} {name} is paused; {orchestrator.operations.in_flight(kind, name)} in flight go on")


@click.command()
@kind_argument
@click.argument("name")
@with_orchestrator
def resume(orchestrator: Orchestrator, kind: str, name: str) -> None:
    """Let an account, a provider or a batch take work again."""
    held = orchestrator.operations.spent(name) if kind == "batch" else None
    orchestrator.operations.resume(kind, name)
    click.echo(f"{kind} {name} takes work again")
    if held and held[1]:
        cost, most = held
        click.echo(
            f"it has cost {cost:g} of the {most:g} that it may, and is paused again before it would cost "
            f"more: `orchestrator cap batch {name} AMOUNT` raises that"
        )


@click.command()
@kind_argument
@click.argument("name")
@click.option("--timeout", type=click.FloatRange(0), metavar="SECONDS", help="Wait no longer; then exit 1.")
@with_orchestrator
def drain(orchestrator: Orchestrator, kind: str, name: str, timeout: float | None) -> None:
    """Pause, then wait until nothing is in flight. It stays paused."""
    operations = orchestrator.operations
    operations.pause(kind, name)
    left = operations.in_flight(kind, name)
    click.echo(f"{kind} {name} is paused; {left} in flight")
    give_up_at = None if timeout is None else time.monotonic() + timeout
    with console.status("") if console.is_terminal else nullcontext() as progress:
        while left and (give_up_at is None or time.monotonic() < give_up_at):
            if progress:
                progress.update(f"{left} in flight")
            time.sleep(LOOK_SECONDS)
            left = operations.in_flight(kind, name)
    if not left:
        return click.echo(f"{kind} {name} is drained: `orchestrator resume {kind} {name}` lets it go on")
    click.echo(f"{kind} {name} is not drained after {timeout:g} s: {left} in flight; it stays paused")
    for job in operations.holders(kind, name)[:OPEN_SHOWN]:
        click.echo(f"  job {job.id}, {job.state.value}, account {job.account}")
    raise SystemExit(1)


@click.command()
@click.argument("kind", type=click.Choice(("batch", "tenant")))
@click.argument("name")
@click.argument("weight", type=float)
@with_orchestrator
def weigh(orchestrator: Orchestrator, kind: str, name: str, weight: float) -> None:
    """Give a batch, or a tenant, so many times the share of one of weight 1."""
    orchestrator.operations.weigh(kind, name, weight)
    click.echo(f"{kind} {name} has weight {weight:g}")
