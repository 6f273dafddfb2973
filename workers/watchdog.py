"""A worker that is connected and yet is brought nothing ends itself, for its supervisor to start it again.

After a reconnect a Celery worker may live on and consume nothing: celery #8030, #8091, #10302.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import Any

from celery import Celery
from celery.signals import task_received, worker_ready
from celery.worker import state

from orchestrator.broker import waiting_in
from orchestrator.events import log
from workers.heartbeat import beat
from workers.wiring import built

EXIT_CODE = 75  # EX_TEMPFAIL: start it again
LOOK_SECONDS = 5.0
LOOKS = 9  # above the 30 s for which Celery may wait between two tries to reconnect
WHY = "messages wait, and none was brought to it: ending for a new start"


class Watchdog:
    """Looks every few seconds whether messages wait while none is brought.

    Looks are counted, not seconds: a machine that slept was not silent.
    """

    def __init__(self, app: Celery, threads: int) -> None:
        self._app, self._threads = app, threads
        self._received = threading.Event()
        self._silent = 0

    def hear(self, **_: Any) -> None:
        self._received.set()

    def look(self) -> bool:
        """Whether the worker has been silent for too long."""
        silent = (
            not self._received.is_set() and len(state.reserved_requests) < self._threads and self._waits()
        )
        self._received.clear()
        self._silent = self._silent + 1 if silent else 0
        return self._silent >= LOOKS

    def watch(self) -> None:
        """Looks until the worker ends, or ends it. Its heart beats while it is not silent."""
        pause = threading.Event()
        beat()
        while not pause.wait(LOOK_SECONDS):
            if _is_ending():
                return
            if self.look():
                break
            if not self._silent:
                beat()
        log("worker.silent", logging.CRITICAL, why=WHY)
        state.should_stop = EXIT_CODE
        pause.wait(built().settings.stop_seconds)  # a POST on its way may be answered by then
        os._exit(EXIT_CODE)  # not even its loop runs

    def _waits(self) -> bool:
        """Whether a queue that this worker is to consume holds messages; False where the broker is away."""
        try:
            with self._app.connection_or_acquire() as connection:
                return any(waiting_in(connection, self._app.amqp.queues.consume_from).values())
        except Exception as error:  # whatever it is, it is no silence of the worker
            log("watchdog.unanswered", logging.DEBUG, error=type(error).__name__)
            return False


def _is_ending() -> bool:
    try:
        state.maybe_shutdown()
    except SystemExit:
        return True
    return False


@worker_ready.connect  # type: ignore[untyped-decorator]
def start(sender: Any, **_: Any) -> None:
    watchdog = Watchdog(sender.app, sender.pool.num_processes)
    task_received.connect(watchdog.hear, weak=False)
    threading.Thread(target=watchdog.watch, name="watchdog", daemon=True).start()
