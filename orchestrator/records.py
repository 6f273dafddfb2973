"""Between our values and what Redis keeps of them: rows in, records out. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from orchestrator.models import Account, Attempt, Job, Message, NewJob, State


def limits(account: Account) -> dict[Any, Any]:
    return {
        "max_jobs": account.max_jobs,
        "deadline_seconds": account.deadline_seconds,
        "timeout_seconds": account.timeout_seconds,
        "requests_per_second": account.requests_per_second,
        "queue_ahead": account.queue_ahead,
    }


def row(job: NewJob) -> tuple[str | float, ...]:
    return (
        job.id,
        job.provider,
        json.dumps(job.parameters, ensure_ascii=False, separators=(",", ":")),
        job.batch,
        job.priority,
        job.account,
        job.start_at,
        json.dumps(job.options) if job.options else "",
    )


def message(row: Sequence[Any]) -> Message:
    job_id, provider, parameters, options, attempt = row
    return Message(job_id, provider, json.loads(parameters), json.loads(options or "{}"), attempt)


def messages(rows: Iterable[Sequence[Any]]) -> tuple[Message, ...]:
    return tuple(message(row) for row in rows)


def job(job_id: str, row: Mapping[str, str], due_at: float | None) -> Job:
    def parsed(name: str) -> Any:
        return json.loads(row[name]) if row.get(name) else None

    return Job(
        id=job_id,
        provider=row["provider"],
        parameters=parsed("parameters"),
        state=State(row["state"]),
        batch=row["batch"],
        priority=int(row.get("priority", 0)),
        attempts=int(row.get("attempts", 0)),
        failures=int(row.get("failures", 0)),
        account=row.get("account", ""),
        created_at=float(row["created"]),
        ended_at=float(row["ended"]) if "ended" in row else None,
        options=parsed("options") or {},
        error=parsed("error"),
        reason=row.get("reason", ""),
        artifact_urls=tuple(parsed("urls") or ()),
        result=parsed("result"),
        collect_failures=int(row.get("collect_failures", 0)),
        due_at=due_at,
    )


def attempt(attempt: str, row: Mapping[str, str]) -> Attempt:
    return Attempt(
        id=attempt,
        job_id=row["job"],
        number=int(attempt.rpartition(".")[2]),
        provider=row["provider"],
        account=row["account"],
        state=row["state"],
        failures=int(row.get("failures", 0)),
        timing=row.get("timing", row["provider"] + "/"),
        opened_at=float(row.get("opened", 0)),
        submitted_at=float(row.get("submitted", 0)),
        looked_at=float(row.get("looked", 0)),
        deadline_at=float(row.get("deadline", 0)),
        upstream_id=row.get("upstream_id"),
        uncertain=int(row.get("uncertain", 0)),
        polls=int(row.get("polls", 0)),
    )
