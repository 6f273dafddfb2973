"""Runway's official API through the whole product: poll only, on the simulator, in a stack of its own."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from orchestrator import JobFailed, Orchestrator
from orchestrator.client import Job
from orchestrator.local.stack import Stack
from tests.stack_kit import QUICK, client_of, eventually, stack_in

pytestmark = pytest.mark.long

PATIENCE = 60.0
TOKENS = {"studio-1": "key-one-that-must-never-show", "studio-2": "key-two-that-must-never-show"}
# poll_seconds below what Runway allows: its limit holds at its own address only
ACCOUNT = """
[[accounts]]
provider = "runway"
name = "{name}"
token = "env:{variable}"
max_jobs = 2
base_url = "{base_url}/v1"
poll_seconds = 0.3
timeout_seconds = 2
deadline_seconds = 20
"""


def variable(name: str) -> str:
    return "RUNWAY_" + name.replace("-", "_").upper()


VARIABLES = {variable(name): token for name, token in TOKENS.items()}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Two accounts of two slots each; the simulator runs three at once. Generations take 0.4 s."""

    def accounts(simulator: str) -> str:
        return "".join(
            ACCOUNT.format(name=name, variable=variable(name), base_url=simulator) for name in TOKENS
        )

    arguments = (*QUICK, "--max-jobs", "3")
    folder = tmp_path_factory.mktemp("runway")
    with stack_in(folder, accounts, VARIABLES, simulator_arguments=arguments) as made:
        yield made


@pytest.fixture(scope="module")
def orchestrator(stack: Stack) -> Iterator[Orchestrator]:
    with client_of(stack, VARIABLES) as made:
        yield made


@pytest.fixture
def control(stack: Stack):
    def tell(**what: object) -> None:
        answer = requests.post(f"{stack.simulator_url}/__control__", json=what, timeout=30)
        assert answer.ok, answer.text

    return tell


@pytest.fixture
def stats(stack: Stack) -> Callable[[], dict[str, Any]]:
    """The simulator's own count of what reached this API."""
    return lambda: requests.get(f"{stack.simulator_url}/__stats__", timeout=30).json()["apis"]["runway"]


@pytest.fixture
def enqueue(orchestrator: Orchestrator) -> Callable[..., Job]:
    def one(markers: str = "", **parameters: Any) -> Job:
        return orchestrator.enqueue("runway", {"promptText": f"{uuid.uuid4().hex} {markers}", **parameters})

    return one


@pytest.fixture
def paid(stats):
    """How many generations were accepted since the test began."""
    before = stats()["accepted"]
    return lambda: stats()["accepted"] - before


@pytest.fixture
def rests(orchestrator: Orchestrator):
    """Account → (why it rests, for how many seconds more)."""

    def read() -> dict[str, tuple[str, float]]:
        rows = orchestrator.flow.store.accounts.rows("runway", orchestrator.flow.clock())
        return {
            row["name"]: (row["rest_reason"], float(row["rest_until"]) - time.time())
            for row in rows
            if "rest_reason" in row
        }

    yield read
    for name in TOKENS:
        orchestrator.operations.resume("account", f"runway/{name}")


def test_a_job_succeeds_by_polling_alone(enqueue, paid, orchestrator):
    job = enqueue(ratio="1920:1080", seed=7)
    result = job.result(timeout=PATIENCE)
    (artifact,) = result.artifacts
    assert Path(artifact.path).read_bytes().startswith(b"\x89PNG")
    assert (result.provider, result.attempts, paid()) == ("runway", 1, 1)
    assert orchestrator.flow.store.stats()["runway/polls"] >= 1
    assert "runway/callbacks" not in orchestrator.flow.store.stats()


def test_the_seeds_parameters_alone_are_enough(enqueue):
    assert enqueue(model="gen4_image").result(timeout=PATIENCE).attempts == 1


def test_four_outputs_are_four_artifacts(enqueue):
    result = enqueue(model="gemini_image3_pro", outputCount=4).result(timeout=PATIENCE)
    assert len({artifact.sha256 for artifact in result.artifacts}) == 4


@pytest.mark.parametrize(
    ("markers", "attempts"),
    [("[failed:1]", 2), ("[empty:1]", 2), ("[weird]", 1), ("[unauthorized:1]", 2), ("[credits:1]", 2)],
)
def test_a_job_survives(markers, attempts, enqueue, paid, rests):
    job = enqueue(markers)
    assert job.result(timeout=PATIENCE).attempts == attempts
    assert paid() == (2 if markers in ("[failed:1]", "[empty:1]") else 1)


@pytest.mark.parametrize(
    ("markers", "kind", "attempts"), [("[moderated]", "Moderated", 1), ("[failed]", "BadOutput", 2)]
)
def test_a_job_is_given_up_with_a_reason(markers, kind, attempts, enqueue, paid):
    job = enqueue(markers)
    with pytest.raises(JobFailed, match=kind):
        job.result(timeout=PATIENCE)
    assert (job.record.attempts, paid()) == (attempts, attempts)


def test_the_daily_cap_rests_the_account_for_hours_and_the_job_goes_elsewhere(enqueue, control, rests):
    control(runway_daily={"token": TOKENS["studio-1"], "left": 0})
    jobs = [enqueue() for _ in range(4)]
    results = [job.result(timeout=PATIENCE) for job in jobs]
    control(runway_daily={"token": TOKENS["studio-1"], "left": None})
    assert {result.account for result in results} == {"studio-2"}
    assert all(job.record.failures == 0 for job in jobs)
    ((name, (reason, seconds)),) = rests().items()
    assert (name, reason) == ("studio-1", "QuotaSpent")
    assert 3 * 3600 < seconds <= 4 * 3600


def test_tasks_that_runway_throttles_are_waited_for(enqueue, control, paid, stats):
    """Somebody else holds all that Runway runs at once: nothing is refused, all is THROTTLED for a while."""
    for token in TOKENS.values():
        control(foreign={"api": "runway", "email": token, "count": 3, "seconds": 20})
    before = stats()["throttled"]
    jobs = [enqueue() for _ in range(4)]
    assert all(job.result(timeout=PATIENCE).attempts == 1 for job in jobs)
    assert (paid(), stats()["throttled"] - before) == (4, 4)


def test_cancelling_deletes_the_task_at_runway(enqueue, stats):
    before = stats()["tasks"].get("DELETED", 0)
    job = enqueue("[forever]")
    eventually(lambda: (record := job.record).attempts and record.state == "submitted")
    eventually(lambda: stats()["tasks"].get("RUNNING"))
    assert job.cancel()
    eventually(lambda: stats()["tasks"].get("DELETED", 0) == before + 1)
    assert job.state == "cancelled" and not stats()["tasks"].get("RUNNING")


@pytest.mark.parametrize("status", [404, 429, 500, 503])
def test_trouble_in_polling_is_not_a_failure_of_the_job(status, enqueue, control, paid):
    """404 also stands for: asked right after it was accepted, when Runway does not know it everywhere yet."""
    control(poll_fail={"status": status, "count": 2})
    job = enqueue()
    job.result(timeout=PATIENCE)
    assert (job.record.attempts, job.record.failures, paid()) == (1, 0, 1)


def test_outputs_that_have_expired_are_asked_for_anew_and_nothing_is_generated(enqueue, paid, stats):
    polls = stats()["polls"]
    job = enqueue("[expire]")
    (artifact,) = job.result(timeout=PATIENCE).artifacts
    assert Path(artifact.path).read_bytes().startswith(b"\x89PNG")
    assert artifact.url.endswith("?_jwt=0") and job.record.artifact_urls[0].endswith("?_jwt=-1")
    assert (paid(), job.record.attempts, job.record.collect_failures) == (1, 1, 0)
    assert stats()["polls"] > polls + 1


def test_outputs_that_expire_while_the_store_of_pictures_is_down_are_not_lost(enqueue, control, paid, stack):
    """The pictures cannot be kept at first; when they can, their URLs have expired."""
    folder = Path(stack.options.artifacts.removeprefix("file://")) / "jobs"
    folder.parent.mkdir(exist_ok=True)
    kept = folder.rename(folder.with_name("kept")) if folder.exists() else None
    folder.write_text("in the way", encoding="utf-8")
    job = enqueue()
    eventually(lambda: job.record.collect_failures)
    (expired,) = job.record.artifact_urls
    control(expire_outputs=True)
    folder.unlink()
    if kept:
        kept.rename(folder)
    (artifact,) = job.result(timeout=PATIENCE).artifacts
    assert artifact.url != expired
    assert paid() == 1


def test_no_key_shows_anywhere(stack, enqueue):
    enqueue().result(timeout=PATIENCE)
    logs = [stack.log(name).read_text(errors="replace") for name in ("worker", "ticker", "receiver")]
    assert not any(token in log for log in logs for token in TOKENS.values())
