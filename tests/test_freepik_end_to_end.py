"""Freepik through the whole product, by signed callbacks: what must succeed, and what is not believed."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from standardwebhooks import Webhook

from orchestrator import Orchestrator
from orchestrator.client import Job
from orchestrator.local.stack import Stack
from orchestrator.models import Secret
from orchestrator.signatures import Reference, sign_reference, sign_webhook
from tests.stack_kit import QUICK, client_of, eventually, stack_in

PATIENCE = 60.0
PROVIDER = "freepik_runway"
ACCOUNT_NAME = "studio-1"
KEY, SECRET = "FPSX-a-key-that-must-never-show", "a-signing-secret-that-must-never-show"
ACCOUNT = f"""
[[accounts]]
provider = "{PROVIDER}"
name = "{ACCOUNT_NAME}"
token = "env:FREEPIK_KEY"
signing_secret = "env:FREEPIK_SECRET"
max_jobs = 20
poll_seconds = 1
net_seconds = 5
timeout_seconds = 2
deadline_seconds = 60
base_url = "{{simulator}}"
"""
SECRETS = {"FREEPIK_KEY": KEY, "FREEPIK_SECRET": f"the-next-one,{SECRET}"}


@pytest.fixture(scope="module")
def freepik(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The product with one account at Freepik. Generations take 0.4 s."""
    arguments = (*QUICK, "--max-jobs", "50", "--freepik-secret", f"{KEY}={SECRET}")
    folder = tmp_path_factory.mktemp("freepik")
    with stack_in(
        folder, lambda url: ACCOUNT.format(simulator=url), SECRETS, simulator_arguments=arguments
    ) as made:
        yield made


@pytest.fixture(scope="module")
def client(freepik: Stack) -> Iterator[Orchestrator]:
    with client_of(freepik, SECRETS) as made:
        yield made


@pytest.fixture
def enqueue(client: Orchestrator) -> Callable[[str], Job]:
    def one(markers: str = "") -> Job:
        prompt = f"{uuid.uuid4().hex} {markers}"
        return client.enqueue(PROVIDER, {"prompt": prompt, "ratio": "1024:1024"})

    return one


@pytest.fixture
def stats(freepik: Stack) -> Callable[[], dict[str, Any]]:
    return lambda: requests.get(f"{freepik.simulator_url}/__stats__", timeout=30).json()["apis"][PROVIDER]


# marker, attempts, generations paid for
SURVIVED = [
    ("", 1, 1),
    ("[failed:1]", 2, 2),  # no reason is given, so it is tried again
    ("[lost]", 1, 1),  # the poll is the net
    ("[double]", 1, 1),  # one delivery twice: the second is a duplicate, without an effect
    ("[early]", 1, 1),  # the signed callback overtakes the reply
    ("[5xx:1]", 1, 1),  # answered 503 but accepted: the callback settles it, no second POST
    ("[timeout:1]", 1, 1),
    ("[empty:1]", 2, 2),
    ("[weird]", 1, 1),
    ("[out-of-order]", 1, 1),
]


@pytest.mark.parametrize(("markers", "attempts", "paid"), SURVIVED)
def test_job_survives(markers, attempts, paid, enqueue, stats):
    before = stats()
    job = enqueue(markers)
    result = job.result(timeout=PATIENCE)
    assert (len(result.artifacts), result.artifacts[0].media_type) == (1, "image/png")
    assert result.attempts == attempts
    assert stats()["accepted"] - before["accepted"] == paid


def test_job_succeeds_by_signed_callbacks_alone(enqueue, stats):
    before = stats()
    enqueue().result(timeout=PATIENCE)
    assert stats()["polls"] == before["polls"]
    # The last callback is counted when its answer has come back, which may be after the job's end.
    eventually(lambda: stats()["callbacks_sent"] - before["callbacks_sent"] == 2)
    assert stats()["callbacks_refused"] == before["callbacks_refused"]


# --- callbacks of our own -----------------------------------------------------------------------------


class Pretender:
    """One open job, and callbacks to its URL that we make ourselves."""

    def __init__(self, freepik: Stack, client: Orchestrator, job: Job) -> None:
        self.freepik, self.client, self.job = freepik, client, job
        eventually(lambda: job.record.state == "submitted" and self.upstream_id())
        self.task_id = str(self.upstream_id())
        keys = [Secret(freepik.environment["ORCHESTRATOR_SECRET_KEYS"].split(",")[0])]
        reference = sign_reference(PROVIDER, Reference(f"{job.id}.1", ACCOUNT_NAME), keys)
        self.url = f"{freepik.receiver_url}/callbacks/{PROVIDER}/{reference}"

    def upstream_id(self) -> str | None:
        attempt = self.client.flow.store.attempt(f"{self.job.id}.1")
        return attempt.upstream_id if attempt else None

    def body(self, status: str = "COMPLETED") -> bytes:
        picture = f"{self.freepik.simulator_url}/artifacts/0011aabb-0011aabb-320x320/0.png?token=exp=1~hmac=0"
        generated = [picture] if status == "COMPLETED" else []
        return json.dumps({"task_id": self.task_id, "status": status, "generated": generated}).encode()

    def journal(self) -> list[str]:
        """What callbacks of the attempt led to, as far as they are noted."""
        return [entry.word for entry in self.client.flow.store.journal.of_job(self.job.id, 0.0)]

    def signed(
        self, body: bytes, secret: str = SECRET, age: float = 0.0, delivery: str = ""
    ) -> dict[str, str]:
        now, delivery = str(int(time.time() - age)), delivery or str(uuid.uuid4())
        return {
            "webhook-id": delivery,
            "webhook-timestamp": now,
            "webhook-signature": f"v1,{sign_webhook(delivery, now, body, secret.encode())}",
        }

    def post(self, body: bytes, headers: dict[str, str], url: str = "") -> int:
        headers = {"Content-Type": "application/json", **headers}
        return requests.post(url or self.url, data=body, headers=headers, timeout=10).status_code

    def untouched(self) -> bool:
        record = self.job.record
        return (record.state, record.attempts, record.failures) == ("submitted", 1, 0)


@pytest.fixture
def pretend(freepik: Stack, client: Orchestrator, enqueue) -> Iterator[Callable[[], Pretender]]:
    """Makes jobs that nobody but us calls back about; polls find them running."""
    made: list[Pretender] = []

    def one() -> Pretender:
        made.append(Pretender(freepik, client, enqueue("[forever] [lost]")))
        return made[-1]

    yield one
    for each in made:
        each.job.cancel()


def test_callback_of_our_own_is_believed_when_it_is_signed_and_only_once(pretend):
    ours = pretend()
    body = ours.body()
    headers = ours.signed(body)
    assert ours.post(body, headers) == 204
    result = ours.job.result(timeout=PATIENCE)
    assert result.attempts == 1
    record = ours.job.record
    noted = ours.journal()
    assert [ours.post(body, headers) for _ in range(3)] == [204] * 3  # its answer was lost, perhaps
    assert ours.post(body, ours.signed(body, delivery=headers["webhook-id"])) == 204  # signed anew
    other = ours.body("IN_PROGRESS")
    assert ours.post(other, ours.signed(other, delivery=headers["webhook-id"])) == 401
    assert (ours.job.record, ours.journal()) == (record, noted)
    assert ours.post(body, ours.signed(body)) == 204  # a new delivery of old news is a duplicate
    assert ours.job.record == record


def test_news_that_are_not_the_end_are_taken_once_too(pretend):
    ours = pretend()
    body = ours.body("IN_PROGRESS")
    headers = ours.signed(body)
    assert [ours.post(body, headers) for _ in range(3)] == [204] * 3
    assert ours.untouched()
    assert ours.journal() == ["pending"]
    end = ours.body()
    assert ours.post(end, ours.signed(end, delivery=headers["webhook-id"])) == 401
    assert ours.untouched()


def test_unsigned_or_badly_signed_callback_is_refused_although_its_reference_is_genuine(pretend):
    ours = pretend()
    for status in ("COMPLETED", "FAILED", "IN_PROGRESS"):
        body = ours.body(status)
        good = ours.signed(body)
        for headers in (
            {},
            ours.signed(body, secret="another"),
            ours.signed(body, age=301),
            ours.signed(body, age=-302),
            ours.signed(body + b" "),
            {**good, "webhook-id": "another"},
            {**good, "webhook-signature": good["webhook-signature"].removeprefix("v1,")},
            {**good, "webhook-signature": "v1,\u00e9".encode()},
            {**good, "webhook-signature": "," * 7_000},
            {**good, "webhook-timestamp": "now"},
            *({name: text for name, text in good.items() if name != without} for without in good),
        ):
            assert ours.post(body, headers) == 401, headers
    assert ours.untouched()
    assert ours.post(b"not JSON", ours.signed(b"not JSON")) == 400
    assert ours.untouched()


def test_signed_callback_of_one_task_is_refused_at_the_url_of_another_job(pretend):
    ours, theirs = pretend(), pretend()
    body = ours.body()
    headers = ours.signed(body)
    assert ours.post(body, headers, url=theirs.url) == 401
    assert theirs.untouched()
    assert ours.untouched()
    assert ours.post(body, headers) == 204  # and it has not been used up
    ours.job.result(timeout=PATIENCE)
    assert theirs.untouched()


def test_both_secrets_are_believed_while_they_rotate(pretend):
    ours = pretend()
    body = ours.body()
    headers = ours.signed(body, secret="the-next-one")
    Webhook(b"the-next-one").verify(body, headers)
    assert ours.post(body, headers) == 204
    ours.job.result(timeout=PATIENCE)


def test_no_secret_is_in_any_log(freepik, enqueue):
    enqueue().result(timeout=PATIENCE)
    for log in (freepik.folder / "logs").iterdir():
        text = log.read_text(encoding="utf-8", errors="replace")
        for secret in (KEY, SECRET, "the-next-one"):
            assert secret not in text, log.name
