"""Dead letters: failed jobs that a person may cure, kept for replay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.models import Message
from orchestrator.store import records
from orchestrator.store.link import PREFIX, Link

DEAD = f"{PREFIX}dead"


@dataclass(frozen=True)
class Replayed:
    """What a replay led to."""

    count: int
    grants: tuple[Message, ...]
    finishes: tuple[Message, ...]


class DeadLetters:
    """Thread-safe."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def ids(self, now: float, after: float = 0.0, before: float | None = None) -> list[tuple[str, float]]:
        """(job, when it failed), oldest first; `after` and `before` bound that moment, in unix seconds."""
        latest = now if before is None else before
        found = self._link.call(lambda: self._link.client.zrangebyscore(DEAD, after, latest, withscores=True))
        return [(job_id, float(failed_at)) for job_id, failed_at in found]

    def latest(
        self, count: int, first: int = 0, after: float = 0.0, before: float | None = None
    ) -> list[tuple[str, float]]:
        """(job, when it failed) of the last so many, the latest first; `first` are left out."""
        latest, client = "+inf" if before is None else before, self._link.client
        found = self._link.call(
            lambda: client.zrevrangebyscore(DEAD, latest, after, start=first, num=count, withscores=True)
        )
        return [(job_id, float(failed_at)) for job_id, failed_at in found]

    def count(self, after: float = 0.0, before: float | None = None) -> int:
        """How many there are that failed between these moments."""
        latest = "+inf" if before is None else before
        return int(self._link.call(lambda: self._link.client.zcount(DEAD, after, latest)))

    def replay(self, job_ids: Sequence[str], now: float, even_if_moderated: bool) -> Replayed:
        """Let these run again, each once: one that is no dead letter any more is left alone."""
        told = "1" if even_if_moderated else ""
        count, grants, finishes = self._link.step("replay", now, told, *job_ids)
        return Replayed(count, records.messages(grants), records.messages(finishes))

    def purge(self, job_ids: Sequence[str]) -> int:
        """Give these up; their records go as those of other ended jobs do. Gives how many there were."""
        return int(self._link.step("purge", *job_ids))
