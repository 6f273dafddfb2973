"""`AsyncResult.revoke()` and Flower's button for a job that waits: Celery has no message to drop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from celery.concurrency.thread import TaskPool
from celery.worker.control import Panel

from orchestrator.errors import StoreUnavailable
from orchestrator.events import warn


def hook(cancel: Callable[[str], object]) -> None:
    """Let the worker's `revoke` and `terminate` cancel jobs, too. Ids of other tasks are left to Celery.

    A thread cannot be ended: what runs in one is not told to have been.
    """
    celerys_own = Panel.data["revoke"]

    def revoke(state: Any, task_id: str | list[str], terminate: bool = False, **options: Any) -> Any:
        ids = [task_id] if isinstance(task_id, str) else list(task_id)
        can_end = not isinstance(state.consumer.pool, TaskPool)
        try:
            return celerys_own(state, task_id, terminate=terminate and can_end, **options)
        finally:
            aside(cancel, ids)

    def end(state: Any, signal: Any, task_id: str | list[str], **options: Any) -> Any:
        return revoke(state, task_id, terminate=True, signal=signal, **options)

    Panel.data.update(revoke=revoke, terminate=end)


def aside(see_to: Callable[[str], object], job_ids: Sequence[str]) -> None:
    """See to jobs in a thread: it may ask the provider, and a worker's consumer must not wait for that."""

    def see_to_all() -> None:
        for job_id in job_ids:
            try:
                see_to(job_id)
            except StoreUnavailable:
                warn("revoke.missed", job=job_id)

    threading.Thread(target=see_to_all, daemon=True).start()
