"""What is foreseen of lanes, against playing it out."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.forecast import daily_caps, paid_for, seconds_to_end, served_before

# Binary fractions, so that sums are exact and only true ties are ties.
SHARES = st.sampled_from((0.25, 0.5, 1.0, 2.0, 4.0))
LANES = st.lists(st.tuples(st.integers(0, 40).map(lambda n: n / 8), st.integers(1, 30), SHARES), max_size=5)


def played_out(rank: int, lanes: list[tuple[float, int, float]]) -> int:
    """Grants before the one at `rank` of the first lane, by serving whoever was served least, one by one."""
    served = [Fraction(begun) for begun, _, _ in lanes]
    waiting = [count for _, count, _ in lanes]
    grants = mine = 0
    while True:
        # At a tie the first lane goes first: this is what is reckoned.
        place = min(
            (each for each in range(len(lanes)) if waiting[each]), key=lambda each: (served[each], each)
        )
        if place == 0 and mine == rank:
            return grants
        mine += place == 0
        grants += 1
        waiting[place] -= 1
        served[place] += 1 / Fraction(lanes[place][2])


@given(st.integers(0, 40).map(lambda n: n / 8), SHARES, st.integers(0, 20), LANES)
def test_as_many_are_served_before_as_when_it_is_played_out(begun, share, rank, others):
    lanes = [(begun, rank + 1, share), *others]
    named = [(f"lane-{place}", *lane) for place, lane in enumerate(lanes)]
    told = [(name, served, waiting, weight) for name, served, waiting, weight in named]
    assert served_before("lane-0", rank, told) == played_out(rank, lanes)


# rank, lanes beside mine (served 10, share 1): (served, waiting, share); how many are before it
@pytest.mark.parametrize(
    ("rank", "others", "before"),
    [
        (7, [], 7),
        (3, [(10.0, 100, 1.0)], 6),  # turn by turn
        (3, [(10.0, 100, 2.0)], 9),  # twice the weight, twice the turns
        (3, [(10.0, 1, 2.0)], 4),  # no more than wait
        (0, [(8.0, 100, 1.0)], 2),  # it lags, and goes first
        (0, [(12.0, 100, 1.0)], 0),  # it was served more already
        (3, [(12.0, 100, 1.0)], 4),
    ],
)
def test_served_before_by_hand(rank, others, before):
    named = [(f"other-{place}", *other) for place, other in enumerate(others)]
    assert served_before("mine", rank, [("mine", 10.0, 50, 1.0), *named]) == before


def test_of_a_lane_that_is_not_in_line_only_its_own_are_before():
    assert served_before("paused", 4, [("other", 0.0, 100, 1.0)]) == 4


def shared_out(mine: float, share: float, others: list[tuple[float, float]], slots: float) -> float:
    """Seconds until the first is done, in small steps: each gets its share of the slots while it has work."""
    left = [mine, *(work for work, _ in others)]
    shares = [share, *(weight for _, weight in others)]
    seconds, step = 0.0, mine / slots / 200
    while left[0] > 0:
        total = sum(weight for weight, work in zip(shares, left, strict=True) if work > 0)
        left = [
            work - step * slots * weight / total if work > 0 else 0.0
            for weight, work in zip(shares, left, strict=True)
        ]
        seconds += step
    return seconds


WORK = st.floats(1.0, 1000.0)


@given(WORK, SHARES, st.lists(st.tuples(WORK, SHARES), max_size=5), st.floats(0.5, 50.0))
def test_it_ends_when_slots_shared_out_step_by_step_have_done_it(mine, share, others, slots):
    lasts = seconds_to_end(mine, share, others, slots)
    step = mine / slots / 200
    # A step is coarse: what ends within one leaves its slots idle until the next.
    assert lasts == pytest.approx(shared_out(mine, share, others, slots), abs=(len(others) + 2) * step)


@given(WORK, SHARES, st.lists(st.tuples(WORK, SHARES), max_size=5), st.floats(0.5, 50.0))
def test_slots_are_never_idle_and_never_more_than_there_are(mine, share, others, slots):
    lasts = seconds_to_end(mine, share, others, slots)
    all_work = mine + sum(work for work, _ in others)
    assert mine / slots <= lasts * (1 + 1e-9)
    assert lasts <= all_work / slots * (1 + 1e-9)


# mine, share, others (slot-seconds, share), slots, seconds
@pytest.mark.parametrize(
    ("mine", "share", "others", "slots", "seconds"),
    [
        (100.0, 1.0, [], 10, 10.0),
        (100.0, 1.0, [(100.0, 1.0)], 10, 20.0),
        (100.0, 1.0, [(1000.0, 1.0)], 10, 20.0),  # a long one takes no more than its share
        (100.0, 1.0, [(20.0, 1.0)], 10, 12.0),  # a short one leaves its share when it ends
        (100.0, 3.0, [(1000.0, 1.0)], 10, 100 / 7.5),
        (100.0, 1.0, [(0.0, 1.0)], 10, 10.0),  # nothing to do, nothing taken
        (0.0, 1.0, [(100.0, 1.0)], 10, 0.0),
        (100.0, 1.0, [], 0, None),
    ],
)
def test_seconds_to_end_by_hand(mine, share, others, slots, seconds):
    told = seconds_to_end(mine, share, others, slots)
    assert told is None if seconds is None else told == pytest.approx(seconds)


def test_daily_caps_admit_what_is_left_of_today_and_then_so_many_a_day():
    caps = daily_caps([(100, 70), (50, 60)])
    assert (caps.left, caps.a_day) == (30, 150)
    assert caps.seconds(30) == 0 and caps.seconds(30 + 300) == 2 * 86_400
    assert daily_caps([(100, 70), (0, 0)]) is None and daily_caps([]) is None


def test_caps_on_spend_pay_for_whole_generations_and_are_not_a_fraction_short():
    assert paid_for([(0.3, 0.1)]) == 3
    assert paid_for([(5.0, 2.0), (-1.0, 1.0), (1.0, 1.0)]) == 3
