"""A phase that meets trouble is not the end of the job: the due list makes it again."""

from __future__ import annotations

import threading
import time
import uuid
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from celery import states
from celery.app.trace import build_tracer
from celery.exceptions import Reject
from kombu.exceptions import OperationalError

from orchestrator import Orchestrator
from orchestrator.endings import Endings
from orchestrator.errors import StoreUnavailable, Unreachable
from orchestrator.intake import new_job
from orchestrator.models import State, Tries
from orchestrator.observer import NOBODY
from orchestrator.store.answers import Opened, Settled

FRAMES = "useapi_frames"
PATIENCE = 60.0


class Failing:
    """A store whose named step fails so many times, with so much of the rest as it is."""

    def __init__(self, store: Any, step: str, times: int, error: Exception) -> None:
        self._store, self._step, self._times, self._error = store, step, times, error

    def __getattr__(self, name: str) -> Any:
        if name == self._step and self._times > 0:
            self._times -= 1
            raise self._error
        return getattr(self._store, name)


@pytest.fixture
def generate(environment: dict[str, str]) -> Any:
    from workers import generate

    return generate


@pytest.fixture
def phase(generate: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs one phase of a job in this process, as a worker would, with a flow whose store fails."""
    from celery.exceptions import Ignore
    from celery.signals import task_prerun

    from workers import phases

    def run(name: str, job_id: str, failing_step: str, error: Exception) -> None:
        store = Failing(phases.flow.store, failing_step, 1, error)
        broken = replace(phases.flow, store=store, watch=replace(phases.flow.watch, store=store))
        monkeypatch.setattr(phases, "flow", broken)
        monkeypatch.setattr(task_prerun, "receivers", [])  # as where no helper of other tests was imported
        linked = name == "linked finish"
        told = "finish" if linked else name
        request = {"id": job_id, "job_phase": told, "job_attempt": 1, "ignore_result": True}
        generate.push_request(**request)
        try:
            if linked:
                with pytest.raises(Ignore):
                    generate.run(FRAMES, {})
            else:
                assert generate._trace(pytest.fail, job_id, [FRAMES, {}], {}, request) is phases.LEFT
        finally:
            generate.pop_request()
            monkeypatch.undo()

    return run


def collecting(orchestrator: Orchestrator) -> str:
    """A job whose picture is made, and whose finish no worker has been told of yet."""
    flow = orchestrator.flow
    job = new_job(flow.exchange, str(uuid.uuid4()), FRAMES, {"text_prompt": "a"}, {}, 0.0)
    quiet = replace(flow, broker=SimpleNamespace(submit=lambda _: None, finish=lambda _: None))
    quiet.enqueue([replace(job, account="studio-1")])
    attempt = f"{job.id}.1"
    assert flow.store.open(attempt, flow.clock())
    flow.store.settle(attempt, "succeeded", flow.clock(), artifact_urls=["http://127.0.0.1:1/none.png"])
    return job.id


@pytest.mark.parametrize("step", ["begin_finish", "job"])
@pytest.mark.parametrize("error", [StoreUnavailable("Redis does not answer"), KeyError("a bug of ours")])
@pytest.mark.parametrize("finish", ["finish", "linked finish"])
def test_finish_that_meets_trouble_leaves_the_job_and_its_picture(finish, step, error, orchestrator, phase):
    job_id = collecting(orchestrator)
    phase(finish, job_id, step, error)
    job = orchestrator.job(job_id).record
    assert job.state is State.COLLECTING
    assert job.artifact_urls and job.due_at
    orchestrator.flow.store.end(job_id, time.time(), State.FAILED, None, "over")


def test_submit_that_meets_trouble_is_made_again(orchestrator, phase):
    flow = orchestrator.flow
    job = new_job(flow.exchange, str(uuid.uuid4()), FRAMES, {"text_prompt": uuid.uuid4().hex}, {}, 0.0)
    quiet = replace(flow, broker=SimpleNamespace(submit=lambda _: None))
    quiet.enqueue([job])
    phase("submit", job.id, "open", StoreUnavailable("Redis does not answer"))
    assert orchestrator.job(job.id).result(timeout=PATIENCE).attempts == 1


def test_what_a_post_led_to_is_told_until_redis_takes_it(orchestrator, phase):
    """Nobody else knows what the provider calls it."""
    flow = orchestrator.flow
    job = new_job(flow.exchange, str(uuid.uuid4()), FRAMES, {"text_prompt": uuid.uuid4().hex}, {}, 0.0)
    replace(flow, broker=SimpleNamespace(submit=lambda _: None)).enqueue([job])
    phase("submit", job.id, "submitted", StoreUnavailable("Redis does not answer"))
    assert flow.store.attempt(f"{job.id}.1").upstream_id
    assert orchestrator.job(job.id).result(timeout=PATIENCE).attempts == 1


def test_what_a_post_led_to_is_given_up_where_redis_stays_away(orchestrator):
    now, pauses = time.time(), []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)

    def away(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("Redis does not answer")

    def refuse(request: Any, timeout_seconds: float) -> Any:
        raise Unreachable("no connection")

    opened = Opened("studio-1", {"text_prompt": "a"}, Tries(), max_jobs=5, refused=False)
    alone = replace(
        orchestrator.flow,
        store=SimpleNamespace(open=lambda *_: opened, settle=away),
        exchange=replace(orchestrator.flow.exchange, upstream=SimpleNamespace(send=refuse)),
        clock=lambda: now + sum(pauses),
        sleep=sleep,
    )
    with pytest.raises(StoreUnavailable):
        alone.submit(FRAMES, str(uuid.uuid4()), 1, {"text_prompt": "a"})
    assert 600 <= sum(pauses) < 700


@pytest.mark.parametrize("error", [OperationalError("the broker is away"), StoreUnavailable("Redis, too")])
def test_job_whose_link_cannot_be_sent_is_finished_once_more_and_has_not_failed(
    error, orchestrator, generate, monkeypatch
):
    from workers import phases

    def kept(endings: Any, job_id: str, on_again: Any = None) -> dict[str, Any]:
        return {"job_id": job_id}

    def refuse(*_: Any, **__: Any) -> None:
        raise error

    job_id = collecting(orchestrator)
    monkeypatch.setattr(Endings, "finish", kept)
    monkeypatch.setattr(generate.app.amqp, "send_task_message", refuse)
    request = {
        "id": job_id, "job_phase": "finish", "job_attempt": 1, "delivery_info": {},
        "callbacks": [dict(generate.app.signature("tests.told", queue="tests.links"))],
    }  # fmt: skip
    tracer = build_tracer(generate.name, generate, app=generate.app)
    assert generate._trace(tracer, job_id, [FRAMES, {}], {}, request) is phases.LEFT
    assert generate.AsyncResult(job_id).state != states.FAILURE
    assert orchestrator.job(job_id).record.state is State.COLLECTING
    orchestrator.flow.store.end(job_id, time.time(), State.FAILED, None, "over")


def test_bare_message_that_cannot_be_recorded_is_taken_again(generate, monkeypatch):
    """To its sender it has not failed, and it may be recorded all the same."""
    from workers import tasks

    store = Failing(tasks.flow.store, "enqueue", 1, StoreUnavailable("Redis does not answer"))
    monkeypatch.setattr(tasks, "flow", replace(tasks.flow, store=store))
    generate.push_request(id=str(uuid.uuid4()))
    try:
        with pytest.raises(Reject) as rejected:
            generate.run(FRAMES, {"text_prompt": uuid.uuid4().hex})
    finally:
        generate.pop_request()
    assert rejected.value.requeue


def test_jobs_that_came_before_their_account_are_granted_by_the_ticker(orchestrator):
    """What keeps a free slot from being granted does not matter: the next tick grants it."""
    flow = orchestrator.flow
    flow.store.accounts.configure([replace(each, max_jobs=1) for each in flow.exchange.accounts.values()])
    try:
        jobs = [orchestrator.enqueue(FRAMES, {"text_prompt": f"{uuid.uuid4().hex} [slow]"}) for _ in range(4)]
    finally:
        flow.store.accounts.configure(flow.exchange.accounts.values())
    give_up_at = time.monotonic() + PATIENCE
    while any(job.state == "queued" for job in jobs):
        assert time.monotonic() < give_up_at
        time.sleep(0.1)
    for job in jobs:
        job.result(timeout=PATIENCE)


def test_poll_that_fails_does_not_hold_up_the_others():
    from workers.moments import at_their_moments

    asked: list[str] = []
    lock = threading.Lock()

    def poll(attempt: str) -> float | None:
        with lock:
            asked.append(attempt)
        if attempt == "bad":
            raise KeyError("a bug of ours")
        return time.time() + 0.05 if asked.count(attempt) < 3 else None

    flow = SimpleNamespace(clock=time.time, poll=poll, observer=NOBODY)
    now = time.time()
    at_their_moments(flow, [("bad", now), ("good", now), ("later", now + 0.2)], until=now + 5)
    assert sorted(set(asked)) == ["bad", "good", "later"]
    assert (asked.count("bad"), asked.count("good"), asked.count("later")) == (1, 3, 3)


def test_attempt_that_was_opened_long_ago_is_not_submitted(orchestrator):
    """Its worker stood still in between; it may have been searched for, not found, and begun again by now."""
    late = 0.0

    def stand_still(*_: Any) -> Opened:
        nonlocal late
        late = 120.0
        return opened

    def send(request: Any, timeout_seconds: float) -> Any:
        posts.append(request.url)
        raise Unreachable("no connection")

    posts: list[str] = []
    opened = Opened("studio-1", {"text_prompt": "a"}, Tries(), max_jobs=5, refused=False)
    stalled = replace(
        orchestrator.flow,
        store=SimpleNamespace(open=stand_still, settle=lambda *_, **__: Settled("settled", None, ())),
        exchange=replace(orchestrator.flow.exchange, upstream=SimpleNamespace(send=send)),
        clock=lambda: time.time() + late,
    )
    stalled.submit(FRAMES, str(uuid.uuid4()), 1, {"text_prompt": "a"})
    assert posts == []
