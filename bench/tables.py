"""Results as Markdown, to be pasted: a table for each workload, and one of the floors. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.contestants import OURS
from bench.rows import Row, cells, number, spread, words
from bench.suite import Floor, Part

GIB = 2**30


@dataclass(frozen=True)
class Found:
    """What came of a part: its rows, and how many rounds they have."""

    part: Part
    title: str
    rows: Sequence[Row]
    rounds: int


def page(machine: Mapping[str, Any], found: Sequence[Found], quick: bool = False) -> str:
    """All of it. Where it was a quick look, no floor is told: the sizes are others."""
    if quick:
        return "\n\n".join([f"A quick look, at small sizes. {sentence(machine)}", *map(_table, found)]) + "\n"
    parts = [_floors(found)] if any(each.part.floors for each in found) else []
    return "\n\n".join([sentence(machine), *parts, *map(_table, found)]) + "\n"


def sentence(machine: Mapping[str, Any]) -> str:
    """The machine, and how busy it was before."""
    return (
        f"{machine['processor']}, {machine['cpus']} cores, {machine['memory_bytes'] / GIB:.0f} GiB, "
        f"{machine['platform']}, Python {machine['python']}, {machine['server']}; "
        f"load average {machine['load_average']:.2f} before; {machine['day']}."
    )


def _floors(found: Sequence[Found]) -> str:
    rows = [
        (each.title, _named(floor), _asked(floor), *_reached(floor, each.rows))
        for each in found
        for floor in each.part.floors
    ]
    return _markdown(("work", "figure", "floor", "reached", ""), rows)


def _named(floor: Floor) -> str:
    return words(floor.figure) if floor.row == OURS else f"{words(floor.figure)}, {floor.row}"


def _asked(floor: Floor) -> str:
    return f"≥ {number(floor.least)}" if floor.least is not None else f"≤ {number(floor.most or 0)}"


def _reached(floor: Floor, rows: Sequence[Row]) -> tuple[str, str]:
    values = next((row.figures.get(floor.figure, ()) for row in rows if row.name == floor.row), ())
    told = spread(values)
    if told is None:
        return "-", ""
    return told.text, "yes" if floor.is_reached(told.median) else "no"


def _table(each: Found) -> str:
    told = {figure for row in each.rows for figure in row.figures}
    figures = [figure for figure in each.part.figures if figure in told]
    rounds = "1 round" if each.rounds == 1 else f"{each.rounds} rounds"
    rows = [(row.name, *cells(row, figures)) for row in each.rows]
    if len(rows) < len(figures):
        heads, lines = (
            ["", *(row[0] for row in rows)],
            list(zip(map(words, figures), *(row[1:] for row in rows), strict=True)),
        )
    else:
        heads, lines = ["", *map(words, figures)], rows
    return f"**{each.title}** (`{' '.join(each.part.command)}`, {rounds})\n\n{_markdown(heads, lines)}"


def _markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
