"""What a prompt's markers do to the reply of a create request that was accepted."""

from __future__ import annotations

import socket
import struct
import time
from typing import Any

import gevent
from gevent.select import select

from orchestrator.simulator.engine import Engine
from orchestrator.simulator.markers import Marker
from orchestrator.simulator.model import Refused, Task
from orchestrator.simulator.web import Request

EARLY_SECONDS = 0.3
HANG_SECONDS = 30.0
"""Both real seconds, never scaled: a client's own timeouts are not scaled either."""


def spoil(engine: Engine, task: Task, request: Request) -> None:
    """Delay, break or refuse the reply as the task's markers ask. Raises: Refused. Not safe to call twice."""
    if Marker.EARLY in task.markers:
        engine.end_before_reply(task)
        gevent.sleep(EARLY_SECONDS)
    if Marker.TIMEOUT in task.markers:
        task.tally.spoiled["timeout"] += 1
        wait_until_closed(request.connection)
    if Marker.RESET in task.markers:
        task.tally.spoiled["reset"] += 1
        _hang_up(request.connection)
    if task.answer_status is not None:
        refused = Refused.with_status(task.answer_status)
        task.tally.spoiled[refused.kind] += 1
        raise refused


def wait_until_closed(connection: Any) -> None:
    """Return after HANG_SECONDS, or as soon as the client has gone."""
    until = time.monotonic() + HANG_SECONDS
    readable, _, _ = select([connection], [], [], HANG_SECONDS)
    try:
        gone = bool(readable) and not connection.recv(1, socket.MSG_PEEK)
    except OSError:
        gone = True
    if not gone:  # a pipelined request is no goodbye
        gevent.sleep(max(0.0, until - time.monotonic()))


def _hang_up(connection: Any) -> None:
    """Close without an answer; that its own answer then goes nowhere does not trouble the server."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.shutdown(socket.SHUT_RDWR)
