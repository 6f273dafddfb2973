"""Actions that are to run later: one heap and one greenlet, however many there are."""

from __future__ import annotations

import heapq
import itertools
import time
import traceback
from collections.abc import Callable

import gevent
from gevent.event import Event

BATCH = 200
"""Actions run before other greenlets get a turn, so that a burst does not hold up the answers."""


class Timers:
    """Runs actions in the order of their moments. An action must not block; a failing one is printed."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._earlier = Event()

    def start(self) -> None:
        """Begin to run what is due. Not safe to call twice."""
        gevent.spawn(self._run)

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Run `action` in so many real seconds."""
        self.at(time.monotonic() + seconds, action)

    def at(self, moment: float, action: Callable[[], None]) -> None:
        """Run `action` at a monotonic moment; before all that is due later, where that has passed."""
        entry = (moment, next(self._order), action)
        heapq.heappush(self._heap, entry)
        if self._heap[0] is entry:
            self._earlier.set()

    def clear(self) -> None:
        """Forget all that waits. Safe to call twice."""
        self._heap.clear()

    def _run(self) -> None:
        while True:
            self._earlier.clear()
            if self._run_due():
                gevent.sleep(0)
                continue
            wait = self._heap[0][0] - time.monotonic() if self._heap else None
            self._earlier.wait(timeout=wait if wait is None else max(0.0, wait))

    def _run_due(self) -> bool:
        """True when a full batch ran, so that more may be due."""
        for _ in range(BATCH):
            if not self._heap or self._heap[0][0] > time.monotonic():
                return False
            action = heapq.heappop(self._heap)[2]
            try:
                action()
            except Exception:  # one bad action must not stop every other task
                traceback.print_exc()
        return True
