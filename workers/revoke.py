"""`AsyncResult.revoke()` and Flower's button for a job that waits: Celery has no message to drop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from celery.worker.control import Panel


def hook(cancel: Callable[[str], object]) -> None:
    """Let the worker's `revoke` command cancel jobs, too. Ids of other tasks are left to Celery."""
    celerys_own = Panel.data["revoke"]

    def revoke(state: Any, task_id: str | list[str], **options: Any) -> Any:
        ids = [task_id] if isinstance(task_id, str) else list(task_id)
        try:
            return celerys_own(state, task_id, **options)
        finally:
            # Cancelling asks the provider; the consumer that runs this command must not wait for that.
            threading.Thread(target=lambda: [cancel(each) for each in ids], daemon=True).start()

    Panel.data["revoke"] = revoke
