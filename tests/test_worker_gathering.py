"""What threads of a worker ask of Redis at the same time goes there in one go; each gets its own of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
import redis

from orchestrator.errors import StoreUnavailable
from orchestrator.models import Callback
from tests import store_kit
from tests.gathering_kit import Runs
from tests.stack_kit import PATIENCE, eventually
from tests.store_kit import NOW, PROVIDER

server, raw, store = store_kit.server, store_kit.raw, store_kit.store

MOST = 16


@pytest.fixture
def gathered(environment) -> Any:
    """The class; workers are built from the environment as they are imported."""
    from workers import gathering

    assert gathering.MOST == MOST
    return gathering.Together


@pytest.fixture
def runs() -> Iterator[Runs]:
    made = Runs(Event())
    yield made
    made.may.set()


@pytest.fixture
def pool(runs: Runs) -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2 * MOST + 2) as made:
        yield made
        runs.may.set()


Asking = Callable[..., list[Future[Any]]]


@pytest.fixture
def ask(pool: ThreadPoolExecutor, runs: Runs, gathered: Any) -> Asking:
    together = gathered(runs)

    def asking(*what: str) -> list[Future[Any]]:
        """A thread for each; the first is on its way by then, and the others wait, in this order."""
        asked = []
        for number, each in enumerate(what):
            asked.append(pool.submit(together, each))
            eventually(lambda number=number: runs.asked if not number else len(together._waiting) == number)
        return asked

    return asking


def outcomes(asked: list[Future[Any]]) -> list[Any]:
    return [each.exception(PATIENCE) or each.result() for each in asked]


def test_the_first_goes_at_once_and_who_comes_meanwhile_goes_together(ask, runs):
    asked = ask("a", "b", "c", "d")
    assert runs.asked == [["a"]]
    runs.may.set()
    assert outcomes(asked) == ["a!", "b!", "c!", "d!"]
    assert runs.asked == [["a"], ["b", "c", "d"]]
    assert outcomes(ask("e")) == ["e!"]


def test_only_so_many_go_in_one_go(ask, runs):
    asked = ask("first", *map(str, range(2 * MOST + 1)))
    runs.may.set()
    assert outcomes(asked)[1:] == [f"{number}!" for number in range(2 * MOST + 1)]
    assert [len(each) for each in runs.asked] == [1, MOST, MOST, 1]


def test_what_one_raises_is_no_other_ones(ask, runs):
    asked = ask("bad a", "b", "bad c", "d")
    runs.may.set()
    a, b, c, d = outcomes(asked)
    assert (b, d) == ("b!", "d!")
    assert [(type(each), str(each)) for each in (a, c)] == [(ValueError, "bad a"), (ValueError, "bad c")]


def test_what_befalls_all_is_told_to_all_and_the_next_ones_go(ask, runs):
    runs.fails = redis.exceptions.ConnectionError("gone")
    asked = ask("a", "b", "c")
    runs.may.set()
    assert outcomes(asked) == [runs.fails] * 3
    runs.fails = None
    assert outcomes(ask("d")) == ["d!"]


def test_the_main_thread_waits_for_no_other(runs, gathered):
    together = gathered(runs)
    runs.may.set()
    together._is_busy = True
    assert together("a") == "a!"


# --- steps of the store --------------------------------------------------------------------------------


def heard(store: Any, pool: ThreadPoolExecutor, count: int) -> list[Any]:
    def hear(number: int) -> str:
        return store.journal.hear(Callback(PROVIDER, "a", f"j{number}.1", b"{}", NOW, ""), "up", False).word

    return outcomes([pool.submit(hear, number) for number in range(count)])


def test_each_step_is_carried_out_once_whoever_sends_it(store, pool, gathered):
    store.gather(gathered)
    assert heard(store, pool, 400) == ["unknown"] * 400
    assert store.journal.count(parked=True) == 400


def test_a_server_that_has_forgotten_the_steps_is_told_them_again(store, raw, pool, gathered):
    store.gather(gathered)
    heard(store, pool, 40)
    raw.script_flush()
    assert heard(store, pool, 40) == ["unknown"] * 40


def test_a_server_that_takes_nothing_is_told_of_to_each(store, raw, pool, gathered):
    store.gather(gathered)
    raw.config_set("min-replicas-to-write", "1")  # it answers, and takes nothing
    try:
        told = heard(store, pool, 60)
    finally:
        raw.config_set("min-replicas-to-write", "0")
    assert {type(each) for each in told} == {StoreUnavailable}
    assert heard(store, pool, 60) == ["unknown"] * 60
