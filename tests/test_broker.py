"""What the broker sends, on a real Valkey: the messages that kombu would push."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from datetime import datetime

import pytest
from celery import Celery, states
from celery.app.task import Context
from kombu.exceptions import OperationalError

from orchestrator import redis_queues
from orchestrator.broker import FINISH, FINISH_QUEUE, SUBMIT_QUEUE, Broker, make_app
from orchestrator.store import Store
from tests import store_kit
from tests.store_kit import MESSAGE, NOW, have, new

server, raw, app = store_kit.server, store_kit.raw, store_kit.app


@pytest.fixture
def broker(app: Celery) -> Broker:
    return Broker(app)


def test_what_is_pushed_is_what_kombu_would_push(broker, raw, monkeypatch):
    broker.finish([MESSAGE])
    monkeypatch.setattr(redis_queues, "on_redis", lambda connection: False)
    broker.finish([MESSAGE])
    kombus, ours = (json.loads(text) for text in raw.lrange(FINISH_QUEUE, 0, -1))
    assert ours["headers"]["job_phase"] == FINISH
    for each in (kombus, ours):
        assert each["properties"].pop("delivery_tag")
    assert ours == kombus


def test_both_kinds_travel_together_each_to_its_queue_and_in_their_order(broker, raw):
    broker.go_on([MESSAGE, replace(MESSAGE, job_id="job-2")], [MESSAGE])
    assert (raw.llen(SUBMIT_QUEUE), raw.llen(FINISH_QUEUE)) == (2, 1)
    came = [json.loads(text)["headers"]["id"] for text in raw.lrange(SUBMIT_QUEUE, 0, -1)]
    assert came == ["job-2", MESSAGE.job_id]  # workers take from the other end


def test_connection_that_was_lost_is_made_once_more(broker, raw):
    broker.submit([MESSAGE])
    raw.client_kill_filter(_type="normal", skipme=True)
    broker.submit([MESSAGE])
    assert raw.llen(SUBMIT_QUEUE) == 2


def test_server_that_takes_nothing_is_an_error_of_kombu(app, raw):
    with app.connection_or_acquire() as connection:
        raw.set(SUBMIT_QUEUE, "no list")
        sent = redis_queues.Sent(SUBMIT_QUEUE, Broker(app)._task(MESSAGE, "submitting"), {})
        with pytest.raises(OperationalError):
            redis_queues.push(connection, [sent])


def test_celery_says_started_once_an_attempt_is_opened_but_never_instead_of_an_end(app, broker, server):
    store = Store(server.url)
    have(store, a=2)
    store.enqueue(new("job-1", "job-2"), NOW)
    results = [app.AsyncResult(job_id) for job_id in ("job-1", "job-2")]
    broker.results.revoke(["job-2"])
    for result in results:
        assert store.open(f"{result.id}.1", NOW, "", broker.results.started(result.id, "worker@here"))
    assert [result.state for result in results] == [states.STARTED, states.REVOKED]
    assert results[0].info == {"hostname": "worker@here"}
    store.close()


@pytest.mark.filterwarnings("ignore:Call to deprecated setex")  # Celery's own
@pytest.mark.parametrize(
    "family", [{}, {"group": "group-1"}, {"parent_id": "task-1"}, {"group": "group-1", "parent_id": "task-1"}]
)
def test_what_celery_says_of_a_task_is_what_its_own_backend_would(app, broker, raw, family):
    result, backend = {"job_id": "job-1", "seconds": 1.5, "artifacts": []}, app.backend
    backend.store_result("job-1", {"hostname": "worker@here"}, states.STARTED)
    started = json.loads(raw.get(backend.get_key_for_task("job-1")))
    backend.store_result("job-1", result, states.SUCCESS, request=Context(children=[], **family))
    succeeded = json.loads(raw.get(backend.get_key_for_task("job-1")))
    assert json.loads(broker.results.started("job-1", "worker@here").text) == started
    ours = json.loads(broker.results.succeeded("job-1", result, family).text)
    moments = [datetime.fromisoformat(told.pop("date_done")) for told in (ours, succeeded)]
    assert ours == succeeded
    assert all(moment.tzinfo for moment in moments)


def test_refusal_that_cannot_be_sent_is_told(monkeypatch):
    """No due list knows of it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        away = f"redis://127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(OperationalError):
        Broker(make_app(away, away)).refuse(MESSAGE, "no such provider")


def test_broker_that_refuses_what_is_published_stops_nothing(broker, monkeypatch, caplog):
    """The store has it by then, and sends it again; as RabbitMQ does where a queue has other arguments."""

    def refuse(*_: object) -> None:
        raise RuntimeError("PRECONDITION_FAILED")

    monkeypatch.setattr(redis_queues, "push", refuse)
    broker.go_on([MESSAGE], [MESSAGE])
    assert "publish.failed messages=2" in caplog.text
