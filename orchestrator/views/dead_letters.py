"""What the command line shows of dead letters."""

from __future__ import annotations

from collections.abc import Sequence

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
    for job, failed_at in told:
        where = " ".join(filter(None, (job.provider, job.batch)))
        console.print(f"{job.id}  {failure_of(job)}  {ago(failed_at, now)}  {where}", soft_wrap=True)
        console.print(f"    {job.error['message'] if job.error else job.reason}", soft_wrap=True)
    left_out = f", the oldest {len(told)} are shown" if len(told) < len(letters) else ""
    console.print(f"{counted(len(letters), 'dead letter')}{left_out}")
