"""How jobs end: finished as the task they are, ended where nothing is left to do for them, stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from orchestrator import rows
from orchestrator.custody import Custody
from orchestrator.errors import JobCancelled, JobFailed, StoreUnavailable
from orchestrator.events import about, log, warn
from orchestrator.leases import Lease, Leases
from orchestrator.models import Artifact, Job, Message, Shown, State, attempt_id

if TYPE_CHECKING:
    from orchestrator.broker import Broker
    from orchestrator.exchange import Exchange
    from orchestrator.store import Store


@dataclass(frozen=True)
class Endings:
    """Every verb is safe to call twice, from any number of processes."""

    store: Store
    broker: Broker
    exchange: Exchange
    clock: Callable[[], float]  # unix seconds
    dice: Callable[[], float]  # uniform in [0, 1)

    def finish(self, job_id: str, on_again: Callable[[], None] = lambda: None) -> dict[str, Any] | None:
        """Collect a job's pictures and give its result; None where somebody else does, or it must wait.

        `on_again` is called first where a finish was begun before, of which nothing was heard.
        Raises: JobFailed or JobCancelled, where that is how the job ended.
        """
        lease = self.leases.begin(job_id)
        if lease is None:
            return None
        result, ends = None, False
        try:
            if lease.again:
                on_again()
            result = self._finish(lease)
            ends = result is not None and self.leases.may_end(lease)
        except (JobFailed, JobCancelled):
            ends = self.leases.may_end(lease)
            if ends:
                raise
        finally:
            lease.settled()
            if not ends:
                self.leases.drop(lease)
        return result if ends else None

    def _finish(self, lease: Lease) -> dict[str, Any] | None:
        job = lease.job
        if job.state is State.CANCELLED:
            self.stop_again(job)
            raise JobCancelled(job.reason or f"job {job.id} was cancelled")
        if not job.artifact_urls:
            raise JobFailed(_why(job))
        begun_at = self.clock()
        artifacts = self.custody.collect(lease)
        if artifacts is None:
            return None
        told = _told(job.id, job.provider, job.account, job.attempts)
        return self._result(told, job.created_at, begun_at, artifacts)

    def end(
        self,
        job_id: str,
        result: Mapping[str, Any] | None,
        reason: str = "",
        shown: Shown | None = None,
    ) -> bool:
        """Record that a job's task has ended; `result` None: it failed, for `reason`. True for one caller.

        `shown`: what Celery says of the task from then on, where it does not say so already.
        """
        state, token = State.SUCCEEDED if result else State.FAILED, self.leases.end(job_id)
        ended = self.store.end(job_id, self.clock(), state, result, reason, token, shown)
        if ended:
            log("job.ended", job=job_id, state=state.value)
        return ended

    def end_on_behalf(
        self, worker: str, finish: Message, created_at: float, account: str, urls: Sequence[str]
    ) -> None:
        """End a job whose URLs are all that it is to bring, for the worker that submitted it.

        `finish`: what would ask a worker for it. `created_at`: the job; unix seconds. Raises nothing: where
        there is trouble, the due list has the job finished.
        """
        try:
            with about(job=finish.job_id, attempt=attempt_id(finish.job_id, finish.attempt)):
                self._end_on_behalf(worker, finish, created_at, account, urls)
        except Exception as error:
            unforeseen = not isinstance(error, StoreUnavailable)
            warn("phase.postponed", job=finish.job_id, phase="end", exc_info=unforeseen)

    def _end_on_behalf(
        self, worker: str, finish: Message, created_at: float, account: str, urls: Sequence[str]
    ) -> None:
        told = _told(finish.job_id, finish.provider, account, finish.attempt)
        result = self._result(told, created_at, self.clock(), [Artifact(url) for url in urls])
        shown = self.broker.results.succeeded(finish.job_id, result, finish.options)
        if self.end(finish.job_id, result, shown=shown):
            self.broker.task_events.succeeded(finish.job_id, worker, rows.brought(result))

    def _result(
        self, told: Mapping[str, Any], created_at: float, begun_at: float, artifacts: Sequence[Artifact]
    ) -> dict[str, Any]:
        """`told`: what the result begins with."""
        now = self.clock()
        self.exchange.observer.collected(told["provider"], now - begun_at, now - created_at, artifacts)
        seconds = round(now - created_at, 3)
        return {**told, "seconds": seconds, "artifacts": [asdict(artifact) for artifact in artifacts]}

    def stop(self, job_id: str, provider: str, account: str, upstream_id: str) -> None:
        """Ask the provider to stop a cancelled job's generation, where there is one and it can.

        Whoever dies before that, or is not answered, leaves it to the finish of the job.
        """
        known = self.exchange.accounts.get((provider, account))
        if known and upstream_id and self.exchange.cancel(known, upstream_id):
            self.store.stopped(job_id)

    def stop_again(self, job: Job) -> None:
        """Ask for that once more, where a cancelled job's provider is not known to have heard it."""
        self.stop(job.id, job.provider, job.account, self.store.to_stop(job.id))

    @cached_property
    def leases(self) -> Leases:
        return Leases(self.store, self.clock)

    @property
    def custody(self) -> Custody:
        return Custody(self.store, self.exchange, self.clock, self.dice)


def _told(job_id: str, provider: str, account: str, attempts: int) -> dict[str, Any]:
    return {"job_id": job_id, "provider": provider, "account": account, "attempts": attempts}


def _why(job: Job) -> str:
    """One sentence that a person can act on."""
    error = job.error or {"kind": "Unknown", "message": "no reason was recorded"}
    tries = "1 attempt" if job.attempts == 1 else f"{job.attempts} attempts"
    return f"{error['kind']}: {error['message']} ({job.provider}, account {job.account}, after {tries})"
