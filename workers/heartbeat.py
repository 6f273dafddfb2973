"""A file that is touched while this process is well: a health check looks at its age, and starts nothing.

`ORCHESTRATOR_HEARTBEAT` names it; unset: there is none. A worker touches it every few seconds unless messages
wait that it is not brought (`watchdog`); the ticker, whenever it has published a tick.
"""

from __future__ import annotations

from typing import Any

from celery.signals import after_task_publish

from orchestrator.broker import TICK
from orchestrator.events import warn
from workers.wiring import built


@after_task_publish.connect(sender=TICK)  # type: ignore[untyped-decorator]
def beat(**_: Any) -> None:
    """Safe to call at any time."""
    path = built().settings.heartbeat
    if path is None:
        return
    try:
        path.touch()
    except OSError as error:
        warn("heartbeat.failed", path=path, error=error.strerror)
