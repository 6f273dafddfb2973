"""Celery's events of tasks that end without a worker, in the name of the one that began them."""

from __future__ import annotations

import atexit
import os
import time
from collections import deque
from threading import Event as Flag
from threading import Lock, Thread
from typing import Any

from celery import Celery
from celery.events.event import Event, get_exchange
from celery.utils.time import utcoffset

from orchestrator.events import warn

TELL_SECONDS = 0.5  # between two tellings, as a worker of ours tells
MOST = 10_000  # that wait while the broker is away; beyond them some are dropped: the record has the end, too
TOLD_BY_ANOTHER = "told_by_another"  # field of an event: it does not come from the worker it names
TRANSIENT = 1


class TaskEvents:
    """Thread-safe."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._waiting: deque[dict[str, Any]] = deque(maxlen=MOST)
        self._some = Flag()
        self._starting, self._telling = Lock(), Lock()
        self._teller: Thread | None = None

    def succeeded(self, job_id: str, worker: str, result: str) -> None:
        """Tell, within half a second, that a worker's task has succeeded. `result`: as it may be shown."""
        if not self._app.conf.worker_send_task_events:
            return
        told = {"uuid": job_id, "result": result, "runtime": 0.0, "hostname": worker, TOLD_BY_ANOTHER: True}
        facts = {"utcoffset": utcoffset(), "pid": os.getpid(), "clock": self._app.clock.forward()}
        self._waiting.append(Event("task-succeeded", **facts, **told))
        self._some.set()
        self._see_to_teller()

    def tell(self) -> None:
        """Send what waits. Safe to call twice."""
        with self._telling:
            events = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if not events:
            return
        try:
            self._publish(events)
        except Exception as error:  # whatever it is: nothing but a picture of the work depends on it
            self._waiting.extendleft(reversed(events))
            warn("publish.postponed", what="task events", error=type(error).__name__)

    def _publish(self, events: list[dict[str, Any]]) -> None:
        with self._app.producer_or_acquire() as producer:
            exchange = get_exchange(producer.connection, self._app.conf.event_exchange)
            producer.publish(
                events,
                exchange=exchange.name,
                routing_key="task.multi",
                declare=[exchange],
                serializer=self._app.conf.event_serializer,
                delivery_mode=TRANSIENT,
                retry=False,
            )

    def _see_to_teller(self) -> None:
        if self._teller and self._teller.is_alive():
            return
        with self._starting:
            if not (self._teller and self._teller.is_alive()):
                atexit.register(self.tell)
                self._teller = Thread(target=self._go_on, name="task-events", daemon=True)
                self._teller.start()

    def _go_on(self) -> None:
        while self._some.wait():
            time.sleep(TELL_SECONDS)
            self._some.clear()
            self.tell()
            if self._waiting:
                self._some.set()
