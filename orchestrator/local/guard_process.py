"""The process that outlives its owner: it ends the process groups that are left once the owner is gone.

Run as a file, by `python -I -S`, and so may import nothing but what starts at once. It reads lines `+pid` and
`-pid` from its standard input. The input ends when the owner closes it or dies, of whatever cause.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable

GRACE_SECONDS = 5.0
POLL_SECONDS = 0.02


def watch(lines: Iterable[bytes]) -> set[int]:
    """Gives the groups that were left when the input ended. A line that was cut short is ignored."""
    groups: set[int] = set()
    for line in lines:
        number = line[1:-1]
        if not line.endswith(b"\n") or not number.isdigit():
            continue
        if line.startswith(b"+"):
            groups.add(int(number))
        else:
            groups.discard(int(number))
    return groups


def end(groups: set[int]) -> None:
    """Asks every group to end, and kills what is left of it after `GRACE_SECONDS`."""
    for group in groups:
        _send(group, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_SECONDS
    while time.monotonic() < deadline and any(_send(-group, 0) for group in groups):
        for group in groups:
            # While the leader lives only the leader is asked: Celery and gunicorn let their children finish.
            _send(group, 0) or _send(-group, signal.SIGTERM)
        time.sleep(POLL_SECONDS)
    for group in groups:
        _send(-group, signal.SIGKILL)


def _send(target: int, number: int) -> bool:
    try:
        os.kill(target, number)
    except (ProcessLookupError, PermissionError):  # macOS: a group of nothing but zombies is "not permitted"
        return False
    return True


if __name__ == "__main__":
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    end(watch(sys.stdin.buffer))
