"""Batches as a whole, by the command line and from Python, for real effect on the real stack."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery.exceptions import TaskRevokedError
from click.testing import CliRunner, Result

from orchestrator import Orchestrator
from orchestrator.cli import main
from orchestrator.client import Batch
from orchestrator.errors import BatchGoesOn, Invalid, NotFound
from orchestrator.local.stack import Stack
from tests.conftest import usual_accounts
from tests.stack_kit import PATIENCE, client_of, eventually, stack_in

FRAMES = "useapi_frames"
PINNED = {"email": "studio-1@example.com"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One of its own: what other tests left running at the provider would take slots here."""
    with stack_in(tmp_path_factory.mktemp("batches"), usual_accounts) as made:
        yield made


@pytest.fixture(scope="module")
def orchestrator(stack: Stack) -> Iterator[Orchestrator]:
    with client_of(stack) as made:
        yield made


@pytest.fixture(scope="module")
def environment(stack: Stack, orchestrator: Orchestrator) -> dict[str, str]:
    return stack.environment


@pytest.fixture
def invoke(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *words: CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture
def run(invoke: Callable[..., Result]) -> Callable[..., str]:
    """The output of a command that must go well."""

    def command(*words: object) -> str:
        done = invoke(*words)
        assert done.exit_code == 0, (words, done.output, done.exception)
        return done.output

    return command


@pytest.fixture
def name(orchestrator: Orchestrator) -> Iterator[str]:
    """Whatever is left of it is cancelled."""
    name = f"batch-{uuid.uuid4().hex[:12]}"
    yield name
    if orchestrator.flow.store.batches.standing(name):
        orchestrator.batch(name).cancel()


@pytest.fixture
def enqueue(orchestrator: Orchestrator, name: str) -> Callable[..., Batch]:
    def several(count: int, marker: str = "", **options: Any) -> Batch:
        prompts = [{"text_prompt": f"{uuid.uuid4().hex} {marker}", **PINNED} for _ in range(count)]
        return orchestrator.enqueue_many(FRAMES, prompts, batch=name, **options)

    return several


def celery_state(orchestrator: Orchestrator, job_id: str) -> str:
    return str(orchestrator.flow.broker.app.AsyncResult(job_id).state)


# --- cancel -------------------------------------------------------------------------------------------


def test_cancelled_batch_is_over_for_us_for_celery_and_at_the_provider(
    run, enqueue, name, orchestrator, stats
):
    before = stats()["tasks"].get("DELETED", 0)
    batch = enqueue(30, "[forever]")
    eventually(lambda: batch.counts()["submitted"] == 5)
    open_ids = [job.id for job in batch if job.state == "submitted"]
    eventually(lambda: all(orchestrator.flow.store.attempt(f"{each}.1").upstream_id for each in open_ids))
    assert run("cancel", "batch", name) == f"30 jobs of batch {name} cancelled\n"
    assert batch.is_over and batch.counts()["cancelled"] == 30
    assert len(list(batch.as_completed(timeout=30))) == 30
    eventually(lambda: {celery_state(orchestrator, job.id) for job in batch} == {"REVOKED"})
    with pytest.raises(TaskRevokedError):
        orchestrator.flow.broker.app.AsyncResult(batch.jobs()[-1].id).get(timeout=30)
    eventually(lambda: stats()["tasks"].get("DELETED", 0) - before == 5, "what was not answered, asked again")
    assert run("cancel", "batch", name) == f"0 jobs of batch {name} cancelled\n"
    assert orchestrator.flow.store.lanes.why_paused(name) == ""


def test_one_job_is_cancelled_and_only_once(run, invoke, enqueue):
    (job,) = enqueue(1, "[forever]").jobs()
    assert run("cancel", "job", job.id) == f"job {job.id} is cancelled\n"
    assert f"job {job.id} is cancelled: it is too late" in invoke("cancel", "job", job.id).output


def test_provider_is_asked_to_stop_by_the_finish_where_who_cancelled_was_killed(enqueue, orchestrator, stats):
    before = stats()["tasks"].get("DELETED", 0)
    (job,) = enqueue(1, "[forever]").jobs()
    store = orchestrator.flow.store
    eventually(lambda: job.record.attempts and store.attempt(f"{job.id}.1").upstream_id)
    cancelled = store.cancel(job.id, orchestrator.flow.clock())  # and here it is killed
    assert store.to_stop(job.id) == cancelled.upstream_id != ""
    orchestrator.flow.broker.finish([cancelled.finish])  # as the due list would, later
    eventually(lambda: celery_state(orchestrator, job.id) == "REVOKED")
    assert stats()["tasks"].get("DELETED", 0) - before == 1 and store.to_stop(job.id) == ""


@pytest.mark.parametrize(
    "command", ["cancel batch {}", "prioritise batch {} 9", "retry {}", "purge {} --yes"]
)
def test_unknown_batch_is_said_to_be_unknown(command, invoke):
    done = invoke(*command.format("nobody").split())
    assert done.exit_code == 1 and "no batch 'nobody': nothing of that name is known" in done.output


# --- stopped by failures ------------------------------------------------------------------------------


def test_batch_whose_jobs_fail_is_stopped_and_says_so_everywhere(run, enqueue, name, orchestrator):
    batch = enqueue(40, "[failed]", max_failures=3, max_attempts=1)
    store = orchestrator.flow.store
    eventually(lambda: store.lanes.why_paused(name) == "failures")
    eventually(lambda: not orchestrator.operations.in_flight("batch", name))
    assert batch.paused == "failures"
    said = f"was stopped by its failures: `orchestrator dead list --batch {name}`"
    for waiting_for_it in (batch.wait, lambda timeout: list(batch.as_completed(timeout))):
        with pytest.raises(TimeoutError, match=f"{name}.* was not over after 0.1 seconds: it {said}"):
            waiting_for_it(timeout=0.1)
    counts = batch.counts()
    assert 3 <= counts["failed"] < 40  # what was open, or granted before the third had ended, went on
    waiting = next(job for job in batch if job.state == "queued")
    assert f"batch {name} was stopped by its failures: `orchestrator dead list" in run("status")
    assert json.loads(run("status", "--json"))["batches_paused_by"][name] == "failures"
    assert "was stopped by its failures" in json.loads(run("explain", waiting.id, "--json"))["text"]
    assert "the batch was stopped by its failures" in json.loads(run("forecast", name, "--json"))["notes"]
    (row,) = (row for row in json.loads(run("batches", "--open", "--json")) if row["batch"] == name)
    assert (row["paused"], row["max_failures"], row["failed"]) == ("failures", 3, counts["failed"])
    assert "was stopped by its failures" in run("batches")

    run("resume", "batch", name)
    eventually(lambda: store.lanes.why_paused(name) == "failures")
    assert batch.counts()["failed"] >= counts["failed"] + 3
    said = run("limit", "batch", name, "--max-failures", "none")
    assert said == f"batch {name} is not stopped by failures\n"
    run("resume", "batch", name)
    assert batch.wait(timeout=PATIENCE)["failed"] == 40 and batch.paused == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--max-failures", "0"), "max_failures is 0; it must be 1 or more"),
        (("--max-failures", "many"), "'many' is no number; say one, or none"),
        (("--max-failure-share", "1.5"), "max_failure_share is 1.5; it must be above 0, and 1 at most"),
        (("--max-failure-share", "nan"), "max_failure_share is nan"),
    ],
)
def test_wrong_limit_is_named(words, said, invoke, name):
    done = invoke("limit", "batch", name, *words)
    assert done.exit_code and said in done.output


def test_limit_is_told(run, name, orchestrator):
    said = run("limit", "batch", name, "--max-failures", 5, "--max-failure-share", 0.2)
    assert f"batch {name} is stopped by 5 failures or a share of 0.2 that failed\n" in said
    assert f"no job of a batch '{name}' is known yet" in said
    with pytest.raises(Invalid, match="max_failures"):
        orchestrator.batch(name).limit(max_failures=0)


# --- priority, retry, extension -----------------------------------------------------------------------


def test_prioritised_jobs_go_first(run, enqueue, name, orchestrator):
    orchestrator.operations.set_limits("studio-1", {"max_jobs": 1})
    try:
        enqueue(1, "[slow]")
        batch = enqueue(4)
        last = batch.jobs()[-1]
        assert run("prioritise", "job", last.id, 9) == f"job {last.id} has priority 9\n"
        assert "jobs of batch" in run("prioritise", "batch", name, 2)
        assert last.record.priority == 2
        assert last.prioritise(9)
        order = [job.id for job in batch.as_completed(timeout=PATIENCE)]
        assert order.index(last.id) < order.index(batch.jobs()[2].id)
    finally:
        orchestrator.operations.set_limits("studio-1", {"max_jobs": None})
    assert not last.prioritise(3)


def test_failed_jobs_run_again_and_the_batch_is_over_again(run, enqueue, name, orchestrator):
    batch = enqueue(2, "[failed]", max_attempts=1)
    assert batch.wait(timeout=PATIENCE)["failed"] == 2
    eventually(lambda: batch.is_over)
    assert run("retry", name) == f"2 jobs of batch {name} run again\n"
    assert not batch.is_over
    assert batch.wait(timeout=PATIENCE)["failed"] == 2
    assert batch.retry_failed() == 2


def test_batch_that_was_over_is_extended_and_waited_for(enqueue):
    batch = enqueue(1)
    assert batch.wait(timeout=PATIENCE)["succeeded"] == 1
    assert batch.is_over
    enqueue(2)
    assert not batch.is_over
    assert len(list(batch.as_completed(timeout=PATIENCE))) == 3
    assert batch.is_over and len(list(batch)) == 3


# --- filling ------------------------------------------------------------------------------------------


def test_batch_that_is_enqueued_bit_by_bit_is_waited_for_to_its_end(orchestrator, name):
    heard: list[str] = []
    with orchestrator.filling(name) as batch:
        waiting = threading.Thread(
            target=lambda: heard.extend(job.id for job in batch.as_completed(timeout=PATIENCE))
        )
        waiting.start()
        for _ in range(2):
            job = orchestrator.enqueue(FRAMES, {"text_prompt": uuid.uuid4().hex}, batch=name)
            job.result(timeout=PATIENCE)
            assert not batch.is_over and waiting.is_alive()
    waiting.join(timeout=PATIENCE)
    assert len(heard) == 2 and batch.is_over


def test_producer_that_failed_leaves_its_place_for_when_it_comes_back(orchestrator, name):
    with pytest.raises(ZeroDivisionError), orchestrator.filling(name, producer="nightly"):
        raise ZeroDivisionError
    assert not orchestrator.batch(name).is_over
    with orchestrator.filling(name, producer="nightly"):
        pass
    assert orchestrator.batch(name).is_over


def test_filling_what_cannot_be_a_batch_is_refused(orchestrator):
    for wrong in ("", "a\nb", "a/b/c"):
        with pytest.raises(Invalid), orchestrator.filling(wrong):
            pass


# --- purge --------------------------------------------------------------------------------------------


def test_purged_batch_leaves_nothing_but_what_it_cost(run, enqueue, name, orchestrator):
    batch = enqueue(3)
    assert batch.wait(timeout=PATIENCE)["succeeded"] == 3
    ids = [job.id for job in batch]
    paths = [Path(artifact.path) for job in batch for artifact in job.result(timeout=30).artifacts]
    client = orchestrator.flow.broker.app.backend.client
    assert all(path.exists() for path in paths)
    assert (
        run("purge", name, "--pictures", "--yes") == f"3 jobs of batch {name} deleted, 3 pictures removed\n"
    )
    assert not any(path.exists() for path in paths)
    left = [key.decode() for key in client.keys("*")]
    assert not [key for key in left if name in key or any(each in key for each in ids)]
    assert name not in run("batches")
    with pytest.raises(NotFound, match="nothing of that name"):
        batch.purge()


def test_pictures_stay_where_nobody_says_otherwise_and_a_second_purge_takes_the_rest(enqueue, orchestrator):
    batch = enqueue(2)
    batch.wait(timeout=PATIENCE)
    first, second = (Path(job.result(timeout=30).artifacts[0].path) for job in batch)
    first.unlink()  # as by a purge that was interrupted
    assert batch.purge(pictures=True).pictures == 1
    assert not second.exists()
    again = enqueue(1)
    again.wait(timeout=PATIENCE)
    (kept,) = (Path(job.result(timeout=30).artifacts[0].path) for job in again)
    assert again.purge().jobs == 1 and kept.exists()


def test_batch_that_goes_on_is_not_purged(invoke, enqueue, name):
    batch = enqueue(1, "[forever]")
    done = invoke("purge", name, "--yes")
    assert done.exit_code == 1 and "is not over (1 total, 1 " in done.output
    assert f"`orchestrator cancel batch {name}`" in done.output
    with pytest.raises(BatchGoesOn):
        batch.purge()


def test_purge_asks_first(invoke, enqueue, name):
    batch = enqueue(1)
    batch.wait(timeout=PATIENCE)
    assert invoke("purge", name).exit_code == 1  # nobody answered
    assert batch.counts()["total"] == 1


def test_batches_are_listed(run, enqueue, name):
    batch = enqueue(2)
    batch.wait(timeout=PATIENCE)
    row = next(row for row in json.loads(run("batches", "--json")) if row["batch"] == name)
    assert (row["total"], row["succeeded"], row["cost"], row["paused"]) == (2, 2, 2.0, None)
    assert row["over_at"] >= row["created_at"]
    assert "over since" in run("batches")
    assert name not in run("batches", "--open")
    assert len(json.loads(run("batches", "--limit", 1, "--json"))) == 1
