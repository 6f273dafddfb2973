"""A file that is touched while this process is well: a health check looks at its age, and starts nothing.

`ORCHESTRATOR_HEARTBEAT` names it; unset: there is none. A worker touches it every few seconds unless messages
wait that it is not brought (`watchdog`); the ticker, whenever it has looked at what is due.
"""

from __future__ import annotations

from orchestrator.events import warn
from workers.wiring import built


def beat() -> None:
    """Safe to call at any time."""
    path = built().settings.heartbeat
    if path is None:
        return
    try:
        path.touch()
    except OSError as error:
        warn("heartbeat.failed", path=path, error=error.strerror)
