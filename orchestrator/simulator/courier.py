"""Callbacks on their way: so many at once, a few tries for each."""

from __future__ import annotations

import traceback
import uuid
from dataclasses import dataclass, field, replace
from functools import partial

import gevent
from gevent.queue import SimpleQueue

from orchestrator.simulator.model import Snapshot
from orchestrator.simulator.outbound import Outbound
from orchestrator.simulator.timers import Timers

AT_ONCE = 128
TIMEOUT_SECONDS = 5.0
RETRY_SECONDS = (0.2, 1.0, 3.0)
"""Waits before the further tries; real seconds, never scaled."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One callback. `follow_up` is sent once this one was answered or given up."""

    snapshot: Snapshot
    follow_up: Snapshot | None = None
    tries: int = 0
    id: str = field(default_factory=lambda: str(uuid.uuid4()))


class Courier:
    """Delivers callbacks. What waits is held as snapshots, so that a backlog costs little memory."""

    def __init__(self, timers: Timers) -> None:
        self._timers = timers
        self._waiting = SimpleQueue()
        self._carriers = 0
        self._idle = 0
        self._outbound = Outbound()

    def send(self, delivery: Delivery) -> None:
        """Deliver soon, without waiting. Twice sends it twice."""
        self._waiting.put(delivery)
        if self._waiting.qsize() > self._idle and self._carriers < AT_ONCE:
            self._carriers += 1
            gevent.spawn_raw(self._carry)

    def deliver(self, delivery: Delivery) -> None:
        """Deliver now and wait for the answer; a refused one is tried again later by itself."""
        task = delivery.snapshot.task
        if not task.tracked:
            return
        if self._post(delivery.snapshot, delivery.id):
            task.tally.callbacks_sent += 1
        else:
            task.tally.callbacks_refused += 1
            if delivery.tries < len(RETRY_SECONDS):
                again = replace(delivery, tries=delivery.tries + 1)
                self._timers.after(RETRY_SECONDS[delivery.tries], partial(self.send, again))
                return
            task.tally.callbacks_lost += 1
        if delivery.follow_up is not None:
            self.send(Delivery(delivery.follow_up))

    def clear(self) -> None:
        """Forget what waits; what is on the wire goes on. Safe to call twice."""
        while not self._waiting.empty():
            self._waiting.get_nowait()

    def _carry(self) -> None:
        """For ever: a greenlet for each delivery would cost more than the waiting."""
        while True:
            self._idle += 1
            delivery = self._waiting.get()
            self._idle -= 1
            try:
                self.deliver(delivery)
            except Exception:  # one bad delivery must not end the carrier
                traceback.print_exc()

    def _post(self, snapshot: Snapshot, delivery_id: str) -> bool:
        order = snapshot.task.order
        body = order.api.callback_body(snapshot)
        try:
            headers = order.api.callback_headers(snapshot, body, delivery_id)
            status = self._outbound.post(order.reply_url or "", headers, body, TIMEOUT_SECONDS)
        except (OSError, EOFError, ValueError):
            return False
        return 200 <= status < 300
