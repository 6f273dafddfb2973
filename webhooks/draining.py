"""A server that is told to end says first that it is not ready, and goes on serving for a while.

Whoever stands in front sends it nothing new by then. The byte is shared by gunicorn's master, which is told,
and its workers, which are asked.
"""

from __future__ import annotations

import mmap
import time
from typing import Any

MOST_SECONDS = 120.0

_flag = mmap.mmap(-1, 1)


def begun() -> bool:
    return bool(_flag[0])


def drain_first(arbiter: Any, seconds: float) -> None:
    """For gunicorn's `when_ready`: so long it serves on after SIGTERM. SIGQUIT and SIGINT end it at once."""
    stop = arbiter.stop

    def drained(graceful: bool = True) -> None:
        if graceful and seconds and not begun():
            _flag[0] = 1
            time.sleep(seconds)
        stop(graceful)

    arbiter.stop = drained


def seconds_of(text: str) -> float:
    """Raises: SystemExit, in a sentence."""
    try:
        seconds = float(text or 0)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= MOST_SECONDS:
        raise SystemExit(f"DRAIN_SECONDS is {text!r}; it must be seconds from 0 to {MOST_SECONDS:g}")
    return seconds
