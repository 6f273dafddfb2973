"""The values that travel between the parts. Frozen, small, JSON-able, without behaviour of their own."""

from __future__ import annotations

from orchestrator.models.accounts import Account, ApiKey, Secret, WhenUncertain
from orchestrator.models.generations import (
    Callback,
    Failed,
    Lost,
    Outcome,
    Pending,
    Reply,
    Report,
    Request,
    Submission,
    Succeeded,
)
from orchestrator.models.jobs import (
    CLAIM_PUSH_SECONDS,
    RETENTION,
    Artifact,
    Attempt,
    Job,
    Message,
    NewJob,
    Retention,
    Shown,
    Spend,
    State,
    Tries,
    attempt_id,
    batch_name,
)
from orchestrator.models.notices import Answer, Notice

__all__ = [
    "CLAIM_PUSH_SECONDS",
    "RETENTION",
    "Account",
    "Answer",
    "ApiKey",
    "Artifact",
    "Attempt",
    "Callback",
    "Failed",
    "Job",
    "Lost",
    "Message",
    "NewJob",
    "Notice",
    "Outcome",
    "Pending",
    "Reply",
    "Report",
    "Request",
    "Retention",
    "Secret",
    "Shown",
    "Spend",
    "State",
    "Submission",
    "Succeeded",
    "Tries",
    "WhenUncertain",
    "attempt_id",
    "batch_name",
]
