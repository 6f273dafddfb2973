"""A batch as lines of JSON: checked whole while it comes, then enqueued. Memory stays flat.

Nothing is enqueued before all of it is right; then a part at a time is. Lines are named, so that one that
broke off, wherever it did, is simply made again.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from flask import request

from orchestrator.batches import Terms
from orchestrator.client import Orchestrator
from orchestrator.errors import QueueFull, StoreUnavailable
from orchestrator.files.checking import Asked, Fault, Faults, check
from orchestrator.files.reading import Record, jsonl_records
from orchestrator.files.running import OTHERWISE
from orchestrator.files.spool import Spool
from webhooks.api.problems import Problem, invalid, problem_of
from webhooks.bodies import StreamedBody

MAX_LINE_BYTES = 2**20
MAX_BATCH_BYTES = 2**28
UPLOAD_SECONDS = 600.0  # for the whole body
FAULTS_SHOWN = 100
AT_ONCE = 500  # jobs
WORK_SECONDS, REST_SECONDS = 0.01, 0.001  # so long it computes before others have their turn


@dataclass(frozen=True)
class Upload:
    """What is said of all lines. `batch`: as `batch_name` gives it."""

    batch: str
    tenant: str
    asked: Asked
    terms: Terms


def take(orchestrator: Orchestrator, upload: Upload) -> tuple[int, int]:
    """Gives how many lines there were, and how many of them were enqueued now. Raises: Problem."""
    flow = orchestrator.flow
    with Spool() as spool:
        faults = Faults(most=FAULTS_SHOWN)
        check(flow.exchange, upload.asked, _records(), None, spool, faults, flow.clock(), breather())
        if faults.count:
            raise _invalid(faults, "cannot be sent")
        if not spool.total:
            raise invalid([("body", "there is nothing in it: each line is one job")])
        _refuse_changes(orchestrator, spool, faults)
        orchestrator.batches.agree(upload.batch, upload.tenant, upload.terms)
        first = next(spool.chunks(1))[0]
        with orchestrator.filling(upload.batch, producer=first.id):  # the same upload made again is the same
            return spool.total, _enqueue(orchestrator, spool)


def _records() -> Iterator[Record]:
    """The lines as they come. Raises: BadFile; Malformed where the body breaks off."""
    request.max_content_length = MAX_BATCH_BYTES
    connection = request.environ.get("gunicorn.socket")
    if connection is not None:
        connection.allow(UPLOAD_SECONDS)
    yield from jsonl_records(io.BufferedReader(StreamedBody()), "the body", MAX_LINE_BYTES)


def _refuse_changes(orchestrator: Orchestrator, spool: Spool, faults: Faults) -> None:
    """Raises: Problem where lines of these names asked for something else before."""
    for jobs in spool.chunks(AT_ONCE):
        for job in orchestrator.flow.store.otherwise(jobs):
            line = spool.line(job.id)
            faults.add(Fault(line.place if line else "", job.custom_id, OTHERWISE))
    if faults.count:
        raise _invalid(faults, "asked for something else before", 409)


def _enqueue(orchestrator: Orchestrator, spool: Spool) -> int:
    """Raises: Problem, which says how many were enqueued before it."""
    enqueued = 0
    for jobs in spool.chunks(AT_ONCE):
        try:
            enqueued += orchestrator.flow.enqueue(jobs)
        except (QueueFull, StoreUnavailable) as error:
            problem = problem_of(error)
            problem.more["enqueued"] = enqueued
            raise problem from None
    return enqueued


def _invalid(faults: Faults, what: str, status: int = 422) -> Problem:
    errors = [
        {"place": each.place, "custom_id": each.custom_id, "detail": each.error} for each in faults.first
    ]
    detail = f"{faults.count} of {faults.records} lines {what}; nothing was enqueued"
    return Problem(status, detail, errors=errors, count=faults.count)


def breather() -> Callable[[int], None]:
    """Called often by what computes for long: lets other requests have their turn now and then."""
    until = time.monotonic() + WORK_SECONDS

    def breathe(_: int) -> None:
        nonlocal until
        if time.monotonic() >= until:
            time.sleep(REST_SECONDS)  # gevent's: everything that waits for this worker is seen to
            until = time.monotonic() + WORK_SECONDS

    return breathe
