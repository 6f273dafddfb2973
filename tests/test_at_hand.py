"""Connections kept at hand: taken again, and never where they may be dead, dirty or another process's."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest
import redis

from orchestrator.at_hand import MOST, AtHand
from orchestrator.store.pool import redis_client
from tests import store_kit
from tests.stack_kit import PATIENCE

server, raw = store_kit.server, store_kit.raw

NAMED = "ours"


@pytest.fixture
def client(server):
    with redis_client(server.url, PATIENCE) as made:
        made.connection_pool.connection_kwargs["client_name"] = NAMED
        yield made


def connections(raw):
    return [each["id"] for each in raw.client_list() if each["name"] == NAMED]


def test_connection_is_taken_again(client, raw):
    at_hand = AtHand(client)
    assert [at_hand.ask("ECHO", str(n)) for n in range(5)] == ["0", "1", "2", "3", "4"]
    assert len(connections(raw)) == 1
    pool = client.connection_pool
    others = [pool.get_connection() for _ in range(pool.max_connections - 1)]  # it is the pool's, and in use
    with pytest.raises(Exception, match="No connection available"):
        pool.get_connection()
    for other in others:
        pool.release(other)


def test_no_more_are_kept_than_leave_the_pool_enough(client, raw):
    at_hand = AtHand(client)
    together = threading.Barrier(MOST + 4)

    def ask():
        together.wait(PATIENCE)
        at_hand.ask("BLPOP", "nothing", "0.2")

    threads = [threading.Thread(target=ask) for _ in range(MOST + 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(at_hand._kept) == MOST


def test_connection_that_was_closed_meanwhile_is_made_anew(client, raw):
    at_hand = AtHand(client)
    assert at_hand.ask("ECHO", "before") == "before"
    for each in connections(raw):
        raw.client_kill_filter(_id=each)
    assert at_hand.ask("ECHO", "after") == "after"


def test_connection_that_rested_for_long_is_the_pools_to_look_at(client, raw):
    at_hand = AtHand(client)
    at_hand.ask("ECHO", "before")
    at_hand._kept[0].next_health_check = time.monotonic() - 1
    assert at_hand.ask("ECHO", "after") == "after"
    assert len(connections(raw)) == 1  # it was in order


def test_answer_that_nobody_waited_for_is_no_others(client, raw):
    at_hand = AtHand(client)
    at_hand.ask("ECHO", "before")

    class Left(Exception):
        pass

    def leave(*_):
        raise Left

    before = signal.signal(signal.SIGALRM, leave)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(Left):
            at_hand.ask("BLPOP", "late", str(PATIENCE))
    finally:
        signal.signal(signal.SIGALRM, before)
    raw.rpush("late", "answer")
    assert at_hand.ask("ECHO", "mine") == "mine"
    raw.delete("late")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forked_process_has_connections_of_its_own(client):
    at_hand = AtHand(client)
    ours = at_hand.ask("CLIENT", "ID")
    child = os.fork()
    if not child:
        os._exit(int(at_hand.ask("CLIENT", "ID") == ours))
    assert os.waitpid(child, 0)[1] == 0
    assert at_hand.ask("CLIENT", "ID") == ours


def test_several_are_answered_in_their_order_and_an_error_is_the_answer_of_one(client, raw):
    at_hand = AtHand(client)
    one, error, other = at_hand.ask_all([("ECHO", "one"), ("HGET", "no hash"), ("ECHO", "other")])
    assert (one, other) == ("one", "other")
    assert isinstance(error, redis.exceptions.ResponseError)
    assert at_hand.ask("ECHO", "after") == "after"
    assert len(connections(raw)) == 1


def test_several_on_a_connection_that_was_closed_meanwhile_are_asked_anew(client, raw):
    at_hand = AtHand(client)
    assert at_hand.ask("ECHO", "before") == "before"
    for each in connections(raw):
        raw.client_kill_filter(_id=each)
    one, error = at_hand.ask_all([("ECHO", "one"), ("HGET", "no hash")])
    assert one == "one"
    assert isinstance(error, redis.exceptions.ResponseError)
