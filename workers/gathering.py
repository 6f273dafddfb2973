"""Steps that threads of a worker ask for at the same time go to Redis together, and each gets its own reply.

No timer, and no thread more: who finds nobody sending sends at once, and who comes while that is on its way
waits; the first of these then sends for all of them. It saves Redis reading and writing for each, and the
threads taking turns at the interpreter's lock.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections import deque
from collections.abc import Callable, Sequence
from threading import current_thread, main_thread
from typing import Any

from celery.concurrency.thread import TaskPool
from celery.signals import worker_ready

from workers.wiring import built

MOST = 16  # in one go, as at the door


class _Asked:
    """`turn` is free once there is a reply, or once it is to send for those that wait with it."""

    __slots__ = ("reply", "sends", "turn", "what")

    def __init__(self, what: Any) -> None:
        self.what, self.reply, self.sends = what, None, False
        self.turn = allocate_lock()  # an Event costs several times that
        self.turn.acquire()


class Together:
    """Runs what each asks for, and gives it its own reply, or raises what it raised.

    `run_all`: gives for each what it replied or what it raised; raises what befell them all.
    """

    def __init__(self, run_all: Callable[[Sequence[Any]], list[Any]]) -> None:
        self._run_all = run_all
        self._waiting: deque[_Asked] = deque()
        self._is_busy = False
        self._mutex = allocate_lock()  # of these two

    def __call__(self, what: Any) -> Any:
        if current_thread() is main_thread():  # a signal may interrupt it while others wait for it
            (reply,) = self._run_all([what])
        else:
            reply = self._reply_to(_Asked(what))
        if isinstance(reply, BaseException):
            raise reply
        return reply

    def _reply_to(self, asked: _Asked) -> Any:
        with self._mutex:
            asked.sends, self._is_busy = not self._is_busy, True
            if not asked.sends:
                self._waiting.append(asked)
        if not asked.sends:
            asked.turn.acquire()
        if asked.sends:
            self._send(asked)
        return asked.reply

    def _send(self, first: _Asked) -> None:
        with self._mutex:
            others = [self._waiting.popleft() for _ in range(min(MOST - 1, len(self._waiting)))]
        some = [first, *others]
        try:
            replies = self._run_all([asked.what for asked in some])
        except BaseException as error:  # whatever it is, nobody may wait for ever
            replies = [error] * len(some)
        self._let_next_send()
        for asked, reply in zip(some, replies, strict=True):
            asked.reply = reply
            asked.turn.release()

    def _let_next_send(self) -> None:
        with self._mutex:
            self._is_busy = bool(self._waiting)
            if self._is_busy:
                following = self._waiting.popleft()
                following.sends = True
                following.turn.release()


@worker_ready.connect  # type: ignore[untyped-decorator]
def gather(sender: Any, **_: Any) -> None:
    """Where tasks run in threads of this process."""
    if isinstance(sender.pool, TaskPool):
        built().flow.store.gather(Together)
