"""RabbitMQ carries the messages while Redis knows the jobs: whatever is killed, each is made once."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Iterator

import pytest
import requests

from orchestrator import Orchestrator
from orchestrator.doctor import examine
from orchestrator.local.stack import Stack
from tests import rabbit_kit
from tests.conftest import usual_accounts
from tests.rabbit_kit import Rabbit, rabbit_in
from tests.stack_kit import SECRETS, client_of, eventually, stack_in

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(bool(rabbit_kit.missing()), reason=rabbit_kit.missing() or "it is here"),
]

FRAMES = "useapi_frames"
JOBS, URGENT = 60, 5


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rabbit]:
    with rabbit_in(tmp_path_factory.mktemp("rabbit")) as made:
        yield made


@pytest.fixture(scope="module")
def own_stack(rabbit: Rabbit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    environ = {**SECRETS, "ORCHESTRATOR_BROKER_URL": rabbit.url}
    with stack_in(tmp_path_factory.mktemp("rabbitmq"), usual_accounts, environ) as made:
        yield made


@pytest.fixture(scope="module")
def own(own_stack: Stack, rabbit: Rabbit) -> Iterator[Orchestrator]:
    with client_of(own_stack, {**SECRETS, "ORCHESTRATOR_BROKER_URL": rabbit.url}) as made:
        yield made


def prompts(count: int, marker: str = "") -> list[dict[str, str]]:
    return [{"text_prompt": f"{uuid.uuid4().hex} {marker}"} for _ in range(count)]


def test_jobs_are_made_once_over_callbacks_polls_a_killed_worker_and_a_broker_that_restarts(
    own, own_stack, rabbit
):
    called = own.enqueue_many(FRAMES, prompts(JOBS))
    polled = own.enqueue_many(FRAMES, prompts(10, "[lost]"))
    eventually(lambda: called.counts()["succeeded"] >= 5)
    own_stack.kill("worker", signal.SIGKILL)
    eventually(own_stack.poll)
    own_stack.restart("worker")
    eventually(lambda: called.counts()["succeeded"] >= 15)
    urgent = own.enqueue_many(FRAMES, prompts(URGENT), priority=9)
    eventually(lambda: urgent.counts()["succeeded"] == URGENT)
    assert called.counts()["succeeded"] < JOBS  # they came later, and went before
    rabbit.restart()
    assert called.wait(timeout=120)["succeeded"] == JOBS
    assert polled.wait(timeout=120)["succeeded"] == 10
    posts = requests.get(f"{own_stack.simulator_url}/__stats__", timeout=30).json()["total"]
    assert posts["accepted"] == JOBS + 10 + URGENT
    assert not posts["duplicates_by_prompt"]
    assert not own_stack.poll()


def test_worker_that_leaves_gives_rabbitmq_back_what_it_held(own, own_stack, rabbit):
    batch = own.enqueue_many(FRAMES, prompts(20))
    eventually(lambda: batch.counts()["succeeded"] >= 3)
    own_stack.kill("worker", signal.SIGTERM)
    (ended,) = eventually(own_stack.poll)
    assert ended.exit_code == 0
    own_stack.restart("worker")
    assert batch.wait(timeout=120)["succeeded"] == 20
    eventually(lambda: not any(own.flow.broker.waiting().values()), "every queue is empty")
    assert rabbit.lengths().keys() >= own.flow.broker.waiting().keys()
    assert not requests.get(f"{own_stack.simulator_url}/__stats__", timeout=30).json()["total"][
        "duplicates_by_prompt"
    ]


def test_doctor_and_logs_name_the_broker_and_no_password(own, own_stack):
    told = [finding.text for finding in examine()]
    assert any(text.startswith("the broker answers (RabbitMQ)") for text in told)
    for text in (*told, *(own_stack.log(name).read_text() for name in ("worker", "ticker", "receiver"))):
        assert rabbit_kit.PASSWORD not in text
