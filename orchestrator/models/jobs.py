"""A job: as it is asked for, as it stands, its attempts, what it costs, and what Celery is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """The states of a job. Arrows: queued → submitted → collecting → succeeded | failed."""

    QUEUED = "queued"  # waits in a lane, for a backoff to pass, or for its submit message to be taken
    SUBMITTED = "submitted"  # an attempt is open at the provider
    COLLECTING = "collecting"  # the outcome is known and is being finished
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self in (State.SUCCEEDED, State.FAILED, State.CANCELLED)


@dataclass(frozen=True)
class NewJob:
    """What a caller asked for, validated, on its way into the store."""

    id: str  # the Celery task id
    provider: str
    parameters: Mapping[str, Any]
    batch: str = ""  # its lane; empty: the common lane. As `batch_name` gives it
    priority: int = 0  # 0-9, 9 first
    account: str = ""  # pinned to this account; empty: any
    start_at: float = 0.0  # unix seconds; not before
    options: Mapping[str, Any] = field(default_factory=dict)  # Celery's: links, chain, chord, group …
    choices: Mapping[str, Mapping[str, Any]] = field(
        default_factory=dict
    )  # provider → parameters, where any will do
    tenant: str = ""  # whose lanes share what one lane would get; empty: the batch is by itself
    max_attempts: int | None = None  # failures it may have; None: as its account says
    expires_at: float = 0.0  # unix seconds; no attempt is begun after it; 0: never
    even_if_moderated: bool = False  # sent although its content was refused before
    custom_id: str = ""  # what its caller calls it, within its batch
    fingerprint: str = ""  # of what was asked for, where the same may be asked for again: `intake.keyed`
    notify_url: str = field(default="", repr=False)  # told of its end


@dataclass(frozen=True)
class Job:
    """A job as the store knows it."""

    id: str
    provider: str
    parameters: Mapping[str, Any]
    state: State
    batch: str
    priority: int
    attempts: int  # tries so far; the last one's number
    failures: int  # those of them that count against the budget
    account: str  # of the last attempt
    created_at: float  # unix seconds
    ended_at: float | None
    options: Mapping[str, Any]
    error: Mapping[str, Any] | None  # `errors.describe` of the last failure
    reason: str  # why it failed, in a sentence
    artifact_urls: tuple[str, ...]
    result: Mapping[str, Any] | None
    collect_failures: int
    due_at: float | None  # when something of ours looks at it next; unix seconds
    expires_at: float | None  # no attempt is begun after it; unix seconds
    tenant: str
    target: str  # whom it waits for: a provider, several joined by `+`, or `<provider>/<account>`
    custom_id: str = ""  # what its caller calls it, within its batch
    collect_error: str = ""  # why its pictures were not kept the last time
    artifacts_die_at: float | None = (
        None  # about when they cannot be fetched any more, where there was trouble
    )

    @property
    def lane(self) -> str:
        """Where it waits for a slot: `<target>|<owner>`."""
        owner = self.batch or (f"{self.tenant}/" if self.tenant else "")
        return f"{self.target}|{owner}"


@dataclass(frozen=True)
class Tries:
    """How a job stands with its budget of failures."""

    failures: Mapping[str, int] = field(default_factory=dict)  # so far, by class
    most: int | None = None  # that it may have; None: as its account says


@dataclass(frozen=True)
class Attempt:
    """The n-th try at a job. Its id is `<job>.<n>`."""

    id: str
    job_id: str
    number: int
    provider: str
    account: str
    state: str  # granted | open | submitted | closed
    tries: Tries  # of the job, before this attempt
    timing: str  # whose durations it is measured by: `<provider>/<model>`
    granted_at: float
    opened_at: float
    closed_at: float  # 0: it is not
    submitted_at: float  # 0: not (yet) known to be accepted
    looked_at: float  # of the last poll that saw it unfinished; 0: none
    deadline_at: float
    upstream_id: str | None
    uncertain_since: float  # since when it is not known whether the provider took it; 0: it is
    denied: int  # how often the provider said that it did not take it
    polls: int
    verdict: str = ""  # that it was closed with: succeeded, failed, busy …; empty: it is open
    error: Mapping[str, Any] | None = None  # `errors.describe` of what it failed with
    cost: float = 0.0  # at most, in its account's price


@dataclass(frozen=True)
class Artifact:
    """One produced file. `path` is None where only URLs are kept."""

    url: str
    path: str | None = None
    media_type: str | None = None
    bytes: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Spend:
    """Generations that were begun, by what became of them."""

    committed: int = 0  # not settled yet
    confirmed: int = 0  # paid for
    refunded: int = 0  # the provider did not take them: they cost nothing
    at_risk: int = 0  # given up without knowing, or failed at the provider: they may have been paid for

    @property
    def most(self) -> int:
        """How many may have been paid for, or will be."""
        return self.committed + self.confirmed + self.at_risk

    def __add__(self, other: Spend) -> Spend:
        return Spend(
            self.committed + other.committed,
            self.confirmed + other.confirmed,
            self.refunded + other.refunded,
            self.at_risk + other.at_risk,
        )


@dataclass(frozen=True)
class Message:
    """What a Celery message of a job is made of."""

    job_id: str
    provider: str
    parameters: Mapping[str, Any]
    options: Mapping[str, Any]
    attempt: int  # granted attempt for a submit, last attempt for a finish


@dataclass(frozen=True)
class Shown:
    """What Celery's result backend is to say of a task: a text at a key, for so many seconds."""

    key: str
    text: str
    seconds: int


@dataclass(frozen=True)
class Retention:
    """For how long what has ended is known; seconds."""

    ended: int = 7 * 86_400
    failed: int = 30 * 86_400  # jobs that a person may replay, and their batches

    @property
    def ended_days(self) -> str:
        return f"{self.ended / 86_400:g} days"

    @property
    def failed_days(self) -> str:
        return f"{self.failed / 86_400:g} days"


RETENTION = Retention()  # where nothing else is said

# A look at an attempt that was claimed from the due list, and came to nothing, is made again after this.
CLAIM_PUSH_SECONDS = 30.0


def attempt_id(job_id: str, number: int) -> str:
    return f"{job_id}.{number}"


def batch_name(name: str, tenant: str) -> str:
    """What a batch is called everywhere but in its tenant's own requests, whose names are its own."""
    return f"{tenant}/{name}" if tenant and name else name
