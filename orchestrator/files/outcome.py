"""The outcome of one job as a line of a file: made of its record, written and read back. Pure."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from orchestrator.files.spool import Line
from orchestrator.models import Attempt, Job, State
from orchestrator.operations import failure_of
from orchestrator.schemas import moment

Outcome = dict[str, Any]
COLUMNS = (
    "custom_id", "job", "state", "error", "message", "attempts", "provider", "account", "seconds", "cost",
    "path", "sha256", "artifacts", "ended_at", "fingerprint",
)  # fmt: skip
NUMBERS = ("attempts", "seconds", "cost")
FORGOTTEN = (
    "it ended, but nothing wrote its outcome before its record expired: look among the kept pictures, or "
    "give it another custom_id to generate it again"
)


def outcome(line: Line, job: Job, attempts: Sequence[Attempt]) -> Outcome:
    """What became of a job that has ended. `cost`: at most; `seconds`: from enqueue to end."""
    artifacts = [_artifact(each) for each in (job.result or {}).get("artifacts", ())]
    first = artifacts[0] if artifacts else {}
    return {
        "custom_id": line.custom_id,
        "job": job.id,
        "state": job.state.value,
        "error": _error(job),
        "message": None if job.state is State.SUCCEEDED else job.reason or None,
        "attempts": job.attempts,
        "provider": job.provider,
        "account": job.account or None,
        "seconds": round((job.ended_at or job.created_at) - job.created_at, 3),
        "cost": round(sum(each.cost for each in attempts), 6),
        "path": first.get("path"),
        "sha256": first.get("sha256"),
        "artifacts": artifacts,
        "ended_at": moment(job.ended_at),
        "fingerprint": line.fingerprint,
    }


def forgotten(line: Line, job_id: str) -> Outcome:
    """Of a job that ended, and is not known any more."""
    told = {"custom_id": line.custom_id, "job": job_id, "state": State.FAILED.value, "error": "Forgotten"}
    empty = dict.fromkeys(COLUMNS) | {"attempts": 0, "seconds": 0.0, "cost": 0.0, "artifacts": []}
    return {**empty, **told, "message": FORGOTTEN, "fingerprint": line.fingerprint}


def _error(job: Job) -> str | None:
    if job.state is State.SUCCEEDED:
        return None
    return "Cancelled" if job.state is State.CANCELLED else failure_of(job)


def _artifact(artifact: Mapping[str, Any]) -> dict[str, Any]:
    """Its URL without what signs it."""
    parts = urlsplit(artifact["url"] or "")
    return {**artifact, "url": parts._replace(query="", fragment="").geturl() or None}


def json_line(told: Outcome) -> str:
    return json.dumps(told, ensure_ascii=False) + "\n"


def csv_line(told: Outcome) -> str:
    """One physical line, whatever the texts hold."""
    artifacts = json.dumps(told["artifacts"], ensure_ascii=False) if told["artifacts"] else None
    cells = {**told, "artifacts": artifacts}
    return _row([" ".join(cell.splitlines()) if isinstance(cell, str) else cell for cell in cells.values()])


def csv_header() -> str:
    return _row(COLUMNS)


def _row(cells: Sequence[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def from_json(text: str) -> Outcome:
    """Raises: ValueError where it is none of ours."""
    return _ours(json.loads(text))


def from_csv(text: str) -> Outcome:
    """Raises: ValueError where it is none of ours."""
    (row,) = csv.reader([text])
    cells: dict[str, Any] = {name: cell or None for name, cell in zip(COLUMNS, row, strict=True)}
    numbers = {name: json.loads(cells[name]) for name in NUMBERS}
    return _ours({**cells, **numbers, "artifacts": json.loads(cells["artifacts"] or "[]")})


def _ours(told: Any) -> Outcome:
    if not isinstance(told, dict) or not set(COLUMNS) <= set(told) or not told["job"]:
        raise ValueError("it is not an outcome")
    return told
