"""Celery's beat as our ticker: each second it looks whether anything is due, and only then asks for a tick.

Not by an entry of its schedule: Celery wakes 10 ms before one is due, and asks again and again until it is.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from celery.beat import Scheduler

from orchestrator.broker import TICK_SECONDS
from orchestrator.errors import StoreUnavailable
from orchestrator.events import log, warn
from workers.heartbeat import beat
from workers.wiring import built

# So often a tick is asked for though nothing is due: by what it is brought a worker's watchdog knows that it
# hears, and the broker that somebody is there.
AT_LEAST_SECONDS = 5.0


class Ticker(Scheduler):  # type: ignore[misc]
    _look_at = _ask_at = 0.0  # of time.monotonic()

    def tick(self, *args: Any, **options: Any) -> float:
        """Gives the seconds until it is to be called again. What others have beat send is sent as ever."""
        others = float(super().tick(*args, **options))
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + TICK_SECONDS
            self._look(anyway=now >= self._ask_at)
        return max(0.0, min(others, self._look_at - time.monotonic()))

    def _look(self, anyway: bool) -> None:
        try:
            if built().flow.remind(TICK_SECONDS, anyway):
                self._ask_at = time.monotonic() + AT_LEAST_SECONDS
        except StoreUnavailable as error:
            warn("tick.postponed", error=error)
        except Exception:  # whatever it is, the next look may be better
            log("tick.failed", logging.ERROR, exc_info=True)
        else:
            beat()
