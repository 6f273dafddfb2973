"""What the command line shows of callbacks: nobody's e-mail address, and nothing that opens a URL."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from orchestrator.errors import masked, without_queries
from orchestrator.schemas import moment
from orchestrator.store import Heard
from orchestrator.views.printing import ago, console, counted, print_json

SHOWN_CHARACTERS = 160
WHOLE_CHARACTERS = 100_000


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
