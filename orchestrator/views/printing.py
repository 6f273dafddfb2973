"""How what is shown is written: moments and spans for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

console = Console(markup=False, highlight=False)  # prompts and errors are a stranger's words
UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2))


def tell(as_json: bool, view: Any, *lines: str) -> None:
    """What a command did: the view for programs, the lines for people."""
    if as_json:
        return print_json(view)
    for line in lines:
        click.echo(line)


def grid_of(view: Mapping[str, Any]) -> Table:
    """Names and values, one a row, without those that say nothing."""
    table = Table(show_header=False, box=None)
    for name, value in view.items():
        if value not in (None, {}, ""):
            table.add_row(Text(name, "bold"), Text(value if isinstance(value, str) else json.dumps(value)))
    return table


def span(seconds: float) -> str:
    """In its two largest units, as in `2 h 5 min`."""
    left = max(0, round(seconds))
    place = next((place for place, (_, size) in enumerate(UNITS) if left >= size), len(UNITS) - 1)
    words: list[str] = []
    for unit, size in UNITS[place : place + 2]:
        count, left = divmod(left, size)
        if count or not words:
            words.append(f"{count} {unit}")
    return " ".join(words)


def ago(moment: float, now: float) -> str:
    return f"{span(now - moment)} ago"


def in_about(moment: float, now: float) -> str:
    """A moment to come, and how far off it is."""
    return f"{at(moment)}, in about {span(moment - now)}"


def at(moment: float) -> str:
    """To the second, in UTC."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def amount(money: float) -> str:
    """As `1,234.5`; to a millionth, so that no price is nothing."""
    return f"{round(money, 6) or 0:,.6f}".rstrip("0").rstrip(".")


def counted(count: int, noun: str) -> str:
    """`1 job`, `2 jobs`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
