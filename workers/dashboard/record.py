"""A job's record as a row of Flower. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from celery import states

from orchestrator import rows
from orchestrator.broker import GENERATE
from orchestrator.models import Job, State

UNKNOWN = "UNKNOWN"  # neither Celery's nor ours: Redis knows the job no more
CELERYS = {
    State.QUEUED: states.PENDING,
    State.SUBMITTED: states.STARTED,
    State.COLLECTING: states.STARTED,
    State.SUCCEEDED: states.SUCCESS,
    State.FAILED: states.FAILURE,
    State.CANCELLED: states.REVOKED,
}
ENDED_AS = {State.SUCCEEDED: "succeeded", State.FAILED: "failed", State.CANCELLED: "revoked"}


def row_of(job: Job) -> dict[str, Any]:
    """The fields of its row, by Celery's names. A job that was begun and waits again is one of RETRY."""
    failed_before = job.state is State.QUEUED and job.error is not None
    told = rows.facts(
        job.state.value,
        provider=job.provider,
        account=job.account,
        attempt=job.attempts,
        failures=job.failures,
        batch=job.batch,
        custom_id=job.custom_id,
    )
    row = {
        "name": GENERATE,
        "received": job.created_at,
        "state": states.RETRY if failed_before else CELERYS[job.state],
        "args": rows.asked(job.parameters),
        "kwargs": told,
        "retries": max(0, job.attempts - 1),
        "expires": None
        if job.expires_at is None
        else datetime.fromtimestamp(job.expires_at, UTC).isoformat(),
        "result": rows.brought(job.result) if job.state is State.SUCCEEDED and job.result else None,
        "exception": _trouble(job),
        "traceback": None,
        "runtime": None,
    }
    if job.ended_at and job.state in ENDED_AS:
        row |= {ENDED_AS[job.state]: job.ended_at, "timestamp": job.ended_at}
        row["runtime"] = max(0.0, job.ended_at - job.created_at)
    return row


def _trouble(job: Job) -> str | None:
    if job.state in (State.FAILED, State.CANCELLED):
        return rows.trouble(job.reason) if job.reason else None
    if job.state is State.COLLECTING and job.collect_error:
        return rows.trouble(f"its pictures were not kept so far: {job.collect_error}")
    if job.state is State.QUEUED and job.error:
        return rows.trouble(f"it is tried again: {job.error['kind']}: {job.error['message']}")
    return None
