"""What happened to one job, in order: read from its records, which are kept in any case. Pure.

Where a moment is a line of the log, too, both have one name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator.errors import masked, without_emails, without_queries
from orchestrator.models import Job, Notice
from orchestrator.schemas import moment

if TYPE_CHECKING:
    from orchestrator.store import Heard

Row = Mapping[str, str]


@dataclass(frozen=True)
class Moment:
    """One of them. `more`: what else there is to it, small and JSON-able."""

    at: float  # unix seconds
    event: str
    text: str
    attempt: int | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


def timeline(
    job: Job, attempts: Sequence[Row], heard: Sequence[Heard], notices: Sequence[Notice]
) -> list[Moment]:
    """`attempts`: their raw records, first to last; empty ones are no longer known. `heard`: of this job."""
    found = [Moment(job.created_at, "job.enqueued", "enqueued")]
    for number, row in enumerate(attempts, 1):
        found += _attempt(number, row)
    found += [_callback(entry) for entry in heard]
    if job.ended_at is not None:
        found.append(_end(job))
    for notice in notices:
        found += _notice(notice)
    return sorted(found, key=lambda each: each.at)


def shown(each: Moment) -> dict[str, Any]:
    """As JSON for people and programs."""
    told = {"attempt": each.attempt} if each.attempt else {}
    return {"at": moment(each.at), "event": each.event, "text": each.text, **told, **each.more}


def _attempt(number: int, row: Row) -> Iterator[Moment]:
    account = {"account": row.get("account", "")}

    def at(name: str, event: str, text: str, **more: Any) -> Iterator[Moment]:
        if row.get(name):
            yield Moment(float(row[name]), f"attempt.{event}", text, number, {**account, **more})

    upstream_id = without_emails(row.get("upstream_id", ""))
    yield from at("granted", "granted", f"a slot of {account['account']} was granted")
    yield from at("opened", "opened", f"submitted to {row.get('provider')} by {account['account']}")
    yield from at("uncertain_since", "uncertain", "not answered: it may have arrived, or not")
    yield from at("submitted", "submitted", f"taken as {upstream_id}", upstream_id=upstream_id)
    polls = row.get("polls", "0")
    yield from at("looked", "polled", f"asked {polls} time(s), unfinished at the last", polls=int(polls))
    if not row.get("told"):
        yield from at("closed", "closed", _verdict(row), verdict=row.get("verdict"), **_error(row))
        return
    yield from at("closed", "closed", f"given up: {_why(row)}", **_error(row))
    yield from at("told", "late", "succeeded after all", verdict="succeeded")


def _verdict(row: Row) -> str:
    verdict = row.get("verdict", "")
    return f"{verdict}: {_why(row)}" if row.get("error") else verdict


def _error(row: Row) -> dict[str, Any]:
    return {"error": json.loads(row["error"])["kind"]} if row.get("error") else {}


def _why(row: Row) -> str:
    error = json.loads(row.get("error") or "{}")
    return fit(f"{error['kind']}: {error['message']}") if error else "nothing was heard of it"


def _callback(entry: Heard) -> Moment:
    number = int(entry.attempt.rpartition(".")[2])
    text = f"{entry.provider} called back: {entry.word}"
    return Moment(entry.at, "callback.received", text, number, {"word": entry.word})


def _end(job: Job) -> Moment:
    tried = f", its pictures kept at try {job.collect_failures + 1}" if job.collect_failures else ""
    text = f"{job.state.value}: {fit(job.reason)}" if job.reason else f"{job.state.value}{tried}"
    return Moment(job.ended_at or 0.0, "job.ended", text, None, {"state": job.state.value})


def _notice(notice: Notice) -> Iterator[Moment]:
    about = {"notice": notice.id, "host": notice.host}
    if notice.first_tried_at and notice.tries:  # forgotten once it is delivered
        text = f"{notice.host} did not take it at the first try"
        yield Moment(notice.first_tried_at, "notice.postponed", text, None, about)
    if notice.ended_at:
        text = f"{notice.host}: {notice.state} at try {notice.tries}: {fit(notice.answer)}"
        yield Moment(notice.ended_at, f"notice.{notice.state}", text, None, about)


def fit(text: str) -> str:
    """A stranger's words, fit to be shown."""
    return masked(without_queries(text))
