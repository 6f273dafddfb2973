"""Charts as SVG. Pure: numbers in, markup out.

A chart is stretched to the room it gets, so nothing in it is text: that is the page's. Colours are classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

HEIGHT = 100.0
GAP = 0.15  # between two bars, of a bar
LEAST = 1.5  # of a bar that is not nothing, so that it can be seen


@dataclass(frozen=True)
class Series:
    """Values of one kind, one for each bar."""

    tone: str  # its class
    values: Sequence[float]


def bars(several: Sequence[Series], top: float, label: str, titles: Sequence[str] = ()) -> Markup:
    """Bars, those of several series upon each other. `top`: the value at full height. `titles`: one a bar."""
    drawn = []
    for place in range(len(several[0].values)):
        floor, rects = HEIGHT, Markup("")
        for series in several:
            value = series.values[place]
            if value <= 0:
                continue
            height = min(floor, max(LEAST, value / top * HEIGHT))
            floor -= height
            rects += _rect(series.tone, place, floor, 1 - GAP, height)
        if rects and titles:
            rects = Markup("<g><title>{}</title>{}</g>").format(titles[place], rects)
        drawn.append(rects)
    return _svg(len(several[0].values), label, Markup("").join(drawn))


def area(values: Sequence[float], top: float, level: float, label: str) -> Markup:
    """The values as steps of an area, and a line at `level` (none where that is 0)."""
    steps = "".join(f"L{place},{_y(value, top)}H{place + 1}" for place, value in enumerate(values))
    drawn = Markup('<path class="area" d="M0,{0:g}{1}V{0:g}Z"/>').format(HEIGHT, steps)
    if level:
        y = _y(level, top)
        drawn += Markup('<line class="level" x1="0" x2="{}" y1="{}" y2="{}"/>').format(len(values), y, y)
    return _svg(len(values), label, drawn)


def parts(several: Sequence[tuple[str, float]], whole: float, label: str) -> Markup:
    """One bar that lies, of (tone, value), one beside the other; `whole`: the value at full length."""
    drawn, at = Markup(""), 0.0
    for tone, value in several:
        drawn += _rect(tone, at, 0, value / whole * 100, HEIGHT) if value > 0 else ""
        at += value / whole * 100
    return _svg(100, label, drawn, "lying")


def _svg(width: float, label: str, drawn: Markup, kind: str = "chart") -> Markup:
    return Markup(
        '<svg class="{}" viewBox="0 0 {:g} {:g}" preserveAspectRatio="none" role="img" '
        'aria-label="{}">{}</svg>'
    ).format(kind, width, HEIGHT, label, drawn)


def _rect(tone: str, x: float, y: float, width: float, height: float) -> Markup:
    return Markup('<rect class="{}" x="{:.6g}" y="{:.4g}" width="{:.4g}" height="{:.4g}"/>').format(
        tone, x, y, width, height
    )


def _y(value: float, top: float) -> str:
    return f"{HEIGHT - min(1.0, value / top) * HEIGHT:.4g}"
