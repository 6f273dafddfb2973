"""What greenlets bring at the same time is seen to in one go: many callbacks are one way to Redis.

No timer: what comes first goes at once, and what comes while that is on its way goes next.
"""

from __future__ import annotations

import atexit
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import gevent
from gevent.event import AsyncResult
from gevent.monkey import is_module_patched

from orchestrator.errors import StoreUnavailable
from orchestrator.flow import Flow

MOST = 16  # in one go: with more of them Redis and we take turns, and do not work at the same time
PATIENCE_SECONDS = 5.0  # for one's turn, as for a connection of the pool
MOST_BEHIND = 1_000  # messages
# Jobs that began together end together. To collect their pictures costs several times what it does to submit
# the next ones, and would keep their slots empty meanwhile: 20 of them take 0.2 s of two cores.
HOLD_SECONDS = 0.3
END_SECONDS = 5.0


def gathered(flow: Flow) -> Flow:
    """Lets this flow go to Redis and to the broker for many requests at once, where each is a greenlet.

    What a step asks workers to do is sent after the answer, or before this process ends.
    """
    if is_module_patched("threading"):
        behind = Behind(flow.broker.publish)
        flow.store.gather(Together)
        flow.broker.put_off(behind)
        atexit.register(behind.end, END_SECONDS)
    return flow


class _Gathering:
    """Of one hub. `see_to` is handed some of what was brought, in its order; it raises nothing."""

    def __init__(self, see_to: Callable[[list[Any]], None]) -> None:
        self._see_to = see_to
        self._brought: deque[Any] = deque()
        self._is_busy = False
        self._greenlet: gevent.Greenlet | None = None

    def __len__(self) -> int:
        return len(self._brought)

    def bring(self, *what: Any) -> None:
        self._brought.extend(what)
        if self.begin():
            self.go_on()

    def begin(self) -> bool:
        """Whether nothing is on its way. Then who asks may see to his own, and must say `go_on` after it."""
        was_busy, self._is_busy = self._is_busy, True
        return not was_busy

    def go_on(self) -> None:
        self._is_busy = bool(self._brought)
        if self._is_busy:
            self._greenlet = gevent.spawn(self._see_to_all)

    def end(self, seconds: float) -> None:
        """Waits so long at most for all that was brought."""
        if self._greenlet:
            self._greenlet.join(seconds)

    def _see_to_all(self) -> None:
        try:
            while self._brought:
                self._see_to([self._brought.popleft() for _ in range(min(MOST, len(self._brought)))])
        finally:
            self._is_busy = False


class _Asked(NamedTuple):
    what: Any
    at: float  # of time.monotonic()
    reply: AsyncResult


class Together:
    """Runs what each asks for, and gives it its own reply, or raises what it raised.

    `run_all`: gives for each what it replied or what it raised; raises what befell them all.
    Raises: StoreUnavailable where its turn does not come for long.
    """

    def __init__(self, run_all: Callable[[Sequence[Any]], list[Any]]) -> None:
        self._run_all = run_all
        self._gathering = _Gathering(self._answer)

    def __call__(self, what: Any) -> Any:
        if self._gathering.begin():
            try:
                (reply,) = self._run_all([what])
            finally:
                self._gathering.go_on()
        else:
            asked = _Asked(what, time.monotonic(), AsyncResult())
            self._gathering.bring(asked)
            reply = asked.reply.get()
        if isinstance(reply, Exception):
            raise reply
        return reply

    def _answer(self, some: list[_Asked]) -> None:
        first_at = time.monotonic() - PATIENCE_SECONDS
        in_time = [asked for asked in some if asked.at >= first_at]
        for asked in some:
            if asked.at < first_at:
                asked.reply.set(StoreUnavailable("Redis did not answer others for long"))
        try:
            replies = self._run_all([asked.what for asked in in_time])
        except Exception as error:
            replies = [error] * len(in_time)
        for asked, reply in zip(in_time, replies, strict=True):
            asked.reply.set(reply)  # where its greenlet was killed meanwhile nobody takes it


class Behind:
    """Sees to what nobody waits for. While there is too much of it, whoever brings more sees to his own."""

    def __init__(self, see_to: Callable[[Sequence[Any]], None]) -> None:
        self._see_to = see_to
        self._gathering = _Gathering(see_to)
        self._held: deque[Sequence[Any]] = deque()

    def __call__(self, what: Sequence[Any], after: Sequence[Any] = ()) -> None:
        """`after`: what is held for a while, where there is anything to see to before it."""
        if len(self._gathering) + len(self._held) >= MOST_BEHIND:
            self._see_to([*what, *after])
        elif what and after:
            self._gathering.bring(*what)
            self._held.append(after)
            gevent.spawn_later(HOLD_SECONDS, self._let_go)
        else:
            self._gathering.bring(*what, *after)

    def _let_go(self) -> None:
        if self._held:
            self._gathering.bring(*self._held.popleft())

    def end(self, seconds: float) -> None:
        while self._held:
            self._let_go()
        self._gathering.end(seconds)
