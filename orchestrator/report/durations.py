"""How seconds are spread: counted by size, so that a million take no more room than ten. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

PLACES_PER_DOUBLING = 16  # so what is told of a spread is right within 5 %
LEAST_SECONDS = 0.01  # what is less is counted as so much


class Durations:
    """Seconds of the same kind. Quantiles are right within 5 %, the longest exactly."""

    def __init__(self) -> None:
        self.count = 0
        self.longest = 0.0
        self._counts: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        self.count += 1
        self.longest = max(self.longest, seconds)
        self._counts[_place(seconds)] += 1

    def quantile(self, share: float) -> float:
        """Seconds that so large a share of them did not exceed; 0 where there are none."""
        left = math.ceil(share * self.count)
        for place in sorted(self._counts):
            left -= self._counts[place]
            if left <= 0:
                return min(self.longest, _seconds(place))
        return self.longest

    def bars(self, edges: Sequence[float]) -> list[int]:
        """How many lie between each of the edges and the next."""
        places = [_place(edge) for edge in edges]
        return [
            sum(count for place, count in self._counts.items() if low <= place < high)
            for low, high in pairwise(places)
        ]


def edges(several: Sequence[Durations], per_doubling: int = 2) -> list[float]:
    """Edges of bars, evenly on a logarithmic scale, that hold all of these."""
    places = [place for each in several for place in each._counts]
    step = PLACES_PER_DOUBLING // per_doubling
    low, high = min(places, default=0) // step, max(places, default=0) // step + 1
    return [_seconds(place * step) for place in range(low, high + 1)]


def _place(seconds: float) -> int:
    return round(math.log2(max(seconds, LEAST_SECONDS)) * PLACES_PER_DOUBLING)


def _seconds(place: int) -> float:
    return float(2 ** (place / PLACES_PER_DOUBLING))
