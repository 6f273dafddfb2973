"""Commands about notices: what must be told to somebody, since a job or a batch has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.plainly import all_option, json_option, together, which_of_them, with_orchestrator
from orchestrator.errors import NotFound
from orchestrator.outbox import Chosen
from orchestrator.views.notices import show_notice, show_notices
from orchestrator.views.printing import counted, tell

if TYPE_CHECKING:
    from orchestrator.client import Orchestrator

LISTED = 50
filtered = together(
    (
        click.argument("ids", nargs=-1, metavar="[ID]..."),
        click.option("--host", default="", help="To this host (and port); @celery: signatures."),
        click.option("--job", default="", help="Of this job."),
        click.option("--batch", default="", help="Of this batch and its jobs."),
    )
)  # what `_chosen` reads


@click.group()
def notices() -> None:
    """What is told of ends: waiting until it is delivered, dead where that failed for a day."""


@notices.command("list")
@filtered
@click.option("--dead", "dead_alone", is_flag=True, help="Only those that were given up.")
@click.option("--limit", type=click.IntRange(1), help=f"Show so many.  [default: {LISTED}; as JSON, all]")
@json_option
@with_orchestrator
def list_(
    orchestrator: Orchestrator, dead_alone: bool, limit: int | None, as_json: bool, **filters: Any
) -> None:
    """List notices that are dead or wait, the oldest first, and say how many there are."""
    which = _chosen(orchestrator, filters)
    found = list(orchestrator.outbox.find(which, dead=True))
    if not dead_alone:
        found += orchestrator.outbox.find(which, dead=False)
    show_notices(orchestrator, found, limit or (None if as_json else LISTED), as_json)


@notices.command()
@click.argument("notice_id", metavar="ID")
@json_option
@with_orchestrator
def show(orchestrator: Orchestrator, notice_id: str, as_json: bool) -> None:
    """Show one notice: what it tells, to whom, and what became of it."""
    show_notice(orchestrator, orchestrator.flow.store.notices.one(notice_id), as_json)


@notices.command()
@filtered
@all_option
@json_option
@with_orchestrator
def replay(orchestrator: Orchestrator, everything: bool, as_json: bool, **filters: Any) -> None:
    """Send dead notices again, under their ids, for another day."""
    which_of_them(everything, filters)
    count = orchestrator.outbox.replay(_chosen(orchestrator, filters))
    tell(as_json, {"replayed": count}, f"{counted(count, 'notice')} replayed")


@notices.command()
@filtered
@all_option
@json_option
@with_orchestrator
def purge(orchestrator: Orchestrator, everything: bool, as_json: bool, **filters: Any) -> None:
    """Forget dead notices: they are never delivered."""
    which_of_them(everything, filters)
    count = orchestrator.outbox.purge(_chosen(orchestrator, filters))
    tell(as_json, {"purged": count}, f"{counted(count, 'notice')} purged")


def _chosen(orchestrator: Orchestrator, told: dict[str, Any]) -> Chosen:
    """Raises: NotFound for an id that is of no notice."""
    known = {notice.id for notice in orchestrator.flow.store.notices.known(told["ids"])}
    if missing := [each for each in told["ids"] if each not in known]:
        raise NotFound(f"no notice: {', '.join(missing)}")
    return Chosen(frozenset(told["ids"]), told["host"].lower(), told["job"], told["batch"])
