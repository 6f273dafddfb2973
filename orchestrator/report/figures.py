"""What a batch comes to in figures: jobs and attempts go in one after the other, sums come out. Pure.

What it holds does not grow with the number of jobs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.models import Attempt, Job, State
from orchestrator.report.durations import Durations

BARS = 120  # of what is shown over time
EXAMPLES = 3  # of each class of error
OTHER = "other"  # the class of an error that has none
PARTS = ("waiting in the queue", "at the provider", "collecting", "in all")


@dataclass(frozen=True)
class Timeline:
    """A span of time in bars of equal length. Moments are unix seconds."""

    start: float
    end: float
    bars: int = BARS

    @property
    def bar_seconds(self) -> float:
        return max(self.end - self.start, 1.0) / self.bars

    def place(self, moment: float) -> int:
        """The bar that a moment lies in; what lies outside is put to the nearest."""
        return min(self.bars - 1, max(0, int((moment - self.start) / self.bar_seconds)))

    def cover(self, series: list[float], first: float, last: float) -> None:
        """Add one to each bar from the first moment to the last; to one covered in part, that part."""
        first, last = max(first, self.start), min(last, self.end)
        for place in range(self.place(first), self.place(last) + 1) if last > first else ():
            begins = self.start + place * self.bar_seconds
            covered = min(last, begins + self.bar_seconds) - max(first, begins)
            series[place] += max(0.0, covered) / self.bar_seconds


@dataclass
class Use:
    """What a provider's slots were used for."""

    attempts: int = 0
    open_seconds: float = 0.0  # of all attempts together
    first: float = float("inf")  # submit
    last: float = 0.0  # outcome
    open: list[float] = field(default_factory=lambda: [0.0] * BARS)  # attempts open, in each bar on average

    def share(self, slots: float) -> float:
        """Of so many slots, from the first submit to the last outcome."""
        whole = slots * (self.last - self.first)
        return self.open_seconds / whole if whole > 0 else 0.0


@dataclass(frozen=True)
class Example:
    job_id: str
    prompt: str
    message: str


@dataclass
class Failures:
    """What failed with one class of error."""

    attempts: int = 0
    jobs: int = 0  # that ended so
    examples: list[Example] = field(default_factory=list)  # no two with the same message


class Figures:
    """The sums of a batch. `end`: its end, or now where it goes on."""

    def __init__(self, start: float, end: float) -> None:
        self.timeline = Timeline(start, end)
        self.states: Counter[State] = Counter()
        self.ended = {state: [0.0] * BARS for state in State if state.ended}
        self.use: dict[str, Use] = {}
        self.accounts: set[str] = set()
        self.durations = {part: Durations() for part in PARTS}
        self.failures: dict[str, Failures] = {}

    @property
    def jobs(self) -> int:
        return self.states.total()

    @property
    def open(self) -> int:
        return sum(count for state, count in self.states.items() if not state.ended)

    def add(self, job: Job, attempts: Sequence[Attempt], prompt: str) -> None:
        """Count a job; its attempts are in order."""
        self.states[job.state] += 1
        if job.ended_at and job.state.ended:
            self.ended[job.state][self.timeline.place(job.ended_at)] += 1
        if job.account:
            self.accounts.add(job.account)
        for attempt in attempts:
            self._add_attempt(job, attempt, prompt)
        self._add_durations(job, attempts)
        if job.state is State.FAILED:
            self._failures_with(job, job.error, job.reason, prompt).jobs += 1

    def _add_attempt(self, job: Job, attempt: Attempt, prompt: str) -> None:
        if attempt.error:
            self._failures_with(job, attempt.error, "", prompt).attempts += 1
        if not attempt.opened_at:
            return
        until = attempt.closed_at or self.timeline.end
        use = self.use.setdefault(attempt.provider, Use())
        use.attempts += 1
        use.open_seconds += max(0.0, until - attempt.opened_at)
        use.first, use.last = min(use.first, attempt.opened_at), max(use.last, until)
        self.timeline.cover(use.open, attempt.opened_at, until)

    def _add_durations(self, job: Job, attempts: Sequence[Attempt]) -> None:
        opened = [attempt for attempt in attempts if attempt.opened_at]
        if opened:
            self.durations["waiting in the queue"].add(opened[0].opened_at - job.created_at)
        if job.state is not State.SUCCEEDED or not job.ended_at:
            return
        self.durations["in all"].add(job.ended_at - job.created_at)
        brought = next((each for each in reversed(opened) if each.verdict == "succeeded"), None)
        if brought:
            self.durations["at the provider"].add(brought.closed_at - brought.opened_at)
            self.durations["collecting"].add(job.ended_at - brought.closed_at)

    def _failures_with(
        self, job: Job, error: Mapping[str, object] | None, message: str, prompt: str
    ) -> Failures:
        kind = str(error["kind"]) if error else OTHER
        found = self.failures.setdefault(kind, Failures())
        message = str(error["message"]) if error else message
        if len(found.examples) < EXAMPLES and message not in [each.message for each in found.examples]:
            found.examples.append(Example(job.id, prompt, message))
        return found
