"""The second pass over a file: its checked jobs are enqueued, and their outcomes written as they end."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from orchestrator import pauses
from orchestrator.errors import NotFound, QueueFull, StoreUnavailable
from orchestrator.files.checking import Fault, Faults
from orchestrator.files.outcome import Outcome, forgotten, outcome
from orchestrator.files.outcomes import Outcomes, StandardOutput
from orchestrator.files.spool import Line, Spool
from orchestrator.models import State
from orchestrator.operations import Filter
from orchestrator.schemas import moment
from orchestrator.store.waiting import FIRST_END

if TYPE_CHECKING:
    from orchestrator.flow import Flow
    from orchestrator.operations import Operations

AT_ONCE = 500  # jobs
LOOK_SECONDS = 1.0
REDIS_PATIENCE_SECONDS = 300.0  # for so long Redis may be away
OTHERWISE = (
    "asked for something else when it was enqueued before: restore it, or give it another custom_id (a "
    "record that has none is called by its number); in another batch all of them are generated anew"
)
Given = TypeVar("Given")


def take_up(spool: Spool, outcomes: Outcomes | StandardOutput, faults: Faults) -> None:
    """Whose end is written already is not done again. Raises: BadFile where that is another work's."""
    for at, told in outcomes:
        line, custom_id = spool.line(told["job"]), told["custom_id"]
        if line is None:
            why = f"custom_id = {custom_id!r} is not in this file and batch: name another --out"
            faults.add(Fault(outcomes.path, custom_id, why))
        elif line.fingerprint != told["fingerprint"]:
            faults.add(Fault(line.place, custom_id, f"custom_id = {custom_id!r} {OTHERWISE}"))
        else:
            spool.ended(told["job"], told["state"], told["ended_at"], at)
    if faults.count:
        raise faults.bad_file(outcomes.path, "outcomes are not of this work")


def keep_latest(spool: Spool, outcomes: Outcomes | StandardOutput) -> None:
    """One line for each job; places in the file change, and are taken up again."""

    def counts(at: int, told: Outcome) -> bool:
        line = spool.line(told["job"])
        return line is not None and line.at == at

    if outcomes.tidy(counts):
        for at, told in outcomes:
            spool.moved(told["job"], at)


@dataclass
class Running:
    """One run. Every step is safe to repeat, in this process or in the next."""

    flow: Flow
    operations: Operations
    spool: Spool
    outcomes: Outcomes | StandardOutput
    batch: str
    waits_while_paused: bool
    look: Callable[[], None]  # called often: shows how it stands
    say: Callable[[str], None]
    paused: str = ""  # why, as far as it was seen

    def __post_init__(self) -> None:
        self._last = FIRST_END
        self._next_look = 0.0

    def refuse_changes(self, faults: Faults) -> None:
        """Raises: BadFile with what is known already as something else, before anything is enqueued."""
        if not self._patiently(lambda: self.flow.store.batch(self.batch)):
            return
        for jobs in self.spool.chunks(AT_ONCE):
            for job in self._patiently(lambda jobs=jobs: self.flow.store.otherwise(jobs)):  # type: ignore[misc]
                if line := self.spool.line(job.id):
                    why = f"custom_id = {line.custom_id!r} {OTHERWISE}"
                    faults.add(Fault(line.place, line.custom_id, why))
        if faults.count:
            raise faults.bad_file(self.batch, "jobs of this batch are known as something else")

    def reopen(self, retry_failed: bool) -> None:
        """Jobs whose failure is written may go on: by themselves, by a person's hand, or now."""
        failed = [each for ids in self.spool.failed_ids(AT_ONCE) for each in ids] if retry_failed else []
        if failed:  # of this file alone: the batch may have jobs of others
            self.operations.replay(Filter(jobs=frozenset(failed)))
        for ids in self.spool.failed_ids(AT_ONCE):
            for job in self.flow.store.jobs(ids):
                if not job.state.ended:
                    self.spool.reopen(job.id)

    def take_what_ended(self, patience: float = 0.0) -> int:
        """Write what ended since; wait up to `patience` seconds where there is none. Gives how many ended."""
        ids, last = self._patiently(lambda: self.flow.store.ended_after(self.batch, self._last, patience))
        self._patiently(lambda: self._write(ids))
        self._last = last
        self.look()
        return len(ids)

    def take_all_that_ended(self) -> None:
        while self.take_what_ended():
            pass

    def fill(self) -> None:
        """Enqueue every job whose end is not written; what is known already is left as it is."""
        after, size = 0, AT_ONCE
        while not self._is_paused():
            number, jobs = self.spool.open_jobs(size, after)
            if not jobs:
                return
            try:
                self._patiently(lambda jobs=jobs: self.flow.enqueue(jobs))  # type: ignore[misc]
            except QueueFull:
                size = max(1, len(jobs) // 2)
                self.take_what_ended(LOOK_SECONDS)
            else:
                after, size = number, min(AT_ONCE, 2 * size)
                self.take_what_ended()

    def wait(self) -> None:
        """Write outcomes until there is one of each job, or the batch is paused and nothing is in flight."""
        while self.spool.open:
            if self.take_what_ended(LOOK_SECONDS):
                continue
            if self._is_paused() and not self._patiently(self._in_flight):
                return
            if self._patiently(self._batch_is_over):
                self._patiently(self._write_missed)

    def _write(self, ids: Sequence[str], expired: bool = True) -> None:
        """`expired`: these have ended, so that one without a record has one no more."""
        lines = {
            job_id: line for job_id in ids if (line := self.spool.line(job_id)) and self._may_change(line)
        }
        jobs = self.flow.store.jobs(list(lines))
        ended = [job for job in jobs if job.state.ended and moment(job.ended_at) != lines[job.id].ended_at]
        rows = zip(ended, self.flow.store.attempts_of(ended), strict=True)
        told = [outcome(lines[job.id], job, attempts) for job, attempts in rows]
        if expired:
            gone = set(lines) - {job.id for job in jobs}
            told += [forgotten(lines[each], each) for each in gone if lines[each].state is None]
        if told:
            for each, at in zip(told, self.outcomes.append(told), strict=True):
                self.spool.ended(each["job"], each["state"], each["ended_at"], at)

    def _may_change(self, line: Line) -> bool:
        if isinstance(self.outcomes, StandardOutput):
            return line.state is None
        return line.state != State.SUCCEEDED.value

    def _is_paused(self) -> bool:
        """Whether that is a reason to stop; asked of Redis now and then."""
        if (now := time.monotonic()) >= self._next_look:
            self._next_look = now + LOOK_SECONDS
            why = self._patiently(lambda: self.flow.store.lanes.why_paused(self.batch))
            if why and not self.paused:
                self.say(how_to_go_on(self.batch, why, self.waits_while_paused))
            self.paused = why
        return bool(self.paused) and not self.waits_while_paused

    def _in_flight(self) -> int:
        return self.operations.in_flight("batch", self.batch)

    def _batch_is_over(self) -> bool:
        counts = self.flow.store.batch(self.batch)
        return sum(counts.get(state.value, 0) for state in State if state.ended) >= counts.get("total", 0)

    def _write_missed(self) -> None:
        """The batch is over: whose end was not heard of is asked after. Raises: NotFound."""
        for jobs in self.spool.chunks(AT_ONCE):
            self._write([job.id for job in jobs], expired=False)
        if self.spool.open and self._batch_is_over():
            raise NotFound(
                f"{self.spool.open} jobs of batch {self.batch!r} are not known any more: was Redis lost? "
                "`orchestrator recover` takes over what others still know; then run the same again"
            )

    def _patiently(self, step: Callable[[], Given]) -> Given:
        """Every step may be repeated, and Redis may be away for a while. Raises: StoreUnavailable."""
        give_up_at = 0.0
        while True:
            try:
                return step()
            except StoreUnavailable as error:
                now = time.monotonic()
                if not give_up_at:
                    give_up_at = now + REDIS_PATIENCE_SECONDS
                    self.say(f"{error}: trying again for {REDIS_PATIENCE_SECONDS:g} s")
                if now >= give_up_at:
                    raise
                time.sleep(LOOK_SECONDS)


def how_to_go_on(batch: str, why: str, is_waited_for: bool = False) -> str:
    """What a person does about a batch that is paused: where no run waits for it, resuming is not all."""
    cure = pauses.cure(batch, why)
    if why == pauses.SPEND:
        cure = (
            f"`orchestrator cap batch {batch} AMOUNT` raises it (and --max-spend, where you say one), then "
            f"`orchestrator resume batch {batch}`"
        )
    again = "" if is_waited_for or why == pauses.CANCEL else "; then run the same again"
    return f"batch {batch} {pauses.state(why)}: {cure}{again}"
