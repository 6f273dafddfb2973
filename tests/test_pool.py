"""The threads of a worker: each takes what waits next, and none is lost to a task that breaks."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery.worker import state as working
from celery.worker.control import Panel

from tests.stack_kit import PATIENCE, eventually


@pytest.fixture
def module(environment) -> Any:
    """Workers are built from the environment as they are imported."""
    from workers import pool

    return pool


@pytest.fixture
def hands(module) -> Iterator[Any]:
    made = module.Hands(2)
    made.start()
    yield made
    made.shutdown(cancel_futures=True)


def tasks_threads() -> int:
    return sum(each.name.startswith("task-") for each in threading.enumerate())


def test_all_that_is_handed_over_is_done(hands):
    done: list[int] = []
    for number in range(100):
        hands.submit(done.append, number)
    hands.shutdown()
    assert sorted(done) == list(range(100))


def test_thread_outlives_what_breaks_in_it(hands, caplog):
    def breaks() -> None:
        raise SystemExit(3)

    for _ in range(9):
        hands.submit(breaks)
    done = threading.Event()
    hands.submit(done.set)
    assert done.wait(PATIENCE)
    assert "task.broke" in caplog.text


def test_what_has_not_begun_is_forgotten_and_what_runs_is_waited_for(hands):
    begun, may, done = threading.Semaphore(0), threading.Event(), []

    def work() -> None:
        begun.release()
        may.wait(PATIENCE)
        done.append("ran")

    for _ in range(5):
        hands.submit(work)
    assert begun.acquire(timeout=PATIENCE) and begun.acquire(timeout=PATIENCE)
    hands.shutdown(wait=False, cancel_futures=True)
    may.set()
    hands.shutdown()
    assert done == ["ran", "ran"]


def test_task_that_is_to_be_terminated_as_it_begins_breaks_nothing(module):
    """Celery asks the pool before the task runs: an error there would leave the message taken for ever."""
    pool, told = module.TaskPool(limit=1), []
    pool.start()
    pool.apply_async(str, callback=told.append, accept_callback=lambda pid, _: pool.terminate_job(pid, 15))
    eventually(lambda: told == [""])
    pool.stop()


def test_what_runs_in_a_thread_is_cancelled_and_not_told_to_have_been_terminated(module):
    """Its task would be over to Celery, and be revoked, while its picture is kept."""
    from workers import tasks

    class Running:
        id, task = str(uuid.uuid4()), tasks.generate

        def terminate(self, *_: Any, **__: Any) -> None:
            ended.append(self.id)

    ended: list[str] = []
    request, pool = Running(), module.TaskPool(limit=1)
    state = SimpleNamespace(consumer=SimpleNamespace(pool=pool), app=tasks.app)
    working.requests[request.id] = request
    try:
        for word, more in (("revoke", {"terminate": True}), ("terminate", {"signal": "TERM"})):
            assert "ok" in Panel.data[word](state, task_id=request.id, **more)
        assert request.id in working.revoked
    finally:
        working.requests.pop(request.id)
        working.revoked.discard(request.id)
    assert ended == []


def test_pool_tells_celery_what_it_asks_and_ends_its_threads(module):
    pool = module.TaskPool(limit=3)
    before = tasks_threads()
    pool.start()
    assert pool.active and tasks_threads() == before + 3
    told = []
    pool.apply_async(
        lambda number: number + 1,
        (41,),
        callback=told.append,
        accept_callback=lambda *_: told.append("accepted"),
    )
    eventually(lambda: told == ["accepted", 42])
    assert (pool.info["max-concurrency"], pool.info["threads"]) == (3, 3)
    pool.stop()
    assert tasks_threads() == before
