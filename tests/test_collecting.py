"""What becomes of a job whose pictures were not kept: a real store, storage and clock of the test's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.errors import (
    BadPicture,
    CollectFailed,
    JobFailed,
    NotFound,
    StorageFailed,
    StoreUnavailable,
)
from orchestrator.exchange import Exchange
from orchestrator.flow import Flow
from orchestrator.leases import LONGEST_SECONDS, LOOK_SECONDS
from orchestrator.models import Artifact, State, Succeeded
from orchestrator.providers import registry
from orchestrator.retry import BAD_PICTURE_ATTEMPTS
from tests import store_kit
from tests.store_kit import FINISH_PATIENCE, LATE_URLS, NOW, PROVIDER, collecting, names

server, raw, store = store_kit.server, store_kit.raw, store_kit.store
DAY = 86_400.0
FULL, ODD = StorageFailed("no space is left", wide=True), StorageFailed("its name is too long", wide=False)
RESET, GONE = CollectFailed("reset"), CollectFailed("answered with 403", http_status=403)
HTML = BadPicture("html")


class World:
    """One job, `j`, whose pictures are made, and a place for them that says what the test says."""

    def __init__(self, store: Any) -> None:
        self.store, self.now = store, NOW
        self.error: CollectFailed | None = None
        self.during: Callable[[], None] = lambda: None
        self.fresh: Sequence[str] = ()
        account = store_kit.account()
        self.exchange = Exchange(
            self, self, registry(), {(PROVIDER, "a"): account}, (), None,  # type: ignore[arg-type]
        )  # fmt: skip
        object.__setattr__(
            self.exchange, "ask", lambda *_: Succeeded(tuple(self.fresh)) if self.fresh else None
        )
        broker = SimpleNamespace(submit=lambda messages: None, finish=lambda messages: None)
        self.flow = Flow(store, broker, self.exchange, None, lambda: self.now, lambda: 0.5)  # type: ignore[arg-type]
        collecting(store)

    def download(self, *_: Any) -> AbstractContextManager[list[bytes]]:
        self.during()
        if self.error:
            raise self.error
        return nullcontext([])

    def put(self, name: str, url: str, chunks: Any) -> Artifact:
        return Artifact(url)

    def describe(self, name: str, about: bytes) -> None: ...

    def try_at(self, seconds: float, error: CollectFailed | None = None) -> Any:
        """What a finish gives so long after the picture was made."""
        self.now, self.error = NOW + seconds, error
        return self.flow.endings.finish("j")


@pytest.fixture
def world(store) -> World:
    return World(store)


@pytest.mark.parametrize("error", [FULL, ODD, RESET, GONE])
def test_it_is_tried_until_the_url_dies(world, error):
    for n in range(100):
        assert world.try_at(n * DAY / 101, error) is None
    job = world.store.job("j")
    assert (job.state, job.collect_failures, job.artifacts_die_at) == (State.COLLECTING, 100, NOW + DAY)
    assert job.collect_error == str(error)
    assert len(world.try_at(DAY - 1)["artifacts"]) == 1


@pytest.mark.parametrize("error", [RESET, GONE, HTML])
def test_once_the_url_is_dead_it_is_given_up(world, error):
    assert world.try_at(1, error) is None
    with pytest.raises(JobFailed, match="made the pictures, but they were not kept: "):
        world.try_at(DAY + 1, error)


def test_what_can_be_fetched_is_not_given_up_whatever_the_clock_says(world):
    assert world.try_at(9 * DAY, FULL) is None


def test_what_is_no_picture_is_given_up_before(world):
    for n in range(BAD_PICTURE_ATTEMPTS - 1):
        assert world.try_at(n, HTML) is None
    with pytest.raises(JobFailed):
        world.try_at(60, HTML)


@pytest.mark.parametrize(("error", "closes"), [(FULL, True), (ODD, False), (RESET, False), (HTML, False)])
def test_only_storage_that_takes_nothing_stops_what_is_to_begin(world, error, closes):
    world.try_at(0, error)
    assert bool(world.store.collecting.storage()) is closes


# --- its lease -----------------------------------------------------------------------------------------


def test_a_finish_that_takes_long_is_held_whether_or_not_anything_moves(world):
    taken: list[str] = []

    def during() -> None:
        for second in range(3 * FINISH_PATIENCE):
            world.now = NOW + second
            if second % LOOK_SECONDS == 0:
                world.flow.endings.leases.renew()
            taken.append(world.store.begin_finish("j", world.now))

    world.during = during
    assert world.try_at(0)["artifacts"]
    assert not any(taken)


def test_holding_costs_one_call_for_each_half_of_the_lease_and_a_quick_finish_none(world, monkeypatch):
    held: list[float] = []
    hold = world.store.collecting.hold

    def counted(job_id: str, now: float, token: str) -> str:
        held.append(now - NOW)
        return hold(job_id, now, token)

    monkeypatch.setattr(world.store.collecting, "hold", counted)
    assert world.try_at(0)
    assert held == []
    world.store._link.client.hdel("orc:job:j", "finishing")

    def during() -> None:
        for tenth in range(10 * FINISH_PATIENCE + 50):
            world.now = NOW + tenth / 10
            world.flow.endings.leases.renew()

    world.during = during
    assert world.try_at(0)
    assert held == [FINISH_PATIENCE / 2, FINISH_PATIENCE]


@pytest.mark.parametrize("error", [None, RESET, FULL])
def test_a_finish_that_stood_still_leaves_what_another_has_begun_meanwhile_alone(world, raw, error):
    def during() -> None:
        world.now = NOW + FINISH_PATIENCE
        assert world.store.begin_finish("j", world.now)

    world.during = during
    assert world.try_at(0, error) is None
    job = world.store.job("j")
    assert (job.state, job.collect_failures) == (State.COLLECTING, 0)
    assert float(raw.hget("orc:job:j", "finishing")) == NOW + 2 * FINISH_PATIENCE
    assert world.store.collecting.storage() == ""


def test_a_failure_of_a_finish_that_another_has_by_now_is_not_told(world):
    world.try_at(1, RESET)

    def during() -> None:
        world.now = NOW + 2 * DAY
        assert world.store.begin_finish("j", world.now)

    world.during = during
    assert world.try_at(DAY + 1, GONE) is None


def test_a_finish_that_stood_still_and_was_not_missed_goes_on(world):
    def during() -> None:
        world.now = NOW + 10 * FINISH_PATIENCE

    world.during = during
    assert world.try_at(0)["artifacts"]
    assert not world.store.begin_finish("j", world.now)


def test_an_end_that_comes_after_another_has_begun_is_not_stored(world):
    result = world.try_at(0)
    world.now = NOW + FINISH_PATIENCE
    world.flow.endings.leases.renew()
    token = world.store.begin_finish("j", world.now).token
    world.flow.endings.end("j", result)
    assert world.store.job("j").state is State.COLLECTING
    assert world.store.end("j", world.now, State.SUCCEEDED, result, "", token)


def test_an_end_is_not_stored_by_the_right_of_another_thread(world):
    result = world.try_at(0)
    world.now = NOW + FINISH_PATIENCE
    other = threading.Thread(target=world.flow.endings.leases.begin, args=("j",))
    other.start()
    other.join()
    world.flow.endings.end("j", result)
    assert world.store.job("j").state is State.COLLECTING


def test_a_finish_that_its_process_lets_go_is_not_ended_by_it(world):
    def during() -> None:
        world.flow.endings.leases.let_go("j")
        assert world.store.begin_finish("j", NOW)

    world.during = during
    assert world.try_at(0) is None


def test_a_finish_that_was_let_go_before_its_end_is_not_ended_by_it(world):
    result = world.try_at(0)
    world.flow.endings.leases.let_go("j")
    assert world.store.begin_finish("j", NOW)
    assert not world.flow.endings.end("j", result)
    assert world.store.job("j").state is State.COLLECTING


def test_a_finish_that_hangs_is_another_s_after_a_while(world):
    def during() -> None:
        while world.now < NOW + LONGEST_SECONDS:
            world.now += LOOK_SECONDS
            world.flow.endings.leases.renew()
        world.now += FINISH_PATIENCE
        world.flow.endings.leases.renew()
        assert world.store.begin_finish("j", world.now)

    world.during = during
    assert world.try_at(0) is None


def test_redis_that_is_away_while_a_finish_is_held_costs_it_nothing(world, monkeypatch):
    def away(*_: Any) -> str:
        raise StoreUnavailable("away")

    def during() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(world.store.collecting, "hold", away)
            world.now = NOW + FINISH_PATIENCE - 1
            world.flow.endings.leases.renew()
        world.flow.endings.leases.renew()
        assert not world.store.begin_finish("j", NOW + FINISH_PATIENCE)

    world.during = during
    assert world.try_at(0)["artifacts"]


# --- fresh URLs ----------------------------------------------------------------------------------------


def test_fresh_urls_that_could_not_be_kept_either_are_tried_the_next_time(world):
    world.fresh = LATE_URLS
    world.store._link.client.hset("orc:attempt:j.1", "upstream_id", "up-1")
    answers = [GONE, FULL]

    def during() -> None:
        world.error = answers.pop(0)

    world.during = during
    assert world.try_at(DAY - 9) is None
    job = world.store.job("j")
    assert (job.artifact_urls, job.artifacts_die_at) == (LATE_URLS, NOW + 2 * DAY - 9)


# --- asked for by hand ---------------------------------------------------------------------------------


def test_a_dead_letter_that_is_given_fresh_urls_is_collected_again(world):
    world.store._link.client.hset("orc:attempt:j.1", "upstream_id", "up-1")
    world.try_at(1, RESET)
    with pytest.raises(JobFailed):
        world.try_at(2 * DAY, GONE)
    world.store.end("j", world.now, State.FAILED, None, "given up")
    finished: list[str] = []
    world.flow.broker.finish = lambda messages: finished.extend(names(messages))
    world.fresh = LATE_URLS
    assert world.flow.refresh("j") == LATE_URLS
    assert finished == ["j.1"]
    job = world.store.job("j")
    assert (job.state, job.artifact_urls) == (State.COLLECTING, LATE_URLS)
    world.error = None
    assert [each["url"] for each in world.flow.endings.finish("j")["artifacts"]] == list(LATE_URLS)


def test_where_the_provider_says_nothing_that_is_told(world):
    with pytest.raises(CollectFailed, match=r"gave no fresh URLs: .* try again later"):
        world.flow.refresh("j")
    store_kit.have(world.store, a=2)
    store_kit.opened(world.store, "k")
    with pytest.raises(NotFound, match="job k is submitted, and no picture of it is known"):
        world.flow.refresh("k")


def test_what_is_collected_knows_when_it_was_told(world):
    """Of a success that came late the URLs live from then on."""
    store_kit.have(world.store, a=2)
    store_kit.opened(world.store, "late")
    store_kit.lose(world.store, "late.1", again_at=NOW + 500)
    assert world.store.settle("late.1", "succeeded", NOW + 300, artifact_urls=LATE_URLS).word == "late"
    world.now, world.error = NOW + 301, RESET
    assert world.flow.endings.finish("late") is None
    assert world.store.job("late").artifacts_die_at == NOW + 300 + DAY
