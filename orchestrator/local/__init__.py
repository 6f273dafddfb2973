"""The whole product on one machine: an embedded Valkey and every process beside it.

What runs here are the same commands as in production, started, watched and stopped as one. This package
knows nothing of the orchestrator itself; it hands the processes their environment and nothing else.
"""

from __future__ import annotations

from orchestrator.local.errors import FolderInUse, LocalError, NotReady, ProcessEnded, ServerNotFound
from orchestrator.local.guard import Guard
from orchestrator.local.processes import Command, Ended, Processes, free_port
from orchestrator.local.stack import Commands, Stack, StackOptions
from orchestrator.local.valkey import EmbeddedServer, find_or_start

__all__ = [
    "Command",
    "Commands",
    "EmbeddedServer",
    "Ended",
    "FolderInUse",
    "Guard",
    "LocalError",
    "NotReady",
    "ProcessEnded",
    "Processes",
    "ServerNotFound",
    "Stack",
    "StackOptions",
    "find_or_start",
    "free_port",
]
