"""The synchronous preview and an API that only the accounts file describes, through the whole product."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import CliRunner

from orchestrator import JobFailed, Orchestrator
from orchestrator.cli import main
from orchestrator.client import Job
from orchestrator.local.stack import Stack
from orchestrator.providers import registry
from tests.stack_kit import TOKEN, client_of, stack_in

pytestmark = pytest.mark.long

PREVIEW = "useapi_preview"
GENERIC = "webhook_json"
PATIENCE = 60.0
TIMEOUT_SECONDS = 3
ACCOUNTS = """
[[accounts]]
provider = "useapi_preview"
name = "free-1"
token = "env:SIMULATOR_TOKEN"
max_jobs = 4
base_url = "{simulator}/v1/runwayml"
timeout_seconds = {timeout}
deadline_seconds = 600
allow_retired = true

[[accounts]]
provider = "useapi_preview"
name = "not-allowed"
token = "env:SIMULATOR_TOKEN"
base_url = "{simulator}/v1/runwayml"

[[accounts]]
provider = "webhook_json"
name = "calls-back"
api = "atelier"
token = "env:ATELIER_KEY"
base_url = "{simulator}/v1/generic"
max_jobs = 4
poll_seconds = 1
net_seconds = 3
timeout_seconds = 2
deadline_seconds = 20
submit_path = "/jobs"
poll_path = "/jobs/{{id}}"
headers = {{ X-Api-Key = "{{token}}" }}
body = {{ text = "{{prompt}}", notify = "{{callback_url}}", options = {{ size = "tall" }} }}
parameters_at = "options"
id_at = "job.id"
status_at = "job.state"
outputs_at = "job.images[*].url"
error_at = "job.problem|problem"
pending = ["waiting", "drawing"]
succeeded = ["done"]
failed = ["broken"]

[[accounts]]
provider = "webhook_json"
name = "is-polled"
api = "studio"
token = "env:STUDIO_KEY"
base_url = "{simulator}/v1/generic/"
max_jobs = 4
poll_seconds = 1
timeout_seconds = 2
deadline_seconds = 20
submit_path = "/jobs"
poll_path = "/jobs/{{id}}"
headers = {{ X-Api-Key = "{{token}}" }}
body = {{ text = "{{prompt}}" }}
parameters_at = "options"
id_at = "job.id"
status_at = "job.state"
outputs_at = "job.images[*].url"
succeeded = ["done"]
failed = ["broken"]
"""
ENVIRON = {"SIMULATOR_TOKEN": TOKEN, "ATELIER_KEY": f"{TOKEN}-1", "STUDIO_KEY": f"{TOKEN}-2"}


@pytest.fixture(scope="module")
def own_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Generations take 0.4 s."""

    def accounts(simulator: str) -> str:
        return ACCOUNTS.format(simulator=simulator, timeout=TIMEOUT_SECONDS)

    with stack_in(tmp_path_factory.mktemp("preview-and-generic"), accounts, ENVIRON) as made:
        yield made


@pytest.fixture(scope="module")
def client(own_stack: Stack) -> Iterator[Orchestrator]:
    with client_of(own_stack, ENVIRON) as made:
        yield made


@pytest.fixture
def stats(own_stack: Stack) -> Callable[[str], dict[str, Any]]:
    """What the simulator counted at one API."""
    return lambda api: requests.get(f"{own_stack.simulator_url}/__stats__", timeout=30).json()["apis"][api]


@pytest.fixture
def preview(client: Orchestrator) -> Callable[..., Job]:
    def one(markers: str = "") -> Job:
        return client.enqueue(PREVIEW, {"text_prompt": f"{uuid.uuid4().hex} {markers}"})

    return one


@pytest.fixture
def generic(client: Orchestrator) -> Callable[..., Job]:
    def one(markers: str = "", api: str = "atelier", **parameters: Any) -> Job:
        prompt = f"{uuid.uuid4().hex} {markers}"
        return client.enqueue(GENERIC, {"prompt": prompt, "api": api, "parameters": parameters})

    return one


# --- the preview --------------------------------------------------------------------------------------


def test_preview_jobs_run_side_by_side_and_bring_a_picture_each(client, stats):
    before = stats(PREVIEW)
    prompts = [{"text_prompt": f"preview {uuid.uuid4().hex}", "style": "anime"} for _ in range(8)]
    batch = client.enqueue_many(PREVIEW, prompts)
    assert batch.wait(timeout=PATIENCE)["succeeded"] == len(prompts)
    for job in batch.jobs():
        (artifact,) = job.result().artifacts
        assert Path(artifact.path).read_bytes().startswith(b"\x89PNG")
        assert job.result().account == "free-1"  # the other account says nothing of allow_retired
    after = stats(PREVIEW)
    assert after["posts"] - before["posts"] == len(prompts)
    assert after["duplicates_by_prompt"] == before["duplicates_by_prompt"]
    assert 1 < max(after["max_concurrent"].values()) <= 4
    assert (after["polls"], after["callbacks_sent"]) == (0, 0)


@pytest.mark.parametrize(
    "marker", ["[5xx-refused:1]", "[5xx:1]", "[reset:1]", "[timeout:1]", "[empty:1]", "[failed:1]"]
)
def test_a_lost_answer_is_asked_for_again_at_once(preview, marker):
    """Nothing is spent, so nothing waits for the deadline, which is ten minutes away."""
    job = preview(marker)
    result = job.result(timeout=PATIENCE)
    assert (result.attempts, job.record.failures) == (2, 1)


def test_a_moderated_prompt_is_given_up_at_once(preview):
    job = preview("[moderated]")
    with pytest.raises(JobFailed, match="Moderated: Text did not pass content moderation"):
        job.result(timeout=PATIENCE)
    assert job.record.attempts == 1


def test_an_account_without_credit_rests_and_the_job_waits_for_it(client, preview):
    job = preview("[credits:1]")
    while not (reason := rest_reason(client, "free-1")):
        assert job.record.ended_at is None
    assert reason == "OutOfCredit"
    client.operations.resume("account", "free-1")
    assert job.result(timeout=PATIENCE).attempts == 2
    assert job.record.failures == 0


def rest_reason(client: Orchestrator, account: str) -> str | None:
    rows = {row["name"]: row for row in client.flow.store.accounts.rows(PREVIEW, client.flow.clock())}
    return rows[account].get("rest_reason")


def test_a_submit_whose_worker_was_killed_is_made_again_long_before_the_deadline(
    own_stack, client, preview, stats
):
    accepted = stats(PREVIEW)["accepted"]
    job = preview("[forever:1]")
    while stats(PREVIEW)["accepted"] == accepted:
        assert job.record.ended_at is None
    own_stack.kill("worker")
    own_stack.restart("worker")
    assert job.result(timeout=PATIENCE).attempts == 2
    lost, won = client.flow.store.attempts(job.record)
    assert "the submit was never answered" in lost["error"]
    assert won["verdict"] == "succeeded"


# --- the API that only the accounts file describes ----------------------------------------------------


def test_it_brings_its_pictures_by_callback_alone(generic, stats):
    before = stats(GENERIC)
    result = generic(images=3).result(timeout=PATIENCE)
    assert len({artifact.sha256 for artifact in result.artifacts}) == 3
    assert (result.account, result.attempts) == ("calls-back", 1)
    after = stats(GENERIC)
    assert after["polls"] == before["polls"]
    assert after["callbacks_sent"] > before["callbacks_sent"]


def test_it_brings_its_pictures_by_poll_where_it_is_told_no_callback_url(generic, stats):
    before = stats(GENERIC)
    result = generic(api="studio", size="square").result(timeout=PATIENCE)
    assert (result.account, len(result.artifacts)) == ("is-polled", 1)
    after = stats(GENERIC)
    assert after["polls"] > before["polls"]
    assert after["callbacks_sent"] == before["callbacks_sent"]


@pytest.mark.parametrize(
    ("markers", "attempts", "failures"),
    [
        ("[early]", 1, 0),
        ("[double]", 1, 0),
        ("[out-of-order]", 1, 0),
        ("[weird]", 1, 0),
        ("[lost]", 1, 0),  # the poll is the net
        ("[empty:1]", 2, 1),
        ("[failed:1]", 2, 1),  # nothing says why: one more try
        ("[5xx:1]", 1, 0),  # accepted, but answered 503: the callback settles it, no second POST
        ("[timeout:1]", 1, 0),
        ("[reset:1]", 1, 0),
    ],
)
def test_it_survives_what_an_api_can_do_wrong(generic, markers, attempts, failures):
    job = generic(markers)
    assert job.result(timeout=PATIENCE).attempts == attempts
    assert job.record.failures == failures


def test_a_failure_is_tried_once_more_and_told_in_the_apis_own_words(generic):
    job = generic("[failed]")
    with pytest.raises(JobFailed, match=r"BadOutput: INTERNAL\.BAD_OUTPUT\.CODE01"):
        job.result(timeout=PATIENCE)
    assert job.record.attempts == 2


def test_a_parameter_the_api_refuses_is_told_in_its_own_words(generic):
    with pytest.raises(JobFailed, match="Invalid: options: size is wide, square or tall"):
        generic(size="round").result(timeout=PATIENCE)


def test_a_job_may_be_cancelled(generic):
    job = generic("[slow]")
    while job.state != "submitted":
        assert job.record.ended_at is None
    assert job.cancel()
    assert job.state == "cancelled"


# --- the command line, and secrets --------------------------------------------------------------------


def test_the_providers_are_listed_with_kind_and_limits():
    listed = json.loads(CliRunner().invoke(main, ["providers", "--json"]).output)
    assert [row["name"] for row in listed] == list(registry())
    by_name = {row["name"]: row for row in listed}
    assert by_name[PREVIEW]["kind"] == "synchronous"
    assert by_name[PREVIEW]["limits"]["timeout_seconds"] == 90
    assert by_name[PREVIEW]["limits"]["price"] == 0
    shown = CliRunner().invoke(main, ["providers"])
    assert shown.exit_code == 0
    for row in listed:
        assert row["docs_url"] in shown.output


def test_no_log_shows_a_token(own_stack):
    """Runs last: it reads what all the others have led to."""
    for path in (own_stack.folder / "logs").iterdir():
        assert TOKEN not in path.read_text(encoding="utf-8", errors="replace"), path.name
