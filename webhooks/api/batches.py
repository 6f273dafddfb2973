"""`/batches`: thousands of jobs under one name of the tenant's own."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from flask import Response, request

from orchestrator.batches import Terms
from orchestrator.files.checking import Asked
from orchestrator.files.outcome import outcome
from orchestrator.files.spool import Line
from orchestrator.models import Job, State
from orchestrator.schemas import moment
from orchestrator.store.link import WAIT_SLICE_SECONDS
from webhooks.api.asking import (
    HEADER,
    Door,
    Seats,
    full_name,
    notice_faults,
    orchestrator,
    provider_faults,
    tenant,
)
from webhooks.api.jobs import waiters
from webhooks.api.problems import SEAT_SECONDS, Problem, in_a_while, invalid
from webhooks.api.shapes import NOTICES, BatchQuery, BatchShown, OutcomeShown, OutcomesQuery, UploadShown
from webhooks.api.uploads import Upload, take

JSON_LINES = "application/x-ndjson"
STOPS = ("max_spend", "max_failures", "max_failure_share")
UPLOADS = 4  # at once, of each process; each may take a file of 256 MiB for a while

batches = Door("batches", "Many jobs at once.")
uploaders = Seats(UPLOADS)


@batches.route("/batches", methods=["POST"])
@batches.arguments(BatchQuery, location="query")
@batches.response(201, UploadShown, headers={"Location": HEADER})
@batches.alt_response(200, schema=UploadShown, description="All of it was known already")
@batches.refuses(400, 409, 413, 415, 422, 429)
@batches.doc(
    operationId="enqueueBatch",
    requestBody={
        "required": True,
        "description": "Lines of JSON: each has the parameters of one job, and may have a `custom_id` (else "
        "it is called by its number) and a `priority`.",
        "content": {JSON_LINES: {"schema": {"type": "string"}}},
    },
)
def enqueue(query: dict[str, Any]) -> Any:
    """Ask for many generations

    All lines are checked before the first is enqueued. Where the queue is full then, or the store is away,
    some may have been enqueued: `enqueued` says how many. Safe to repeat: a line whose `custom_id` the batch
    knows already is not enqueued again, so that an upload that was refused so, or of which nobody knows
    whether it arrived, is simply made again. More lines extend the batch.
    """
    if request.mimetype not in (JSON_LINES, "application/jsonl", "application/json-lines"):
        raise Problem(415, f"the body must be lines of JSON: send it as `Content-Type: {JSON_LINES}`")
    name = query.pop("name")
    providers = query.pop("provider")
    notices = {each: url for each in NOTICES if (url := query.pop(each, ""))}
    if faults := provider_faults(providers) + notice_faults(notices):
        raise invalid(faults)
    terms = Terms(**{each: query.pop(each, None) for each in STOPS}, **notices)
    said = {option: value for option, value in query.items() if value is not None}
    asked = Asked(providers, {}, {**said, "batch": name, "tenant": tenant()})
    with uploaders.taken() as may_upload:
        if not may_upload:
            raise in_a_while(429, f"{UPLOADS} uploads are on their way: send it again", SEAT_SECONDS)
        lines, added = take(orchestrator(), Upload(full_name(name), tenant(), asked, terms))
    told = {"name": name, "lines": lines, "enqueued": added}
    return told, 201 if added else 200, {"Location": f"/batches/{quote(name)}"}


@batches.route("/batches/<name>")
@batches.response(200, BatchShown)
@batches.refuses(404)
@batches.doc(operationId="getBatch")
def show(name: str) -> Any:
    """How many of its jobs are in which state"""
    return _view(name)


@batches.route("/batches/<name>", methods=["DELETE"])
@batches.response(200, BatchShown)
@batches.refuses(404)
@batches.doc(operationId="cancelBatch")
def cancel(name: str) -> Any:
    """Cancel what is not over. Safe to repeat"""
    _view(name)
    orchestrator().batch(full_name(name)).cancel()
    return _view(name)


@batches.route("/batches/<name>/outcomes")
@batches.arguments(OutcomesQuery, location="query")
@batches.response(
    200,
    OutcomeShown,
    content_type=JSON_LINES,
    description="Lines of JSON, in the order in which the jobs ended.",
    headers={"Link": {**HEADER, "description": "rel=next: those that end after these."}},
)
@batches.refuses(404, 422)
@batches.doc(operationId="getOutcomes")
def outcomes(query: Mapping[str, Any], name: str) -> Any:
    """What became of its jobs, as they end

    A page of lines; `Link` names the next, which `wait` waits for. A job that ends again (replayed, or with
    a late picture) has a line again: the last one counts.
    """
    _view(name)
    store, batch, after = orchestrator().flow.store, full_name(name), query["after"]
    ids, last = store.ended_after(batch, after, 0)
    if query["wait"] and not ids:
        with waiters.taken() as may_wait:
            give_up_at = time.monotonic() + query["wait"] * may_wait
            while not ids and (patience := give_up_at - time.monotonic()) > 0:
                ids, last = store.ended_after(batch, after, min(patience, WAIT_SLICE_SECONDS))
    jobs = [job for job in store.jobs(list(dict.fromkeys(ids))) if job.state.ended]
    rows = zip(jobs, store.attempts_of(jobs), strict=True)
    told = [outcome(_line(job), job, attempts) for job, attempts in rows]
    text = "".join(json.dumps(OutcomeShown().dump(each), ensure_ascii=False) + "\n" for each in told)
    link = f"/batches/{quote(name)}/outcomes?{urlencode({'after': last})}"
    return Response(text, content_type=JSON_LINES, headers={"Link": f'<{link}>; rel="next"'})


def _line(job: Job) -> Line:
    """As a file has it: nothing but its name counts here."""
    return Line(0, "", job.custom_id, "", None, None, None)


def _view(name: str) -> dict[str, Any]:
    """Raises: Problem, the same for a batch of another tenant and for none."""
    store, batch = orchestrator().flow.store, full_name(name)
    known = store.batch(batch)
    if not known.get("total"):
        raise Problem(404, "no batch of yours has this name")
    counts = {state: int(known.get(state.value, 0)) for state in State}
    total = int(known["total"])
    return {
        "name": name,
        "total": total,
        **{state.value: count for state, count in counts.items()},
        "is_over": "filling" not in known and sum(counts[state] for state in State if state.ended) >= total,
        "paused": store.lanes.why_paused(batch) or None,
        "created_at": moment(known.get("created")),
        "cost": round(store.spend.cost(batch), 6),
        "max_spend": known.get("max_spend"),
    }
