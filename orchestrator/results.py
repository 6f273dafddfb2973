"""What Celery says of our tasks: its result backend, written without a worker."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from celery import Celery, states
from celery.exceptions import TaskRevokedError

from orchestrator.errors import StoreUnavailable
from orchestrator.models import Shown


class Results:
    """Thread-safe."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def started(self, job_id: str, hostname: str) -> Shown:
        """What Celery says of a task that has started."""
        return self._shown(job_id, states.STARTED, {"hostname": hostname})

    def succeeded(self, job_id: str, result: Mapping[str, Any], request: Mapping[str, Any]) -> Shown | None:
        """What Celery says of a task that has succeeded; None where its result is to be ignored.

        `request`: its message, or its job's options.
        """
        if request.get("ignore_result"):
            return None
        group_id = request.get("group") or request.get("group_id")
        family = {"group_id": group_id, "parent_id": request.get("parent_id")}
        known = {name: value for name, value in family.items() if value}
        return self._shown(job_id, states.SUCCESS, result, children=[], **known)

    def revoke(self, job_ids: Sequence[str]) -> None:
        """Let these be revoked for Celery. Of none of them was a message ever sent, or is a link known.

        So there is nothing for a worker to do; a row of Flower's follows the record. Safe to call twice.
        """
        if job_ids:
            self._at_results(lambda: self._store_revoked(job_ids))

    def forget(self, job_ids: Sequence[str]) -> None:
        """Delete the results of these tasks. Safe to call twice."""
        backend = self._app.backend
        if job_ids:
            self._at_results(lambda: backend.client.delete(*map(backend.get_key_for_task, job_ids)))

    def _shown(self, job_id: str, state: str, result: Any, children: Any = None, **family: str) -> Shown:
        """What Celery's own `store_result` would write; a test compares the two."""
        backend = self._app.backend
        meta = {
            "status": state,
            "result": result,
            "traceback": None,
            "children": children,
            "date_done": self._app.now().isoformat() if state in states.READY_STATES else None,
            **family,
            "task_id": job_id,
        }
        return Shown(backend.get_key_for_task(job_id), json.dumps(meta), backend.expires)

    def _store_revoked(self, job_ids: Sequence[str]) -> None:
        """What Celery's `mark_as_revoked` does for one, in one go for many."""
        backend = self._app.backend
        with backend.client.pipeline(transaction=False) as pipeline:
            for job_id in job_ids:
                error = TaskRevokedError(f"job {job_id} was cancelled")
                shown = self._shown(job_id, states.REVOKED, backend.encode_result(error, states.REVOKED))
                pipeline.set(shown.key, shown.text, ex=shown.seconds)
                pipeline.publish(shown.key, shown.text)
            pipeline.execute()

    def _at_results(self, step: Callable[[], object]) -> None:
        try:
            self._app.backend.ensure(step, ())
        except self._app.backend.connection_errors as error:
            raise StoreUnavailable(f"the results do not answer ({type(error).__name__})") from None
