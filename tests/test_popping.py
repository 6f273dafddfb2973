"""A worker takes from Redis what waits in a queue, as many messages at once as it has room for."""

from __future__ import annotations

import logging
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
    for name in ("QoS", "_create_client", "_brpop_start", "_brpop_read"):
        monkeypatch.setattr(Channel, name, getattr(Channel, name))
    hints.install()
    popping.install()


@contextmanager
def consuming(app: Celery, room: int = 0, bear: int = 1_000) -> Iterator[tuple[Any, list[str]]]:
    """One turn of a worker's loop, called, and the ids of what it has taken. It bears so many messages."""
    taken: list[str] = []

    def take(message: Any) -> None:
        if len(taken) >= bear:
            raise RuntimeError("the worker does not bear it")
        taken.append(message.headers["id"])

    with app.connection_for_read() as connection, connection.channel() as channel:
        channel.basic_qos(0, room, False)
        consumer = app.amqp.TaskConsumer(channel, queues=[app.amqp.queues[FINISH_QUEUE]])
        consumer.on_message = take
        with consumer:
            yield lambda: connection.drain_events(timeout=10), taken


def finish(app: Celery, count: int) -> list[str]:
    messages = [replace(MESSAGE, job_id=f"job-{number}") for number in range(count)]
    Broker(app).finish(messages)
    return [message.job_id for message in messages]


def test_what_waits_is_taken_at_once_and_in_order(app, raw):
    sent = finish(app, 5)
    with consuming(app) as (turn, taken):
        turn()
        assert taken == sent
        assert raw.llen(FINISH_QUEUE) == 0


def test_no_more_is_taken_than_there_is_room_for(app, raw):
    sent = finish(app, 5)
    with consuming(app, room=3) as (turn, taken):
        turn()
        assert taken == sent[:3]
        assert raw.llen(FINISH_QUEUE) == 2


def test_server_that_cannot_give_many_is_asked_for_one_at_a_time(app, monkeypatch):
    sent = finish(app, 3)
    monkeypatch.setitem(popping._ask.__globals__, "POP_MANY", "NOSUCHPOP")
    with consuming(app) as (turn, taken):
        while len(taken) < 3:
            turn()
        assert taken == sent


def test_what_nobody_sends_again_is_delivered_first(app):
    sent = finish(app, 2)
    stranger = app.send_task(GENERATE, ["useapi_frames", {}], queue=FINISH_QUEUE)
    with consuming(app) as (turn, taken):
        turn()
        assert taken == [stranger.id, *sent]


def test_what_could_not_be_delivered_is_there_for_another(app, raw):
    sent = finish(app, 4)
    with consuming(app, bear=1) as (turn, taken), pytest.raises(RuntimeError):
        turn()
    assert taken == sent[:1]
    with consuming(app) as (turn, taken):
        turn()
        assert sorted(taken) == sent


def test_what_is_no_message_is_dropped_and_told(app, raw, caplog):
    raw.lpush(FINISH_QUEUE, "no JSON", '"no message"')
    sent = finish(app, 1)
    with caplog.at_level(logging.ERROR), consuming(app) as (turn, taken):
        turn()
        assert taken == sent
    assert caplog.text.count("message.unreadable") == 2
