"""The journal of callbacks: what came, what it led to, what is parked; one may be taken once more."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Blueprint, Response, render_template, request, url_for

from orchestrator.recovery import hear_again
from orchestrator.store import Heard
from orchestrator.views.callbacks import ENTRY, WHOLE_CHARACTERS, WORDS, entry_of, led_to, shown_body
from webhooks.operations.errands import act, orchestrator
from webhooks.operations.paging import MOST_READ, ROWS, here

CHUNK = 200
LINE_CHARACTERS = 140

callbacks = Blueprint("callbacks", __name__, url_prefix="/callbacks")


@callbacks.get("")
def list_() -> str:
    journal, told = orchestrator().flow.store.journal, request.args
    parked, word, job = told.get("parked") == "1", told.get("word", ""), told.get("job", "").strip()
    found: list[Heard] = []
    last, read = "", 0
    for last, entry in _after(told.get("before", ""), parked):  # noqa: B007
        read += 1
        if word in ("", entry.word) and job in ("", entry.attempt.rpartition(".")[0]):
            found.append(entry)
        if len(found) >= ROWS or read >= MOST_READ:
            break
    else:
        last = ""
    return render_template(
        "callbacks.html",
        entries=found,
        parked=parked,
        word=word,
        job=job,
        words=WORDS,
        counts=(journal.count(), journal.count(parked=True)),
        newest=here(before=None) if told.get("before") else "",
        older=here(before=last) if last else "",
        line=lambda entry: shown_body(entry.body, LINE_CHARACTERS),
    )


@callbacks.get("/<entry_id>")
def show(entry_id: str) -> str:
    entry = entry_of(orchestrator(), entry_id)
    return render_template("callback.html", entry=entry, body=shown_body(entry.body, WHOLE_CHARACTERS))


@callbacks.post("/<entry_id>/replay")
def replay(entry_id: str) -> Response:
    client = orchestrator()
    entry = entry_of(client, entry_id)
    page = url_for("callbacks.list_", parked="1" if entry_id.startswith("p") else None)
    return act("replay", entry_id, lambda: led_to(entry, hear_again(client.flow, entry)), page)


def _after(before: str, parked: bool) -> Iterator[tuple[str, Heard]]:
    """(id, callback) of those before this one, the latest first."""
    journal, before = orchestrator().flow.store.journal, before if ENTRY.fullmatch(before) else ""
    while entries := journal.recent(CHUNK, parked, before):
        yield from ((entry.id, entry) for entry in entries)
        before = entries[-1].id
