"""Plain Celery tasks beside the product's, for the tests that tie jobs to other people's tasks.

`-A tests.helpers_tasks`: a worker of an app that only shares broker and backend with the product.
`-A workers --include tests.helpers_tasks`: the product's own app that knows these tasks, too.
"""

from __future__ import annotations

import json
import os
from typing import Any

from celery import Celery, current_app, shared_task
from celery.signals import task_prerun

REDIS_URL = os.environ.get("ORCHESTRATOR_REDIS_URL")

app = Celery("tests", broker=REDIS_URL, backend=REDIS_URL, set_as_current=False)
app.conf.update(
    task_default_queue="tests",
    # What whoever runs jobs from an app of their own must write.
    task_routes={"orchestrator.*": {"queue": "orchestrator.submit"}},
    result_backend_thread_safe=True,
    broker_connection_retry_on_startup=True,
)


@shared_task(name="tests.add")
def add(x: int, y: int) -> int:
    return x + y


@shared_task(name="tests.give")
def give(*values: Any) -> Any:
    """The last value: what the signature says, whatever a chain puts before it."""
    return values[-1]


@shared_task(name="tests.pick")
def pick(result: dict[str, Any], key: str) -> Any:
    return result[key]


@shared_task(name="tests.join")
def join(results: list[Any]) -> list[Any]:
    return results


@shared_task(name="tests.where", bind=True)
def where(self: Any, *_: Any) -> dict[str, Any]:
    """Where this task itself stands."""
    request = self.request
    return {"root_id": request.root_id, "parent_id": request.parent_id, "stamps": request.stamps}


@shared_task(name="tests.spawn", bind=True)
def spawn(self: Any, provider: str, parameters: dict[str, Any]) -> str:
    """Enqueue a job from inside a task."""
    return str(self.app.tasks["orchestrator.generate"].delay(provider, parameters).id)


@shared_task(name="tests.record")
def record(value: Any, key: str) -> None:
    _keep(key, value)


@shared_task(name="tests.old_error")
def old_error(task_id: str) -> None:
    """An errback of the old style: runs as a task, and is told an id."""
    _keep(f"old_error:{task_id}", task_id)


@shared_task(name="tests.new_error")
def new_error(request: Any, exc: Exception, traceback: str) -> None:
    """An errback of the new style: called by the worker that saw the error, and told what it was."""
    error = {"error": str(exc), "kind": type(exc).__name__, "traceback": traceback}
    _keep(f"new_error:{request.id}", {**error, "task": request.task})


@task_prerun.connect
def seen(task_id: str, task: Any, **_: Any) -> None:
    """What a job's finish brings along, as the worker sees it."""
    request = task.request
    if task.name == "orchestrator.generate" and request.get("job_phase") == "finish":
        names = ("root_id", "parent_id", "stamps", "stamped_headers", "x-tenant", "job_attempt")
        _keep(f"finish:{task_id}", {name: request.get(name) for name in names})


def _keep(key: str, value: Any) -> None:
    current_app.backend.client.rpush(f"tests:{key}", json.dumps(value))
