"""Commands about the journal of callbacks: those that were genuine, and what they led to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from orchestrator.cli.plainly import json_option, with_orchestrator
from orchestrator.recovery import hear_again
from orchestrator.views.callbacks import WORDS, entry_of, led_to, show_callback, show_callbacks
from orchestrator.views.printing import tell

if TYPE_CHECKING:
    from orchestrator.client import Orchestrator

LISTED = 50
AT_ONCE = 20_000  # more than the journal keeps


@click.group()
def callbacks() -> None:
    """The latest genuine callbacks; parked are those of unknown attempts, and those nobody could read."""


@callbacks.command("list")
@click.option("--parked", is_flag=True, help="Only those that led nowhere.")
@click.option("--word", type=click.Choice(WORDS), help="Only those that led to this.")
@click.option("--job", default="", help="Only of this job.")
@click.option("--limit", type=click.IntRange(1), default=LISTED, show_default=True)
@json_option
@with_orchestrator
def list_(
    orchestrator: Orchestrator, parked: bool, word: str | None, job: str, limit: int, as_json: bool
) -> None:
    """List callbacks, the latest first."""
    journal = orchestrator.flow.store.journal
    found = journal.recent(AT_ONCE, parked=True)
    if not parked:
        found = sorted([*found, *journal.recent(AT_ONCE)], key=lambda entry: entry.at, reverse=True)
    chosen = [
        entry
        for entry in found
        if word in (None, entry.word) and job in ("", entry.attempt.rpartition(".")[0])
    ]
    show_callbacks(chosen, limit, orchestrator.flow.clock(), as_json)


@callbacks.command()
@click.argument("entry_id", metavar="ID")
@json_option
@with_orchestrator
def show(orchestrator: Orchestrator, entry_id: str, as_json: bool) -> None:
    """Show one callback whole, without e-mail addresses and what signs a URL."""
    show_callback(entry_of(orchestrator, entry_id), orchestrator.flow.clock(), as_json)


@callbacks.command()
@click.argument("entry_id", metavar="ID")
@json_option
@with_orchestrator
def replay(orchestrator: Orchestrator, entry_id: str, as_json: bool) -> None:
    """Take a callback once more, as if it came now: after it was made readable, or its attempt known."""
    entry = entry_of(orchestrator, entry_id)
    word = hear_again(orchestrator.flow, entry)
    view = {"id": entry.id, "attempt": entry.attempt, "word": word}
    tell(as_json, view, led_to(entry, word))
