"""gunicorn's log lines, and those that a flood of forged callbacks cannot make many of."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from gunicorn.glogging import Logger

from orchestrator.logs import Redacting, dress

KIND_CHARACTERS = 60  # of a line; beyond, a stranger's words may stand
KINDS = 100  # at once; what goes beyond counts as one


class Sparing(logging.Filter):
    """Lets one warning or error of a kind through in a second, and says how many it held back before it.

    Not exact where threads meet: a line more or less does no harm.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._second = 0
        self._held: dict[str, int] = {}  # of this second; and of earlier ones what was not told yet
        self._told: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        if int(self._clock()) != self._second:
            self._second = int(self._clock())
            self._told.clear()
        line = record.getMessage()
        kind = line[:KIND_CHARACTERS]
        if kind not in self._held and len(self._held) >= KINDS:
            kind = ""
        held = self._held.get(kind, 0)
        if kind in self._told:
            self._held[kind] = held + 1
            return False
        self._told.add(kind)
        self._held[kind] = 0
        if held:
            record.msg, record.args = f"{line} (and {held} more before)", ()
        return True


def lean_records() -> None:
    """Of where and in which thread a line was written no line tells, so nobody needs to find it out.

    https://docs.python.org/3/howto/logging.html#optimization
    """
    logging._srcfile = None
    logging.logThreads = logging.logMultiprocessing = False


class ReceiverLogger(Logger):  # type: ignore[misc]
    """gunicorn's own lines."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.filters[:] = [Redacting(), Sparing()]
        self.access_log.filters[:] = [Redacting()]
        dress([*self.error_log.handlers, *self.access_log.handlers])
