"""Long lists, a page at a time. No request reads a list whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import urlencode

from flask import request, url_for

ROWS = 50  # of a page
MOST_READ = 2_000  # rows that one request looks through for those that fit a filter
Row = TypeVar("Row")


@dataclass(frozen=True)
class Page:
    """Some rows of a list. URLs are empty where there is nothing."""

    rows: Sequence[Any]
    first: int  # how many are before them
    total: int | None = None  # None: nobody has counted
    back: str = ""
    on: str = ""
    read: int = 0  # how many were looked through for these; 0: all rows fit

    @property
    def span(self) -> str:
        """Which these are, in words."""
        if self.read:
            return f"{len(self.rows):,} of {self.read:,} looked through"
        if not self.rows:
            return "none"
        of = "" if self.total is None else f" of {max(self.total, self.first + len(self.rows)):,}"
        return f"{self.first + 1:,} to {self.first + len(self.rows):,}{of}"


def first_place() -> int:
    """Where the page that is asked for begins."""
    text = request.args.get("from", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def here(**changes: Any) -> str:
    """The address of this page with other arguments; None leaves one out."""
    told = {**request.args.to_dict(), **changes}
    query = urlencode({name: value for name, value in told.items() if value is not None})
    page = url_for(str(request.endpoint), **(request.view_args or {}))
    return f"{page}?{query}" if query else page


def page_of(rows: Sequence[Row], first: int, total: int | None = None, size: int = ROWS) -> Page:
    """`rows`: from place `first` on, one more than a page holds where there are more."""
    has_more = len(rows) > size or (total is not None and first + size < total)
    back = here(**{"from": max(0, first - size) or None}) if first else ""
    on = here(**{"from": first + size}) if has_more else ""
    return Page(rows[:size], first, total, back, on)


def fitting(chunks: Iterator[Sequence[tuple[int, Row, bool]]], first: int) -> Page:
    """The rows that fit, of a list that is looked through from place `first` on until a page is full.

    `chunks`: (place in the list, row, whether it fits), some at a time.
    """
    found: list[Row] = []
    place, read, is_over = first, 0, True
    for place, row, fits in islice((each for chunk in chunks for each in chunk), MOST_READ):
        read = place - first + 1
        if fits:
            found.append(row)
        if len(found) >= ROWS or read >= MOST_READ:
            is_over = False
            break
    return Page(
        found,
        first,
        back=here(**{"from": None}) if first else "",
        on="" if is_over else here(**{"from": first + read}),
        read=max(read, 1),
    )
