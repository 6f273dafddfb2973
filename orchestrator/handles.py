"""Handles to jobs and batches of any process. They know nothing themselves: they ask Redis."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator import models, pauses
from orchestrator.batches import Batches, Purged
from orchestrator.errors import JobCancelled, JobFailed
from orchestrator.flow import Flow
from orchestrator.insight import Insight
from orchestrator.models import Artifact, State
from orchestrator.operations import Operations
from orchestrator.schemas import JobOptions, check
from orchestrator.store.waiting import FIRST_END
from orchestrator.views.quiet import Quiet

if TYPE_CHECKING:
    from orchestrator.views.progress import Progress

LOOK_SECONDS = 1.0
GATHER_SECONDS = 0.05  # where many end at once, a look for each of them would cost more than they do


@dataclass(frozen=True)
class Result:
    """What a job that succeeded has brought."""

    job_id: str
    provider: str
    account: str
    attempts: int
    seconds: float  # from enqueue to the picture in its place
    artifacts: tuple[Artifact, ...]


class Job:
    """A handle to one job. Every property asks Redis anew."""

    def __init__(self, flow: Flow, job_id: str) -> None:
        self._flow = flow
        self.id = job_id

    @property
    def record(self) -> models.Job:
        """All that is known of it. Raises: JobNotFound."""
        return self._flow.store.job(self.id)

    @property
    def state(self) -> str:
        """queued, submitted, collecting, succeeded, failed or cancelled."""
        return self.record.state.value

    def result(self, timeout: float | None = None) -> Result:
        """Wait for the end, pushed by Redis. `timeout` in seconds; None waits for ever.

        Raises: JobFailed, JobCancelled, TimeoutError, JobNotFound. Safe to call twice.
        """
        job = self._flow.store.wait_ended(self.id, timeout)
        if job is None:
            raise TimeoutError(f"job {self.id} was {self.state} after {timeout} seconds; it goes on")
        if job.state is State.CANCELLED:
            raise JobCancelled(job.reason or f"job {job.id} was cancelled")
        if job.state is not State.SUCCEEDED or job.result is None:
            raise JobFailed(job.reason)
        fields = {**job.result, "artifacts": tuple(Artifact(**each) for each in job.result["artifacts"])}
        return Result(**fields)

    def refresh(self) -> tuple[str, ...]:
        """Ask the provider for fresh URLs of its pictures; those not kept yet are collected by them.

        Generates nothing; safe to call twice. Raises: NotFound, ProviderError, CollectFailed.
        """
        return self._flow.refresh(self.id)

    def cancel(self) -> bool:
        """Cancel it, at the provider too where it can. False where it is too late."""
        return self._flow.cancel(self.id)

    def prioritise(self, priority: int) -> bool:
        """Give it another priority, 0 to 9, in its lane. False where it is too late. Raises: Invalid."""
        check(JobOptions, {"priority": priority}, "prioritise")
        return bool(self._flow.store.batches.prioritise([self.id], priority))

    def __repr__(self) -> str:
        return f"Job({self.id!r})"


class Batch:
    """A handle to the jobs of one name. What it does to them is safe to call twice."""

    def __init__(self, flow: Flow, name: str) -> None:
        self._flow = flow
        self.name = name

    def counts(self) -> dict[str, int]:
        """`total`, and jobs by state."""
        known = self._flow.store.batch(self.name)
        return {word: int(known.get(word, 0)) for word in ("total", *(state.value for state in State))}

    @property
    def _operations(self) -> Operations:
        return Operations(
            self._flow.store, self._flow.broker, self._flow.clock, tuple(self._flow.exchange.providers)
        )

    @property
    def _batches(self) -> Batches:
        return Batches(self._flow, self._operations)

    def __iter__(self) -> Iterator[Job]:
        """Its jobs in the order they were enqueued, read a few hundred at a time."""
        for ids in self._flow.store.batches.ids(self.name):
            yield from (Job(self._flow, job_id) for job_id in ids)

    def jobs(self) -> list[Job]:
        """Its jobs in the order they were enqueued, all at once; `for job in batch` holds a few of many."""
        return list(self)

    @property
    def is_over(self) -> bool:
        """Whether all its jobs have ended, and nobody fills it. One that is not known is."""
        found = self._flow.store.batches.standing(self.name)
        return found is None or found.is_over

    @property
    def paused(self) -> str:
        """Why nothing more of it is begun: `a person`, `spend`, `failures`, `cancel`; empty: it is not."""
        return self._flow.store.lanes.why_paused(self.name)

    def as_completed(self, timeout: float | None = None) -> Iterator[Job]:
        """Its jobs as they end, each once, pushed by Redis; those that ended before come first.

        While the batch is `paused`, by `max_spend` or `max_failures` too, this waits: without a timeout, for
        ever. Raises: TimeoutError once `timeout` seconds have passed; the jobs go on.
        """
        seen, total = set[str](), self.counts()["total"]
        if not total and self.is_over:
            return
        try:
            for job_id in self._flow.store.ended_in(self.name, timeout):
                if job_id and job_id not in seen:
                    seen.add(job_id)
                    yield Job(self._flow, job_id)
                if len(seen) >= total:
                    total = self.counts()["total"]
                    if len(seen) >= total and self.is_over:
                        return
        except TimeoutError:
            raise self._not_over(timeout) from None

    def pause(self) -> None:
        """Begin nothing more of it; what is open goes on. Raises: NotFound."""
        self._operations.pause("batch", self.name)

    def resume(self) -> None:
        """Let it go on, whatever it was paused for. Raises: NotFound."""
        self._operations.resume("batch", self.name)

    def weigh(self, weight: float) -> None:
        """Give it so many times the share of a batch of weight 1. Raises: Invalid, as for one of a tenant."""
        self._operations.weigh("batch", self.name, weight)

    def cap(self, max_spend: float | None) -> None:
        """Pause it before the generation that would make it cost more; None: no more. Raises: Invalid."""
        self._operations.cap(self.name, max_spend)

    def limit(self, max_failures: int | None = None, max_failure_share: float | None = None) -> None:
        """Pause it once so many, or such a share of at least 20, have failed; None: no such limit.

        Resumed, as many again may fail. Raises: Invalid.
        """
        self._batches.limit(self.name, max_failures, max_failure_share)

    def cancel(self) -> int:
        """Cancel every job that is not over, at the provider too where it can. Gives how many.

        Raises: NotFound.
        """
        return self._batches.cancel(self.name)

    def prioritise(self, priority: int) -> int:
        """Give those of its jobs that are not over another priority, 0 to 9. Gives how many.

        What is enqueued later has its own. Raises: Invalid, NotFound.
        """
        return self._batches.prioritise(self.name, priority)

    def retry_failed(self) -> int:
        """Let its failed jobs run again, under their ids. Gives how many. Raises: NotFound."""
        return self._batches.retry_failed(self.name)

    def purge(self, pictures: bool = False) -> Purged:
        """Delete what is known of it, once it is over; `pictures`: and those that were kept.

        Raises: BatchGoesOn, NotFound; OrchestratorError where a picture cannot be removed.
        """
        return self._batches.purge(self.name, pictures)

    def wait(self, timeout: float | None = None, progress: bool = False) -> dict[str, int]:
        """Wait until every job has ended, and give the counts. `progress`: show it on a terminal.

        While the batch is `paused`, by `max_spend` or `max_failures` too, this waits: without a timeout, for
        ever. Raises: TimeoutError once `timeout` seconds have passed; the jobs go on.
        """
        with closing(self._display() if progress else Quiet()) as shown:
            shown.running(self.name, 0)
            for _ in self._looks(timeout):
                shown.look()
        return self.counts()

    def _display(self) -> Progress | Quiet:
        from rich.console import Console  # only where it is asked for: they take time and memory

        from orchestrator.views.progress import Progress

        console = Console(stderr=True, markup=False, highlight=False)
        insight = Insight(self._flow.store, self._flow.clock)
        return Progress(insight, console) if console.is_terminal else Quiet()

    def _looks(self, timeout: float | None) -> Iterator[None]:
        """One when some have ended, and about once a second, until all have. Raises: TimeoutError."""
        give_up_at = None if timeout is None else time.monotonic() + timeout
        last = FIRST_END
        while not self.is_over:
            left = LOOK_SECONDS if give_up_at is None else give_up_at - time.monotonic()
            if left <= 0:
                raise self._not_over(timeout)
            ids, last = self._flow.store.ended_after(self.name, last, min(LOOK_SECONDS, left))
            yield
            if ids:
                time.sleep(min(GATHER_SECONDS, left))

    def _not_over(self, timeout: float | None) -> TimeoutError:
        why = self.paused
        told = f": it {pauses.state(why)}: {pauses.cure(self.name, why)}" if why else ""
        return TimeoutError(f"batch {self.name!r} was not over after {timeout} seconds{told}")

    def __repr__(self) -> str:
        return f"Batch({self.name!r})"
