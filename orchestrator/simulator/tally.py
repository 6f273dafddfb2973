"""What happened, in numbers: kept per API, added up for the total."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

KEPT_REFILLS = 100_000
LOADED_AT = time.time()
"""What sums of moments are counted from: large numbers would lose the milliseconds."""
SUMS = (
    "posts",
    "accepted",
    "throttled",
    "polls",
    "duplicates_by_reply_ref",
    "duplicates_by_prompt",
    "callbacks_sent",
    "callbacks_refused",
    "callbacks_lost",
    "busy_seconds",
    "foreign_busy_seconds",
)


@dataclass(slots=True)
class Running:
    """Tasks that hold a slot: how many, and the sum of the moments at which they got it."""

    tasks: int = 0
    sum_of_starts: float = 0.0

    def begin(self, started_at: float) -> None:
        """One more. Moments are unix seconds."""
        self.tasks += 1
        self.sum_of_starts += started_at - LOADED_AT

    def end(self, started_at: float) -> None:
        """One less, by the moment it was begun with."""
        self.tasks -= 1
        self.sum_of_starts = self.sum_of_starts - (started_at - LOADED_AT) if self.tasks else 0.0

    def seconds(self, now: float) -> float:
        """How long they have run until `now`, together."""
        return self.tasks * (now - LOADED_AT) - self.sum_of_starts


@dataclass(slots=True)
class Tally:
    """Counts since the start or the last reset. Foreign tasks are only in what says so."""

    posts: int = 0
    accepted: int = 0
    throttled: int = 0
    """Accepted, but made to wait for a slot."""
    polls: int = 0
    duplicates_by_reply_ref: int = 0
    duplicates_by_prompt: int = 0
    callbacks_sent: int = 0
    callbacks_refused: int = 0
    """Deliveries that were not answered with 2xx, each try counted."""
    callbacks_lost: int = 0
    """Given up after the last try, or withheld by [lost]."""
    busy_seconds: float = 0.0
    foreign_busy_seconds: float = 0.0
    first_submit_at: float | None = None
    last_end_at: float | None = None
    tasks: Counter[str] = field(default_factory=Counter)
    """By status; RUNNING is all that has not ended, DELETED what a client stopped."""
    refused: Counter[str] = field(default_factory=Counter)
    refused_by_account: dict[str, Counter[str]] = field(default_factory=dict)
    """E-mail to refusals by kind, of those that name an account."""
    ended_by_account: Counter[str] = field(default_factory=Counter)
    """Ends by e-mail, foreign tasks included: each freed a slot."""
    spoiled: Counter[str] = field(default_factory=Counter)
    """Accepted, but the reply was an error or never came."""
    staged: Counter[str] = field(default_factory=Counter)
    """Final callbacks that a marker had withheld, doubled, sent early or out of order."""
    max_concurrent: dict[str, int] = field(default_factory=dict)
    refills: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_REFILLS))
    """Seconds from the end that freed a slot of a full account to the next accepted task there."""
    ours: Running = field(default_factory=Running)
    foreign: Running = field(default_factory=Running)
    reply_refs: set[str] = field(default_factory=set)
    prompts: set[str] = field(default_factory=set)

    def count_accepted(self, prompt: str, reply_ref: str | None, now: float) -> None:
        """Count one accepted task. Not safe to call twice."""
        self.accepted += 1
        self.tasks["RUNNING"] += 1
        if self.first_submit_at is None:
            self.first_submit_at = now
        self.duplicates_by_prompt += prompt in self.prompts
        self.prompts.add(prompt)
        if reply_ref is not None:
            self.duplicates_by_reply_ref += reply_ref in self.reply_refs
            self.reply_refs.add(reply_ref)

    def count_refused(self, kind: str, email: str | None) -> None:
        """Count one refusal; `email` None: it was no account's. Not safe to call twice."""
        self.refused[kind] += 1
        if email is not None:
            self.refused_by_account.setdefault(email, Counter())[kind] += 1

    def count_ended(self, status: str, seconds: float, now: float) -> None:
        """Count one end; `seconds` is how long it held its slot, waiting apart. Not safe to call twice."""
        self.tasks["RUNNING"] -= 1
        self.tasks[status] += 1
        self.busy_seconds += seconds
        self.last_end_at = now

    def count_concurrent(self, email: str, running: int) -> None:
        """Remember the most that ever ran at once on an account."""
        if running > self.max_concurrent.get(email, 0):
            self.max_concurrent[email] = running

    def view(self) -> dict[str, object]:
        """The counts as JSON; moments are unix seconds."""
        hidden = {"refills", "reply_refs", "prompts", "ours", "foreign"}
        shown: dict[str, object] = {
            name: getattr(self, name) for name in self.__slots__ if name not in hidden
        }
        for name in ("busy_seconds", "foreign_busy_seconds"):
            shown[name] = round(getattr(self, name), 3)
        shown["tasks"] = {status: count for status, count in self.tasks.items() if count}
        refills = sorted(self.refills)
        shown["refills"] = len(refills)
        shown["refill_p50_ms"] = percentile_ms(refills, 0.50)
        shown["refill_p95_ms"] = percentile_ms(refills, 0.95)
        return shown


def percentile_ms(ascending: list[float], share: float) -> float | None:
    """The nearest-rank percentile of seconds, in ms; None of nothing."""
    if not ascending:
        return None
    return round(ascending[min(len(ascending) - 1, int(share * len(ascending)))] * 1000, 3)


def add_up(tallies: Sequence[Tally]) -> Tally:
    """One tally for all; of an account known to two APIs the higher peak is kept."""
    total = Tally()
    for tally in tallies:
        for name in ("tasks", "refused", "spoiled", "staged", "ended_by_account"):
            getattr(total, name).update(getattr(tally, name))
        for email, kinds in tally.refused_by_account.items():
            total.refused_by_account.setdefault(email, Counter()).update(kinds)
        for email, most in tally.max_concurrent.items():
            total.count_concurrent(email, most)
        total.refills.extend(tally.refills)
        for name in SUMS:
            setattr(total, name, getattr(total, name) + getattr(tally, name))
    starts = [tally.first_submit_at for tally in tallies if tally.first_submit_at is not None]
    ends = [tally.last_end_at for tally in tallies if tally.last_end_at is not None]
    total.first_submit_at = min(starts, default=None)
    total.last_end_at = max(ends, default=None)
    return total
