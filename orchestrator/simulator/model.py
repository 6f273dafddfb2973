"""The nouns of the engine: an order, the account it runs on, the task it becomes, a task at one moment."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from orchestrator.simulator.markers import Marker

if TYPE_CHECKING:
    from orchestrator.simulator.api import Api
    from orchestrator.simulator.tally import Running, Tally

PENDING_SHARE = 0.1
"""The part of a generation during which it is only pending."""
PROGRESS_CAP = 0.99


class Phase(StrEnum):
    """Where a task stands. An API translates these into its own words where they differ."""

    THROTTLED = "THROTTLED"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SIMMERING = "SIMMERING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


class Refused(Exception):
    """A request that gets an error for an answer; `kind` is the word under which it is counted.

    Kinds: 400, 401, 404, 412 (credit), 422 (moderated), 429A (account full), 429B (the provider's own limit),
    429D (its daily cap), 596 (account broken), 5xx, or any other status as told through the control door.
    """

    def __init__(self, kind: str, status: int, detail: str = "", account: Account | None = None) -> None:
        super().__init__(kind)
        self.kind = kind
        self.status = status
        self.detail = detail
        self.account = account

    @classmethod
    def with_status(cls, status: int) -> Refused:
        """The refusal that a bare HTTP status stands for."""
        known = {429: "429B", 596: "596"}
        return cls(known.get(status, "5xx" if status >= 500 else str(status)), status)


@dataclass(frozen=True, slots=True)
class Order:
    """What an API read from one create request. `parameters` are that API's own, defaults filled in."""

    api: Api
    prompt: str
    base_url: str = ""
    """The simulator as this caller sees it, for the artifact URLs."""
    email: str | None = None
    max_jobs: int | None = None
    reply_url: str | None = None
    reply_ref: str | None = None
    parameters: dict[str, object] = field(default_factory=dict)
    foreign: bool = False
    """Somebody else's: takes a slot, is tracked and reported by nobody."""


@dataclass(slots=True)
class Account:
    """One account. `held` is what its capacity gate counts, `running` what the provider really runs."""

    email: str
    max_jobs: int
    runway_limit: int | None = None
    held: dict[str, Task] = field(default_factory=dict)
    running: dict[str, Task] = field(default_factory=dict)
    waiting: dict[str, Task] = field(default_factory=dict)
    """Accepted beyond the limit, in the order they came, by an API that queues its overflow."""
    daily_left: int | None = None
    """How many tasks the daily cap still admits; None: there is none."""
    freed_at: float | None = None
    """Monotonic moment at which the account ceased to be full, until the slot is taken again."""


@dataclass(slots=True)
class Task:
    """One accepted order. Moments are unix seconds; `seconds` is real time, scale and markers applied."""

    id: str
    order: Order
    account: Account
    tally: Tally
    markers: frozenset[Marker]
    dice: int
    """64 bits that follow from seed, prompt and submission alone; an API draws its choices from them."""
    seconds: float
    created_at: float
    limit: int
    started_at: float | None = None
    """When it got its slot; None: it waits for one."""
    answer_status: int | None = None
    """The error to answer with although the task was accepted."""
    ended_at: float | None = None
    status: str = "RUNNING"
    """SUCCEEDED, FAILED, or DELETED where a client stopped it, once it has ended."""
    reason: str | None = None
    tracked: bool = True

    @property
    def running(self) -> Running:
        """Where it is counted while it holds a slot."""
        return self.tally.foreign if self.order.foreign else self.tally.ours

    def as_created(self) -> Snapshot:
        """The task as the create reply shows it, however late that reply is."""
        return Snapshot(self, Phase.PENDING, None, self.created_at)

    def now(self) -> Snapshot:
        """The task as it stands."""
        return self.at(time.time())

    def at(self, moment: float) -> Snapshot:
        """The task as it stood, or stands, at a unix moment."""
        if self.ended_at is not None and moment >= self.ended_at:
            return Snapshot(self, Phase.FAILED if self.reason else Phase.SUCCEEDED, 1.0, self.ended_at)
        if self.started_at is None:
            return Snapshot(self, Phase.THROTTLED, None, self.created_at)
        share = (moment - self.started_at) / self.seconds if self.seconds else 0.0
        if share < PENDING_SHARE:
            return self.as_created()
        phase = Phase.SIMMERING if Marker.WEIRD in self.markers else Phase.RUNNING
        return Snapshot(self, phase, min(round(share, 2), PROGRESS_CAP), moment)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A task at one moment. `progress` runs from 0 to 1 and is None while nothing has begun."""

    task: Task
    phase: Phase
    progress: float | None
    at: float
