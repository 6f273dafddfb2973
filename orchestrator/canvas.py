"""Celery's canvas as JSON: signatures, and what ties a task to others."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from celery import current_app
from kombu.utils.json import dumps

KEPT = (
    "root_id parent_id group_id group_index chord chain shadow reply_to ignore_result time_limit "
    "soft_time_limit replaced_task_nesting headers origin"
).split()


def signature_text(signature: Any) -> str:
    """A Celery signature as JSON, each task of it with the queue that its caller's app sends it to.

    Raises: TypeError where it is no signature, or holds what is no JSON.
    """
    if not isinstance(signature, Mapping) or "task" not in signature:
        raise TypeError("it is no signature, such as `task.s()` gives")
    plain: dict[str, Any] = json.loads(dumps(signature))  # type: ignore[no-untyped-call]
    app = getattr(signature, "app", None) or current_app
    for each in _tasks_of(plain):
        if not each["options"].get("queue"):
            route = app.amqp.router.route(each["options"], each["task"], tuple(each["args"]), each["kwargs"])
            each["options"]["queue"] = route["queue"].name
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))


def _tasks_of(signature: Any) -> Iterator[dict[str, Any]]:
    """The single tasks in a signature: chains, groups and chords hold others."""
    if isinstance(signature, list):
        for each in signature:
            yield from _tasks_of(each)
    elif isinstance(signature, dict) and "task" in signature:
        if not signature.get("subtask_type"):
            yield signature
        for part in ("tasks", "header", "body"):
            yield from _tasks_of(signature["kwargs"].get(part) if signature.get("subtask_type") else None)


def task_options(
    *,
    link: Any = None,
    link_error: Any = None,
    stamped_headers: Sequence[str] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """What `apply_async` was told, as JSON that a later message of the same task is made of.

    Kept: what ties the task to others (links, chain, group, chord, parents, stamps) and how it is shown.
    Dropped: what is about this one message (connection, queue, priority, countdown).
    """
    kept = {name: options[name] for name in KEPT if options.get(name) is not None}
    if link:
        kept["callbacks"] = _listed(link)
    if link_error:
        kept["errbacks"] = _listed(link_error)
    if stamped_headers:
        kept["stamped_headers"] = list(stamped_headers)
        kept["stamps"] = {name: options.get(name, []) for name in stamped_headers}
    plain: dict[str, Any] = json.loads(dumps(kept)) if kept else {}  # type: ignore[no-untyped-call]
    return plain


def _listed(signatures: Any) -> list[Any]:
    return list(signatures) if isinstance(signatures, list | tuple) else [signatures]
