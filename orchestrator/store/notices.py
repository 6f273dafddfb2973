"""Notices: what must be told to somebody, whom it waits for, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.errors import NotFound
from orchestrator.models import Answer, Notice
from orchestrator.store import records
from orchestrator.store.link import PREFIX, Link

WAITING, DEAD = f"{PREFIX}notices", f"{PREFIX}dead-notices"
PER_CALL = 500


class Notices:
    """Thread-safe."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def tell_of(self, batch: str, targets: Mapping[str, str], now: float) -> None:
        """Who is told of a batch: `notify_url`, `on_each`, `on_complete`. Safe to call twice."""
        pairs = [each for pair in targets.items() for each in pair]
        self._link.step("set_batch", batch, now, *pairs)

    def take(self, host: str, now: float) -> Notice | None:
        """The next that is to be sent to a host, for one caller; None where there is none just now."""
        return _taken(self._link.step("take_notice", host, now))

    def told(
        self, notice: Notice, answer: Answer, shown: str, now: float, dice: float, more: bool
    ) -> Notice | None:
        """Record what became of one that was taken; gives the next of its host, where `more` is wanted.

        `shown`: its target, fit to be seen, for when it is delivered.
        """
        again = answer.again_in is not None
        row = self._link.step(
            "told",
            notice.id,
            notice.tries,
            now,
            "delivered" if answer.delivered else "again" if again else "dead",
            answer.text,
            now + (answer.again_in or 0.0),
            "1" if answer.host_down else "",
            dice,
            shown,
            "1" if more else "",
        )
        return _taken(row)

    def wake(self, host: str, at: float) -> None:
        """See to a host at this moment (unix seconds), if not before."""
        self._link.call(lambda: self._link.client.zadd(f"{PREFIX}due", {f"notices:{host}": at}, lt=True))

    def replay(self, ids: Sequence[str], now: float) -> int:
        """Let dead ones be sent again; gives how many there were."""
        return int(self._link.step("replay_notices", now, *ids))

    def purge(self, ids: Sequence[str]) -> int:
        """Forget dead ones; gives how many there were."""
        return int(self._link.step("purge_notices", *ids))

    # --- reading ---------------------------------------------------------------------------------------

    def counts(self) -> tuple[int, int]:
        """How many wait, and how many are dead."""
        with self._link.client.pipeline(transaction=False) as pipeline:
            pipeline.zcard(WAITING)
            pipeline.zcard(DEAD)
            waiting, dead = self._link.call(pipeline.execute)
            return int(waiting), int(dead)

    def ids(self, dead: bool) -> list[str]:
        """Of those that are dead, or wait; oldest first."""
        key = DEAD if dead else WAITING
        found: list[str] = self._link.call(lambda: self._link.client.zrange(key, 0, -1))
        return found

    def latest(self, dead: bool, count: int, first: int = 0) -> list[str]:
        """Of the last so many that are dead, or wait, the latest first; `first` are left out."""
        key, last = DEAD if dead else WAITING, first + count - 1
        found: list[str] = self._link.call(lambda: self._link.client.zrevrange(key, first, last))
        return found

    def of_job(self, job_id: str) -> list[Notice]:
        """Those of a job's ends whose records are still kept."""
        told = self._link.call(lambda: self._link.client.hget(f"{PREFIX}job:{job_id}", "notices"))
        return self.known((told or "").split())

    def known(self, ids: Sequence[str]) -> list[Notice]:
        """Those of these ids that are still known, in the same order."""
        found: list[Notice] = []
        for first in range(0, len(ids), PER_CALL):
            some = ids[first : first + PER_CALL]
            with self._link.client.pipeline(transaction=False) as pipeline:
                for each in some:
                    pipeline.hgetall(_key(each))
                rows = self._link.call(pipeline.execute)
            found += [records.notice(each, row) for each, row in zip(some, rows, strict=True) if row]
        return found

    def one(self, notice_id: str) -> Notice:
        """Raises: NotFound."""
        for found in self.known([notice_id]):
            return found
        kept = self._link.retention
        raise NotFound(
            f"no notice {notice_id!r}: delivered ones are kept for {kept.ended_days}, dead ones for "
            f"{kept.failed_days}"
        )

    def due_at(self, notice: Notice) -> float | None:
        """When it is to be sent next, its host's rest apart; None where it is not."""
        key = f"{PREFIX}notices:{notice.host}"
        moment: float | None = self._link.call(lambda: self._link.client.zscore(key, notice.id))
        return moment

    def resting_until(self, host: str) -> float | None:
        """Until when a host is sent nothing, since it does not answer; None where it does."""
        told = self._link.call(lambda: self._link.client.hget(f"{PREFIX}host:{host}", "rest_until"))
        return float(told) if told else None


def _key(notice_id: str) -> str:
    return f"{PREFIX}notice:{notice_id}"


def _taken(row: Any) -> Notice | None:
    if not row:
        return None
    notice_id, fields = row
    return records.notice(notice_id, records.fields(fields))
