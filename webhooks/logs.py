"""Log lines that tell no signed reference, and that a flood of forged callbacks cannot make many of."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import Any

from gunicorn.glogging import Logger

# The reference in a callback's path is what proves it genuine. A query is never ours.
REFERENCE = re.compile(r"(/+callbacks/+[^/\s?'\"]{1,100}/+)[^\s?'\"]+")
QUERY = re.compile(r"\?[^\s'\"]+")
KIND_CHARACTERS = 60  # of a line; beyond, a stranger's words may stand
KINDS = 100  # at once; what goes beyond counts as one


def redacted(line: str) -> str:
    return QUERY.sub("?…", REFERENCE.sub(r"\1…", line))


class Redacting(logging.Filter):
    """Of lines that may hold the path of a request."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redacted(record.getMessage()), ()
        return True


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


class ReceiverLogger(Logger):  # type: ignore[misc]
    """gunicorn's own lines."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.filters[:] = [Redacting(), Sparing()]
        self.access_log.filters[:] = [Redacting()]
