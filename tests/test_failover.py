"""The master of Redis is killed under load: a sentinel promotes its replica, and all goes on by itself."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import requests

from orchestrator import Orchestrator
from orchestrator.errors import StoreUnavailable
from orchestrator.local.processes import Processes
from orchestrator.local.stack import Stack
from tests.conftest import usual_accounts
from tests.sentinel_kit import MASTER, PASSWORD, SENTINEL_PASSWORD, watched
from tests.stack_kit import SECRETS, client_of, eventually, stack_in

pytestmark = pytest.mark.long

FRAMES = "useapi_frames"
JOBS = 60


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Processes, Any]]:
    with watched(tmp_path_factory.mktemp("servers")) as made:
        yield made


@pytest.fixture(scope="module")
def own_stack(servers: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    url = (
        f"sentinel://:{PASSWORD}@127.0.0.1:{servers[1]['sentinel']}/0"
        f"?master={MASTER}&sentinel_password={SENTINEL_PASSWORD}"
    )
    with stack_in(tmp_path_factory.mktemp("failover"), usual_accounts, SECRETS, redis_url=url) as made:
        yield made


@pytest.fixture(scope="module")
def own(own_stack: Stack) -> Iterator[Orchestrator]:
    with client_of(own_stack) as made:
        yield made


def counted(batch: Any) -> int:
    try:
        return int(batch.counts()["succeeded"])
    except StoreUnavailable:
        return 0


def test_replica_that_is_promoted_under_load_goes_on_with_every_job(own, own_stack, servers):
    processes, ports = servers
    batch = own.enqueue_many(FRAMES, [{"text_prompt": uuid.uuid4().hex} for _ in range(JOBS)])
    eventually(lambda: batch.counts()["succeeded"] >= 10)
    with redis.Redis(port=ports["first"], password=PASSWORD) as first:
        eventually(lambda: first.wait(1, 1_000) == 1, "the replica has everything up to here")
    processes.kill("first", signal.SIGKILL)
    with redis.Redis(port=ports["second"], password=PASSWORD) as second:
        eventually(lambda: second.info("replication")["role"] == "master")
    eventually(lambda: counted(batch) == JOBS, "every job ends", seconds=120)
    posts = requests.get(f"{own_stack.simulator_url}/__stats__", timeout=30).json()["total"]
    assert posts["accepted"] == JOBS
    assert not posts["duplicates_by_prompt"]
    assert not own_stack.poll()  # nobody had to be started again
    for name in ("worker", "ticker", "receiver"):
        log = own_stack.log(name).read_text()
        assert PASSWORD not in log and SENTINEL_PASSWORD not in log
