"""SIGTERM to a part that works: nothing is lost or done twice, and what it held is free at once."""

from __future__ import annotations

import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import redis
import requests

from orchestrator import Orchestrator
from orchestrator.broker import FINISH_QUEUE
from orchestrator.canvas import task_options
from orchestrator.intake import new_job
from orchestrator.local.processes import Processes
from orchestrator.local.stack import COLLECT, PYTHON, Commands, Stack
from tests.conftest import usual_accounts
from tests.lingering import LATER_SECONDS, LINGERS
from tests.stack_kit import REPOSITORY, SECRETS, client_of, eventually, stack_in

pytestmark = pytest.mark.long

FRAMES = "useapi_frames"
JOBS = 40
COLLECTOR = (
    *(*PYTHON, "celery", "-A", "tests.lingering", "worker", "--loglevel=INFO", "-E"),
    *("--queues", COLLECT, "--concurrency", "1", "--prefetch-multiplier", "3", "--hostname"),
)
COMMANDS = Commands(collector=(*COLLECTOR, "{host}"))
LINKS = "tests.links"  # a queue that nobody takes from


@pytest.fixture(scope="module")
def own_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("leaving")
    environ = {
        **SECRETS,
        "LINGER_FILE": str(folder / "linger"),
        "LATER_FILE": str(folder / "later"),
        "ORCHESTRATOR_STOP_SECONDS": "2",
        "DRAIN_SECONDS": "1.5",
    }
    with stack_in(folder, usual_accounts, environ, workers=2, collectors=1, commands=COMMANDS) as made:
        yield made


@pytest.fixture(scope="module")
def own(own_stack: Stack) -> Iterator[Orchestrator]:
    with client_of(own_stack) as made:
        yield made


def tally(stack: Stack) -> dict[str, Any]:
    return requests.get(f"{stack.simulator_url}/__stats__", timeout=30).json()["total"]


def prompts(count: int) -> list[dict[str, str]]:
    return [{"text_prompt": uuid.uuid4().hex} for _ in range(count)]


def ended(stack: Stack, name: str) -> int:
    """Its exit code, once it has ended."""
    (found,) = eventually(lambda: [each for each in stack.poll() if each.name == name], f"{name} ends")
    return found.exit_code


def test_every_part_that_leaves_under_load_loses_nothing(own, own_stack):
    before = tally(own_stack)
    batch = own.enqueue_many(FRAMES, prompts(JOBS))
    for share, name in enumerate(("worker", "ticker", "collector"), 1):
        eventually(lambda least=share * 8: batch.counts()["succeeded"] >= least)
        own_stack.kill(name, signal.SIGTERM)
        assert ended(own_stack, name) == 0
        own_stack.restart(name)
    assert batch.wait(timeout=120)["succeeded"] == JOBS
    after = tally(own_stack)
    assert after["accepted"] - before["accepted"] == JOBS
    assert after["duplicates_by_prompt"] == before["duplicates_by_prompt"]


def test_collector_that_leaves_hands_back_what_it_runs_and_what_it_had_taken(own, own_stack):
    """Nobody else takes from that queue meanwhile: what is seen in Redis is what it left."""
    block = own_stack.folder.parent / "linger"
    block.touch()
    try:
        jobs = [own.enqueue(FRAMES, prompt) for prompt in prompts(4)]
        eventually(lambda: LINGERS in own_stack.log("collector").read_text())
        eventually(lambda: {job.state for job in jobs} == {"collecting"})
        with redis.Redis.from_url(own_stack.redis_url, decode_responses=True) as server:
            eventually(lambda: server.llen(FINISH_QUEUE) <= 1)  # one runs, others were taken with it
            own_stack.kill("collector", signal.SIGTERM)
            assert ended(own_stack, "collector") == 0
            assert server.llen(FINISH_QUEUE) >= 4
            assert not any(server.hget(f"orc:job:{job.id}", "finishing") for job in jobs)
    finally:
        block.unlink()
    own_stack.restart("collector")
    for job in jobs:
        assert job.result(timeout=60).attempts == 1


@contextmanager
def another_collector(stack: Stack) -> Iterator[None]:
    """One beside that of the stack."""
    log = stack.folder / "another.log"
    with Processes() as processes:
        processes.start(
            "another", (*COLLECTOR, "another@%h"), log=log, cwd=REPOSITORY,
            env={**stack.options.environ, **stack.environment},
            ready=lambda: "ready." in log.read_text(), timeout_seconds=60,
        )  # fmt: skip
        yield


def test_collector_that_stands_still_for_longer_than_its_lease_tells_no_second_end(own, own_stack):
    app, log = own.flow.broker.app, own_stack.log("collector")
    block, later = (own_stack.folder.parent / name for name in ("linger", "later"))
    told = task_options(link=app.signature("tests.told", queue=LINKS))
    job = new_job(own.flow.exchange, str(uuid.uuid4()), FRAMES, prompts(1)[0], {}, 0.0, task_options=told)
    known, lingered = app.AsyncResult(job.id), log.read_text().count(LINGERS)
    with redis.Redis.from_url(own_stack.redis_url, decode_responses=True) as server:
        block.touch()
        own.flow.enqueue([job])
        eventually(lambda: log.read_text().count(LINGERS) > lingered)
        own_stack.kill("collector", signal.SIGSTOP)
        with another_collector(own_stack):
            block.unlink()
            later.touch()
            replace(own.flow, clock=lambda: time.time() + LATER_SECONDS).tick()
            assert own.job(job.id).result(timeout=60).attempts == 1
        before = server.hgetall(f"orc:job:{job.id}"), known.date_done, server.llen(LINKS)
        own_stack.kill("collector", signal.SIGCONT)
        own.enqueue(FRAMES, prompts(1)[0]).result(timeout=60)  # by the one that had stood still
        assert (server.hgetall(f"orc:job:{job.id}"), known.date_done, server.llen(LINKS)) == before
        assert server.llen(LINKS) == 1
    later.unlink()


def test_receiver_that_leaves_is_first_not_ready_and_goes_on_answering(own_stack):
    def status(path: str) -> int:
        return requests.get(f"{own_stack.receiver_url}{path}", timeout=30).status_code

    assert status("/readyz") == 200
    own_stack.kill("receiver", signal.SIGTERM)
    eventually(lambda: status("/readyz") == 503, "it says that it ends")
    assert requests.post(f"{own_stack.receiver_url}/callbacks/{FRAMES}/forged", timeout=30).status_code == 401
    assert status("/healthz") == 200
    assert ended(own_stack, "receiver") == 0
