"""Commands about batches as a whole: list, stop, cancel, put first, run again, delete."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.plainly import json_option, with_orchestrator
from orchestrator.views.batches import show_batches
from orchestrator.views.printing import console, counted, tell

if TYPE_CHECKING:
    from orchestrator.client import Orchestrator

LISTED = 50

kind_argument = click.argument("kind", type=click.Choice(("batch", "job")))
name_argument = click.argument("name", metavar="NAME|ID")


@click.command("batches")
@click.option("--open", "only_open", is_flag=True, help="Only those that are not over.")
@click.option("--limit", type=click.IntRange(1), default=LISTED, show_default=True)
@json_option
@with_orchestrator
def list_(orchestrator: Orchestrator, only_open: bool, limit: int, as_json: bool) -> None:
    """List the batches that are known, the latest first."""
    found = (
        each for each in orchestrator.flow.store.batches.latest() if not (only_open and each.is_over)
    )  # fmt: skip
    shown = list(islice(found, limit))
    show_batches(shown, next(found, None) is not None, orchestrator.flow.clock(), as_json)


@click.command()
@kind_argument
@name_argument
@json_option
@with_orchestrator
def cancel(orchestrator: Orchestrator, kind: str, name: str, as_json: bool) -> None:
    """Cancel a job, or every job of a batch that is not over; at the provider too, where it can.

    Pictures that are being collected are paid for, and still kept. Interrupted, run it again. It cannot be
    undone: what is wanted after all is enqueued under other custom_ids, or in another batch.
    """
    if kind == "batch":
        with _progress("cancelled") as progress:
            count = orchestrator.batches.cancel(name, progress)
        collecting = orchestrator.batch(name).counts()["collecting"]
        left = f"; {collecting} collecting, which go on" if collecting else ""
        view = {"kind": kind, "name": name, "cancelled": count, "collecting": collecting}
        return tell(as_json, view, f"{counted(count, 'job')} of batch {name} cancelled{left}")
    state = orchestrator.job(name).state  # also that there is one
    if not orchestrator.job(name).cancel():
        raise click.ClickException(f"job {name} is {state}: it is too late to cancel it")
    tell(as_json, {"kind": kind, "name": name, "cancelled": 1}, f"job {name} is cancelled")


@click.command()
@kind_argument
@name_argument
@click.argument("priority", type=click.IntRange(0, 9))
@json_option
@with_orchestrator
def prioritise(orchestrator: Orchestrator, kind: str, name: str, priority: int, as_json: bool) -> None:
    """Give a job, or what is left of a batch, another priority within its lane; 9 goes first."""
    if kind == "batch":
        count = orchestrator.batches.prioritise(name, priority)
        view = {"kind": kind, "name": name, "priority": priority, "jobs": count}
        return tell(as_json, view, f"{counted(count, 'job')} of batch {name} have priority {priority}")
    state = orchestrator.job(name).state
    if not orchestrator.job(name).prioritise(priority):
        raise click.ClickException(f"job {name} is {state}: nothing of it waits")
    view = {"kind": kind, "name": name, "priority": priority, "jobs": 1}
    tell(as_json, view, f"job {name} has priority {priority}")


def _limit(kind: Callable[[str], float]) -> Callable[..., float | None]:
    def read(context: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
        try:
            return None if text in (None, "none") else kind(str(text))
        except ValueError:
            raise click.BadParameter(f"{text!r} is no number; say one, or none") from None

    return read


@click.group()
def limit() -> None:
    """What stops a batch before its end."""


@limit.command("batch")
@click.argument("name")
@click.option("--max-failures", callback=_limit(int), metavar="N|none", help="Failed jobs.")
@click.option(
    "--max-failure-share", callback=_limit(float), metavar="X|none",
    help="Of the jobs that ended, such as 0.2; counts once 20 have.",
)  # fmt: skip
@json_option
@with_orchestrator
def limit_batch(
    orchestrator: Orchestrator, name: str, max_failures: Any, max_failure_share: float | None, as_json: bool
) -> None:
    """Pause a batch once so many of its jobs have failed, or such a share. Resumed, as many again may.

    A limit that is not said is lifted.
    """
    orchestrator.batches.limit(name, max_failures, max_failure_share)
    limits = [f"{max_failures:g} failures"] if max_failures else []
    limits += [f"a share of {max_failure_share:g} that failed"] if max_failure_share else []
    told = f"is stopped by {' or '.join(limits)}" if limits else "is not stopped by failures"
    is_known = orchestrator.batch(name).counts()["total"]
    note = () if is_known else (f"no job of a batch {name!r} is known yet",)
    view = {"name": name, "max_failures": max_failures, "max_failure_share": max_failure_share}
    tell(as_json, view, f"batch {name} {told}", *note)


@click.command()
@click.argument("batch")
@json_option
@with_orchestrator
def retry(orchestrator: Orchestrator, batch: str, as_json: bool) -> None:
    """Let the failed jobs of a batch run again, under their ids, their failures forgotten."""
    count = orchestrator.batches.retry_failed(batch)
    tell(as_json, {"name": batch, "replayed": count}, f"{counted(count, 'job')} of batch {batch} run again")


@click.command()
@click.argument("batch")
@click.option("--pictures", is_flag=True, help="Also the pictures that were kept.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@with_orchestrator
def purge(orchestrator: Orchestrator, batch: str, pictures: bool, yes: bool, as_json: bool) -> None:
    """Delete what is known of a batch that is over: jobs, results, dead letters. May be repeated."""
    found = orchestrator.batches.standing(batch)
    what = "and its pictures " if pictures else ""
    if not yes and found.is_over:
        jobs = counted(found.counts["total"], "job")
        click.confirm(f"delete {jobs} of batch {batch} {what}for good?", abort=True)
    with _progress("deleted") as progress:
        done = orchestrator.batches.purge(batch, pictures, progress)
    removed = f", {counted(done.pictures, 'picture')} removed" if pictures else ""
    view = {"name": batch, "jobs": done.jobs, "pictures": done.pictures}
    tell(as_json, view, f"{counted(done.jobs, 'job')} of batch {batch} deleted{removed}")


@contextmanager
def _progress(word: str) -> Iterator[Callable[[int], None]]:
    """On a terminal, how many so far."""
    if not console.is_terminal:
        yield lambda done: None
        return
    with console.status("") as status:
        yield lambda done: status.update(f"{done} {word}")
