"""Redis restarts, stalls or drops its connections while jobs run, parts are killed: all of it comes back.

Also the watchdog: a worker that is connected and yet consumes nothing ends itself.
"""

from __future__ import annotations

import signal
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import requests

from orchestrator import Orchestrator
from orchestrator.broker import SUBMIT_QUEUE
from orchestrator.intake import new_job
from orchestrator.local.processes import Processes
from orchestrator.local.stack import PYTHON, Commands, Stack
from orchestrator.models import Secret
from orchestrator.signatures import Reference, sign_reference
from tests.conftest import usual_accounts
from tests.crashing import SILENT
from tests.stack_kit import REPOSITORY, SECRETS, client_of, eventually, stack_in

pytestmark = pytest.mark.long(5)

FRAMES = "useapi_frames"
PATIENCE = 120.0
BACK_SECONDS = 30.0  # a new job must be through by then
STALL_SECONDS = 15.0
JOBS = 60
EXIT_CODE = 75  # of workers/watchdog.py, which this process must not import: it would build a flow of its own
CELERY = (*PYTHON, "celery", "-A", "tests.crashing")
COMMANDS = Commands(worker=(*CELERY, "worker", "--loglevel=INFO", "-E", "--hostname", "{host}"))


@pytest.fixture(scope="module")
def own_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("restarts")
    (folder / "plans").mkdir()
    secrets = {**SECRETS, "CRASH_FOLDER": str(folder / "plans")}
    with stack_in(folder, usual_accounts, secrets, flower=True, commands=COMMANDS) as made:
        yield made


@pytest.fixture(scope="module")
def own(own_stack: Stack) -> Iterator[Orchestrator]:
    with client_of(own_stack) as made:
        yield made


@pytest.fixture
def server(own_stack: Stack) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(own_stack.redis_url) as client:
        yield client


@pytest.fixture
def under_load(own: Orchestrator, own_stack: Stack) -> Iterator[None]:
    """A batch under way; afterwards a new job ends soon, and the batch is there, each picture once."""
    before = tally(own_stack)
    prompts = [{"text_prompt": uuid.uuid4().hex} for _ in range(JOBS)]
    batch = own.enqueue_many(FRAMES, prompts)
    eventually(lambda: batch.counts()["succeeded"] >= 5)
    yield
    began = time.monotonic()
    own.enqueue(FRAMES, {"text_prompt": uuid.uuid4().hex}).result(timeout=BACK_SECONDS)
    print(f"\na new job took {time.monotonic() - began:.1f} s", end="")
    assert batch.wait(timeout=PATIENCE)["succeeded"] == JOBS
    print(f", the last of the batch {time.monotonic() - began:.1f} s")
    after = tally(own_stack)
    assert after["accepted"] - before["accepted"] == JOBS + 1
    assert after["duplicates_by_prompt"] == before["duplicates_by_prompt"]


def tally(stack: Stack) -> dict[str, Any]:
    return requests.get(f"{stack.simulator_url}/__stats__", timeout=30).json()["total"]


@pytest.mark.parametrize("time_of_it", ["first", "second"])
def test_redis_that_restarts_under_load_loses_nothing(time_of_it, under_load, own_stack):
    own_stack.restart("valkey")


def test_redis_that_stalls_under_load_loses_nothing(under_load, own_stack):
    own_stack.kill("valkey", signal.SIGSTOP)
    time.sleep(STALL_SECONDS)
    own_stack.kill("valkey", signal.SIGCONT)


def test_connections_that_are_dropped_under_load_lose_nothing(under_load, server):
    for _ in range(3):
        server.client_kill_filter(_type="normal", skipme=True)
        server.client_kill_filter(_type="pubsub")
        time.sleep(0.5)


def test_redis_that_is_full_for_a_while_ends_no_worker(own_stack, own, server):
    job = own.enqueue(FRAMES, {"text_prompt": f"{uuid.uuid4().hex} [slow]"})
    server.config_set("maxmemory", 1)
    try:
        time.sleep(4)
    finally:
        server.config_set("maxmemory", 0)
    assert job.result(timeout=PATIENCE).artifacts
    assert not own_stack.poll()


def test_receiver_answers_503_while_redis_is_away_and_takes_the_same_callback_after(own_stack, own, server):
    job = own.enqueue(FRAMES, {"text_prompt": f"{uuid.uuid4().hex} [forever]"})
    eventually(lambda: job.record.state == "submitted")
    attempt = f"{job.id}.1"
    record = eventually(
        lambda: own.flow.store.attempt(attempt).upstream_id and own.flow.store.attempt(attempt)
    )
    keys = [Secret(own_stack.environment["ORCHESTRATOR_SECRET_KEYS"])]
    reference = sign_reference(FRAMES, Reference(attempt, record.account), keys)
    url = f"{own_stack.receiver_url}/callbacks/{FRAMES}/{reference}"
    body = {"taskId": record.upstream_id, "status": "FAILED", "error": "x", "replyRef": reference}

    def deliver() -> int:
        return requests.post(url, json=body, timeout=30).status_code

    server.waitaof(1, 0, 5_000)  # a server that is killed may lose what it has not written yet
    own_stack.kill("valkey")
    eventually(own_stack.poll)
    assert requests.get(f"{own_stack.receiver_url}/readyz", timeout=30).status_code == 503
    assert requests.get(f"{own_stack.receiver_url}/healthz", timeout=30).status_code == 200
    assert [deliver() for _ in range(10)] == [503] * 10
    own_stack.restart("valkey")
    assert deliver() == 204  # at once: the first call after the restart
    assert own.flow.store.attempt(attempt).state == "closed"
    job.cancel()


@pytest.mark.parametrize("part", ["worker", "ticker", "flower", "receiver"])
def test_part_that_is_killed_and_started_again_loses_nothing(part, under_load, own_stack):
    own_stack.kill(part)
    eventually(own_stack.poll)
    own_stack.restart(part)


def test_prefork_child_that_is_killed_is_no_end_of_its_task(own_stack, own):
    """The main process of that worker puts the message back, and tells Celery of no failure."""
    app, log = own.flow.broker.app, own_stack.folder / "prefork.log"
    argv = (*CELERY, "worker", "--loglevel=INFO", "-c", "1", "--hostname=prefork@%h", "-Q", SUBMIT_QUEUE)
    environ = {**own_stack.options.environ, **own_stack.environment, "WORKER_POOL": "prefork"}
    with Processes() as processes:
        processes.start(
            "prefork", argv, env=environ, cwd=REPOSITORY, log=log,
            ready=lambda: "ready." in log.read_text(), timeout_seconds=PATIENCE,
        )  # fmt: skip
        threads = [name for name in own.flow.broker.workers(2.0) if not name.startswith("prefork")]
        app.control.cancel_consumer(SUBMIT_QUEUE, destination=threads, reply=True)
        try:
            job = new_job(own.flow.exchange, str(uuid.uuid4()), FRAMES, {"text_prompt": "a fox"}, {}, 0.0)
            plan = own_stack.folder.parent / "plans" / job.id
            plan.write_text("before Jobs.open")
            known = app.AsyncResult(job.id)
            own.flow.enqueue([job])
            while own.job(job.id).record.ended_at is None:
                assert known.state != "FAILURE"
                time.sleep(0.02)
            assert not plan.exists()
        finally:
            app.control.add_consumer(SUBMIT_QUEUE, destination=threads, reply=True)
    assert own.job(job.id).result().seconds < 15  # and not only when the store sends it again


def test_silent_worker_ends_itself_for_its_supervisor_and_the_next_one_works(own_stack, own):
    plans = own_stack.folder.parent / "plans"
    (plans / SILENT).touch()
    eventually(lambda: not (plans / SILENT).exists())
    job = own.enqueue(FRAMES, {"text_prompt": uuid.uuid4().hex})
    began = time.monotonic()
    (ended,) = eventually(own_stack.poll)
    print(f"\nsilent for {time.monotonic() - began:.1f} s")
    assert (ended.name, ended.exit_code) == ("worker", EXIT_CODE)
    assert "worker.silent" in own_stack.log("worker").read_text()
    own_stack.restart("worker")
    assert job.result(timeout=PATIENCE).attempts == 1
