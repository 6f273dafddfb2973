"""What is done to a batch as a whole: filling, limits, cancel, priority, replay, purge."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.errors import BatchGoesOn, Invalid, NotFound, OrchestratorError, StoreUnavailable
from orchestrator.events import log, warn
from orchestrator.intake import targets
from orchestrator.models import Artifact, Job
from orchestrator.operations import Filter, Operations, check_cap, check_weight
from orchestrator.schemas import JobOptions, check

if TYPE_CHECKING:
    from orchestrator.flow import Flow
    from orchestrator.store.batches import Standing

RENEW_SECONDS = 60.0  # a tenth of the lease of who fills a batch
CANCELLED_AT_ONCE = 200
STOPS_AT_ONCE = 8  # generations that providers are asked to stop
PURGED_AT_ONCE = 200
MOST_FAILURES = 1_000_000_000
SILENT: Callable[[int], None] = lambda done: None  # noqa: E731


@dataclass(frozen=True)
class Purged:
    """What was deleted."""

    jobs: int
    pictures: int


@dataclass(frozen=True)
class Terms:
    """What is said of a batch as a whole; None, or '': as it is."""

    weight: float | None = None  # how many times the share of another it gets, or its tenant
    max_spend: float | None = None  # what it may cost, in its accounts' prices; before more, it is paused
    max_failures: int | None = None  # of its jobs; then it is paused
    max_failure_share: float | None = None  # the same, of at least 20 that ended
    notify_url: str = ""  # is told of the end of each job, and of the batch
    on_each: Any = None  # a Celery signature, or a URL, that is told of the end of each job
    on_complete: Any = None  # … and of the batch


@dataclass(frozen=True)
class Batches:
    """Every verb is safe to call twice, and again after it was interrupted. `batch`: as `batch_name` says."""

    flow: Flow
    operations: Operations

    @contextmanager
    def filling(self, batch: str, producer: str = "") -> Iterator[None]:
        """Within this, the batch is not over, although all its jobs so far have ended. Several may fill it.

        An exception leaves it so for 600 seconds, as the death of the process does: for the producer that
        comes back. Coming back with the same `producer` (a name of one's own, for those who do) it takes its
        own place again; else the batch is over no sooner than those seconds are.
        Raises: Invalid.
        """
        _check_name(batch, "filling")
        store, clock = self.flow.store.batches, self.flow.clock
        name, is_done = producer or uuid.uuid4().hex, threading.Event()

        def renew() -> None:
            while not is_done.wait(RENEW_SECONDS):
                try:
                    store.begin_filling(batch, name, clock())
                except StoreUnavailable as error:
                    warn("batch.filling_not_renewed", name=batch, error=error)

        store.begin_filling(batch, name, clock())
        renewing = threading.Thread(target=renew, name="filling", daemon=True)
        renewing.start()
        try:
            yield
        finally:
            is_done.set()
            renewing.join()  # a renewal under way must not come after the end
        try:
            store.end_filling(batch, name, clock())
        except StoreUnavailable as error:
            warn("batch.filling_not_ended", name=batch, error=error)

    def check_terms(self, terms: Terms) -> dict[str, str]:
        """Whom they name to be told. Raises: Invalid where nobody could agree to them."""
        if terms.weight is not None:
            check_weight(terms.weight)
        check_cap(terms.max_spend)
        _check_limits(terms.max_failures, terms.max_failure_share)
        return targets(
            self.flow.notify_rules,
            notify_url=terms.notify_url,
            on_each=terms.on_each,
            on_complete=terms.on_complete,
        )

    def agree(self, batch: str, tenant: str, terms: Terms) -> None:
        """Take the terms of a batch, before it is filled; all of them, or none. Raises: Invalid."""
        told = self.check_terms(terms)
        if terms.weight is not None:
            self.operations.weigh("tenant" if tenant else "batch", tenant or batch, terms.weight)
        if terms.max_spend is not None:
            self.operations.cap(batch, terms.max_spend)
        if terms.max_failures is not None or terms.max_failure_share is not None:
            self.limit(batch, terms.max_failures, terms.max_failure_share)
        if told:
            self.flow.store.notices.tell_of(batch, told, self.flow.clock())

    def limit(self, batch: str, max_failures: int | None, max_failure_share: float | None) -> None:
        """Stop a batch once so many of its jobs have failed, or such a share of at least 20 that ended.

        What stopped is paused: nothing more is begun, what is open goes on. Once resumed, as many again may
        fail. None: no such limit. Raises: Invalid.
        """
        _check_limits(max_failures, max_failure_share)
        _check_name(batch, "limit")
        limits = {"max_failures": max_failures, "max_failure_share": max_failure_share}
        self.flow.store.batches.limit(batch, limits, self.flow.clock())
        log("batch.limited", name=batch, max_failures=max_failures, share=max_failure_share)

    def standing(self, batch: str) -> Standing:
        """Raises: NotFound."""
        found = self.flow.store.batches.standing(batch)
        if found is None:
            raise NotFound(f"no batch {batch!r}: nothing of that name is known")
        return found

    def cancel(self, batch: str, progress: Callable[[int], None] = SILENT) -> int:
        """Cancel every job that is not over: here, for Celery, and at the provider where it can.

        None of them is begun meanwhile; what is collecting is paid for, and ends by itself. Gives how many
        were cancelled. Jobs that are enqueued later are not; who was filling it is believed no more.
        Raises: NotFound.
        """
        self.standing(batch)
        store, broker = self.flow.store, self.flow.broker
        place = cancelled = 0
        with ThreadPoolExecutor(STOPS_AT_ONCE, "stop") as pool:
            while True:
                step = store.batches.cancel(batch, self.flow.clock(), place, CANCELLED_AT_ONCE)
                if not step.seen:
                    break
                place, cancelled = place + step.seen, cancelled + step.count
                broker.submit(step.grants)
                broker.results.revoke(step.quiet)
                store.revoked(step.quiet)
                list(pool.map(lambda held: self.flow.endings.stop(*held), step.to_stop))
                broker.finish(step.finishes)
                progress(cancelled)
        broker.submit(store.batches.end_cancel(batch, self.flow.clock()))
        log("batch.cancelled", name=batch, jobs=cancelled)
        return cancelled

    def prioritise(self, batch: str, priority: int) -> int:
        """Give those of its jobs that are not over another priority, 0 to 9. Gives how many.

        Those of one priority keep their order of age. What is enqueued later has its own. Raises: Invalid,
        NotFound.
        """
        check(JobOptions, {"priority": priority}, "prioritise")
        self.standing(batch)
        store = self.flow.store.batches
        return sum(store.prioritise(ids, priority) for ids in store.ids(batch))

    def retry_failed(self, batch: str) -> int:
        """Let its failed jobs run again, under their ids, their failures forgotten. Gives how many.

        Raises: NotFound.
        """
        self.standing(batch)
        return self.operations.replay(Filter(batch=batch))

    def purge(self, batch: str, pictures: bool = False, progress: Callable[[int], None] = SILENT) -> Purged:
        """Delete what is known of a batch that is over; `pictures`: and those that were kept.

        Its jobs, their attempts, results and dead letters; spend of accounts and counts by state stay. Jobs
        of the same `custom_id` may be enqueued anew, and are made anew.
        Raises: NotFound; BatchGoesOn where it is not over; OrchestratorError where a picture stays.
        """
        store, jobs, removed = self.flow.store, 0, 0
        found: Standing | None = self.standing(batch)
        while found:
            _refuse_purge(found)
            ids = store.batches.first_ids(batch, count=PURGED_AT_ONCE)
            if pictures:
                removed += self._remove_pictures(store.jobs(ids))
            self.flow.broker.results.forget(ids)
            jobs += store.batches.purge(batch, ids)
            progress(jobs)
            found = store.batches.standing(batch)
        log("batch.purged", name=batch, jobs=jobs, pictures=removed)
        return Purged(jobs, removed)

    def _remove_pictures(self, jobs: Sequence[Job]) -> int:
        artifacts, removed = self.flow.exchange.artifacts, 0
        for artifact in _kept(jobs) if artifacts else ():
            try:
                artifacts.remove(artifact)  # type: ignore[union-attr]
                removed += 1
            except FileNotFoundError:
                continue  # by an earlier purge that was interrupted
            except Exception as error:  # each of fsspec's backends has errors of its own
                reason = (isinstance(error, OSError) and error.strerror) or type(error).__name__
                raise OrchestratorError(f"{artifact.path} could not be removed: {reason}") from error
        return removed


def _check_limits(max_failures: int | None, max_failure_share: float | None) -> None:
    """Raises: Invalid."""
    if max_failures is not None and not 1 <= max_failures <= MOST_FAILURES:
        raise Invalid(f"max_failures is {max_failures!r}; it must be 1 or more")
    if max_failure_share is not None and not 0 < max_failure_share <= 1:
        raise Invalid(f"max_failure_share is {max_failure_share!r}; it must be above 0, and 1 at most")


def _refuse_purge(found: Standing) -> None:
    """Raises: BatchGoesOn."""
    if found.is_over:
        return
    counts = ", ".join(f"{count} {word}" for word, count in found.counts.items() if count)
    why = "somebody fills it" if found.is_filled else counts
    raise BatchGoesOn(
        f"batch {found.name!r} is not over ({why}): wait, or `orchestrator cancel batch {found.name}`"
    )


def _kept(jobs: Sequence[Job]) -> Iterator[Artifact]:
    for job in jobs:
        for each in (job.result or {}).get("artifacts", ()):
            if each.get("path"):
                yield Artifact(**each)


def _check_name(batch: str, what: str) -> None:
    """Raises: Invalid."""
    if not batch:
        raise Invalid(f"{what}: which batch?")
    tenant, _, name = batch.rpartition("/")
    check(JobOptions, {"batch": name, "tenant": tenant}, what)
