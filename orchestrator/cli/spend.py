"""Commands about what generations cost, and how far that may go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from orchestrator import bill
from orchestrator.cli.plainly import json_option, with_orchestrator
from orchestrator.views.printing import amount, tell
from orchestrator.views.spend import show_batch_bill, show_bill

if TYPE_CHECKING:
    from orchestrator.client import Orchestrator


@click.command()
@click.option("--days", type=click.IntRange(1), default=7, show_default=True, help="Show so many, in UTC.")
@click.option("--account", default="", metavar="[PROVIDER/]NAME", help="Of this account alone.")
@click.option("--batch", default="", help="Of this batch, account by account.")
@json_option
@with_orchestrator
def spend(orchestrator: Orchestrator, days: int, account: str, batch: str, as_json: bool) -> None:
    """Say how many generations were begun, what became of them, and what they cost at most."""
    if account and batch:
        raise click.UsageError("say --account or --batch, not both")
    store, providers = orchestrator.flow.store, orchestrator.flow.exchange.providers
    now = orchestrator.flow.clock()
    if batch:
        return show_batch_bill(batch, bill.of_batch(store, providers, now, batch), as_json)
    only = orchestrator.operations.account(account) if account else None
    show_bill(bill.of_accounts(store, providers, now, only), bill.since(now, days), as_json)


def _amount(context: click.Context, parameter: click.Parameter, text: str) -> float | None:
    try:
        return None if text == "none" else float(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no amount; say a number, or none") from None


@click.group()
def cap() -> None:
    """Caps of what may be spent; an account's is its `max_spend`."""


@cap.command("batch")
@click.argument("name")
@click.argument("most", metavar="AMOUNT|none", callback=_amount)
@json_option
@with_orchestrator
def cap_batch(orchestrator: Orchestrator, name: str, most: float | None, as_json: bool) -> None:
    """Pause a batch before the generation that would make it cost more."""
    operations = orchestrator.operations
    operations.cap(name, most)
    told = [f"batch {name} may cost " + ("what it takes" if most is None else f"{amount(most)} in all")]
    jobs, is_paused = orchestrator.batch(name).counts()["total"], bool(operations.spent(name))
    if not jobs:
        told.append(f"no job of a batch {name!r} is known yet")
    if is_paused:
        told.append(f"it is paused: `orchestrator resume batch {name}` lets it go on")
    tell(as_json, {"batch": name, "max_spend": most, "jobs": jobs, "paused": is_paused}, *told)
