"""How lanes share slots, and what caps admit, foreseen: pure functions of what waits and how it is shared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

DAY_SECONDS = 86_400.0
CENT = 1e-6  # sums of binary fractions are compared this closely, as by the scripts


@dataclass(frozen=True)
class DailyCaps:
    """How many generations accounts may begin together."""

    left: int  # now
    a_day: int  # in any 24 hours

    def seconds(self, jobs: int) -> float:
        """About how long so many last by them alone."""
        return max(0, jobs - self.left) / self.a_day * DAY_SECONDS


def served_before(lane: str, rank: int, lanes: Sequence[tuple[str, float, int, float]]) -> int:
    """About how many jobs are served before the one at `rank` (from 0) of `lane`.

    `lanes`: (name, served so far, jobs waiting, share) of every lane that shares its slots, this one too.
    """
    mine = next((each for each in lanes if each[0] == lane), None)
    if mine is None:
        return rank
    _, served, _, share = mine
    moment = served + rank / share  # of virtual time, at which it will be its turn
    others = (each for each in lanes if each[0] != lane)
    return rank + sum(
        min(waiting, max(0, math.ceil((moment - begun) * weight))) for _, begun, waiting, weight in others
    )


def seconds_to_end(
    mine: float, share: float, others: Sequence[tuple[float, float]], slots: float
) -> float | None:
    """Seconds until `mine` slot-seconds of work are done; None where there are no slots.

    `others`: (slot-seconds, share) of each lane beside it. Slots are shared by `share` among those that still
    have work, so each that ends leaves more for the others.
    """
    if slots <= 0:
        return None
    elapsed, left = 0.0, sorted(((work / weight, weight) for work, weight in others if work > 0))
    mine_left = mine / share  # work per share falls equally fast for all
    total = share + sum(weight for _, weight in left)
    done = 0.0
    for level, weight in left:
        if level >= mine_left:
            break
        elapsed += (level - done) * total / slots
        done = level
        total -= weight
    return elapsed + (mine_left - done) * total / slots


def daily_caps(accounts: Sequence[tuple[int, int]]) -> DailyCaps | None:
    """Of each account its cap, and how many it began in the last 24 hours; None: one of them has no cap."""
    if not accounts or not all(cap for cap, _ in accounts):
        return None
    return DailyCaps(sum(max(0, cap - begun) for cap, begun in accounts), sum(cap for cap, _ in accounts))


def paid_for(accounts: Sequence[tuple[float, float]]) -> int:
    """How many generations more caps on spend admit. `accounts`: of each what is left, and its price."""
    return sum(max(0, math.floor((left + CENT) / price)) for left, price in accounts)
