"""Admission through the whole product: limits that hold, others on the account, several providers."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import requests

from orchestrator import Orchestrator
from orchestrator.errors import JobFailed, QueueFull
from orchestrator.local.stack import Stack
from tests.stack_kit import client_of, eventually, stack_in

pytestmark = pytest.mark.long

PATIENCE = 60.0
FRAMES, FREEPIK = "useapi_frames", "freepik_runway"
BOTH = [FRAMES, FREEPIK]
MAX_JOBS = 4
SECONDS = 0.4  # of a generation
ONE = "one@example.com"
COMMON = f"""
max_jobs = {MAX_JOBS}
poll_seconds = 1
net_seconds = 3
timeout_seconds = 2
deadline_seconds = 30
"""
ACCOUNTS = f"""
[[accounts]]
provider = "{FRAMES}"
name = "frames-1"
token = "env:TOKEN"
email = "{ONE}"
base_url = "{{simulator}}/v1/runwayml"
{COMMON}
[[accounts]]
provider = "{FREEPIK}"
name = "freepik-1"
token = "env:TOKEN"
base_url = "{{simulator}}"
{COMMON}
"""
ENVIRON = {"TOKEN": "user:1-a-token-that-must-never-show"}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The product with one account at each of two providers."""
    folder = tmp_path_factory.mktemp("admission")
    arguments = ("--seconds", str(SECONDS), "--max-jobs", str(MAX_JOBS))
    accounts = lambda simulator: ACCOUNTS.format(simulator=simulator)  # noqa: E731
    with stack_in(folder, accounts, ENVIRON, simulator_arguments=arguments) as made:
        yield made


@pytest.fixture(scope="module")
def client(house: Stack) -> Iterator[Orchestrator]:
    with client_of(house, ENVIRON) as made:
        yield made


@pytest.fixture(autouse=True)
def as_before(house: Stack, client: Orchestrator) -> Iterator[None]:
    """Each test finds the limits of the accounts file, nobody resting, and a simulator that is well."""
    requests.post(f"{house.simulator_url}/__reset__", timeout=30)
    yield
    names = (
        "max_jobs",
        "requests_per_second",
        "burst",
        "max_per_day",
        "max_moderated",
        "max_moderated_share",
    )
    for account in ("frames-1", "freepik-1"):
        client.operations.set_limits(account, dict.fromkeys(names))
        client.operations.resume("account", account)


@pytest.fixture
def simulated(house: Stack) -> Callable[[], dict[str, Any]]:
    return lambda: requests.get(f"{house.simulator_url}/__stats__", timeout=30).json()


@pytest.fixture
def control(house: Stack) -> Callable[..., None]:
    def tell(**what: object) -> None:
        answer = requests.post(f"{house.simulator_url}/__control__", json=what, timeout=30)
        assert answer.ok, answer.text

    return tell


def prompts(count: int, markers: str = "") -> list[dict[str, Any]]:
    return [{"text_prompt": f"{uuid.uuid4().hex} {markers}"} for _ in range(count)]


def row_of(client: Orchestrator, account: str = "frames-1") -> dict[str, Any]:
    provider = FRAMES if account == "frames-1" else FREEPIK
    (row,) = client.flow.store.accounts.rows(provider, client.flow.clock())
    return row


def test_another_client_on_the_account_costs_one_refusal_for_each_slot_it_takes(client, control, simulated):
    control(contender={"email": ONE, "tasks": 2, "seconds": SECONDS})
    counts = client.enqueue_many(FRAMES, prompts(40)).wait(timeout=PATIENCE)
    told = simulated()
    refused = sum(told["total"]["refused_by_account"].get(ONE, {}).values())
    assert counts["succeeded"] == 40
    assert told["total"]["accepted"] == 40
    assert told["total"]["max_concurrent"][ONE] <= MAX_JOBS
    assert refused <= told["total"]["ended_by_account"][ONE]
    assert client.flow.store.counts().get(f"{FRAMES}/failed", 0) == 0


def test_refusals_tell_how_many_slots_others_hold(client, control):
    control(foreign={"email": ONE, "count": 3, "seconds": 4})
    batch = client.enqueue_many(FRAMES, prompts(4, "[slow]"))
    eventually(lambda: row_of(client).get("elsewhere") == "3", "the refusals tell how many others hold")
    assert (row_of(client)["used"], row_of(client)["slots"]) == (1, 1)
    assert client.insight.explain(batch.jobs()[-1].id).gate == "slots"
    time.sleep(4)
    client.operations.resume("account", "frames-1")  # as the probes would, in time
    eventually(lambda: row_of(client)["used"] >= 3, "the slots that others left are taken")
    assert batch.wait(timeout=PATIENCE)["succeeded"] == 4


def test_a_lowered_limit_holds_at_once_and_over_a_restart(client, simulated):
    client.operations.set_limits("frames-1", {"max_jobs": 1})
    with Orchestrator.from_env():  # which tells Redis the accounts file again
        pass
    batch = client.enqueue_many(FRAMES, prompts(5))
    batch.wait(timeout=PATIENCE)
    assert simulated()["total"]["max_concurrent"][ONE] == 1
    assert simulated()["total"]["refused"] == {}


def test_a_pace_spreads_the_submits(client, house):
    client.operations.set_limits("frames-1", {"requests_per_second": 4, "burst": 1})
    began = time.monotonic()
    client.enqueue_many(FRAMES, prompts(7)).wait(timeout=PATIENCE)
    assert time.monotonic() - began >= 6 / 4


def test_a_daily_cap_is_not_exceeded(client, simulated):
    client.operations.set_limits("frames-1", {"max_per_day": 3})
    batch = client.enqueue_many(FRAMES, prompts(6))
    eventually(lambda: batch.counts()["succeeded"] == 3, "as many as the cap admits")
    assert simulated()["total"]["posts"] == 3
    told = client.insight.explain(batch.jobs()[-1].id)
    assert (told.gate, told.before) == ("rest", 2)
    client.operations.set_limits("frames-1", {"max_per_day": 10})
    assert batch.wait(timeout=PATIENCE)["succeeded"] == 6


def test_a_prompt_that_was_refused_is_not_sent_again_unless_told(client, simulated):
    prompt = f"{uuid.uuid4().hex} [moderated]"

    def send(**options: Any) -> JobFailed:
        with pytest.raises(JobFailed) as failed:
            client.enqueue(FRAMES, {"text_prompt": prompt, "seed": 7}, **options).result(timeout=PATIENCE)
        return failed.value

    assert "before" not in str(send())
    assert simulated()["total"]["posts"] == 1
    assert "refused by moderation before" in str(send())
    assert simulated()["total"]["posts"] == 1
    assert "before" not in str(send(even_if_moderated=True))
    assert simulated()["total"]["posts"] == 2


def test_an_account_that_is_refused_too_much_rests(client, simulated):
    client.operations.set_limits("frames-1", {"max_moderated": 2, "max_moderated_share": 0.5, "max_jobs": 1})
    batch = client.enqueue_many(FRAMES, prompts(5, "[moderated]"))
    eventually(lambda: row_of(client).get("rest_reason") == "Moderated", "the account rests")
    time.sleep(2 * SECONDS)
    assert simulated()["total"]["posts"] == 2
    for job in batch.jobs():
        job.cancel()


def test_more_than_may_wait_is_refused_and_nothing_is_kept(client):
    flow = replace(client.flow, max_waiting=MAX_JOBS + 2)
    client.operations.pause("provider", FRAMES)
    try:
        held = client.enqueue_many(FRAMES, prompts(MAX_JOBS))
        client.flow = flow
        with pytest.raises(QueueFull, match=f"{MAX_JOBS} jobs wait already, and 3 more"):
            client.enqueue_many(FRAMES, prompts(3), batch="too-much")
        assert client.batch("too-much").counts()["total"] == 0
        client.enqueue_many(FRAMES, prompts(2), batch="just-right")
    finally:
        client.flow = replace(flow, max_waiting=0)
        client.operations.resume("provider", FRAMES)
    assert held.wait(timeout=PATIENCE)["succeeded"] == MAX_JOBS
    assert client.batch("just-right").wait(timeout=PATIENCE)["succeeded"] == 2


def test_a_job_of_two_providers_takes_whichever_has_a_slot(client, simulated):
    requested = ({"prompt": f"{uuid.uuid4().hex}", "aspect_ratio": "1:1"} for _ in range(2 * MAX_JOBS))
    batch = client.enqueue_many(BOTH, requested)
    assert batch.wait(timeout=PATIENCE)["succeeded"] == 2 * MAX_JOBS
    by = Counter(job.result().provider for job in batch.jobs())
    assert by == {FRAMES: MAX_JOBS, FREEPIK: MAX_JOBS}
    assert simulated()["total"]["posts"] == 2 * MAX_JOBS


@pytest.mark.parametrize("status", [401, 412])
def test_a_job_of_two_providers_goes_to_the_other_on_account_trouble(client, control, simulated, status):
    control(fail={"status": status, "count": 1})
    client.operations.pause("provider", FREEPIK)
    try:
        job = client.enqueue(BOTH, {"prompt": uuid.uuid4().hex})
        eventually(lambda: "rest_reason" in row_of(client), "its first account rests")
    finally:
        client.operations.resume("provider", FREEPIK)
    result = job.result(timeout=PATIENCE)
    assert (result.provider, result.attempts) == (FREEPIK, 2)
    assert job.record.provider == FREEPIK
    assert simulated()["total"]["accepted"] == 1


def test_an_uncertain_submit_is_not_taken_to_the_other_provider(client, simulated):
    jobs = [client.enqueue(BOTH, {"prompt": f"{uuid.uuid4().hex} [5xx:1]"}) for _ in range(6)]
    for job in jobs:
        assert job.result(timeout=PATIENCE).attempts == 1
    assert simulated()["total"]["accepted"] == 6


def test_a_drained_account_has_nothing_open(client):
    batch = client.enqueue_many(FRAMES, prompts(12))
    eventually(lambda: row_of(client)["used"] > 0, "it began")
    client.operations.pause("account", "frames-1")
    eventually(lambda: client.operations.in_flight("account", "frames-1") == 0, "what is open ends")
    waiting = batch.counts()["queued"]
    assert waiting > 0
    time.sleep(2.5)  # two ticks
    assert batch.counts()["queued"] == waiting
    client.operations.resume("account", "frames-1")
    assert batch.wait(timeout=PATIENCE)["succeeded"] == 12


def test_tenants_share_what_one_batch_beside_another_would(client):
    client.operations.set_limits("frames-1", {"max_jobs": 2})
    client.operations.pause("provider", FRAMES)
    crowd = [client.enqueue_many(FRAMES, prompts(12), tenant="crowd") for _ in range(3)]
    alone = client.enqueue_many(FRAMES, prompts(12), tenant="alone")
    client.operations.resume("provider", FRAMES)
    assert alone.wait(timeout=PATIENCE)["succeeded"] == 12
    ended = sum(batch.counts()["succeeded"] for batch in crowd)
    assert 8 <= ended <= 16
    for batch in crowd:
        for job in batch.jobs():
            job.cancel()
