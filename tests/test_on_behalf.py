"""A job whose URLs are all that it is to bring is ended where its outcome is heard, for its worker."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import signature

from orchestrator.endings import Endings
from orchestrator.errors import StoreUnavailable
from orchestrator.intake import new_job
from orchestrator.local.stack import Stack
from orchestrator.models import Retention, Shown, State
from orchestrator.results import Results
from orchestrator.task_events import TaskEvents
from tests import store_kit, test_polling
from tests.conftest import usual_accounts
from tests.crashing import HAPPENED
from tests.stack_kit import SECRETS, client_of, eventually, stack_in
from tests.store_kit import NOW, URLS, new
from tests.test_crash_points import COMMANDS, Supervisor

server, raw, app, store = store_kit.server, store_kit.raw, store_kit.app, store_kit.store
another, DAY = store_kit.another, 86_400
own_stack, own = test_polling.own_stack, test_polling.own  # where only URLs are kept
FRAMES, PATIENCE, WORKER = "useapi_frames", 60.0, "one@here"
NOBODY = SimpleNamespace(collected=lambda *_: None)


class Kept:
    """What Celery was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.results: Any = SimpleNamespace(succeeded=self._shown)
        self.task_events = SimpleNamespace(
            succeeded=lambda job, worker, text: self.told.append((job, worker))
        )

    def _shown(self, job_id: str, result: Any, options: Any) -> Shown:
        return Shown(f"result-{job_id}", json.dumps(result), 100)


def settled(store: Any, job_id: str, on_behalf: str = WORKER, **fields: Any) -> Any:
    store.enqueue(new(job_id, **fields), NOW)
    assert store.open(f"{job_id}.1", NOW, on_behalf=on_behalf)
    return store.settle(f"{job_id}.1", "succeeded", NOW + 2, artifact_urls=URLS)


def endings(store: Any, kept: Kept) -> Endings:
    exchange = SimpleNamespace(observer=NOBODY, artifacts=None)
    return Endings(store, kept, exchange, lambda: NOW + 2, lambda: 0.5)  # type: ignore[arg-type]


def end(store: Any, kept: Kept, told: Any) -> None:
    endings(store, kept).end_on_behalf(told.on_behalf, told.finish, told.created_at, "a", URLS)


def test_only_who_said_so_lets_others_end_the_job(store):
    assert settled(store, "j").on_behalf == WORKER
    assert settled(store, "k", on_behalf="").on_behalf == ""


def test_it_ends_as_a_worker_would_have_ended_it(store, raw):
    kept, told = Kept(), settled(store, "j")
    end(store, kept, told)
    end(store, kept, told)  # twice is once
    job = store.job("j")
    assert (job.state, job.due_at) == (State.SUCCEEDED, None)
    assert [each["url"] for each in job.result["artifacts"]] == list(URLS)
    assert (job.result["attempts"], job.result["account"], job.result["seconds"]) == (1, "a", 2.0)
    assert json.loads(raw.get("result-j")) == job.result
    assert kept.told == [("j", WORKER)]


def test_a_task_whose_result_nobody_wants_leaves_none(app, store, raw):
    kept = Kept()
    kept.results = Results(app)
    end(store, kept, settled(store, "j", options={"ignore_result": True}))
    end(store, kept, settled(store, "k"))
    assert {store.job(each).state for each in "jk"} == {State.SUCCEEDED}
    assert raw.keys("celery-task-meta-*") == ["celery-task-meta-k"]


def test_who_keeps_what_has_ended_for_another_time_leaves_it_to_a_worker(store, another):
    store.enqueue(new("j"), NOW)
    assert another(Retention(ended=30 * DAY)).open("j.1", NOW, on_behalf=WORKER)
    told = store.settle("j.1", "succeeded", NOW, artifact_urls=URLS)
    assert told.finish and not told.on_behalf


@pytest.mark.parametrize("error", [StoreUnavailable("away"), ValueError("nobody thought of it")])
def test_where_there_is_trouble_the_due_list_has_it_finished(store, monkeypatch, error):
    def broken(*_: Any) -> bool:
        raise error

    kept, told = Kept(), settled(store, "j")
    with monkeypatch.context() as patch:
        patch.setattr(store, "end", broken)
        end(store, kept, told)
    assert store.job("j").state is State.COLLECTING and not kept.told
    claimed, _ = store.claim(NOW + 60)
    assert [message.job_id for message in claimed.finishes] == ["j"]
    result = endings(store, kept).finish("j")
    assert result is not None and [each["url"] for each in result["artifacts"]] == list(URLS)


def test_a_success_that_comes_late_is_finished_by_a_worker(store):
    settled(store, "j", on_behalf="")
    store.enqueue(new("k"), NOW)
    assert store.open("k.1", NOW, on_behalf=WORKER)
    store.settle("k.1", "lost", NOW, error={"kind": "x"}, again_at=NOW + 99)
    late = store.settle("k.1", "succeeded", NOW, artifact_urls=URLS)
    assert late.finish and not late.on_behalf


def test_events_are_told_together_in_the_workers_name(app):
    with heard(app) as events:
        told = TaskEvents(app)
        for number in range(40):
            told.succeeded(f"j{number}", WORKER, "1 artifact(s)")
        eventually(lambda: len(events) >= 40)
    assert {(event["uuid"], event["hostname"]) for event in events} == {(f"j{n}", WORKER) for n in range(40)}
    assert {(event["result"], event["told_by_another"]) for event in events} == {("1 artifact(s)", True)}


def test_events_that_nobody_is_to_send_are_not_sent(app):
    app.conf.worker_send_task_events = False
    with heard(app) as events:
        told = TaskEvents(app)
        told.succeeded("j", WORKER, "")
        told.tell()
        app.conf.worker_send_task_events = True
        told.succeeded("k", WORKER, "")
        eventually(lambda: bool(events))
    assert [event["uuid"] for event in events] == ["k"]


def test_events_wait_for_a_broker_that_is_away(app, monkeypatch):
    told = TaskEvents(app)
    with heard(app) as events:
        with monkeypatch.context() as patch:
            patch.setattr(told, "_publish", lambda events: (_ for _ in ()).throw(OSError("away")))
            told.succeeded("j", WORKER, "")
            told.tell()
        eventually(lambda: bool(events))
    assert [event["uuid"] for event in events] == ["j"]


@contextmanager
def heard(app: Any, kind: str = "task-succeeded") -> Iterator[list[dict[str, Any]]]:
    """The events of one kind that come meanwhile."""
    events: list[dict[str, Any]] = []
    done = threading.Event()
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={kind: events.append})

        def consume() -> None:
            with receiver.consumer_context(wakeup=False) as (its_own, *_):
                ready.set()
                while not done.is_set():
                    try:
                        its_own.drain_events(timeout=0.2)
                    except TimeoutError:
                        continue

        ready = threading.Event()
        thread = threading.Thread(target=consume)
        thread.start()
        assert ready.wait(PATIENCE)
        try:
            yield events
        finally:
            done.set()
            thread.join()


def test_no_worker_is_asked_a_second_time(own):
    app, name = own.flow.broker.app, f"batch-{uuid.uuid4().hex}"
    with heard(app, "task-received") as taken, heard(app) as ended:
        batch = own.enqueue_many(FRAMES, [{"text_prompt": f"p{n}"} for n in range(12)], batch=name)
        jobs = {job.id for job in batch.jobs()}
        assert batch.wait(timeout=PATIENCE)["succeeded"] == 12
        eventually(lambda: len(ended) >= 12)
    assert sorted(event["uuid"] for event in taken) == sorted(jobs)
    assert sorted(event["uuid"] for event in ended) == sorted(jobs)
    assert len({event["hostname"] for event in (*taken, *ended)}) == 1
    for job_id in jobs:
        assert app.AsyncResult(job_id).get(timeout=PATIENCE) == own.flow.store.job(job_id).result


def test_what_is_linked_to_a_job_is_called_with_its_result(own, own_stack):
    """A worker finishes it, since more than its result follows from it."""
    app = own.flow.broker.app
    after = signature(
        "orchestrator.generate", kwargs={}, args=(FRAMES, {"text_prompt": "after"}), app=app, immutable=True
    )
    with heard(app, "task-received") as taken:
        first = app.send_task(
            "orchestrator.generate", (FRAMES, {"text_prompt": "first"}), task_id=uuid.uuid4().hex, link=after
        )
        result = first.get(timeout=PATIENCE)
        assert result["job_id"] == first.id
        # It came bare, was submitted, and was finished; what is linked was taken as well.
        eventually(lambda: [event["uuid"] for event in taken].count(first.id) == 3)
        eventually(lambda: len({event["uuid"] for event in taken}) == 2)


@pytest.fixture(scope="module")
def armed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, Path]]:
    """A stack whose parts kill themselves as `tests/crashing.py` is told, and the folder to tell it in."""
    folder = tmp_path_factory.mktemp("armed")
    plans = folder / "plans"
    plans.mkdir()
    secrets = {**SECRETS, "CRASH_FOLDER": str(plans)}
    options = {"artifacts": "none", "commands": COMMANDS}
    with stack_in(folder, usual_accounts, secrets, **options) as made, Supervisor(made):
        yield made, plans


@pytest.mark.long
@pytest.mark.parametrize("point", ["before Jobs.end", "after Jobs.end"])
def test_receiver_that_is_killed_there_costs_nothing(armed, point):
    stack, plans = armed
    with client_of(stack) as own:
        job_id = uuid.uuid4().hex
        (plans / job_id).write_text(point)
        own.flow.enqueue([new_job(own.flow.exchange, job_id, FRAMES, {"text_prompt": "one"}, {}, 0.0)])
        eventually(lambda: (plans / job_id).with_suffix(HAPPENED).exists())
        assert len(own.job(job_id).result(timeout=PATIENCE).artifacts) == 1
        celerys = own.flow.broker.app.AsyncResult(job_id)
        assert celerys.get(timeout=PATIENCE) == own.flow.store.job(job_id).result
        assert own.flow.store.job(job_id).attempts == 1
