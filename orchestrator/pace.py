"""When to ask a provider how a generation is doing: pure functions of how long earlier ones took.

Each poll costs a request, each second between the end of a generation and the poll that sees it leaves a slot
idle. Given a sample of durations the cheapest times to poll are found exactly, by dynamic programming.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

KNOTS = 8  # the sample is smoothed to straight lines between so many quantiles
TRIMMED = 64  # one in so many is left out at either end
POINTS = 96  # … and taken at so many points
ENOUGH = 50  # durations below which nothing is concluded
POLL_WORTH = 0.009  # of the mean duration: idle seconds that one poll is worth, where a slot would idle
POLL_WORTH_AHEAD = 0.06  # the same where the provider's own queue keeps the slot busy meanwhile
FIRST_SECONDS = 1.0  # while nothing is known gaps begin with this, for the first ones are to teach something
FIRST_GROWTH = 0.2  # … and grow by so much of the time waited, up to the pace of the account
UNKNOWN_GROWTH = 0.1  # … and are at least so much of it
TAIL_GROWTH = 0.3  # … and beyond all that is known so much of the time beyond
EXPLORE = 0.03  # share of durations taken as unknown, so that a provider may become faster than ever


@dataclass(frozen=True)
class Learned:
    """What is known of one provider and model, in seconds."""

    durations: tuple[float, ...] = ()  # sorted
    next_at: tuple[float, ...] = ()  # when to poll next, where i of the durations have passed in vain
    tail_seconds: float = 0.0  # first gap beyond all that is known

    @property
    def enough(self) -> bool:
        return bool(self.next_at)

    def polls_at(self) -> list[float]:
        """The times at which a generation is polled that takes as long as the longest known."""
        times: list[float] = []
        while (seen := bisect_right(self.durations, times[-1] if times else 0.0)) < len(self.next_at):
            times.append(self.next_at[seen])
        return times


def learn(durations: Sequence[float], floor_seconds: float, worth: float) -> Learned:
    """The best times to poll at, given earlier durations; `worth` as a share of their mean."""
    known = tuple(sorted(durations))
    if len(known) < ENOUGH:
        return Learned(known)
    known = _smoothed(known)
    mean = _mean(known)
    # Where nothing tells one moment from another this gap is the cheapest: sqrt(2 · worth / hazard).
    tail = mean * math.sqrt(2 * worth)
    return Learned(known, _schedule(known, floor_seconds, worth * mean), tail)


def next_poll_seconds(learned: Learned, waited: float, default: float, floor: float) -> float:
    """Seconds from now until the next poll of a generation that began `waited` seconds ago.

    `default`: the longest gap until enough is known, but for what takes very long.
    """
    if not learned.enough:
        sooner = min(default, FIRST_SECONDS + waited * FIRST_GROWTH)
        return max(sooner, floor, waited * UNKNOWN_GROWTH)
    seen = bisect_right(learned.durations, waited)
    if seen < len(learned.durations):
        return max(learned.next_at[seen] - waited, floor if waited else 0.0)
    beyond = waited - learned.durations[-1]
    return max(floor, learned.tail_seconds, beyond * TAIL_GROWTH)


def quantile(durations: Sequence[float], share: float) -> float:
    """Of sorted durations; `share` in [0, 1]."""
    return durations[min(len(durations) - 1, math.floor(share * len(durations)))]


def estimate(learned: Learned, after: float, until: float, dice: Callable[[], float]) -> float:
    """How long a generation took that was seen unfinished at `after` and finished at `until`."""
    between = [each for each in learned.durations if after < each <= until]
    if not between or dice() < EXPLORE:
        return after + dice() * (until - after)
    return between[int(dice() * len(between))]


def ahead(max_jobs: int, most: int, now_ahead: int, learned: Learned, overhead_seconds: float) -> int:
    """How many jobs beyond `max_jobs` keep the provider's queue from running dry between two polls.

    As many as end while unseen, and twice the spread of that number.
    """
    if not learned.enough:
        return min(most, math.ceil(max_jobs / 4))
    running = _mean(learned.durations) * max_jobs / (max_jobs + now_ahead)
    unseen = max_jobs * (expected_lag(learned) + overhead_seconds) / max(running, 0.001)
    return min(most, math.ceil(unseen + 2 * math.sqrt(unseen)))


def expected_lag(learned: Learned) -> float:
    """Mean seconds between the end of a generation and the poll that sees it."""
    times = learned.polls_at()
    return _mean([times[bisect_left(times, duration)] - duration for duration in learned.durations])


def _schedule(known: Sequence[float], floor: float, worth: float) -> tuple[float, ...]:
    """The next poll after each duration such that (idle seconds + worth · polls) over the sample is least."""
    count = len(known)
    sums = [0.0]
    for duration in known:
        sums.append(sums[-1] + duration)
    best = [0.0] * (count + 1)  # of what is left once the first i have been seen to end
    next_at = [0.0] * count
    for seen in range(count - 1, -1, -1):
        best[seen] = math.inf
        since = known[seen - 1] if seen else -floor
        for last in range(seen + 1, count + 1):
            at = max(known[last - 1], since + floor)
            idle = at * (last - seen) - (sums[last] - sums[seen])
            cost = worth * (count - seen) + idle + best[last]
            if cost < best[seen]:
                best[seen], next_at[seen] = cost, at
    return tuple(next_at)


def _smoothed(known: Sequence[float]) -> tuple[float, ...]:
    """The sample as it would be if there were more of it: without the gaps and clusters of chance."""
    stray = len(known) // TRIMMED
    known = known[stray : len(known) - stray]
    knots = [known[round(place * (len(known) - 1) / KNOTS)] for place in range(KNOTS + 1)]
    points = []
    for point in range(POINTS):
        place, part = divmod((point + 0.5) / POINTS * KNOTS, 1.0)
        low, high = knots[int(place)], knots[int(place) + 1]
        points.append(low + part * (high - low))
    return tuple(points)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
