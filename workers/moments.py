"""Polls at their moments: a chunk of attempts, each asked after when it is due, many at once."""

from __future__ import annotations

import heapq
import logging
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import cache
from time import sleep

from orchestrator.events import log
from orchestrator.flow import Flow
from orchestrator.models import CLAIM_PUSH_SECONDS

POLLS_AT_ONCE = 32


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(POLLS_AT_ONCE, thread_name_prefix="poll")


def at_their_moments(flow: Flow, attempts: list[tuple[str, float]], until: float) -> None:
    """Polls each attempt at its moment, and again where it is due again before `until` (unix seconds).

    Later moments are the ticker's. A poll that fails is made again by the due list.
    """
    waiting = [(moment, attempt) for attempt, moment in attempts]
    heapq.heapify(waiting)
    asked: dict[Future[float | None], str] = {}
    while waiting or asked:
        if flow.clock() > until + CLAIM_PUSH_SECONDS:
            waiting.clear()  # the due list has them again
        patience = max(0.0, waiting[0][0] - flow.clock()) if waiting else None
        if asked:
            done, _ = wait(asked, timeout=patience, return_when=FIRST_COMPLETED)
        else:
            done = set()
            sleep(patience or 0.0)
        for answered in done:
            attempt = asked.pop(answered)
            try:
                again_at = answered.result()
            except Exception:  # one that cannot be polled must not hold up the others
                log("poll.failed", logging.ERROR, exc_info=True, attempt=attempt)
                continue
            if again_at is not None and again_at < until:
                heapq.heappush(waiting, (again_at, attempt))
        while waiting and waiting[0][0] <= flow.clock():
            moment, attempt = heapq.heappop(waiting)
            asked[_pool().submit(_poll, flow, attempt, moment)] = attempt


def _poll(flow: Flow, attempt: str, moment: float) -> float | None:
    flow.observer.polled(flow.clock() - moment)
    return flow.poll(attempt)
