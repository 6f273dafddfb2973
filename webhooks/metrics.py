"""Metrics of an app under gunicorn: its master opens a door of their own, its workers answer there.

Each answers for all of them. Nothing that opens sockets is imported before a worker has started.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.environment import environment
from orchestrator.metrics import place

if TYPE_CHECKING:
    from orchestrator.build import Built


@dataclass
class _Door:
    """Of this gunicorn: opened by its master, inherited by its workers."""

    listener: socket.socket | None = None
    folder: Path | None = None


_door = _Door()


def on_starting(server: Any) -> None:
    """gunicorn's hook, in the master. Without a free port everything but metrics goes on."""
    if not environment().get("ORCHESTRATOR_METRICS_PORT"):
        return
    from orchestrator.settings import metrics_address  # 3 MB, in a master that needs no other setting

    if not (address := metrics_address()):
        return
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    try:
        _door.listener = socket.create_server(address, family=family)
        _door.folder = place.prepare_folder()
    except OSError as error:
        place.tell_not_served(address, error, server.log.error_log)


def on_exit(server: Any) -> None:
    if _door.folder:
        place.remove_folder(_door.folder)


def answer_metrics(built: Built) -> None:
    """Answer in this worker, beside what it serves. Does nothing where the master opened no door."""
    if not (_door.listener and _door.folder):
        return
    from gevent import socket as gevent_socket
    from gevent.pywsgi import WSGIServer

    from orchestrator.metrics.serving import wsgi_app

    listener = gevent_socket.socket(fileno=os.dup(_door.listener.fileno()))
    WSGIServer(listener, wsgi_app(built, _door.folder), log=None).start()
