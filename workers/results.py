"""Celery's result backend as a finish uses it: an end is stored in one round trip.

Celery reads first whether there is a success already, which might be another worker's. A finish is one
worker's alone: its lease says so.
"""

from __future__ import annotations

from typing import Any

from celery import states


class Results:
    """All of Celery's backend on Redis, but for how a success is stored. Thread-safe, as that is."""

    def __init__(self, celerys: Any) -> None:
        self._celerys = celerys

    def __getattr__(self, name: str) -> Any:
        return getattr(self._celerys, name)

    def mark_as_done(
        self,
        task_id: str,
        result: Any,
        request: Any = None,
        store_result: bool = True,
        state: str = states.SUCCESS,
    ) -> None:
        """Store a success and tell who waits for it. Tried again while Redis is away, as Celery does."""
        if store_result:
            self._celerys._ensure_retryable(self._store, task_id, result, state, request)
        if request and request.chord:
            self._celerys.on_chord_part_return(request, state, result)

    def _store(self, task_id: str, result: Any, state: str, request: Any) -> None:
        meta = self._celerys._get_result_meta(result, state, None, request)
        text = self._celerys.encode({**meta, "task_id": task_id})
        key = self._celerys.get_key_for_task(task_id)
        with self._celerys.client.pipeline(transaction=False) as pipeline:
            pipeline.set(key, text, ex=self._celerys.expires)
            pipeline.publish(key, text)
            pipeline.execute()
