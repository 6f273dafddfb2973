"""Keeps Flower's rows in line with Redis: after a restart, after lost events, for jobs that only wait.

It reads what is not over and what has ended since, of bounded number, and rests for longer than it reads.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from orchestrator.errors import StoreUnavailable
from orchestrator.events import log, warn
from orchestrator.store.reading import JOBS_PER_CALL
from workers.dashboard.record import row_of

if TYPE_CHECKING:
    from tornado.ioloop import IOLoop

    from orchestrator.store import Store
    from workers.dashboard.redaction import Redaction
    from workers.dashboard.table import Mark, Table

EVERY_SECONDS = 2.0
REST = 10.0  # times as long as it read

Found = TypeVar("Found")


class Refresh(threading.Thread):
    """Looks until the process ends. `most_rows`: what Flower keeps; of them a half may be jobs that wait."""

    def __init__(
        self,
        store: Store,
        providers: Sequence[str],
        table: Table,
        redaction: Redaction,
        loop: IOLoop,
        most_rows: int,
    ) -> None:
        super().__init__(name="refresh", daemon=True)
        self._store, self._providers = store, providers
        self._table, self._redaction, self._loop = table, redaction, loop
        self._most = max(1, most_rows // 4)

    def run(self) -> None:
        while True:
            began = time.monotonic()
            try:
                self.look()
            except StoreUnavailable:
                warn("refresh.postponed", why="Redis does not answer")
            except Exception:
                log("refresh.failed", logging.ERROR, exc_info=True)
            time.sleep(max(EVERY_SECONDS, REST * (time.monotonic() - began)))

    def look(self) -> None:
        """Bring all rows in line, once. Raises: StoreUnavailable."""
        marks, settled = self._in_loop(self._table.marks)
        begun = self._store.open_jobs.due(self._most)
        waiting = self._store.open_jobs.waiting(self._pools(), self._most)
        told = {job for job in waiting if job in marks and marks[job].waits}
        changed = [uuid for uuid in marks if uuid not in settled and uuid not in told]
        ids = list(dict.fromkeys([*changed, *begun, *(job for job in waiting if job not in told)]))
        for first in range(0, len(ids), JOBS_PER_CALL):
            self._read(ids[first : first + JOBS_PER_CALL], marks)

    def _read(self, ids: Sequence[str], marks: Mapping[str, Mark]) -> None:
        jobs = self._store.jobs(ids)
        gone = {*ids} & marks.keys() - {job.id for job in jobs}
        fields = {job.id: self._redaction.fields(row_of(job)) for job in jobs}
        self._in_loop(lambda: self._table.show(fields, marks))
        self._in_loop(lambda: self._table.miss(gone, marks))

    def _pools(self) -> list[str]:
        accounts = self._store.accounts
        return [
            pool
            for provider in self._providers
            for pool in (provider, *(f"{provider}/{name}" for name in accounts.names(provider)))
        ]

    def _in_loop(self, step: Callable[[], Found]) -> Found:
        async def run() -> Found:
            return step()

        loop: Any = self._loop
        return asyncio.run_coroutine_threadsafe(run(), loop.asyncio_loop).result()
