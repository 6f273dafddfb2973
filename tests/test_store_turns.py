"""A message is sent again where it may be lost, and not where workers are behind and it still waits.

The broker is a queue in here, and time is the test's: a second is a turn of the loop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import pytest
import redis

from orchestrator.models import State
from orchestrator.store import Store
from tests import store_kit
from tests.store_kit import FINISH_PATIENCE, NOW, URLS, collecting, ended, have, names, new

server, raw, store = store_kit.server, store_kit.raw, store_kit.store

PATIENCE = 15  # before what nobody began is sent again
NEXT_LOOK = 30  # at what only waits for its turn
TURN_PASSED = 15  # what was sent so much later is begun
PREFETCHED = 16


@dataclass
class Submits:
    """The queue of submits, and what is due of it."""

    store: Store

    def send(self, ids: Iterable[str], now: float) -> list[str]:
        _, grants = self.store.enqueue(new(*ids), now)
        return names(grants)

    def begin(self, sent: str, now: float) -> bool:
        return self.store.open(sent, now) is not None

    def due(self, now: float) -> list[str]:
        return names(self.store.claim(now)[0].submits)


@dataclass
class Finishes:
    """The queue of finishes, and what is due of it."""

    store: Store

    def send(self, ids: Iterable[str], now: float) -> list[str]:
        _, grants = self.store.enqueue(new(*ids), now)
        for attempt in names(grants):
            assert self.store.open(attempt, now)
            assert self.store.settle(attempt, "succeeded", now, artifact_urls=URLS).finish
        return [message.job_id for message in grants]

    def begin(self, sent: str, now: float) -> bool:
        begun = self.store.begin_finish(sent, now)
        return begun is not None and self.store.end(sent, now, State.SUCCEEDED, {}, "", begun.token)

    def due(self, now: float) -> list[str]:
        return [message.job_id for message in self.store.claim(now)[0].finishes]


@dataclass
class Work:
    """Jobs that come, a broker, and workers that take what is in its queue, first come, first served."""

    kind: Submits | Finishes
    now: float = NOW
    queue: deque[str] = field(default_factory=deque)
    again: dict[str, list[float]] = field(default_factory=dict)  # what was sent again, and when
    begun: int = 0
    _ids: int = 0

    def come(self, how_many: int, lost: Collection[int] = ()) -> list[str]:
        """So many are sent now; those at these places never reach the queue."""
        ids = [f"j{self._ids + place}" for place in range(how_many)]
        self._ids += how_many
        sent = self.kind.send(ids, self.now)
        assert len(sent) == how_many
        self.queue += [each for place, each in enumerate(sent) if place not in lost]
        return sent

    def take(self, how_many: int) -> list[str]:
        return [self.queue.popleft() for _ in range(min(how_many, len(self.queue)))]

    def pass_time(self, seconds: int, workers_take: int, come: int = 0) -> None:
        for _ in range(seconds):
            self.now += 1
            if come:
                self.come(come)
            self.begun += sum(self.kind.begin(each, self.now) for each in self.take(workers_take))
            for each in self.kind.due(self.now):
                self.again.setdefault(each, []).append(self.now)
                self.queue.append(each)


@pytest.fixture(params=[Submits, Finishes])
def work(request: pytest.FixtureRequest, store: Store) -> Work:
    have(store, a=10_000)
    return Work(request.param(store))


def assert_sent_again(work: Work, lost: Iterable[str], by: float) -> None:
    assert work.now >= by
    assert not [each for each in lost if work.again.get(each, [by + 1])[0] > by]


def test_message_that_waits_for_its_turn_is_never_sent_again(work):
    work.come(120)
    work.pass_time(60, workers_take=2)
    assert work.begun == 120
    assert not work.again


def test_messages_that_wait_behind_others_which_keep_coming_are_never_sent_again(work):
    work.come(100)
    work.pass_time(90, workers_take=2, come=1)
    work.pass_time(5, workers_take=2)
    assert work.begun == 190
    assert not work.again


def test_copies_of_messages_keep_no_other_back(work):
    """They say nothing of the queue: what they ask for was sent long ago."""
    work.come(60)
    work.pass_time(20, workers_take=0)
    assert len(work.again) == 60
    (lost,) = work.come(1, lost={0})
    by = work.now + PATIENCE
    work.pass_time(PATIENCE, workers_take=1)
    assert_sent_again(work, [lost], by)


@pytest.mark.parametrize("place", [3, 118])  # in what came at once
def test_lost_message_of_many_that_came_at_once_is_sent_again_once_workers_are_through(work, place):
    lost = work.come(120, lost={place})[place]
    work.pass_time(60, workers_take=2)
    assert not work.again  # it would wait behind all others
    by = work.now + PATIENCE + NEXT_LOOK
    work.pass_time(60, workers_take=2)
    assert work.again.keys() == {lost}
    assert_sent_again(work, [lost], by)
    assert work.begun == 120


@pytest.mark.parametrize("earlier", [0, 30])  # seconds that the others are at it already
def test_lost_message_is_sent_again_soon_after_its_turn_while_workers_are_behind(work, earlier):
    work.come(60)
    work.pass_time(earlier, workers_take=2, come=2)
    (lost,) = work.come(1, lost={0})
    behind = len(work.queue) // 2
    by = work.now + behind + TURN_PASSED + NEXT_LOOK + 1
    work.pass_time(90, workers_take=2, come=2)
    assert work.again.keys() == {lost}
    assert_sent_again(work, [lost], by)
    assert len(work.queue) // 2 >= behind >= 30


@pytest.mark.parametrize("busy", [0, 20])  # seconds before it comes
def test_lost_message_is_sent_again_when_workers_have_nothing_else_to_do(work, busy):
    work.come(2 * busy)
    work.pass_time(busy, workers_take=2)
    (lost,) = work.come(1, lost={0})
    by = work.now + PATIENCE + (NEXT_LOOK if busy else 0)
    work.pass_time(PATIENCE + NEXT_LOOK, workers_take=2)
    assert work.again.keys() == {lost}
    assert_sent_again(work, [lost], by)


def test_lost_message_is_sent_again_after_its_time_where_workers_are_not_behind(work):
    (lost,) = work.come(1, lost={0})
    by = work.now + PATIENCE
    work.pass_time(PATIENCE, workers_take=2, come=2)
    assert_sent_again(work, [lost], by)


def test_lost_message_is_sent_again_after_its_time_where_one_worker_of_several_is_slow(work):
    (lost,) = work.come(1, lost={0})
    by, slow = work.now + PATIENCE, deque(work.come(10))
    for _ in range(PATIENCE):
        at_once, later = work.come(2)
        slow.append(later)
        for each in (at_once, slow.popleft()):
            assert work.kind.begin(each, work.now)
        work.pass_time(1, workers_take=0)
    assert_sent_again(work, [lost], by)


@pytest.mark.parametrize("come", [0, 1])  # afterwards, each second
@pytest.mark.parametrize("down", [0, 40])  # seconds until workers have the broker back
def test_broker_that_loses_all_has_all_of_it_sent_again(work, come, down):
    work.come(80)
    work.pass_time(30, workers_take=2, come=1)
    lost = list(work.queue)
    assert len(lost) == 50
    assert not work.again
    work.queue.clear()
    by = work.now + PATIENCE + NEXT_LOOK
    work.pass_time(down, workers_take=0)
    work.pass_time(50, workers_take=2, come=come)
    assert_sent_again(work, lost, by)
    work.pass_time(10, workers_take=20)
    assert work.begun == 110 + 50 * come


@pytest.mark.parametrize("come", [0, 2])  # each second
def test_what_a_killed_worker_had_taken_is_sent_again(work, come):
    """Another goes on with what waits behind that."""
    work.come(100)
    work.pass_time(20, workers_take=2, come=come)
    lost = work.take(PREFETCHED)
    behind = len(work.queue) // 2
    by = work.now + behind + TURN_PASSED + PATIENCE + NEXT_LOOK
    work.pass_time(behind + 60, workers_take=2, come=come)
    assert work.again.keys() == set(lost)
    assert_sent_again(work, lost, by)


def test_workers_that_stand_still_keep_nothing_back(work):
    work.come(100)
    work.pass_time(20, workers_take=2)
    left = list(work.queue)
    by = work.now + PATIENCE + NEXT_LOOK
    work.pass_time(PATIENCE + NEXT_LOOK, workers_take=0)
    assert_sent_again(work, left, by)


@pytest.mark.parametrize("ahead", [-7200, 7200])
@pytest.mark.parametrize("whose", ["a worker's", "that of whoever sent it"])
def test_clock_that_was_wrong_keeps_nothing_back(work, ahead, whose):
    (odd,) = work.kind.send(["odd"], work.now + (0 if whose == "a worker's" else ahead))
    assert work.kind.begin(odd, work.now + (ahead if whose == "a worker's" else 0))
    (lost,) = work.come(1, lost={0})
    work.pass_time(PATIENCE + NEXT_LOOK, workers_take=1)
    assert_sent_again(work, [lost], work.now)


def test_finish_that_was_begun_is_sent_again_after_its_lease_however_far_workers_are_behind(store):
    have(store, a=100)
    collecting(store, "begun")
    work = Work(Finishes(store))
    work.come(70)
    assert store.begin_finish("begun", NOW)
    work.pass_time(FINISH_PATIENCE, workers_take=1)
    assert work.again == {"begun": [NOW + FINISH_PATIENCE]}


def test_nothing_of_it_stays_in_the_record_of_a_job_that_has_ended(store: Store, raw: redis.Redis):
    ended(store)
    assert not raw.hexists("orc:job:j", "sent")
