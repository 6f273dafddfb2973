"""`/jobs`: ask for one generation, see how it is doing, cancel it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import request
from marshmallow import ValidationError
from werkzeug.exceptions import RequestEntityTooLarge

from orchestrator import timeline
from orchestrator.errors import JobNotFound, ProviderError
from orchestrator.files.reading import json_object
from orchestrator.intake import new_job
from orchestrator.models import Job, NewJob, State
from orchestrator.schemas import faults_by_field, names_in, shown
from webhooks.api.asking import (
    HEADER,
    Door,
    Seats,
    notice_faults,
    orchestrator,
    own_name,
    provider_faults,
    tenant,
)
from webhooks.api.problems import Fault, Problem, invalid
from webhooks.api.shapes import JobHeaders, JobRequest, JobShown, TimelineShown, WaitQuery, unquoted
from webhooks.bodies import whole_body

MAX_JOB_BYTES = 2**20
WAITERS = 32  # of each process; every one of them holds a connection to Redis
OBJECT = "the body must be one JSON object with `provider` and `parameters`"
JOB_REQUEST = JobRequest()

jobs = Door("jobs", "Single jobs.")
waiters = Seats(WAITERS)


@jobs.route("/jobs", methods=["POST"])
@jobs.arguments(JobHeaders, location="headers")
@jobs.response(201, JobShown, headers={"Location": HEADER})
@jobs.alt_response(200, schema=JobShown, description="It was asked for before")
@jobs.refuses(400, 409, 413, 415, 422, 429)
@jobs.doc(
    operationId="enqueueJob",
    requestBody={"required": True, "content": {"application/json": {"schema": JobRequest}}},
)
def enqueue(headers: Mapping[str, str]) -> Any:
    """Ask for one generation

    Without an `Idempotency-Key` (or a `custom_id`) each call is a job of its own.
    """
    job = _asked(_body(), unquoted(headers.get("idempotency_key", "")))
    added = orchestrator().flow.enqueue([job])
    status = 201 if added else 200
    return _view(_known(job.id)), status, {"Location": f"/jobs/{job.id}"}


@jobs.route("/jobs/<job_id>")
@jobs.arguments(WaitQuery, location="query")
@jobs.response(200, JobShown)
@jobs.refuses(404, 422)
@jobs.doc(operationId="getJob")
def show(query: Mapping[str, float], job_id: str) -> Any:
    """A job as it is now, or once it has ended"""
    job = _known(job_id)
    if query["wait"] and not job.ended_at:
        with waiters.taken() as may_wait:
            if may_wait:
                job = orchestrator().flow.store.wait_ended(job_id, query["wait"]) or _known(job_id)
    return _view(job)


@jobs.route("/jobs/<job_id>/timeline")
@jobs.response(200, TimelineShown)
@jobs.refuses(404)
@jobs.doc(operationId="getJobTimeline")
def tell(job_id: str) -> Any:
    """What happened to a job, in order, and what it waits for"""
    _known(job_id)
    return {"moments": [_moment(each) for each in orchestrator().insight.timeline(job_id)]}


@jobs.route("/jobs/<job_id>", methods=["DELETE"])
@jobs.response(200, JobShown)
@jobs.refuses(404, 409)
@jobs.doc(operationId="cancelJob")
def cancel(job_id: str) -> Any:
    """Cancel a job, at the provider too where it can. Safe to repeat"""
    _known(job_id)
    orchestrator().job(job_id).cancel()
    job = _known(job_id)
    if job.state is not State.CANCELLED:
        raise Problem(409, f"the job is {job.state.value}: it is too late to cancel it")
    return _view(job)


def _moment(each: timeline.Moment) -> dict[str, Any]:
    """What holds a job is told by its name alone: its words are the operator's."""
    told = timeline.shown(each)
    return {**told, "text": f"it waits: {told['gate']}"} if "gate" in told else told


def _body() -> dict[str, Any]:
    """Raises: Problem."""
    if request.mimetype != "application/json":
        raise Problem(415, "the body must be JSON: send it as `Content-Type: application/json`")
    try:
        raw_body = whole_body(MAX_JOB_BYTES)
    except RequestEntityTooLarge:
        raise Problem(413, f"a job is at most {MAX_JOB_BYTES} bytes") from None
    try:
        return json_object(raw_body.decode(), OBJECT)
    except ValueError as error:
        fault = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise Problem(400, f"the body cannot be read: {fault}") from None


def _asked(body: Mapping[str, Any], idempotency_key: str) -> NewJob:
    """Raises: Problem with every fault."""
    wanted = body.get("provider")
    options = {name: value for name, value in body.items() if name not in ("provider", "parameters")}
    owner = {"tenant": tenant(), "idempotency_key": idempotency_key}
    faults = _faults(body)
    if idempotency_key and body.get("custom_id"):
        faults.append(("Idempotency-Key", "a custom_id is a key itself: leave one of them out"))
    faults += notice_faults({"notify_url": body.get("notify_url")})
    if "provider" in body:
        faults += provider_faults(wanted if isinstance(wanted, list) else [wanted])
    if not {"provider", "parameters"} & {place for place, _ in faults}:
        # Options that are wrong have been told: what is wrong with the rest is told with them.
        told = owner if faults else {**options, **owner}
        flow = orchestrator().flow
        try:
            job = new_job(flow.exchange, None, wanted, body["parameters"], told, flow.clock())
        except ProviderError as error:
            faults.append(("parameters", str(error)))
    if faults:
        raise invalid(faults)
    return job


def _faults(body: Mapping[str, Any]) -> list[Fault]:
    """All but those of the parameters themselves."""
    try:
        JOB_REQUEST.load(body)
    except ValidationError as error:
        return list(faults_by_field(error, body, names_in(JOB_REQUEST)).items())
    return []


def _known(job_id: str) -> Job:
    """A job of this tenant. Raises: Problem, the same for a job of another and for none."""
    try:
        job = orchestrator().flow.store.job(job_id)
        if job.tenant == tenant():
            return job
    except JobNotFound:
        pass
    kept = orchestrator().flow.store.retention.ended_days
    raise Problem(404, f"no job of yours has this id (records are kept for {kept} after the end)")


def _view(job: Job) -> dict[str, Any]:
    return {**shown(job), "batch": own_name(job.batch)}
