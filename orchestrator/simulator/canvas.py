"""A small RGB canvas on plain bytearrays, fast because it moves whole spans of bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

Colour = tuple[int, int, int]

SOFT_RINGS = 7


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """`first` at share 0, `second` at 1."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


class Canvas:
    """Pixels from the upper left corner; what is drawn outside is cut off."""

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.height = height
        self._rows: list[bytearray] = []

    def gradient(self, stops: Sequence[Colour]) -> None:
        """Fill everything, from the first colour at the top to the last at the bottom."""
        parts = len(stops) - 1
        self._rows = []
        for y in range(self.height):
            place = y / self.height * parts
            colour = mix(stops[int(place)], stops[int(place) + 1], place % 1)
            self._rows.append(bytearray(bytes(colour) * self.width))

    def soft_disc(self, x: float, y: float, inner: float, outer: float, colour: Colour, alpha: float) -> None:
        """A disc that is `alpha` opaque up to the radius `inner` and fades away towards `outer`."""
        # Rings lie on one another, so each gets the alpha whose repetition gives the whole.
        each = 1 - (1 - alpha) ** (1 / SOFT_RINGS)
        for ring in range(SOFT_RINGS):
            self.disc(x, y, inner + (outer - inner) * ring / SOFT_RINGS, colour, each)

    def disc(self, x: float, y: float, radius: float, colour: Colour, alpha: float) -> None:
        """A disc laid over what is there."""
        tables = [_laying(new, alpha) for new in colour]
        for line in range(max(0, math.ceil(y - radius)), min(self.height, math.floor(y + radius) + 1)):
            half = math.sqrt(max(0.0, radius * radius - (line - y) ** 2))
            start = 3 * max(0, round(x - half))
            end = 3 * min(self.width, round(x + half))
            if end <= start:
                continue
            row = self._rows[line]
            for channel, table in enumerate(tables, start):
                row[channel:end:3] = row[channel:end:3].translate(table)

    def ridge(self, heights: Sequence[float], top: Colour, bottom: Colour) -> None:
        """Fill below a line given as one y per column, shaded from `top` to `bottom`, its edge smoothed."""
        crossings: list[list[int]] = [[] for _ in range(self.height + 1)]
        edges = [min(self.height, max(0, math.ceil(height))) for height in heights]
        for x in range(1, self.width):
            low, high = sorted((edges[x - 1], edges[x]))
            for y in range(low, high):
                crossings[y].append(x)
        highest = min(edges)
        for y in range(highest, self.height):
            shade = bytes(mix(top, bottom, (y - highest) / max(1, self.height - highest)))
            bounds = [0] if edges[0] <= y else []
            bounds += [*crossings[y], self.width]
            row = self._rows[y]
            for start, end in zip(bounds[::2], bounds[1::2], strict=False):
                row[3 * start : 3 * end] = shade * (end - start)
        for x, height in enumerate(heights):
            y = edges[x] - 1
            if 0 <= y < self.height:
                self._blend(x, y, top, edges[x] - height)

    def rows(self) -> list[bytes]:
        """All from the top, three bytes a pixel."""
        return [bytes(row) for row in self._rows]

    def _blend(self, x: int, y: int, colour: Colour, alpha: float) -> None:
        row = self._rows[y]
        for channel, new in enumerate(colour, 3 * x):
            row[channel] = round(row[channel] + (new - row[channel]) * alpha)


@lru_cache(maxsize=64)
def _laying(new: int, alpha: float) -> bytes:
    """What each old value becomes; the rings of a soft disc share it."""
    return bytes(round(old + (new - old) * alpha) for old in range(256))
