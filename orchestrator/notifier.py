"""Sending notices: one host after another, and to one host what is due for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestrator import notices
from orchestrator.errors import OrchestratorError
from orchestrator.events import log
from orchestrator.models import Answer, Notice
from orchestrator.notices import NO_SECRET, NotifyRules

if TYPE_CHECKING:
    from orchestrator.broker import Broker
    from orchestrator.store import Store
    from orchestrator.upstream import Upstream

SECONDS = 15.0  # of one delivery in all
TURN_SECONDS = 10.0  # for which a host is sent what is due, before it is another's turn
SENDERS = 8  # threads of one process that send at once: hosts that hang must not hold all of them
WAIT_SECONDS = 1.0  # until a host's turn comes that found no sender free


@dataclass(frozen=True)
class Notifier:
    """Thread-safe; in any number of processes."""

    store: Store
    upstream: Upstream
    broker: Broker
    rules: NotifyRules
    clock: Callable[[], float]  # unix seconds
    dice: Callable[[], float]  # uniform in [0, 1)
    _free: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(SENDERS))

    def send(self, host: str) -> int:
        """Send the notices that are due to a host, for a while; gives how many were tried.

        What is cut off is sent again, under the same id.
        """
        if not self._free.acquire(blocking=False):
            self.store.notices.wake(host, self.clock() + WAIT_SECONDS)
            return 0
        try:
            return self._send_all(host)
        finally:
            self._free.release()

    def _send_all(self, host: str) -> int:
        tried, until = 0, self.clock() + TURN_SECONDS
        notice = self.store.notices.take(host, self.clock())
        while notice:
            tried += 1
            answer = self._try(notice)
            word = "delivered" if answer.delivered else "postponed" if answer.again_in else "dead"
            level = logging.WARNING if word == "dead" else logging.INFO
            log(
                f"notice.{word}", level, notice=notice.id, type=notice.type, about=notice.about,
                host=host, tries=notice.tries, answer=answer.text,
            )  # fmt: skip
            now, shown = self.clock(), notices.shown_target(notice.target)
            notice = self.store.notices.told(notice, answer, shown, now, self.dice(), more=now < until)
        return tried

    def _try(self, notice: Notice) -> Answer:
        waited = self.clock() - notice.first_tried_at
        try:
            if notices.is_signature(notice.target):
                self.broker.call(notice.target, notices.facts(notice), notices.task_id(notice))
                return Answer("sent", delivered=True)
            return self._post(notice, waited)
        except OrchestratorError as error:
            why = str(error)
        except Exception as error:  # whatever a stranger's server, or a signature, can make a library raise
            why = f"it cannot be sent ({type(error).__name__})"
        return notices.untold(why, notice.tries, waited, self.dice())

    def _post(self, notice: Notice, waited: float) -> Answer:
        if not self.rules.keys:
            return notices.untold(NO_SECRET, notice.tries, waited, self.dice())
        body, now = notices.body(notice), self.clock()
        headers = self.rules.headers(notice, body, now)
        private = self.rules.is_private(notice.target)
        status, retry_after = self.upstream.tell(notice.target, headers, body, private, SECONDS)
        return notices.told(status, retry_after, notice.tries, waited, now, self.dice())
