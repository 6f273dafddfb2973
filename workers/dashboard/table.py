"""Flower's rows: events as they come, redacted at the door, and jobs as Redis knows them."""

from __future__ import annotations

import logging
import os
import pickle
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from celery import states
from flower.events import Events

from orchestrator import rows
from orchestrator.broker import GENERATE
from orchestrator.events import log
from orchestrator.task_events import TOLD_BY_ANOTHER
from workers.dashboard.record import UNKNOWN
from workers.dashboard.redaction import Redaction

WAITS = repr({"job": "queued"})[:-1]
LASTING = ("batch", "custom_id")  # what a message of a job does not say again
NEW_SECONDS = 60.0  # a row may be older than the record of its job, but not by more


class Mark(NamedTuple):
    """By what it is seen that an event changed a row."""

    state: str
    kwargs: str | None
    timestamp: float | None

    @property
    def waits(self) -> bool:
        """Whether it says that its job waits for a slot."""
        return (self.kwargs or "").startswith(WAITS)


class Table(Events):  # type: ignore[misc]
    """Its methods but `on_event` are called in Flower's loop alone, as its state asks for."""

    def __init__(self, *args: Any, redaction: Redaction, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._redaction = redaction
        self._settled: dict[str, Mark] = {}  # rows that say what the record of an ended job says

    def on_event(self, event: Mapping[str, Any]) -> None:
        self.io_loop.add_callback(self._take, self._redaction.event(event))

    def _take(self, event: dict[str, Any]) -> None:
        row = self.state.tasks.data.get(event.get("uuid"))
        if row is not None and row.name == GENERATE:
            event.pop("runtime", None)  # of its last phase alone: the record knows how long it took
            if told := rows.facts_read(event.get("kwargs") or ""):
                before = rows.facts_read(row.kwargs or "")
                event["kwargs"] = rows.facts(
                    **told, **{name: before[name] for name in LASTING if name in before}
                )
        if event.pop(TOLD_BY_ANOTHER, False):
            event["local_received"] = None  # so it is no sign that the worker lives
        self.state.event(event)

    def save_state(self) -> None:
        """In one file that is there whole or not at all: Flower's own are several."""
        draft = Path(f"{self.db}.draft")
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            pickle.dump((self.state, dict(self.state.counter)), file, pickle.HIGHEST_PROTOCOL)
        draft.replace(self.db)

    def load_state(self) -> Any:
        """What was saved last; None where there is nothing, or nothing that can be read: it is set aside."""
        kept = Path(self.db)
        try:
            with kept.open("rb") as file:
                state, counter = pickle.load(file)
        except FileNotFoundError:
            return None
        except Exception as error:  # whatever a file of another version, or of nobody's, may raise
            log(
                "rows.unreadable",
                logging.ERROR,
                file=kept,
                error=type(error).__name__,
                then="it is set aside",
            )
            kept.replace(f"{kept}.unreadable")
            return None
        state.counter.update(counter)
        return state

    def marks(self) -> tuple[dict[str, Mark], set[str]]:
        """The rows of jobs, or of what may be one; and those of them that need no second look."""
        marks = {
            uuid: _mark(row) for uuid, row in self.state.tasks.data.items() if row.name in (GENERATE, None)
        }
        self._settled = {uuid: mark for uuid, mark in self._settled.items() if marks.get(uuid) == mark}
        return marks, set(self._settled)

    def show(self, fields: Mapping[str, Mapping[str, Any]], marks: Mapping[str, Mark]) -> None:
        """Bring these rows in line with `fields`, where no event came after `marks`."""
        for uuid, its_fields in fields.items():
            self._show(uuid, its_fields, marks.get(uuid))

    def miss(self, ids: Iterable[str], marks: Mapping[str, Mark]) -> None:
        """Redis knows no job of these ids: what is not over is over by now, nobody knows how."""
        for uuid in ids:
            mark, row = marks[uuid], self.state.tasks.data.get(uuid)
            if mark.state in (*states.READY_STATES, UNKNOWN) or row is None or row.name is None:
                self._settled[uuid] = mark
            elif time.time() - (mark.timestamp or 0.0) > NEW_SECONDS:
                self._show(uuid, {"state": UNKNOWN, "kwargs": rows.facts("unknown")}, mark)

    def _show(self, uuid: str, fields: Mapping[str, Any], mark: Mark | None) -> None:
        row = self.state.tasks.data.get(uuid)
        if (None if row is None else _mark(row)) != mark:
            return
        evicted = self.state._eviction_candidate(uuid)
        if row is None:
            row, _ = self.state.get_or_create_task(uuid)
            row.received = row.timestamp = fields["received"]
            self.state._seen_types.add(fields["name"])
        changed = {name: value for name, value in fields.items() if getattr(row, name) != value}
        changed.pop("received", None)  # an event knows better
        if changed:
            vars(row).update(changed)
            self.state._index_task(row, evicted)
        if row.ready:
            self._settled[uuid] = _mark(row)


def _mark(row: Any) -> Mark:
    return Mark(row.state, row.kwargs, row.timestamp)
