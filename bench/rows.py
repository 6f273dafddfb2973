"""Figures of several rounds, side by side: median, lowest and highest. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from rich.table import Column, Table

EMPTY = "-"
ACROSS = 3  # rows that stand side by side
WRITTEN = {
    "celery": "Celery", "cpu": "CPU", "mib": "MiB", "posts": "POSTs", "pss": "PSS", "redis": "Redis",
    "rss": "RSS", "us": "µs",
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """Who was measured, and the values of each figure, one a round. None: that round could not tell it."""

    name: str
    figures: Mapping[str, Sequence[float | None]]


@dataclass(frozen=True)
class Spread:
    """The middle value of all rounds, and the outermost."""

    median: float
    lowest: float
    highest: float

    @property
    def text(self) -> str:
        """As in `9.4 (9.1 to 9.9)`; a value alone where there is no spread."""
        if self.lowest == self.highest:
            return number(self.median)
        return f"{number(self.median)} ({number(self.lowest)} to {number(self.highest)})"


def spread(values: Sequence[float | None]) -> Spread | None:
    """None of nothing."""
    told = [value for value in values if value is not None]
    return Spread(median(told), min(told), max(told)) if told else None


def ratios(ours: Sequence[float | None], theirs: Sequence[float | None]) -> list[float | None]:
    """Ours to theirs, round by round, so that what slowed a whole round down is in neither."""
    return [
        mine / other if mine is not None and other else None for mine, other in zip(ours, theirs, strict=True)
    ]


def gathered(name: str, rounds: Sequence[Mapping[str, float | None]]) -> Row:
    """The row of what was told in each round."""
    return Row(name, {figure: [told[figure] for told in rounds] for figure in rounds[0]})


def figures_of(rows: Sequence[Row]) -> list[str]:
    """Every figure that any row tells, in the order of their coming."""
    return list(dict.fromkeys(figure for row in rows for figure in row.figures))


def cells(row: Row, figures: Sequence[str]) -> list[str]:
    found = (spread(row.figures.get(figure, ())) for figure in figures)
    return [each.text if each else EMPTY for each in found]


def table(rows: Sequence[Row]) -> Table:
    """For people at a terminal: a line for each figure; of many rows, for each row."""
    figures = figures_of(rows)
    if len(rows) > ACROSS:
        name = Column(no_wrap=True)
        shown = Table(name, *map(words, figures), box=None, pad_edge=False, padding=(0, 1, 0, 0))
        for row in rows:
            shown.add_row(row.name, *cells(row, figures))
        return shown
    shown = Table("", *(row.name for row in rows), box=None)
    for figure in figures:
        shown.add_row(words(figure), *(cells(row, [figure])[0] for row in rows))
    return shown


def words(figure: str) -> str:
    return " ".join(WRITTEN.get(word, word) for word in figure.split("_"))


def number(value: float) -> str:
    """Three digits that matter, no more."""
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"
