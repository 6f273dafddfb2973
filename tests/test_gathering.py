"""What many requests ask of Redis at the same time goes there in one go, and each gets its own of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import gevent
import pytest
import redis
from gevent.event import Event

from orchestrator.errors import StoreUnavailable
from orchestrator.local.processes import free_port
from orchestrator.models import Callback
from orchestrator.store import Store
from tests import store_kit
from tests.gathering_kit import Runs
from tests.store_kit import NOW, PROVIDER
from webhooks import gathering
from webhooks.gathering import MOST, Behind, Together

server, raw, store = store_kit.server, store_kit.raw, store_kit.store


@pytest.fixture
def runs() -> Runs:
    return Runs(Event())


def ask(together: Together, *what: str) -> list[gevent.Greenlet]:
    """A greenlet for each; all of them have asked by then."""
    greenlets = [gevent.spawn(_outcome, together, each) for each in what]
    gevent.idle()
    return greenlets


def _outcome(together: Together, what: str) -> Any:
    try:
        return together(what)
    except Exception as error:
        return error


def values(greenlets: list[gevent.Greenlet]) -> list[Any]:
    gevent.joinall(greenlets, raise_error=True)
    return [each.value for each in greenlets]


# --- together ------------------------------------------------------------------------------------------


def test_the_first_goes_at_once_and_who_comes_meanwhile_goes_together(runs):
    together = Together(runs)
    first = ask(together, "a")
    assert runs.asked == [["a"]]
    rest = ask(together, "b", "c", "d")
    assert runs.asked == [["a"]]
    runs.may.set()
    assert values(first + rest) == ["a!", "b!", "c!", "d!"]
    assert runs.asked == [["a"], ["b", "c", "d"]]
    assert together("e") == "e!"


def test_only_so_many_go_in_one_go(runs):
    asked = ask(Together(runs), "first", *map(str, range(2 * MOST + 1)))
    assert runs.asked == [["first"]]
    runs.may.set()
    assert values(asked)[1:] == [f"{number}!" for number in range(2 * MOST + 1)]
    assert [len(each) for each in runs.asked] == [1, MOST, MOST, 1]


def test_what_one_raises_is_no_other_ones(runs):
    asked = ask(Together(runs), "bad a", "b", "bad c", "d")
    runs.may.set()
    a, b, c, d = values(asked)
    assert (b, d) == ("b!", "d!")
    assert [(type(each), str(each)) for each in (a, c)] == [(ValueError, "bad a"), (ValueError, "bad c")]


def test_what_befalls_all_is_told_to_all_and_the_next_ones_go(runs):
    together = Together(runs)
    runs.fails = redis.exceptions.ConnectionError("gone")
    asked = ask(together, "a", "b")
    runs.may.set()
    assert values(asked) == [runs.fails, runs.fails]
    runs.fails = None
    assert together("c") == "c!"


@pytest.mark.parametrize("place", range(4))
def test_one_that_is_killed_while_it_waits_harms_nobody(place, runs):
    together = Together(runs)
    waiting = ask(together, "a", "b", "c", "d")  # one on its way, the others in line
    waiting.pop(place).kill()
    runs.may.set()
    expected = ["a!", "b!", "c!", "d!"]
    expected.pop(place)
    assert values(waiting) == expected
    assert together("e") == "e!"


def test_who_waits_for_long_because_others_do_is_told_so_and_never_sent(runs, monkeypatch):
    together = Together(runs)
    first = ask(together, "a")
    second = ask(together, "b")
    monkeypatch.setattr(gathering, "PATIENCE_SECONDS", 0.0)
    runs.may.set()
    assert values(first) == ["a!"]
    (told,) = values(second)
    assert isinstance(told, StoreUnavailable)
    assert "b" not in [each for some in runs.asked for each in some]


# --- steps of the store --------------------------------------------------------------------------------


def heard(store: Store, *attempts: str) -> list[Any]:
    """What comes of a callback of each, all of them in one go."""
    greenlets = [gevent.spawn(_heard, store, attempt) for attempt in attempts]
    return values(greenlets)


def _heard(store: Store, attempt: str) -> Any:
    try:
        return store.journal.hear(Callback(PROVIDER, "a", attempt, b"{}", NOW, ""), "up", False).word
    except Exception as error:
        return error


@pytest.fixture
def goes() -> list[int]:
    """How many steps went to Redis, each time."""
    return []


@pytest.fixture
def on_the_way() -> list[Callable[[], object]]:
    """What happens before they arrive."""
    return []


@pytest.fixture
def gathering_store(store: Store, goes: list[int], on_the_way: list[Callable[[], object]]) -> Store:
    def counting(run_all: Any) -> Together:
        def run(steps: Any) -> list[Any]:
            goes.append(len(steps))
            for happens in on_the_way:
                happens()
            gevent.sleep(0)  # as on the way to Redis, which does not let others go on in this process
            return run_all(steps)

        return Together(run)

    store.gather(counting)
    return store


def test_steps_go_together_and_each_is_carried_out(gathering_store, goes):
    attempts = [f"j{number}.1" for number in range(5)]
    assert heard(gathering_store, *attempts) == ["unknown"] * 5
    assert goes == [1, 4]
    assert sorted(entry.attempt for entry in gathering_store.journal.recent(9, parked=True)) == attempts


def test_a_step_that_fails_in_redis_fails_alone(gathering_store, raw, goes):
    raw.set("orc:attempt:b.1", "no hash")
    _, a, b, c = heard(gathering_store, "first.1", "a.1", "b.1", "c.1")
    assert (a, c) == ("unknown", "unknown")
    assert isinstance(b, redis.exceptions.ResponseError) and "WRONGTYPE" in str(b)
    assert goes == [1, 3]


def test_a_step_that_cannot_be_sent_fails_alone(gathering_store, goes):
    _, a, b, c = heard(gathering_store, "first.1", "a.1", "\ud800", "c.1")
    assert (a, c) == ("unknown", "unknown")
    assert isinstance(b, UnicodeEncodeError)
    assert gathering_store.journal.count(parked=True) == 3


def test_a_server_that_has_forgotten_the_steps_is_told_them_again(gathering_store, raw, on_the_way, goes):
    on_the_way.append(raw.script_flush)
    assert heard(gathering_store, "a.1", "b.1", "c.1") == ["unknown"] * 3
    assert goes == [1, 2]
    assert gathering_store.journal.count(parked=True) == 3


def test_connections_that_were_dropped_are_made_anew(gathering_store, raw, on_the_way):
    on_the_way.append(lambda: raw.client_kill_filter(_type="normal", skipme=True))
    assert heard(gathering_store, "a.1", "b.1", "c.1") == ["unknown"] * 3


def test_where_nobody_answers_everyone_is_told_so():
    away = Store(f"redis://127.0.0.1:{free_port()}/0")
    away.gather(Together)
    assert [type(each) for each in heard(away, "a.1", "b.1")] == [StoreUnavailable] * 2
    assert [type(each) for each in heard(away, "c.1")] == [StoreUnavailable]


def test_a_server_that_cannot_write_now_is_one_that_does_not_answer(gathering_store, raw):
    raw.config_set("min-replicas-to-write", 1)
    try:
        assert [type(each) for each in heard(gathering_store, "a.1", "b.1")] == [StoreUnavailable] * 2
    finally:
        raw.config_set("min-replicas-to-write", 0)


# --- behind --------------------------------------------------------------------------------------------


def test_nobody_waits_for_what_is_behind(runs):
    behind = Behind(runs)
    behind(["a", "b"])
    behind(["c"])
    assert runs.asked == []
    runs.may.set()
    behind.end(30.0)
    assert runs.asked == [["a", "b", "c"]]
    behind(["d"])
    behind.end(30.0)
    assert runs.asked[1:] == [["d"]]


def test_while_too_much_is_behind_who_brings_more_sees_to_it_himself(runs, monkeypatch):
    monkeypatch.setattr(gathering, "MOST_BEHIND", 2)
    behind = Behind(runs)
    behind(["a", "b", "c"])
    runs.may.set()
    behind(["d"])
    assert runs.asked == [["d"]]
    behind.end(30.0)
    assert runs.asked == [["d"], ["a", "b", "c"]]


def test_what_may_wait_comes_after_what_others_bring_meanwhile(runs, monkeypatch):
    monkeypatch.setattr(gathering, "HOLD_SECONDS", 0.2)
    behind = Behind(runs)
    runs.may.set()
    behind(["submit a"], ["finish a"])
    behind([], ["finish b"])  # nobody's slot was filled by it
    behind(["submit c"])
    gevent.sleep(0.1)
    assert runs.asked == [["submit a", "finish b", "submit c"]]
    gevent.sleep(0.3)
    assert runs.asked[1:] == [["finish a"]]


def test_what_is_held_is_seen_to_before_the_end(runs):
    behind = Behind(runs)
    runs.may.set()
    behind(["submit a"], ["finish a"])
    behind(["submit b"], ["finish b"])
    behind.end(30.0)
    assert [each for some in runs.asked for each in some] == ["submit a", "submit b", "finish a", "finish b"]
    gevent.sleep(gathering.HOLD_SECONDS + 0.1)
    assert len(runs.asked) == 1


ENDING = """
from gevent import monkey; monkey.patch_all()
import atexit, sys, time
from webhooks.gathering import Behind

def slowly(some):
    time.sleep(0.1)
    print(*some, flush=True)

behind = Behind(slowly)
atexit.register(behind.end, 30.0)
behind(range(20))
sys.exit(0)
"""


def test_a_process_that_ends_sees_to_what_is_behind_first():
    told = subprocess.run(
        [sys.executable, "-c", ENDING], capture_output=True, text=True, check=True, timeout=60
    )
    assert [int(each) for each in told.stdout.split()] == list(range(20))
