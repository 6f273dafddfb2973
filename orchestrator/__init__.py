"""A webhook-driven job orchestrator with a worker queue for high-volume image generation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.errors import (
    BadFile,
    ConfigurationError,
    Conflict,
    Invalid,
    JobCancelled,
    JobFailed,
    JobNotFound,
    OrchestratorError,
    QueueFull,
    StoreUnavailable,
    Unsupported,
)

if TYPE_CHECKING:
    from orchestrator.client import Batch, Job, Orchestrator, Result

__all__ = [
    "BadFile",
    "Batch",
    "ConfigurationError",
    "Conflict",
    "Invalid",
    "Job",
    "JobCancelled",
    "JobFailed",
    "JobNotFound",
    "Orchestrator",
    "OrchestratorError",
    "QueueFull",
    "Result",
    "StoreUnavailable",
    "Unsupported",
]


def __getattr__(name: str) -> object:
    # The client pulls in Celery and Redis; the simulator and the local stack do without.
    if name in __all__:
        from orchestrator import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
