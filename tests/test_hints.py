"""What a worker has taken from Redis is guarded there only where it is no hint."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from kombu.transport.redis import Channel

from orchestrator.broker import FINISH_QUEUE, GENERATE, TICK, TICK_QUEUE, Broker
from tests import store_kit
from tests.stack_kit import REPOSITORY
from tests.store_kit import MESSAGE

server, raw, app = store_kit.server, store_kit.raw, store_kit.app
# The package itself, imported, would build a flow of its own.
hints = SimpleNamespace(**runpy.run_path(str(REPOSITORY / "workers" / "hints.py")))
UNACKED = "unacked"


@pytest.fixture
def patched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Channel, "QoS", Channel.QoS)
    monkeypatch.setattr(Channel, "_create_client", Channel._create_client)
    hints.install()


@contextmanager
def consuming(app: Celery, queue: str) -> Iterator[Any]:
    """A channel, and what it takes from a queue: called, it gives the next message."""
    taken: list[Any] = []
    with app.connection_for_read() as connection, connection.channel() as channel:
        consumer = app.amqp.TaskConsumer(channel, queues=[app.amqp.queues[queue]])
        consumer.on_message = taken.append
        with consumer:

            def take() -> Any:
                while not taken:
                    connection.drain_events(timeout=10)
                return taken.pop()

            yield take


@pytest.mark.parametrize(
    "send, queue",
    [
        (lambda app: Broker(app).finish([MESSAGE]), FINISH_QUEUE),
        (lambda app: app.send_task(TICK, queue=TICK_QUEUE), TICK_QUEUE),
    ],
)
def test_hint_that_is_taken_leaves_nothing_at_the_broker(patched, app, raw, send, queue):
    send(app)
    with consuming(app, queue) as take:
        message = take()
        assert not raw.exists(UNACKED)
        message.ack()
    assert raw.llen(queue) == 0


@pytest.mark.parametrize("what", ["a stranger's task", "a job that could not be one"])
def test_what_nobody_sends_again_is_guarded_until_it_is_acknowledged(patched, app, raw, what):
    if what == "a stranger's task":
        app.send_task(GENERATE, ["useapi_frames", {}], queue=FINISH_QUEUE)
    else:
        Broker(app).refuse(MESSAGE, "no such provider")
    with consuming(app, FINISH_QUEUE) as take:
        message = take()
        assert raw.hlen(UNACKED) == 1
        message.ack()
        assert not raw.exists(UNACKED)


def test_hint_that_is_handed_back_is_there_for_another(patched, app, raw):
    Broker(app).finish([MESSAGE])
    with consuming(app, FINISH_QUEUE) as take:
        take().requeue()
        assert take().headers["id"] == MESSAGE.job_id


def test_hints_that_were_taken_are_there_again_when_the_channel_closes(patched, app, raw):
    Broker(app).go_on(finishes=[MESSAGE, MESSAGE])
    with consuming(app, FINISH_QUEUE) as take:
        take().ack()
        take()
    assert raw.llen(FINISH_QUEUE) == 1


def test_channel_keeps_its_client_until_it_has_another_pool(patched, app):
    with app.connection_for_write() as connection, connection.channel() as channel:
        first = channel._create_client()
        assert channel._create_client() is first
        channel._disconnect_pools()
        assert channel._create_client() is not first
