"""What a notice says, to whom it may go, and when it is sent again. Pure."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from orchestrator.addresses import notify_fault
from orchestrator.errors import Invalid, masked
from orchestrator.models import Answer, Notice
from orchestrator.retry import retry_after_seconds
from orchestrator.signatures import webhook_headers

FIRST_SECONDS, LONGEST_SECONDS = 5.0, 2 * 3600.0  # between two tries
TRY_SECONDS = 86_400.0  # from the first try to the last
SHOWN_CHARACTERS = 200
GONE = 410  # "stop sending": https://www.standardwebhooks.com, status codes
NO_HOST = (429, 502, 503, 504)  # its host, not its path, is the trouble
CALLED = uuid.UUID("2f6f5a0e-7d0c-4a3f-9a51-5f0f5d1f6b5a")  # of the ids of tasks that notices call
NO_SECRET = (
    "ORCHESTRATOR_NOTIFY_SECRET is not set, and nothing is sent unsigned: set it here, and where workers "
    "run, to the output of `echo whsec_$(openssl rand -base64 32)`"
)


@dataclass(frozen=True)
class NotifyRules:
    """Which URLs may be told, and what that is signed with."""

    keys: Sequence[bytes] = field(default=(), repr=False)  # all sign
    private_hosts: frozenset[str] = frozenset()  # host names that need not be public

    def check(self, name: str, url: str) -> None:
        """Raises: Invalid where it can never work; `name`: of the field, to be said."""
        if fault := notify_fault(url, self.private_hosts):
            raise Invalid(f"{name} = {shown_target(url)!r}: {fault}")
        if not self.keys:
            raise Invalid(f"{name}: {NO_SECRET}")

    def is_private(self, url: str) -> bool:
        """Whether the operator vouches for its host."""
        return (urlsplit(url).hostname or "") in self.private_hosts

    def headers(self, notice: Notice, body: bytes, now: float) -> dict[str, str]:
        """Standard Webhooks: the id is the same each time it is sent, the moment is not."""
        signed = webhook_headers(notice.id, int(now), body, self.keys)
        return {"Content-Type": "application/json", **signed}


def told(status: int, retry_after: str | None, tries: int, waited: float, now: float, dice: float) -> Answer:
    """What an HTTP status means. `waited`: seconds since the first try. `dice`: uniform in [0, 1)."""
    if 200 <= status < 300:
        return Answer(str(status), delivered=True)
    if status == GONE:
        return Answer(f"{status}: its receiver wants no more")
    asked = retry_after_seconds(retry_after, datetime.fromtimestamp(now, UTC))
    return _again(str(status), tries, waited, dice, asked or 0.0, status in NO_HOST)


def untold(why: str, tries: int, waited: float, dice: float) -> Answer:
    """What it means that there was no answer."""
    return _again(why, tries, waited, dice, 0.0, True)


def _again(text: str, tries: int, waited: float, dice: float, asked: float, host_down: bool) -> Answer:
    seconds = max(min(asked, TRY_SECONDS - waited), backoff_seconds(tries, dice))
    return Answer(text, again_in=seconds if waited + seconds <= TRY_SECONDS else None, host_down=host_down)


def backoff_seconds(tries: int, dice: float) -> float:
    """Exponential, its upper half left to the dice; `tries` so far, 1 or more."""
    return float(min(LONGEST_SECONDS, FIRST_SECONDS * 2 ** min(tries - 1, 30))) * (1 + dice) / 2


def facts(notice: Notice) -> dict[str, Any]:
    """What is told: of a job its result and how it stands, of a batch its counts."""
    known = notice.facts
    if notice.type == "batch.completed":
        counts = {word: int(known.get(word, 0)) for word in ("total", "succeeded", "failed", "cancelled")}
        return {"batch": notice.about, **counts}
    result = _read(known.get("result")) or {
        "job_id": notice.about,
        "provider": known.get("provider"),
        "account": known.get("account"),
        "attempts": int(known.get("attempts", 0)),
        "seconds": round(notice.made_at - float(known.get("created", notice.made_at)), 3),
        "artifacts": [],
    }
    state = notice.type.removeprefix("job.")
    trouble = None if state == "succeeded" else _trouble(known)
    named = {"batch": known.get("batch"), "custom_id": known.get("custom_id")}
    return {**result, "state": state, **named, "error": trouble}


def _trouble(known: Mapping[str, str]) -> dict[str, Any] | None:
    error, reason = _read(known.get("error")), known.get("reason", "")
    if not error and not reason:
        return None
    return {"kind": error["kind"] if error else None, "message": masked(reason or error["message"])}


def body(notice: Notice) -> bytes:
    """The same each time it is sent."""
    moment = datetime.fromtimestamp(notice.made_at, UTC).isoformat(timespec="milliseconds")
    told = {"type": notice.type, "timestamp": moment, "data": facts(notice)}
    return json.dumps(told, separators=(",", ":")).encode()


def task_id(notice: Notice) -> str:
    """Of the Celery task that it calls: the same each time it is sent."""
    return str(uuid.uuid5(CALLED, notice.id))


def is_signature(target: str) -> bool:
    return target.startswith("{")


def shown_target(target: str) -> str:
    """Whom a notice goes to, fit to be seen: no query, no credentials, no arguments of a task."""
    if is_signature(target):
        return str(json.loads(target).get("task"))
    before, mark, _ = target.partition("?")
    scheme, slashes, rest = before.partition("#")[0].partition("://")
    place, slash, path = rest.partition("/")
    host, more = place.rpartition("@")[2], "?…" if mark else ""
    return masked(f"{scheme}{slashes}{host}{slash}{path}{more}", SHOWN_CHARACTERS)


def _read(text: str | None) -> Any:
    return json.loads(text) if text else None
