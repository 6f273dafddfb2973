"""Submits of which nobody knows whether they arrived, and callbacks that come when all is over."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from click.testing import CliRunner

from orchestrator import JobFailed, Orchestrator
from orchestrator.cli import main
from orchestrator.client import Job
from orchestrator.local.stack import Stack
from orchestrator.signatures import Reference, sign_reference
from tests.stack_kit import SECRETS, TOKEN, client_of, eventually, stack_in

pytestmark = pytest.mark.long

GENERIC = "webhook_json"
PATIENCE = 120.0
DEADLINE = 5.0  # what is asked of a job before must be asked by then
GENERATION = ("--scale", "0.1", "--seconds", "10")  # takes 1 s, a slow one 10 s
ACCOUNT = """
[[accounts]]
provider = "webhook_json"
name = "{name}"
api = "{api}"
when_uncertain = "{policy}"
token = "env:SIMULATOR_TOKEN"
base_url = "{simulator}/v1/generic"
max_jobs = 4
net_seconds = 1.5
timeout_seconds = 1
deadline_seconds = {deadline}
submit_path = "/jobs"
headers = {{ X-Api-Key = "{{token}}" }}
body = {{ text = "{{prompt}}", notify = "{{callback_url}}", options = {{ size = "tall" }} }}
id_at = "job.id"
status_at = "job.state"
outputs_at = "job.images[*].url"
error_at = "job.problem|problem"
pending = ["waiting", "drawing"]
succeeded = ["done"]
failed = ["broken"]
"""
ACCOUNTS = (("again-1", "again", "resubmit"), ("again-2", "again", "resubmit"), ("held-1", "held", "hold"))


@pytest.fixture(scope="module")
def own_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """An API that cannot be asked: only its callbacks tell."""

    def accounts(simulator: str) -> str:
        return "".join(
            ACCOUNT.format(name=name, api=api, policy=policy, simulator=simulator, deadline=DEADLINE)
            for name, api, policy in ACCOUNTS
        )

    with stack_in(tmp_path_factory.mktemp("uncertain"), accounts, simulator_arguments=GENERATION) as made:
        yield made


@pytest.fixture(scope="module")
def client(own_stack: Stack) -> Iterator[Orchestrator]:
    with client_of(own_stack, {**SECRETS, "COLUMNS": "200"}) as made:
        yield made


@pytest.fixture
def enqueue(client: Orchestrator) -> Callable[..., Job]:
    def one(api: str, markers: str) -> Job:
        return client.enqueue(GENERIC, {"prompt": f"{uuid.uuid4().hex} {markers}", "api": api})

    return one


@pytest.fixture
def accepted(own_stack: Stack) -> Callable[[], int]:
    """Generations that were begun at the provider, and so paid for."""
    address = f"{own_stack.simulator_url}/__stats__"
    return lambda: requests.get(address, timeout=30).json()["apis"][GENERIC]["accepted"]


@pytest.fixture
def run(client: Orchestrator) -> Callable[..., str]:
    def command(*words: str) -> str:
        done = CliRunner().invoke(main, list(words))
        assert done.exit_code == 0, (words, done.output, done.exception)
        assert TOKEN not in done.output
        return done.output

    return command


@pytest.fixture
def told(run: Callable[..., str]) -> Callable[..., Any]:
    return lambda *words: json.loads(run(*words, "--json"))


def uncertain_of(told: Callable[..., Any], job: Job) -> list[dict[str, Any]]:
    return [row for row in told("status", "--uncertain") if row["job"] == job.id]


UNANSWERED = [
    pytest.param("[timeout:1] [lost:1]", 1, id="accepted, and never answered"),
    pytest.param("[5xx:1] [lost:1]", 1, id="accepted, and answered with 503"),
    pytest.param("[5xx-refused:1]", 0, id="not accepted, and answered with 503"),
]


@pytest.mark.parametrize(("markers", "lost"), UNANSWERED)
def test_resubmit_submits_again_once_the_deadline_has_passed(markers, lost, enqueue, accepted, told):
    before, began = accepted(), time.monotonic()
    job = enqueue("again", markers)
    (row,) = eventually(lambda: uncertain_of(told, job))
    assert (row["attempt"], row["then"]) == (1, "resubmit")
    assert accepted() - before == lost  # nothing is sent twice before the deadline
    assert job.result(timeout=PATIENCE).attempts == 2
    assert time.monotonic() - began > DEADLINE
    assert accepted() - before == lost + 1
    first, second = told("status", job.id)["attempt_records"]
    assert (first["state"], first["cost"], first["uncertain_since"]) == ("lost", "at_risk", None)
    assert (second["state"], second["cost"]) == ("succeeded", "confirmed")
    assert uncertain_of(told, job) == []


@pytest.mark.parametrize(("markers", "lost"), UNANSWERED)
def test_hold_leaves_it_to_a_person(markers, lost, enqueue, accepted, run, told, client):
    before = accepted()
    job = enqueue("held", markers)
    (row,) = eventually(lambda: uncertain_of(told, job))
    assert (row["account"], row["then"]) == ("held-1", "hold")
    assert told("status")["uncertain"] >= 1 and "uncertain" in run("status", "--uncertain")
    assert "it is not known whether the provider took it" in run("status")
    assert f"uncertain since {row['since']}" in run("status", job.id)
    with pytest.raises(JobFailed, match=r"Held: .*look there, then replay it or purge it"):
        job.result(timeout=PATIENCE)
    time.sleep(DEADLINE)
    assert (accepted() - before, job.record.attempts) == (lost, 1)
    (letter,) = (each for each in told("dead", "list", "--error", "held")["dead"] if each["id"] == job.id)
    assert letter["error"]["kind"] == "Held"
    assert told("status")["uncertain"] == 0
    assert told("status")["events"][f"{GENERIC}/uncertain"] >= 1

    assert run("dead", "replay", job.id) == "1 job replayed\n"
    eventually(lambda: job.state == "succeeded")
    assert (accepted() - before, job.record.attempts) == (lost + 1, 2)


def test_a_callback_after_it_was_held_lifts_it(enqueue, accepted, told, client):
    before = accepted()
    job = enqueue("held", "[slow] [5xx]")
    eventually(lambda: job.state == "failed")
    assert job.record.error["kind"] == "Held"
    eventually(lambda: job.state == "succeeded")
    assert len(job.result(timeout=PATIENCE).artifacts) == 1
    assert (accepted() - before, job.record.attempts) == (1, 1)
    assert job.id not in {letter["id"] for letter in told("dead", "list")["dead"]}
    assert "late" in {entry["word"] for entry in told("callbacks", "list", "--job", job.id)["callbacks"]}
    (attempt,) = told("status", job.id)["attempt_records"]
    assert attempt["cost"] == "confirmed"


def test_a_callback_before_the_deadline_settles_it_and_nothing_is_sent_twice(enqueue, accepted, told):
    before = accepted()
    job = enqueue("held", "[5xx]")
    assert job.result(timeout=PATIENCE).attempts == 1
    assert accepted() - before == 1
    assert {entry["word"] for entry in told("callbacks", "list", "--job", job.id)["callbacks"]} == {
        "pending",
        "settled",
    }


def test_a_callback_is_taken_though_another_account_tries_by_now(enqueue, told, client, accepted, own_stack):
    """The first attempt is given up, the job goes elsewhere, and then the first one's picture comes."""
    picture = enqueue("held", "").result(timeout=PATIENCE).artifacts[0].url
    before = accepted()
    client.operations.pause("account", "held-1")
    job = client.enqueue(GENERIC, {"prompt": f"{uuid.uuid4().hex} [forever]"})
    first = eventually(lambda: job.record.account)
    client.operations.pause("account", first)
    try:
        eventually(lambda: (record := job.record).attempts == 2 and record.account != first)
        eventually(lambda: accepted() - before == 2)
        reference = sign_reference(GENERIC, Reference(f"{job.id}.1", first), client.flow.exchange.keys)
        upstream_id = client.flow.store.attempt(f"{job.id}.1").upstream_id
        body = {"job": {"id": upstream_id, "state": "done", "images": [{"url": picture}]}}
        answer = requests.post(
            f"{own_stack.receiver_url}/callbacks/{GENERIC}/{reference}", json=body, timeout=30
        )
        assert answer.status_code == 204
        result = job.result(timeout=PATIENCE)
    finally:
        for name in ("held-1", first):
            client.operations.resume("account", name)
    assert (result.account, accepted() - before) == (first, 2)
    words = [entry["word"] for entry in told("callbacks", "list", "--job", job.id)["callbacks"]]
    assert "late" in words
