"""Between our values and what Redis keeps of them: rows in, records out. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from orchestrator.models import Account, Attempt, Job, Message, NewJob, Notice, State, Tries

REFUNDED = "refunded"  # what becomes of a generation that the provider did not take


def limits(account: Account) -> dict[Any, Any]:
    return {
        "max_jobs": account.max_jobs,
        "deadline_seconds": account.deadline_seconds,
        "timeout_seconds": account.timeout_seconds,
        "requests_per_second": account.requests_per_second,
        "burst": account.burst,
        "max_per_day": account.max_per_day,
        "queue_ahead": account.queue_ahead,
        "weight": account.weight,
        "price": account.price,
        "max_spend": account.max_spend,
        "max_moderated": account.max_moderated,
        "max_moderated_share": account.max_moderated_share,
    }


def row(job: NewJob) -> tuple[str | float, ...]:
    more = {
        "pinned": job.account,
        "target": "+".join(sorted(job.choices)),
        "choices": _compact({name: _compact(parameters) for name, parameters in job.choices.items()})
        if job.choices
        else "",
        "tenant": job.tenant,
        "max_attempts": job.max_attempts,
        "expires": job.expires_at,
        "even_if_moderated": int(job.even_if_moderated),
        "custom_id": job.custom_id,
        "fingerprint": job.fingerprint,
        "notify_url": job.notify_url,
        "options": _compact(job.options) if job.options else "",
    }
    said = {name: value for name, value in more.items() if value}
    return (
        job.id,
        job.provider,
        _compact(job.parameters),
        job.batch,
        job.priority,
        job.start_at,
        json.dumps(said) if said else "",
    )


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def fields(row: Sequence[str]) -> dict[str, str]:
    """A hash as a script gives it: names and values in turn."""
    return dict(zip(row[::2], row[1::2], strict=True))


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
        failures=sum(parsed("failures").values()) if row.get("failures") else 0,
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
        expires_at=float(row["expires"]) if "expires" in row else None,
        tenant=row.get("tenant", ""),
        custom_id=row.get("custom_id", ""),
        collect_error=row.get("collect_error", ""),
        artifacts_die_at=float(row["urls_die"]) if "urls_die" in row else None,
        target=row.get("target") or "/".join(filter(None, (row["provider"], row.get("pinned")))),
    )


def tries(failures: str, most: str) -> Tries:
    return Tries(json.loads(failures or "{}"), int(most) if most else None)


def attempt(attempt: str, row: Mapping[str, str]) -> Attempt:
    return Attempt(
        id=attempt,
        job_id=row["job"],
        number=int(attempt.rpartition(".")[2]),
        provider=row["provider"],
        account=row["account"],
        state=row["state"],
        tries=tries(row.get("failures", ""), row.get("max_attempts", "")),
        timing=row.get("timing", row["provider"] + "/"),
        granted_at=float(row.get("granted", 0)),
        opened_at=float(row.get("opened", 0)),
        closed_at=float(row.get("closed", 0)),
        submitted_at=float(row.get("submitted", 0)),
        looked_at=float(row.get("looked", 0)),
        deadline_at=float(row.get("deadline", 0)),
        upstream_id=row.get("upstream_id"),
        uncertain_since=float(row.get("uncertain_since", 0)),
        denied=int(row.get("denied", 0)),
        polls=int(row.get("polls", 0)),
        verdict=row.get("verdict", ""),
        error=json.loads(row["error"]) if row.get("error") else None,
        cost=float(row.get("price", 0)) if row.get("fate", REFUNDED) != REFUNDED else 0.0,
    )


def notice(notice_id: str, row: Mapping[str, str]) -> Notice:
    return Notice(
        id=notice_id,
        type=row["type"],
        about=row["about"],
        target=row.get("target", ""),
        shown=row.get("shown", ""),
        host=row["host"],
        state=row["state"],
        made_at=float(row["made"]),
        first_tried_at=float(row.get("first_tried", 0)),
        ended_at=float(row["ended"]) if "ended" in row else None,
        tries=int(row.get("tries", 0)),
        answer=row.get("answer", ""),
        facts=row,
    )
