"""Commands that change what runs: limits, pauses, weights."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.plainly import json_option, pairs, with_orchestrator
from orchestrator.operations import KINDS
from orchestrator.views.accounts import show_accounts
from orchestrator.views.printing import amount, console, tell

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
@json_option
@with_orchestrator
def set_limits(orchestrator: Orchestrator, name: str, limits: tuple[str, ...], as_json: bool) -> None:
    """Change limits of an account while everything runs; they last. `KEY=`: as the accounts file says."""
    wanted = {limit: _number(text) for limit, text in pairs(limits).items()}
    orchestrator.operations.set_limits(name, wanted)
    provider, account = orchestrator.operations.account(name)
    rows = orchestrator.flow.store.accounts.rows(provider, orchestrator.flow.clock())
    (row,) = (row for row in rows if row["name"] == account)
    now = {limit: float(row[limit]) for limit in wanted}
    told = [
        f"{provider}/{account}: {limit} is {value:g}"
        + ("" if limit in row["changed"] else ", as the accounts file says")
        for limit, value in now.items()
    ]
    tell(as_json, {"provider": provider, "account": account, "limits": now}, *told)


def _number(text: str) -> Any:
    """None for no text; what is no number stays text, for `Operations` to refuse."""
    try:
        return float(text) if text else None
    except ValueError:
        return text


@click.command()
@kind_argument
@click.argument("name")
@json_option
@with_orchestrator
def pause(orchestrator: Orchestrator, kind: str, name: str, as_json: bool) -> None:
    """Begin nothing more at an account or a provider, or of a batch; what is open goes on."""
    orchestrator.operations.pause(kind, name)
    left = orchestrator.operations.in_flight(kind, name)
    view = {"kind": kind, "name": name, "paused": True, "in_flight": left}
    tell(as_json, view, f"{kind} {name} is paused; {left} in flight go on")


@click.command()
@kind_argument
@click.argument("name")
@json_option
@with_orchestrator
def resume(orchestrator: Orchestrator, kind: str, name: str, as_json: bool) -> None:
    """Let an account, a provider or a batch take work again."""
    held = orchestrator.operations.spent(name) if kind == "batch" else None
    orchestrator.operations.resume(kind, name)
    told = [f"{kind} {name} takes work again"]
    if held and held[1]:
        cost, most = held
        told.append(
            f"it has cost {amount(cost)} of the {amount(most)} that it may, and is paused again before it "
            f"would cost more: `orchestrator cap batch {name} AMOUNT` raises that"
        )
    tell(as_json, {"kind": kind, "name": name, "paused": False}, *told)


@click.command()
@kind_argument
@click.argument("name")
@click.option("--timeout", type=click.FloatRange(0), metavar="SECONDS", help="Wait no longer; then exit 1.")
@json_option
@with_orchestrator
def drain(orchestrator: Orchestrator, kind: str, name: str, timeout: float | None, as_json: bool) -> None:
    """Pause, then wait until nothing is in flight. It stays paused."""
    operations = orchestrator.operations
    operations.pause(kind, name)
    left = operations.in_flight(kind, name)
    if not as_json:
        click.echo(f"{kind} {name} is paused; {left} in flight")
    give_up_at = None if timeout is None else time.monotonic() + timeout
    with console.status("") if console.is_terminal and not as_json else nullcontext() as progress:
        while left and (give_up_at is None or time.monotonic() < give_up_at):
            if progress:
                progress.update(f"{left} in flight")
            time.sleep(LOOK_SECONDS)
            left = operations.in_flight(kind, name)
    view = {"kind": kind, "name": name, "paused": True, "in_flight": left}
    if not left:
        resume = f"`orchestrator resume {kind} {name}`"
        return tell(as_json, view, f"{kind} {name} is drained: {resume} lets it go on")
    holders = [
        f"  job {job.id}, {job.state.value}, account {job.account}"
        for job in operations.holders(kind, name)[:OPEN_SHOWN]
    ]
    told = f"{kind} {name} is not drained after {timeout:g} s: {left} in flight; it stays paused"
    tell(as_json, view, told, *holders)
    raise SystemExit(1)


@click.command()
@click.argument("kind", type=click.Choice(("batch", "tenant")))
@click.argument("name")
@click.argument("weight", type=float)
@json_option
@with_orchestrator
def weigh(orchestrator: Orchestrator, kind: str, name: str, weight: float, as_json: bool) -> None:
    """Give a batch, or a tenant, so many times the share of one of weight 1."""
    orchestrator.operations.weigh(kind, name, weight)
    tell(as_json, {"kind": kind, "name": name, "weight": weight}, f"{kind} {name} has weight {weight:g}")
