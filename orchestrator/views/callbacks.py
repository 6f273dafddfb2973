"""What the command line shows of callbacks: nobody's e-mail address, and nothing that opens a URL."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.errors import NotFound, masked, without_queries
from orchestrator.schemas import moment
from orchestrator.store import Heard
from orchestrator.views.printing import ago, console, counted, print_json

if TYPE_CHECKING:
    from orchestrator.client import Orchestrator

SHOWN_CHARACTERS = 160
WHOLE_CHARACTERS = 100_000
WORDS = ("pending", "settled", "late", "duplicate", "mismatch", "unknown", "unreadable")
ENTRY = re.compile(r"p?\d{1,20}-\d{1,20}")
LED_TO = {
    "unknown": "its attempt is not known here; it stays parked. `orchestrator recover` may make it known",
    "duplicate": "nothing: its attempt was settled before",
    "late": "its job has the picture, unless it has one already",
    "settled": "its attempt is settled",
    "pending": "nothing yet: its generation was still running",
}


def entry_of(orchestrator: Orchestrator, entry_id: str) -> Heard:
    """Raises: NotFound."""
    if not ENTRY.fullmatch(entry_id):
        raise NotFound(f"no callback {entry_id!r}: an id is two numbers, as in `orchestrator callbacks list`")
    return orchestrator.flow.store.journal.entry(entry_id)


def led_to(entry: Heard, word: str) -> str:
    """What it led to that a callback was taken once more, in a sentence."""
    return f"attempt {entry.attempt}: {word}: {LED_TO.get(word, word)}"


def show_callbacks(entries: Sequence[Heard], limit: int, now: float, as_json: bool) -> None:
    """The latest `limit` of them, and how many there are."""
    told = entries[:limit]
    if as_json:
        return print_json({"count": len(entries), "callbacks": [_view(entry) for entry in told]})
    for entry in told:
        _print_head(entry, now)
        console.print(f"    {shown_body(entry.body, SHOWN_CHARACTERS)}", soft_wrap=True)
    left_out = f", the latest {len(told)} are shown" if len(told) < len(entries) else ""
    console.print(f"{counted(len(entries), 'callback')}{left_out}")


def show_callback(entry: Heard, now: float, as_json: bool) -> None:
    if as_json:
        return print_json(_view(entry))
    _print_head(entry, now)
    console.print(shown_body(entry.body, WHOLE_CHARACTERS), soft_wrap=True)


def shown_body(body: str, most: int) -> str:
    """A stranger's body in one line of so many characters, whatever way it spells its secrets."""
    try:
        body = json.dumps(json.loads(body), ensure_ascii=False)
    except (ValueError, RecursionError):
        pass  # then its escapes stay as they are
    return masked(without_queries(body.replace("\\/", "/").replace("%40", "@")), most)


def _view(entry: Heard) -> dict[str, Any]:
    return {
        "id": entry.id,
        "at": moment(entry.at),
        "word": entry.word,
        "provider": entry.provider,
        "account": entry.account,
        "attempt": entry.attempt,
        "body": shown_body(entry.body, WHOLE_CHARACTERS),
    }


def _print_head(entry: Heard, now: float) -> None:
    where = f"{entry.provider}/{entry.account}"
    console.print(f"{entry.id}  {entry.word}  {ago(entry.at, now)}  {where}  {entry.attempt}", soft_wrap=True)
