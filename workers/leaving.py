"""A worker that is told to end (SIGTERM): what it has not begun goes back at once, what runs has its time.

Celery's own warm shutdown keeps what was prefetched until the last task is through, and waits without end.
Its soft shutdown sleeps its whole time, sends no acknowledgement meanwhile, and cannot end a thread. This is
a warm shutdown with both put right.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import Any

from celery import Celery, bootsteps
from celery.signals import worker_shutting_down
from celery.worker import state
from celery.worker.request import Request

from orchestrator.broker import FINISH, PHASE
from orchestrator.events import warn

LOOK_SECONDS = 0.05
CLOSE_SECONDS = 3.0  # for an answer that Redis owes for a second at most

_held: list[Request] = []  # when the signal came; Celery forgets what has not begun before it asks any step


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _remember(**_: Any) -> None:
    _held[:] = list(state.requests.values())


def install(app: Celery, stop_seconds: float, let_go: Callable[[str], object]) -> None:
    """Let the workers of this app leave so. `let_go`: frees the finish of a job for another worker."""

    class Leaving(bootsteps.StartStopStep):  # type: ignore[misc]
        name = "orchestrator.leaving"

        def close(self, worker: Any) -> None:
            executor = getattr(worker.pool, "executor", None)
            if executor is None:
                return  # a pool that is none of threads knows how to end its children
            with suppress(Exception):  # whatever its connection is like, it ends
                worker.consumer.task_consumer.cancel()
            executor.shutdown(wait=False, cancel_futures=True)
            _hand_back([each for each in _held if each not in state.active_requests])
            if not _ended(worker.consumer.connection, time.monotonic() + stop_seconds):
                _leave(worker.consumer.connection, list(state.active_requests), let_go)

    app.steps["worker"].add(Leaving)


def _hand_back(requests: list[Request]) -> None:
    """Each is brought to another worker at once. Twice is harmless: whoever opens or begins it is one."""
    for request in requests:
        if not request.acknowledged:
            request.acknowledged = True
            with suppress(Exception):  # on a connection that is gone the broker takes them back by itself
                request.message.requeue()


def _ended(connection: Any, give_up_at: float) -> bool:
    """Waits until nothing runs; False where something still does by then."""
    while state.active_requests:
        if time.monotonic() >= give_up_at:
            return False
        with suppress(Exception):  # the loop that sends them has ended; Redis has none
            connection.heartbeat_check()
        time.sleep(LOOK_SECONDS)
    return True


def _leave(connection: Any, running: list[Request], let_go: Callable[[str], object]) -> None:
    warn("worker.leaves", running=len(running), then="handed to others, or seen to by the due list")
    for request in running:
        if request.request_dict.get(PHASE) == FINISH:
            with suppress(Exception):  # its lease ends by itself
                let_go(request.id)
    _hand_back(running)
    # What Redis brings to the last question may be no hint: it is given back as the connection is closed.
    closing = Thread(target=_close, args=(connection,), daemon=True)
    closing.start()
    closing.join(CLOSE_SECONDS)
    logging.shutdown()
    os._exit(0)  # a thread cannot be ended


def _close(connection: Any) -> None:
    with suppress(Exception):
        connection.close()
