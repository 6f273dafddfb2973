"""How lanes share slots, foreseen: pure functions of what waits and how it is shared."""

from __future__ import annotations

import math
from collections.abc import Sequence


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
