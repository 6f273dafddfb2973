"""Pictures on their way from the provider to the place they are kept in: collected, later again, given up.

Nothing here generates. What cannot be kept for now stays `collecting` for as long as its URL lives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator import retry
from orchestrator.errors import CollectFailed, JobFailed, NotFound, StorageFailed
from orchestrator.events import log
from orchestrator.models import Artifact, attempt_id
from orchestrator.pictures import Pictures, told_at

if TYPE_CHECKING:
    from orchestrator.exchange import Exchange
    from orchestrator.leases import Lease
    from orchestrator.store import Store


@dataclass(frozen=True)
class Custody:
    """Every verb is safe to call twice, from any number of processes."""

    store: Store
    exchange: Exchange
    clock: Callable[[], float]  # unix seconds
    dice: Callable[[], float]  # uniform in [0, 1)

    def collect(self, lease: Lease) -> list[Artifact] | None:
        """A job's pictures, kept; None where that has to wait. `lease`: of its finish.

        Raises: JobFailed where it is given up.
        """
        try:
            return self._pictures.collect(lease.job, lease.attempts)
        except CollectFailed as error:
            self._later(error, lease)
            return None

    def refresh(self, job_id: str) -> tuple[str, ...]:
        """Ask the provider what a job's pictures are called now, and collect those that are not kept by that.

        Raises: NotFound, Broken, CollectFailed.
        """
        job = self.store.job(job_id)
        if not job.artifact_urls:
            raise NotFound(f"job {job_id} is {job.state}, and no picture of it is known")
        attempts = self.store.attempts(job)
        urls = self._pictures.fresh_urls(job, attempts)
        now = self.clock()
        dies_at = self._pictures.die_at(job, urls, now)
        self.store.collecting.renew(job_id, urls, dies_at, now)
        return urls

    @property
    def _pictures(self) -> Pictures:
        return Pictures(self.exchange)

    def _later(self, error: CollectFailed, lease: Lease) -> None:
        job = lease.job
        self.exchange.observer.not_collected(job.provider, type(error).__name__)
        now, urls = self.clock(), error.fresh_urls
        if urls or not job.artifacts_die_at:
            known_since = now if urls else told_at(job, lease.attempts)
            dies_at = self._pictures.die_at(job, urls or job.artifact_urls, known_since)
        else:
            dies_at = job.artifacts_die_at
        seconds = retry.collect_again_seconds(error, job.collect_failures, dies_at - now, self.dice())
        if seconds is None:
            raise JobFailed(f"{job.provider} made the pictures, but they were not kept: {error}") from error
        token = lease.settled()
        if not token:
            return
        closes = isinstance(error, StorageFailed) and error.wide
        self.store.collecting.later(
            job.id, now + seconds, str(error), dies_at,
            urls=urls, storage_seconds=retry.STORAGE_GATE_SECONDS if closes else 0, token=token,
        )  # fmt: skip
        log(
            "job.collect_postponed",
            job=job.id,
            attempt=attempt_id(job.id, job.attempts),
            seconds=round(seconds, 1),
            error=error,
        )
