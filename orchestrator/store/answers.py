"""What the steps of a job answer, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.models import Job, Message, Tries


@dataclass(frozen=True)
class Opened:
    """What the opener of an attempt submits."""

    account: str
    parameters: Mapping[str, Any]
    tries: Tries
    max_jobs: int  # of the account, as it is now
    refused: bool  # its content was refused by moderation before: it must not be sent
    created_at: float = 0.0  # its job; unix seconds
    granted_at: float = 0.0  # its slot; unix seconds


@dataclass(frozen=True)
class Settled:
    """What a settlement led to."""

    word: str  # settled | late | duplicate | unknown | mismatch | pending: the attempt goes on
    finish: Message | None
    grants: tuple[Message, ...]
    opened_at: float | None = None  # of an attempt that was begun, and is settled by this; unix seconds
    on_behalf: str = ""  # the worker for which the job may be ended at once; empty: `finish` does it
    created_at: float = 0.0  # that job; unix seconds


@dataclass(frozen=True)
class Begun:
    """A finish that was begun."""

    job: Job  # without its `due_at`
    attempts: tuple[Mapping[str, str], ...]  # their records, first to last
    token: str  # of the lease; until when it holds, in unix seconds
    again: bool  # it was begun before: what came of that is not known here


@dataclass(frozen=True)
class Claimed:
    """What was due."""

    count: int
    submits: tuple[Message, ...]
    finishes: tuple[Message, ...]
    looks: tuple[tuple[str, float], ...]  # attempt id, when to look at it
    hosts: tuple[tuple[str, int], ...]  # that notices wait for, how many may send them


@dataclass(frozen=True)
class Cancelled:
    """A job that was cancelled, and what it held."""

    finish: Message
    account: str
    upstream_id: str
    grants: tuple[Message, ...]
