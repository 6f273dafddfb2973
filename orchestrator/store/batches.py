"""Batches as Redis knows them: who fills them, what stops them, and their jobs a few at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.models import Message, State
from orchestrator.store import records
from orchestrator.store.link import PREFIX, Link

BATCHES = f"{PREFIX}batches"
JOBS_AT_ONCE = 500


@dataclass(frozen=True)
class Standing:
    """A batch and how it stands. Moments are unix seconds."""

    name: str
    created_at: float
    ended_at: float | None  # of the last job that did
    over_at: float | None  # when it was; None: it goes on
    is_filled: bool  # somebody goes on enqueuing
    counts: Mapping[str, int]  # `total`, and jobs by state
    paused: str  # why; empty: it is not
    max_failures: int  # that stop it; 0: no limit
    max_failure_share: float  # … share; 0: no limit
    max_spend: float  # 0: no cap
    cost: float  # at most, so far

    @property
    def left(self) -> int:
        """Jobs that are not over."""
        return self.counts["total"] - sum(self.counts[state.value] for state in State if state.ended)

    @property
    def is_over(self) -> bool:
        return not self.is_filled and self.left <= 0


@dataclass(frozen=True)
class CancelledJobs:
    """What one step of cancelling a batch led to."""

    seen: int  # jobs that it looked at
    quiet: tuple[str, ...]  # cancelled before any message of theirs was sent: Celery is told by their result
    finishes: tuple[Message, ...]  # of the others: to be finished as the tasks they are
    to_stop: tuple[tuple[str, str, str, str], ...]  # of these: job, provider, account, upstream id
    grants: tuple[Message, ...]

    @property
    def count(self) -> int:
        return len(self.quiet) + len(self.finishes)


class Batches:
    """Thread-safe."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def begin_filling(self, batch: str, producer: str, now: float) -> None:
        """Until the producer ends it, or was not heard of for 600 seconds, the batch is not over."""
        self._link.step("begin_filling", batch, producer, now)

    def end_filling(self, batch: str, producer: str, now: float) -> None:
        """Safe to call twice."""
        self._link.step("end_filling", batch, producer, now)

    def limit(self, batch: str, limits: Mapping[str, float | None], now: float) -> None:
        """What stops it: `max_spend`, `max_failures`, `max_failure_share`; None: no more."""
        pairs = [each for name, most in limits.items() for each in (name, "" if most is None else most)]
        self._link.step("set_batch", batch, now, *pairs)

    def standing(self, name: str) -> Standing | None:
        """How a batch stands; None where nothing of that name is known."""
        return next(iter(self._standing([name])), None)

    def latest(self, first: int = 0) -> Iterator[Standing]:
        """Every batch that is still known, the latest first, as far as it is read on, without the `first`."""
        client = self._link.client
        while names := self._link.call(
            lambda first=first: client.zrevrange(BATCHES, first, first + JOBS_AT_ONCE - 1)  # type: ignore[misc]
        ):
            yield from self._standing(names)
            first += len(names)

    def count(self) -> int:
        """About how many batches are known."""
        return int(self._link.call(lambda: self._link.client.zcard(BATCHES)))

    def latest_ends(self, batch: str, count: int) -> list[tuple[str, float]]:
        """(job, when it ended in unix seconds) of its last so many ends, the latest first."""
        stream = f"{PREFIX}ended-in:{batch}"
        found = self._link.call(lambda: self._link.client.xrevrange(stream, count=count))
        return [(fields["job"], int(place.partition("-")[0]) / 1000) for place, fields in found]

    def ids(self, batch: str) -> Iterator[list[str]]:
        """Its jobs' ids in the order they were enqueued, so many at a time."""
        first = 0
        while ids := self.first_ids(batch, first):
            yield ids
            first += len(ids)

    def first_ids(self, batch: str, first: int = 0, count: int = JOBS_AT_ONCE) -> list[str]:
        """Those from a place on."""
        key = f"{PREFIX}jobs-of:{batch}"
        ids: list[str] = self._link.call(lambda: self._link.client.lrange(key, first, first + count - 1))
        return ids

    def cancel(self, batch: str, now: float, first: int, count: int) -> CancelledJobs:
        """Cancel those of `count` jobs, from place `first` on, that are not over; it is held meanwhile."""
        seen, quiet, finishes, to_stop, grants = self._link.step("cancel_batch", batch, now, first, count)
        return CancelledJobs(
            seen,
            tuple(quiet),
            records.messages(finishes),
            tuple((job, provider, account, upstream) for job, provider, account, upstream in to_stop),
            records.messages(grants),
        )

    def end_cancel(self, batch: str, now: float) -> tuple[Message, ...]:
        """What is left of a batch that was cancelled goes on. Gives the grants."""
        return records.messages(self._link.step("end_cancel", batch, now))

    def prioritise(self, job_ids: Sequence[str], priority: int) -> int:
        """Gives how many of them were not over."""
        return int(self._link.step("prioritise", priority, *job_ids))

    def purge(self, batch: str, job_ids: Sequence[str]) -> int:
        """Delete the records of a batch's first jobs, these; with the last of them, those of the batch.

        Gives how many: none where these are the first no more, or the batch is not over.
        """
        return int(self._link.step("purge_batch", batch, *job_ids))

    def _standing(self, names: Sequence[str]) -> Iterator[Standing]:
        with self._link.client.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.hgetall(f"{PREFIX}batch:{name}")
                pipeline.hget(f"{PREFIX}spend-of:{name}", "cost")
            found = self._link.call(pipeline.execute)
        for name, row, cost in zip(names, found[::2], found[1::2], strict=True):
            if row:
                yield _standing(name, row, float(cost or 0))


def _standing(name: str, row: Mapping[str, Any], cost: float) -> Standing:
    def moment(field: str) -> float | None:
        return float(row[field]) if field in row else None

    return Standing(
        name=name,
        created_at=float(row.get("created", 0)),
        ended_at=moment("ended"),
        over_at=moment("over"),
        is_filled="filling" in row,
        counts={word: int(row.get(word, 0)) for word in ("total", *(state.value for state in State))},
        paused=row.get("paused", ""),
        max_failures=int(row.get("max_failures", 0)),
        max_failure_share=float(row.get("max_failure_share", 0)),
        max_spend=float(row.get("max_spend", 0)),
        cost=cost,
    )
