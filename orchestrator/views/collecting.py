"""What the command line shows of pictures that were made and are not kept yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.models import State
from orchestrator.schemas import moment
from orchestrator.views.printing import console, counted, in_about, print_json, span

if TYPE_CHECKING:
    from orchestrator.client import Orchestrator

GATE = "No generation is begun while pictures cannot be kept"


def show_collecting(orchestrator: Orchestrator, limit: int | None, as_json: bool) -> None:
    store, now = orchestrator.flow.store, orchestrator.flow.clock()
    listed = dict(store.collecting.troubled(limit))
    jobs = [job for job in store.jobs(list(listed)) if job.state is State.COLLECTING]
    storage = store.collecting.storage()
    if as_json:
        rows = [
            {
                "job": job.id,
                "batch": job.batch or None,
                "custom_id": job.custom_id or None,
                "provider": job.provider,
                "account": job.account,
                "tries": job.collect_failures,
                "reason": job.collect_error,
                "again_at": moment(store.due_at(job.id)),
                "urls_die_at": moment(listed[job.id]),
            }
            for job in jobs
        ]
        return print_json({"storage": storage or None, "jobs": rows})
    for job in jobs:
        left = listed[job.id] - now
        dies = f"its URL dies in {span(left)}" if left > 0 else "its URL may be dead"
        where = "  ".join(filter(None, (job.batch, job.custom_id, f"{job.provider}/{job.account}")))
        again_at = store.due_at(job.id)
        again = f", again {in_about(again_at, now)}" if again_at else ""
        console.print(f"{job.id}  {where}  {dies}", soft_wrap=True)
        console.print(f"    {job.collect_error}", soft_wrap=True)
        console.print(f"    tried {counted(job.collect_failures, 'time')}{again}", soft_wrap=True)
    total = store.collecting.count()
    console.print(f"{counted(total, 'job')} whose pictures could not be kept so far", soft_wrap=True)
    print_gate(storage)


def print_gate(storage: str) -> None:
    """`storage`: what the place for pictures said; empty: it takes them."""
    if storage:
        console.print(f"{GATE}: {storage}", soft_wrap=True)
