"""Waiting costs nothing: 500 jobs wait for 500 generations, and the one worker of two threads is free."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import requests

from orchestrator import Orchestrator
from orchestrator.local.stack import Stack
from tests.conftest import ACCOUNT
from tests.stack_kit import client_of, eventually, stack_in

pytestmark = pytest.mark.long

FRAMES = "useapi_frames"
GENERATE = "orchestrator.generate"
JOBS = 500
MAX_JOBS = 10  # the most that useapi takes for one account
GENERATION = 45.0  # real seconds: all must be submitted, and looked at, before the first is over
SCALE = GENERATION / 30
CONCURRENCY = 2
SECONDS = 180.0  # patience: the machine may be busy
WORKER = f"worker@{socket.gethostname()}"


@pytest.fixture(scope="module")
def own_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """50 accounts of 10 jobs each, generations of 30 s on a quicker clock, one worker of two threads."""

    def accounts(simulator: str) -> str:
        rows = (
            ACCOUNT.format(name=f"studio-{n}", max_jobs=MAX_JOBS, base_url=simulator)
            for n in range(JOBS // MAX_JOBS)
        )
        # No poll and no deadline: what moves here is moved by callbacks.
        text = re.sub(r"(net|timeout)_seconds = \d+", r"\1_seconds = 300", "".join(rows))
        return re.sub(r"deadline_seconds = \d+", "deadline_seconds = 600", text)

    with stack_in(
        tmp_path_factory.mktemp("waiting"),
        accounts,
        simulator_arguments=("--scale", str(SCALE), "--seconds", "30", "--progress", "0"),
        worker_arguments=(f"--concurrency={CONCURRENCY}", "--include=tests.helpers_tasks"),
    ) as made:
        yield made


@pytest.fixture(scope="module")
def client(own_stack: Stack) -> Iterator[Orchestrator]:
    with client_of(own_stack) as made:
        yield made


@pytest.fixture(scope="module")
def server(own_stack: Stack) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(own_stack.redis_url, decode_responses=True) as made:
        yield made


def test_five_hundred_waiting_jobs_hold_nothing(
    own_stack: Stack, client: Orchestrator, server: redis.Redis
) -> None:
    app = client.flow.broker.app

    def other_tasks(count: int) -> None:
        """Other people's tasks, sent to the same worker: they have to run now."""
        sent = [app.send_task("tests.add", (n, n), queue="orchestrator.submit") for n in range(count)]
        assert [each.get(timeout=SECONDS) for each in sent] == [2 * n for n in range(count)]

    other_tasks(1)
    most_threads = threads(own_stack) + CONCURRENCY  # the pool grows to its size when it has work

    batch = client.enqueue_many(
        FRAMES, ({"text_prompt": f"waiting {n}"} for n in range(JOBS)), batch="waiting"
    )
    eventually(lambda: batch.counts()["submitted"] == JOBS and running(own_stack) == JOBS)

    other_tasks(100)
    eventually(lambda: held_by_the_broker(server) == {}, "no message is left in the broker")
    for question in ("active", "reserved", "scheduled"):
        told = getattr(app.control.inspect(destination=[WORKER], limit=1, timeout=SECONDS), question)()
        assert [each for each in told[WORKER] if each.get("name") == GENERATE] == [], question
    assert threads(own_stack) <= most_threads
    states = {app.AsyncResult(job.id).state for job in batch.jobs()[:: JOBS // 50]}
    assert states == {"STARTED"}
    # All of this was so while all of them waited.
    assert running(own_stack) == JOBS
    assert batch.counts()["submitted"] == JOBS

    counts = batch.wait(timeout=SECONDS)
    assert counts["succeeded"] == counts["total"] == JOBS
    assert threads(own_stack) <= most_threads
    figures = stats(own_stack)
    assert (figures["posts"], figures["polls"], figures["duplicates_by_prompt"]) == (JOBS, 0, 0)
    assert figures["callbacks_sent"] == JOBS


def threads(stack: Stack) -> int:
    """How many threads the worker's process has."""
    status = Path(f"/proc/{stack.processes.pid('worker')}/status").read_text()
    return int(re.search(r"^Threads:\s+(\d+)$", status, re.MULTILINE)[1])


def held_by_the_broker(server: redis.Redis) -> dict[str, int]:
    """Messages in our queues, and those that a worker took and did not acknowledge; all at one moment."""
    queues = [key for key in server.keys("orchestrator.*") if server.type(key) == "list"]
    with server.pipeline(transaction=True) as pipeline:
        pipeline.hlen("unacked")
        for queue in queues:
            pipeline.llen(queue)
        counts = pipeline.execute()
    return {key: count for key, count in zip(["unacked", *queues], counts, strict=True) if count}


def stats(stack: Stack) -> dict[str, Any]:
    """The simulator's own count."""
    total: dict[str, Any] = requests.get(f"{stack.simulator_url}/__stats__", timeout=30).json()["total"]
    return total


def running(stack: Stack) -> int:
    """How many generations are under way at the provider."""
    return int(stats(stack)["tasks"].get("RUNNING", 0))
