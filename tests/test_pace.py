"""When to poll: the schedule is the best there is, and what is learned follows what happens."""

from __future__ import annotations

import itertools
import random
from collections import deque

import pytest

from orchestrator import pace
from orchestrator.pace import (
    ENOUGH,
    Learned,
    ahead,
    estimate,
    expected_lag,
    learn,
    next_poll_seconds,
    quantile,
)

UNIFORM = [5 + 10 * n / 199 for n in range(200)]


def cost(durations: list[float], times: tuple[float, ...], worth: float) -> float:
    """Idle seconds and polls of a schedule, as the comment on `_schedule` has them."""
    total = 0.0
    for duration in durations:
        polls = next(n for n, at in enumerate(times, 1) if at >= duration)
        total += times[polls - 1] - duration + worth * polls
    return total


def walked(next_at: tuple[float, ...], durations: list[float]) -> tuple[float, ...]:
    return tuple(Learned(tuple(durations), next_at).polls_at())


@pytest.mark.parametrize("worth", [0.05, 0.5, 2.0])
@pytest.mark.parametrize("seed", range(5))
def test_schedule_costs_no_more_than_any_other(worth, seed):
    durations = sorted(random.Random(seed).uniform(1, 20) for _ in range(9))
    best = cost(durations, walked(pace._schedule(durations, 0.0, worth), durations), worth)
    for count in range(len(durations)):
        for some in itertools.combinations(durations[:-1], count):
            assert best <= cost(durations, (*some, durations[-1]), worth) + 1e-9


def test_first_poll_waits_until_something_may_be_over():
    learned = learn(UNIFORM, 0.0, pace.POLL_WORTH)
    assert 5.0 < learned.polls_at()[0] < 8.0


def test_polls_are_denser_where_more_ends_and_the_last_sees_all():
    learned = learn(UNIFORM, 0.0, pace.POLL_WORTH)
    gaps = [later - sooner for sooner, later in itertools.pairwise(learned.polls_at())]
    assert gaps[-1] < gaps[0]
    assert learned.polls_at()[-1] == pytest.approx(max(learned.durations))


def test_no_generation_is_asked_after_more_often_than_allowed():
    learned = learn(UNIFORM, 5.0, pace.POLL_WORTH)
    waited = next_poll_seconds(learned, 0.0, 1.0, 5.0)
    while waited < 60:
        gap = next_poll_seconds(learned, waited, 1.0, 5.0)
        assert gap >= 5.0
        waited += gap


# durations known, seconds waited, default pace, floor → seconds to the next poll
UNKNOWN = [
    ([], 0.0, 10.0, 0.5, 1.0),  # nothing is known: the first ones are looked at closely
    (UNIFORM[: ENOUGH - 1], 0.0, 10.0, 0.5, 1.0),  # too little is known
    ([], 10.0, 10.0, 0.5, 3.0),  # … and less closely the longer they take
    ([], 60.0, 10.0, 1.0, 10.0),  # … but not less than at the account's pace
    ([], 0.0, 0.5, 5.0, 5.0),  # the provider's floor stands above the account's pace
    ([], 200.0, 10.0, 1.0, 20.0),  # what takes long is asked after less often
]


@pytest.mark.parametrize(("known", "waited", "default", "floor", "seconds"), UNKNOWN)
def test_unknown_is_polled_closely_first_then_at_the_accounts_pace(known, waited, default, floor, seconds):
    assert next_poll_seconds(learn(known, floor, 0.01), waited, default, floor) == seconds


def test_gaps_grow_beyond_all_that_is_known():
    learned = learn(UNIFORM, 0.0, pace.POLL_WORTH)
    gaps = [next_poll_seconds(learned, waited, 1.0, 0.1) for waited in (16.0, 30.0, 60.0)]
    assert gaps == sorted(gaps) and gaps[-1] > 10


def test_poll_that_came_late_goes_on_from_where_it_is():
    """What is learned anew in between must not make two polls of one."""
    learned = learn(UNIFORM, 0.0, pace.POLL_WORTH)
    at = learned.polls_at()[2]
    assert next_poll_seconds(learned, at + 0.01, 1.0, 0.1) > 0.3


@pytest.mark.parametrize(("share", "seconds"), [(0.0, 5.0), (0.95, 14.55), (1.0, 15.0)])
def test_quantiles_of_a_sample(share, seconds):
    assert quantile(UNIFORM, share) == pytest.approx(seconds, abs=0.1)


def test_estimate_lies_between_the_polls_and_prefers_what_is_known():
    dice = random.Random(1).random
    learned = learn(UNIFORM, 0.0, pace.POLL_WORTH)
    found = [estimate(learned, 0.0, 7.0, dice) for _ in range(500)]
    assert all(0.0 <= each <= 7.0 for each in found)
    assert sum(each < 5.0 for each in found) < 0.06 * len(found)  # nothing was ever over so soon


def test_first_wave_on_many_slots_teaches_how_long_generations_take():
    dice = random.Random(5)
    durations = [dice.uniform(5, 15) for _ in range(200)]
    told = []
    for duration in durations:
        before = waited = 0.0
        while waited < duration:
            before, waited = waited, waited + next_poll_seconds(Learned(), waited, 10.0, 0.5)
        told.append(estimate(Learned(), before, waited, dice.random))
    taught, best = learn(told, 0.5, pace.POLL_WORTH), learn(UNIFORM, 0.5, pace.POLL_WORTH)
    worth = 10 * pace.POLL_WORTH
    assert cost(durations, asked_at(taught), worth) < 1.1 * cost(durations, asked_at(best), worth)


def asked_at(learned: Learned) -> tuple[float, ...]:
    """Until a generation of 20 s is over."""
    at: list[float] = []
    while not at or at[-1] < 20:
        waited = at[-1] if at else 0.0
        at.append(waited + next_poll_seconds(learned, waited, 10.0, 0.5))
    return tuple(at)


def simulated(draw, generations: int = 6000) -> tuple[float, float]:
    """Polls and lag per generation, learned from nothing but its own polls."""
    dice = random.Random(3)
    kept: deque[float] = deque(maxlen=512)
    learned, polls, lag, counted = Learned(), 0, 0.0, 0
    for number in range(generations):
        if number % 60 == 0:
            learned = learn(list(kept), 0.1, pace.POLL_WORTH)
        duration, waited, before = draw(dice, number), 0.0, 0.0
        asked = 0
        while waited < duration:
            before, waited = waited, waited + next_poll_seconds(learned, waited, 1.0, 0.1)
            asked += 1
        kept.appendleft(estimate(learned, before, waited, dice.random))
        if number >= generations // 2:
            polls, lag, counted = polls + asked, lag + waited - duration, counted + 1
    return polls / counted, lag / counted


def test_what_is_learned_from_polls_alone_is_good_enough():
    polls, lag = simulated(lambda dice, number: dice.uniform(5, 15))
    assert polls <= 5.8 and lag <= 0.55


def test_provider_that_becomes_faster_is_followed():
    _, lag = simulated(lambda dice, number: dice.uniform(10, 20) if number < 1500 else dice.uniform(1, 3))
    assert lag <= 0.25


def test_two_kinds_of_generation_are_both_met():
    polls, lag = simulated(lambda dice, number: dice.choice((dice.uniform(2, 3), dice.uniform(20, 22))))
    assert polls <= 6 and lag <= 0.8


def test_expected_lag_is_that_of_the_schedule():
    learned = learn(UNIFORM, 0.0, pace.POLL_WORTH)
    times = learned.polls_at()
    lags = [next(at for at in times if at >= each) - each for each in learned.durations]
    assert expected_lag(learned) == pytest.approx(sum(lags) / len(lags))


def test_as_many_queue_ahead_as_end_unseen_and_never_more_than_allowed():
    learned = learn(UNIFORM, 0.0, pace.POLL_WORTH_AHEAD)
    few, many = ahead(10, 100, 0, learned, 0.1), ahead(200, 100, 0, learned, 0.1)
    assert 0 < few < many < 60
    assert ahead(200, 3, 0, learned, 0.1) == 3
    assert ahead(200, 0, 0, learned, 0.1) == 0
    assert ahead(8, 10, 0, Learned(), 0.1) == 2  # nothing is known: a quarter
