"""Commands about dead letters: failed jobs that a person may cure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.plainly import (
    all_option,
    duration,
    json_option,
    together,
    which_of_them,
    with_orchestrator,
)
from orchestrator.errors import NotFound
from orchestrator.operations import Filter
from orchestrator.schemas import moment
from orchestrator.views import dead_letters, jobs
from orchestrator.views.printing import counted, tell

if TYPE_CHECKING:
    from orchestrator.client import Orchestrator

LISTED = 50
filtered = together(
    (
        click.argument("ids", nargs=-1, metavar="[JOB]..."),
        click.option("--provider", default="", help="Of this provider."),
        click.option("--error", default="", help="Failed by this, such as Moderated or BadOutput."),
        click.option("--batch", default="", help="Of this batch."),
        click.option(
            "--older-than",
            callback=duration,
            metavar="TIME",
            help="Failed longer ago than this: 30m, 12h, 7d.",
        ),
        click.option("--newer-than", callback=duration, metavar="TIME", help="Failed within this time."),
    )
)  # what `_filter` reads


@click.group()
def dead() -> None:
    """Dead letters: failed jobs that may run again; kept for ORCHESTRATOR_KEEP_FAILED_DAYS."""


@dead.command("list")
@filtered
@click.option("--limit", type=click.IntRange(1), help=f"Show so many.  [default: {LISTED}; as JSON, all]")
@json_option
@with_orchestrator
def list_(orchestrator: Orchestrator, limit: int | None, as_json: bool, **filters: Any) -> None:
    """List dead letters, oldest first, and say how many there are."""
    letters = list(orchestrator.operations.dead(_filter(orchestrator, filters)))
    limit = limit or (None if as_json else LISTED)
    dead_letters.show_dead(letters, limit, orchestrator.flow.clock(), as_json)


@dead.command()
@click.argument("job_id", metavar="JOB")
@json_option
@with_orchestrator
def show(orchestrator: Orchestrator, job_id: str, as_json: bool) -> None:
    """Show one dead letter whole."""
    letters = dict(_known(orchestrator, (job_id,)))
    jobs.show_job(orchestrator, job_id, as_json, failed_at=moment(letters[job_id]))


@dead.command()
@filtered
@all_option
@click.option("--even-if-moderated", is_flag=True, help="Send what moderation refused before.")
@json_option
@with_orchestrator
def replay(
    orchestrator: Orchestrator, everything: bool, even_if_moderated: bool, as_json: bool, **filters: Any
) -> None:
    """Let dead letters run again, under their ids."""
    which = _chosen(orchestrator, everything, filters)
    count = orchestrator.operations.replay(which, even_if_moderated)
    left = [job.id for job, _ in orchestrator.operations.dead(which) if not job.parameters]
    told = [f"{counted(len(left), 'job')} recovered without parameters: enqueue such work anew"]
    view = {"replayed": count, "without_parameters": left}
    tell(as_json, view, f"{counted(count, 'job')} replayed", *(told if left else ()))


@dead.command()
@filtered
@all_option
@json_option
@with_orchestrator
def purge(orchestrator: Orchestrator, everything: bool, as_json: bool, **filters: Any) -> None:
    """Give dead letters up: they stay failed, and cannot be replayed."""
    count = orchestrator.operations.purge(_chosen(orchestrator, everything, filters))
    tell(as_json, {"purged": count}, f"{counted(count, 'dead letter')} purged")


def _chosen(orchestrator: Orchestrator, everything: bool, filters: dict[str, Any]) -> Filter:
    which_of_them(everything, filters)
    return _filter(orchestrator, filters)


def _filter(orchestrator: Orchestrator, told: dict[str, Any]) -> Filter:
    """Raises: NotFound for a provider or a dead letter that is not known."""
    providers, now = orchestrator.flow.exchange.providers, orchestrator.flow.clock()
    if told["provider"] and told["provider"] not in providers:
        raise NotFound(f"no provider {told['provider']!r}; known are: {', '.join(sorted(providers))}")
    _known(orchestrator, told["ids"])
    newer, older = told["newer_than"], told["older_than"]
    return Filter(
        provider=told["provider"],
        error=told["error"],
        batch=told["batch"],
        after=0.0 if newer is None else now - newer,
        before=None if older is None else now - older,
        jobs=frozenset(told["ids"]),
    )


def _known(orchestrator: Orchestrator, ids: tuple[str, ...]) -> list[tuple[str, float]]:
    """Which of the ids are dead letters, and when they failed. Raises: NotFound where one is none."""
    if not ids:
        return []
    found = [(job.id, failed_at) for job, failed_at in orchestrator.operations.dead(Filter(jobs=ids))]
    if missing := sorted(set(ids) - {job_id for job_id, _ in found}):
        raise NotFound(f"no dead letter: {', '.join(missing)}")
    return found
