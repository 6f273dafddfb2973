"""What a finished job is linked to: while it cannot be sent, the job is not over.

Celery tells a task whose link it could not publish that it failed. A job has its pictures then, and is paid
for: the due list has it finished once more, as it does after any other trouble.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.exceptions import Reject
from kombu.exceptions import OperationalError

from orchestrator.broker import FINISH, PHASE
from orchestrator.errors import StoreUnavailable


def hook(app: Celery) -> None:
    """Let the tracer of a job's finish raise Celery's Reject where a link, or a chain, cannot be sent."""
    celerys_own = app.amqp._retry_publish

    def publish(send: Callable[..., Any], *args: Any, **options: Any) -> Any:
        try:
            return celerys_own(send, *args, **options)
        except (OperationalError, StoreUnavailable) as error:
            if not _finishes_a_job(app):
                raise
            raise Reject(type(error).__name__) from None

    app.amqp._retry_publish = publish


def _finishes_a_job(app: Celery) -> bool:
    task = app.current_worker_task
    return task is not None and task.request.get(PHASE) == FINISH
