"""What the command line shows of dead letters."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from orchestrator.models import Job
from orchestrator.operations import failure_of
from orchestrator.schemas import moment, shown
from orchestrator.views.printing import ago, console, counted, print_json


def show_dead(letters: Sequence[tuple[Job, float]], limit: int | None, now: float, as_json: bool) -> None:
    """The oldest `limit` of them, and how many there are."""
    told = letters[:limit]
    if as_json:
        rows = [{**shown(job), "failed_at": moment(failed_at)} for job, failed_at in told]
        return print_json({"count": len(letters), "dead": rows})
    table = Table("job", "failed", "provider", "batch", "error", "why")
    table.columns[0].no_wrap = True
    for job, failed_at in told:
        why = job.error["message"] if job.error else job.reason
        table.add_row(job.id, ago(failed_at, now), job.provider, job.batch, failure_of(job), str(why))
    if told:
        console.print(table)
    left_out = f", the oldest {len(told)} are shown" if len(told) < len(letters) else ""
    console.print(f"{counted(len(letters), 'dead letter')}{left_out}")
