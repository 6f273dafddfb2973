"""A busy worker takes from Redis the hints that wait, as many at once as it has room for."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from kombu.transport.redis import Channel

from orchestrator.broker import FINISH_QUEUE, GENERATE, Broker
from tests import store_kit
from tests.stack_kit import REPOSITORY
from tests.store_kit import MESSAGE

server, raw, app = store_kit.server, store_kit.raw, store_kit.app
# The package itself, imported, would build a flow of its own.
popping = SimpleNamespace(**runpy.run_path(str(REPOSITORY / "workers" / "popping.py")))
hints = SimpleNamespace(**runpy.run_path(str(REPOSITORY / "workers" / "hints.py")))


@pytest.fixture(autouse=True)
def patched(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("QoS", "_create_client", "_brpop_read"):
        monkeypatch.setattr(Channel, name, getattr(Channel, name))
    hints.install()
    popping.install()


@contextmanager
def consuming(app: Celery, room: int = 0) -> Iterator[tuple[Any, list[str]]]:
    """One turn of a worker's loop, called, and the ids of what it has taken."""
    taken: list[str] = []

    with app.connection_for_read() as connection, connection.channel() as channel:
        channel.basic_qos(0, room, False)
        consumer = app.amqp.TaskConsumer(channel, queues=[app.amqp.queues[FINISH_QUEUE]])
        consumer.on_message = lambda message: taken.append(message.headers["id"])
        with consumer:
            yield lambda: connection.drain_events(timeout=10), taken


def finish(app: Celery, count: int) -> list[str]:
    messages = [replace(MESSAGE, job_id=f"job-{number}") for number in range(count)]
    Broker(app).finish(messages)
    return [message.job_id for message in messages]


@pytest.fixture(autouse=True)
def busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow this machine is, a worker that has been brought something is busy."""
    monkeypatch.setitem(popping._read.__globals__, "BUSY_SECONDS", 60.0)


def test_busy_worker_takes_what_waits_at_once_and_in_order(app, raw):
    sent = finish(app, 6)
    with consuming(app) as (turn, taken):
        turn()
        assert taken == sent[:1]
        turn()
        assert taken == sent
        assert raw.llen(FINISH_QUEUE) == 0


def test_no_more_is_taken_than_there_is_room_for(app, raw):
    sent = finish(app, 6)
    with consuming(app, room=4) as (turn, taken):
        turn()
        turn()
        assert taken == sent[:4]
        assert raw.llen(FINISH_QUEUE) == 2


def test_worker_at_rest_looks_for_no_more(app, monkeypatch):
    monkeypatch.setitem(popping._read.__globals__, "BUSY_SECONDS", 0.0)
    sent = finish(app, 3)
    with consuming(app) as (turn, taken):
        turn()
        turn()
        assert taken == sent[:2]


def test_what_nobody_sends_again_is_brought_and_guarded_as_ever(app, raw):
    first = finish(app, 2)
    stranger = app.send_task(GENERATE, ["useapi_frames", {}], queue=FINISH_QUEUE)
    Broker(app).refuse(replace(MESSAGE, job_id="refused"), "no such provider")
    last = finish(app, 1)
    with consuming(app) as (turn, taken):
        turn()
        turn()
        assert (taken, raw.hlen("unacked")) == (first, 0)
        turn()
        turn()
        assert (taken, raw.hlen("unacked")) == ([*first, stranger.id, "refused", *last], 2)


def test_hint_is_known_by_what_no_other_header_can_say(app, raw):
    told = {"note": '"job_phase": "finish"'}
    stranger = app.send_task(GENERATE, ["useapi_frames", {}], queue=FINISH_QUEUE, headers=told)
    finish(app, 1)
    with consuming(app) as (turn, taken):
        turn()
        assert (taken, raw.hlen("unacked")) == ([stranger.id], 1)


def test_message_that_comes_when_nothing_is_consumed_any_more_stays_for_others(app, raw):
    with app.connection_for_read() as connection, connection.channel() as channel:
        channel.basic_consume(FINISH_QUEUE, no_ack=False, callback=lambda _: None, consumer_tag="me")
        connection.transport.cycle._register_BRPOP(channel)
        channel.basic_cancel("me")
        finish(app, 1)
        assert channel._brpop_read()
        assert raw.llen(FINISH_QUEUE) == 1


def test_redis_that_runs_no_script_is_asked_for_one_at_a_time(app, monkeypatch):
    sent = finish(app, 3)
    monkeypatch.setitem(popping._hints.__globals__, "TAKE", "no script")
    with consuming(app) as (turn, taken):
        for _ in sent:
            turn()
        assert taken == sent
