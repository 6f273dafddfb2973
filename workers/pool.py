"""The threads that tasks run in: Celery's pool of threads, without a Future for each task.

Nobody asks for what a task gave there, since Celery's own callbacks tell it. To make a Future, guard it and
count who is idle costs more than handing the task over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from celery.concurrency import thread
from celery.concurrency.base import apply_target

from orchestrator.events import log


class Hands:
    """Threads that take what waits, in its order; as much as Celery's pool uses of an executor."""

    def __init__(self, count: int) -> None:
        self._waiting: SimpleQueue[tuple[Callable[..., object], *tuple[Any, ...]] | None] = SimpleQueue()
        self._threads = [Thread(target=self._work, name=f"task-{n}", daemon=True) for n in range(count)]

    def start(self) -> None:
        for each in self._threads:
            each.start()

    def submit(self, call: Callable[..., object], *arguments: Any) -> None:
        self._waiting.put((call, *arguments))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Safe to call twice. `cancel_futures`: forget what has not begun."""
        with suppress(Empty):
            while cancel_futures:
                self._waiting.get_nowait()
        for _ in self._threads:
            self._waiting.put(None)
        for each in self._threads if wait else ():
            each.join()

    def _work(self) -> None:
        while work := self._waiting.get():
            call, *arguments = work
            try:
                call(*arguments)
            except BaseException:  # whatever it is, it must not cost a thread
                log("task.broke", logging.ERROR, exc_info=True)
            del work, call, arguments  # not to be kept until the next one comes


class TaskPool(thread.TaskPool):  # type: ignore[misc]
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.executor = Hands(self.limit)

    def on_start(self) -> None:
        self.executor.start()

    def on_terminate(self) -> None:
        self.on_stop()

    def terminate_job(self, pid: int, signal: int | None = None) -> None:
        """A thread cannot be ended. An error here would leave Celery with its message for ever."""

    def on_apply(
        self,
        target: Callable[..., object],
        args: Any = None,
        kwargs: Any = None,
        callback: Any = None,
        accept_callback: Any = None,
        **_: Any,
    ) -> None:
        self.executor.submit(apply_target, target, args, kwargs, callback, accept_callback)
