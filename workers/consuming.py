"""Celery's consumer, which tells what happens to tasks twice a second, and not with each message."""

from __future__ import annotations

import sys
from typing import Any

from celery.worker.consumer import Consumer

TELL_SECONDS = 0.5


class TellingConsumer(Consumer):  # type: ignore[misc]
    def on_send_event_buffered(self) -> None:
        """An event waits for the next turn of the timer, whichever thread it comes from."""

    def register_with_event_loop(self, hub: Any) -> None:
        super().register_with_event_loop(hub)
        if self.event_dispatcher:
            # Beyond it, it would tell from whichever thread: a connection of RabbitMQ bears one alone.
            self.event_dispatcher.buffer_limit = sys.maxsize
        hub.timer.call_repeatedly(TELL_SECONDS, self._flush_events)
