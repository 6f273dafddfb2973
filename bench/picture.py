"""The figures as one SVG that needs nothing beside it. Pure: rows in, markup out.

Each panel is one figure of one workload: a bar for each row, a mark where rounds differed, a line at the
floor. It is readable on light and on dark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from bench.rows import Row, Spread, number, spread, words

WIDTH, MARGIN, GAP = 880, 24, 40
PANEL = (WIDTH - 2 * MARGIN - GAP) / 2
LABEL, VALUE = 116, 112  # room for a row's name, and for its number
LINE, BAR, HEAD, FOOT = 24, 13, 46, 18
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.head { font-weight: 600 } .of, .value { fill: #59636e; font-size: 12px }
.ours { fill: #0969da } .other { fill: #afb8c1 } .range { stroke: #1f2328; stroke-width: 1.5 }
.floor { stroke: #bc4c00; stroke-dasharray: 4 3; stroke-width: 1.5 }
.page { fill: #ffffff }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .of, .value { fill: #9198a1 } .page { fill: #0d1117 }
  .ours { fill: #4493f8 } .other { fill: #57606a } .range { stroke: #e6edf3 } .floor { stroke: #f0883e }
}
"""


@dataclass(frozen=True)
class Panel:
    """One figure of several rows. `ours`: the names of those that stand out. `floor` None: there is none."""

    title: str
    figure: str
    rows: Sequence[Row]
    ours: Sequence[str]
    floor: float | None = None

    @property
    def bars(self) -> list[tuple[str, Spread]]:
        told = ((row.name, spread(row.figures.get(self.figure, ()))) for row in self.rows)
        return [(name, each) for name, each in told if each]

    @property
    def height(self) -> float:
        return HEAD + LINE * len(self.bars) + FOOT


def picture(panels: Sequence[Panel], caption: str) -> str:
    """Two panels beside each other, as many lines of them as it takes, and a caption below."""
    drawn: list[str] = []
    y = float(MARGIN)
    for first in range(0, len(panels), 2):
        pair = panels[first : first + 2]
        drawn += [_panel(each, MARGIN + place * (PANEL + GAP), y) for place, each in enumerate(pair)]
        y += max(each.height for each in pair)
    drawn.append(_text(MARGIN, y + 12, caption, "of"))
    height = y + 12 + MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" '
        f'height="{height:g}" role="img" aria-label="{escape(caption)}"><style>{STYLE}</style>'
        f'<rect class="page" width="100%" height="100%"/>{"".join(drawn)}</svg>\n'
    )


def _panel(panel: Panel, x: float, y: float) -> str:
    top = max([each.highest for _, each in panel.bars] + [panel.floor or 0]) or 1
    scale = (PANEL - LABEL - VALUE) / top
    drawn = [_text(x, y + 14, words(panel.figure), "head"), _text(x, y + 32, panel.title, "of")]
    left = x + LABEL
    for place, (name, each) in enumerate(panel.bars):
        line = y + HEAD + place * LINE
        middle = line + BAR / 2
        kind = "ours" if name in panel.ours else "other"
        drawn.append(_text(left - 8, line + BAR - 2, name, "name", "end"))
        width = max(1.0, each.median * scale)
        drawn.append(f'<rect class="{kind}" x="{left:g}" y="{line:g}" width="{width:.4g}" height="{BAR}"/>')
        if each.lowest != each.highest:
            from_x, to_x = left + each.lowest * scale, left + each.highest * scale
            drawn.append(f'<path class="range" d="M{from_x:.5g},{middle:g}H{to_x:.5g}"/>')
        furthest = left + max(each.highest, each.median) * scale
        drawn.append(_text(furthest + 6, line + BAR - 2, number(each.median), "value"))
    if panel.floor is not None:
        at, end = left + panel.floor * scale, y + HEAD + LINE * len(panel.bars)
        drawn.append(f'<path class="floor" d="M{at:.5g},{y + HEAD - 4:g}V{end - 4:g}"/>')
    return "".join(drawn)


def _text(x: float, y: float, told: str, kind: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(told)}</text>'
