"""One job: what was asked for, what it waits for, what was tried and what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, render_template, request, url_for

from orchestrator.errors import Conflict, masked
from orchestrator.models import Attempt, Job, State
from orchestrator.operations import Filter
from orchestrator.schemas import shown
from orchestrator.views.notices import notice_view
from webhooks.operations.errands import act, ask, is_sure, orchestrator
from webhooks.operations.numbers import Numbers

jobs = Blueprint("jobs", __name__, url_prefix="/jobs")


@dataclass(frozen=True)
class Event:
    """One line of a job's history."""

    at: float  # unix seconds
    what: str
    more: str = ""
    tone: str = ""  # a state's colour


@jobs.get("/<job_id>")
def show(job_id: str) -> str:
    client = orchestrator()
    store = client.flow.store
    job = store.job(job_id)
    (attempts,) = store.attempts_of([job])
    return render_template(
        "job.html",
        job=job,
        view=shown(job),
        explanation=client.insight.explain(job_id),
        history=sorted(_history(job, attempts), key=lambda event: event.at),
        attempts=attempts,
        notices=[notice_view(each) for each in store.notices.of_job(job_id)],
    )


@jobs.post("/<job_id>/cancel")
def cancel(job_id: str) -> Response | str:
    client = orchestrator()
    if not is_sure():
        client.flow.store.job(job_id)
        return ask(f"Cancel job {job_id}, at the provider too where it can?", "Cancel the job", _page(job_id))

    def verb() -> str:
        if not client.job(job_id).cancel():
            raise Conflict(f"job {job_id} is {client.job(job_id).state}: it is too late to cancel it")
        return f"job {job_id} is cancelled"

    return act("cancel", job_id, verb, _page(job_id))


@jobs.post("/<job_id>/prioritise")
def prioritise(job_id: str) -> Response:
    numbers, client = Numbers(request.form), orchestrator()

    def verb() -> str:
        priority = numbers.whole("priority")
        if not client.job(job_id).prioritise(-1 if priority is None else priority):
            raise Conflict(f"job {job_id} is {client.job(job_id).state}: nothing of it waits")
        return f"job {job_id} has priority {priority}"

    return act("prioritise", job_id, verb, _page(job_id))


@jobs.post("/<job_id>/replay")
def replay(job_id: str) -> Response | str:
    client, moderated = orchestrator(), request.form.get("moderated") == "yes"
    if not is_sure():
        return ask(f"Let job {job_id} run again? It may be paid for once more.", "Run again", _page(job_id))

    def verb() -> str:
        if not client.operations.replay(Filter(jobs=[job_id]), moderated):
            raise Conflict(f"job {job_id} is no dead letter that can run again")
        return f"job {job_id} runs again"

    return act("replay", job_id, verb, _page(job_id))


@jobs.post("/<job_id>/refresh")
def refresh(job_id: str) -> Response:
    client = orchestrator()

    def verb() -> str:
        return f"the provider named {len(client.job(job_id).refresh())} fresh URLs of job {job_id}"

    return act("refresh", job_id, verb, _page(job_id))


def _page(job_id: str) -> str:
    return url_for("jobs.show", job_id=job_id)


def _history(job: Job, attempts: Sequence[Attempt]) -> Iterator[Event]:
    target = f"for {job.target}" if job.target else ""
    yield Event(job.created_at, "enqueued", target, "queued")
    for attempt in attempts:
        yield from _of_attempt(attempt)
    if job.ended_at:
        told = _told(job.error) if job.state is State.FAILED else ""
        yield Event(job.ended_at, job.state.value, masked(job.reason or told), job.state.value)


def _of_attempt(attempt: Attempt) -> Iterator[Event]:
    name = f"attempt {attempt.number}"
    yield Event(attempt.granted_at, f"{name}: slot granted", f"at {attempt.account}", "queued")
    if attempt.opened_at:
        yield Event(attempt.opened_at, f"{name}: submitted", "", "submitted")
    if attempt.submitted_at:
        yield Event(
            attempt.submitted_at,
            f"{name}: accepted",
            f"upstream id {masked(str(attempt.upstream_id))}",
            "submitted",
        )
    elif attempt.uncertain_since:
        yield Event(attempt.uncertain_since, f"{name}: uncertain", "the provider may have taken it", "failed")
    if attempt.looked_at:
        polls = f"polled {attempt.polls} times, the last time unfinished" if attempt.polls else ""
        yield Event(attempt.looked_at, f"{name}: polled", polls, "submitted")
    if attempt.closed_at:
        good = attempt.verdict == "succeeded"
        tone = "collecting" if good else "failed" if attempt.error else "queued"
        yield Event(attempt.closed_at, f"{name}: {attempt.verdict}", _told(attempt.error), tone)


def _told(error: Any) -> str:
    return f"{error['kind']}: {error['message']}" if error else ""
