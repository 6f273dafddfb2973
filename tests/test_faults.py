"""Every way the provider can misbehave, through the whole product: one job each, and how it must end."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from orchestrator import JobFailed, Orchestrator
from orchestrator.client import Job
from orchestrator.local.stack import Stack
from tests.conftest import ACCOUNTS, MAX_JOBS

pytestmark = pytest.mark.long

PATIENCE = 60.0
SILENT = "[forever:1]"


@pytest.fixture(scope="module")
def enqueue(orchestrator: Orchestrator) -> Callable[..., Job]:
    def one(markers: str, **parameters: Any) -> Job:
        prompt = f"{uuid.uuid4().hex} {markers}"
        return orchestrator.enqueue("useapi_frames", {"text_prompt": prompt, **parameters})

    return one


@pytest.fixture(scope="module")
def begun(enqueue: Callable[..., Job]) -> dict[str, Job]:
    """Those that disturb no account, by their markers: they wait beside each other."""
    return {markers: enqueue(markers) for markers, *_ in (*SURVIVED, *GIVEN_UP, (SILENT,))}


@pytest.fixture
def tasks(stack: Stack) -> Callable[[Job], list[dict[str, Any]]]:
    """The simulator's tasks of a job: what was really generated, and so paid for."""

    def of(job: Job) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for name in ACCOUNTS:
            answer = requests.get(
                f"{stack.simulator_url}/v1/runwayml/tasks/",
                params={"offset": 0, "limit": 1000, "email": f"{name}@example.com"},
                headers={"Authorization": "Bearer any"},
                timeout=30,
            )
            assert answer.ok, answer.text
            found += answer.json()["tasks"]
        prompt = job.record.parameters["text_prompt"]
        return [task for task in found if task["options"].get("text_prompt") == prompt]

    return of


# marker, attempts, generations paid for, why
SURVIVED = [
    ("", 1, 1),
    ("[early]", 1, 1),  # the callback overtakes the reply
    ("[double]", 1, 1),  # the duplicate falls through
    ("[out-of-order]", 1, 1),  # a late progress callback changes nothing
    ("[weird]", 1, 1),  # unknown words are Pending
    ("[lost]", 1, 1),  # the poll is the net
    ("[failed:1]", 2, 2),  # an internal failure is tried again
    ("[empty:1]", 2, 2),  # a success without artifacts is none
    ("[5xx:1]", 1, 1),  # answered 503 but accepted: the callback settles it, no second POST
    ("[5xx:1] [lost]", 1, 1),  # … the provider's own list does where no callback comes
    ("[timeout:1]", 1, 1),  # no answer in time, but accepted
    ("[reset:1]", 1, 1),  # the connection breaks after it was accepted
    ("[5xx-refused:1]", 2, 1),  # answered 503 and not accepted: its list says so, so it is tried again
]


@pytest.mark.parametrize(("markers", "attempts", "paid"), SURVIVED)
def test_job_survives(markers, attempts, paid, begun, tasks):
    job = begun[markers]
    result = job.result(timeout=PATIENCE)
    assert len(result.artifacts) == 1
    assert result.attempts == attempts
    assert len(tasks(job)) == paid


# marker, kind of error, attempts
GIVEN_UP = [
    ("[moderated]", "Moderated", 1),  # the same prompt would be refused again, and accounts are suspended
    ("[moderated-422]", "Moderated", 1),
    ("[failed]", "BadOutput", 2),  # each try is paid for
    ("[empty]", "Unavailable", 5),  # max_attempts
]


@pytest.mark.parametrize(("markers", "kind", "attempts"), GIVEN_UP)
def test_job_is_given_up_with_a_reason_a_person_can_read(markers, kind, attempts, begun):
    job = begun[markers]
    with pytest.raises(JobFailed, match=kind) as caught:
        job.result(timeout=PATIENCE)
    assert job.state == "failed"
    assert job.record.attempts == attempts
    assert "@" not in str(caught.value)


def test_silence_until_the_deadline_is_lost_and_tried_again(begun, stop_generations):
    job = begun[SILENT]
    result = job.result(timeout=2 * PATIENCE)
    assert result.attempts == 2
    assert job.record.failures == 1
    stop_generations(job.record.parameters["text_prompt"])  # which would hold a slot of what follows


def test_four_images_are_four_artifacts_on_disk(enqueue):
    result = enqueue("", num_images=4).result(timeout=PATIENCE)
    assert len({artifact.sha256 for artifact in result.artifacts}) == 4
    for artifact in result.artifacts:
        content = Path(artifact.path).read_bytes()
        assert content.startswith(b"\x89PNG")
        assert (artifact.media_type, artifact.bytes) == ("image/png", len(content))


@pytest.mark.parametrize("marker", ["[credits:1]", "[unauthorized:1]", "[broken:1]"])
def test_account_in_trouble_rests_and_the_job_goes_elsewhere(marker, enqueue, orchestrator):
    job = enqueue(marker)
    result = job.result(timeout=PATIENCE)
    record = job.record
    assert (record.attempts, record.failures) == (2, 0)
    rows = {
        row["name"]: row
        for row in orchestrator.flow.store.accounts.rows("useapi_frames", orchestrator.flow.clock())
    }
    (resting,) = [name for name, row in rows.items() if float(row.get("rest_until") or 0) > 4e9]
    assert result.account != resting
    orchestrator.operations.resume("account", f"useapi_frames/{resting}")
    rows = {
        row["name"]: row
        for row in orchestrator.flow.store.accounts.rows("useapi_frames", orchestrator.flow.clock())
    }
    assert "rest_until" not in rows[resting]


@pytest.fixture
def rests(orchestrator):
    """Why accounts rest just now, by name."""

    def read() -> dict[str, str]:
        rows = orchestrator.flow.store.accounts.rows("useapi_frames", orchestrator.flow.clock())
        return {row["name"]: row["rest_reason"] for row in rows if "rest_reason" in row}

    return read


@pytest.fixture
def elsewhere(orchestrator):
    """How many slots of each account others are known to hold."""

    def read() -> list[str | None]:
        rows = orchestrator.flow.store.accounts.rows("useapi_frames", orchestrator.flow.clock())
        return [row.get("elsewhere") for row in rows]

    return read


@pytest.fixture
def ends_when_resumed(orchestrator):
    """Waits for the end of a job, resuming accounts that rest for a while, as time would."""

    def wait(job: Job) -> None:
        while job.record.ended_at is None:
            for name in ACCOUNTS:
                orchestrator.operations.resume("account", f"useapi_frames/{name}")
            with contextlib.suppress(TimeoutError):
                job.result(timeout=0.5)

    return wait


def test_full_account_is_not_a_failure_of_the_job(enqueue, elsewhere, ends_when_resumed, control):
    """Somebody else's tasks hold all of both accounts: the job waits for them."""
    for name in ACCOUNTS:
        control(foreign={"email": f"{name}@example.com", "count": MAX_JOBS, "seconds": 30})
    job = enqueue("")
    while elsewhere() != [str(MAX_JOBS)] * len(ACCOUNTS):
        assert job.record.ended_at is None
    ends_when_resumed(job)
    assert (job.state, job.record.failures) == ("succeeded", 0)


def test_runways_own_429_rests_the_account_for_a_while(enqueue, rests, ends_when_resumed, control):
    for name in ACCOUNTS:
        control(runway_limit={"email": f"{name}@example.com", "tasks": 0})
    job = enqueue("")
    while "TooMany" not in rests().values():
        assert job.record.ended_at is None
    for name in ACCOUNTS:
        control(runway_limit={"email": f"{name}@example.com", "tasks": None})
    ends_when_resumed(job)
    assert (job.state, job.record.failures) == ("succeeded", 0)


def test_pinned_email_goes_to_that_account(enqueue):
    jobs = [enqueue("", email="studio-2@example.com") for _ in range(3)]
    assert {job.result(timeout=PATIENCE).account for job in jobs} == {"studio-2"}


def test_picture_that_cannot_be_fetched_is_not_generated_again(enqueue, tasks, orchestrator):
    job = enqueue("[no-picture]")
    while not job.record.collect_failures:
        assert job.record.ended_at is None
    assert job.state == "collecting"
    assert len(tasks(job)) == 1
    orchestrator.flow.endings.end(job.id, None, "the test is over")


def test_trouble_in_polling_is_not_a_failure_of_the_job(enqueue, control):
    job = enqueue("[lost]")
    control(poll_fail={"status": 503, "count": 2})
    job.result(timeout=PATIENCE)
    assert (job.record.attempts, job.record.failures) == (1, 0)
