"""The callback door as it stands on the network: gunicorn, the store behind it, and anyone knocking."""

from __future__ import annotations

import json
import random
import re
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest
import redis
import requests
from click.testing import CliRunner
from flask.testing import FlaskClient

from orchestrator import JobFailed, Orchestrator
from orchestrator.broker import Broker, make_app
from orchestrator.cli import main
from orchestrator.client import Job
from orchestrator.exchange import Exchange
from orchestrator.flow import Flow
from orchestrator.local.processes import free_port
from orchestrator.local.stack import Stack
from orchestrator.models import Secret
from orchestrator.providers import registry
from orchestrator.providers.useapi_frames import UseapiFrames
from orchestrator.signatures import Reference, sign_reference
from orchestrator.store import Store
from orchestrator.upstream import Upstream
from orchestrator.watch import Watch
from tests.stack_kit import TOKEN
from webhooks.app import create_app
from webhooks.callbacks import MAX_BODY_BYTES

PROVIDER = "useapi_frames"
PATIENCE = 30.0
KEY = Secret("a-key-of-the-tests-alone-0123456789")
ANOTHER_KEY = Secret("somebody-elses-key-0123456789-abcdef")
E_MAIL = "somebody@example.org"


@dataclass(frozen=True)
class Waiting:
    """A job whose generation never ends by itself: only a callback can settle it."""

    job: Job
    attempt: str
    account: str
    upstream_id: str
    reference: str

    def body(self, status: str = "SUCCEEDED", **fields: Any) -> dict[str, Any]:
        """What useapi.net would send, with what the test needs different."""
        return {"taskId": self.upstream_id, "status": status, "replyRef": self.reference, **fields}


@pytest.fixture
def keys(environment: dict[str, str]) -> list[Secret]:
    return [Secret(key) for key in environment["ORCHESTRATOR_SECRET_KEYS"].split(",")]


@pytest.fixture
def waiting(stack: Stack, orchestrator: Orchestrator, keys: list[Secret]) -> Iterator[Callable[..., Waiting]]:
    made: list[Waiting] = []

    def one(**options: Any) -> Waiting:
        job = orchestrator.enqueue(PROVIDER, {"text_prompt": f"{uuid.uuid4().hex} [forever]"}, **options)
        store = orchestrator.flow.store
        while not (attempt := store.attempt(f"{job.id}.1")) or attempt.state != "submitted":
            time.sleep(0.01)
        reference = sign_reference(PROVIDER, Reference(attempt.id, attempt.account), keys)
        made.append(Waiting(job, attempt.id, attempt.account, str(attempt.upstream_id), reference))
        return made[-1]

    yield one
    for each in made:
        each.job.cancel()
        address = f"{stack.simulator_url}/v1/runwayml/tasks/{quote(each.upstream_id, safe=':@')}"
        requests.delete(address, headers={"Authorization": "Bearer any"}, timeout=30)


@pytest.fixture
def post(stack: Stack) -> Callable[..., int]:
    """Knocks; gives the status of the answer."""

    def knock(reference: str, body: Any, *, provider: str = PROVIDER, **options: Any) -> int:
        raw_body = json.dumps(body).encode() if isinstance(body, dict) else body
        address = f"{stack.receiver_url}/callbacks/{provider}/{reference}"
        options.setdefault("headers", {"Content-Type": "application/json"})
        return requests.post(address, data=raw_body, timeout=10, **options).status_code

    return knock


@pytest.fixture(scope="module")
def artifacts(orchestrator: Orchestrator) -> list[dict[str, str]]:
    """One picture that the simulator really serves, as a callback tells of it."""
    job = orchestrator.enqueue(PROVIDER, {"text_prompt": "a picture to point at"})
    job.result(timeout=PATIENCE)
    return [{"url": job.record.artifact_urls[0]}]


@pytest.fixture
def log(stack: Stack) -> Callable[[], str]:
    """What the receiver has logged since the test began."""
    began = stack.log("receiver").stat().st_size

    def read() -> str:
        with stack.log("receiver").open("rb") as file:
            file.seek(began)
            return file.read().decode()

    return read


# --- health --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "text"), [("/healthz", "ok"), ("/readyz", "ready")])
def test_receiver_says_how_it_is(path, text, stack):
    answer = requests.get(stack.receiver_url + path, timeout=30)
    assert (answer.status_code, answer.text.strip()) == (200, text)


@pytest.mark.parametrize("path", ["/", "/callbacks", "/callbacks/useapi_frames/", "/metrics", "/static/x"])
def test_nothing_else_is_served(path, stack):
    assert requests.get(stack.receiver_url + path, timeout=30).status_code == 404


# --- who is let in -------------------------------------------------------------------------------------


def altered(place: int) -> Callable[[str], str]:
    """One letter of a reference changed, early (the payload) or late (the MAC)."""

    def change(reference: str) -> str:
        letter = "A" if reference[place] != "A" else "B"
        letters = list(reference)
        letters[place] = letter
        return "".join(letters)

    return change


def of_another_attempt(reference: str) -> str:
    """Another attempt's payload with this one's MAC."""
    another = sign_reference(PROVIDER, Reference("another.1", "studio-1"), [ANOTHER_KEY])
    return another.partition(".")[0] + "." + reference.partition(".")[2]


WRONG = [
    pytest.param(lambda _: "garbage", id="garbage"),
    pytest.param(lambda _: "Z2FyYmFnZQ.Z2FyYmFnZQ", id="well-formed garbage"),
    pytest.param(lambda _: "%F0%9F%A6%8A.%00", id="not ASCII"),
    pytest.param(lambda _: "%20", id="blank"),
    pytest.param(lambda _: "A" * 513, id="too long"),
    pytest.param(lambda _: "A" * 3000, id="much too long"),
    pytest.param(lambda reference: reference + "=", id="another spelling"),
    pytest.param(lambda reference: reference + ".A", id="something behind it"),
    pytest.param(lambda reference: reference.partition(".")[0], id="no MAC"),
    pytest.param(lambda reference: reference[:-1], id="MAC cut short"),
    pytest.param(altered(2), id="payload altered"),
    pytest.param(altered(-3), id="MAC altered"),
    pytest.param(of_another_attempt, id="of another attempt"),
]


@pytest.mark.parametrize("spoil", WRONG)
def test_reference_that_is_not_ours_is_refused(spoil, waiting, post, artifacts):
    one = waiting()
    wrong = spoil(one.reference)
    assert post(wrong, one.body(artifacts=artifacts, replyRef=wrong)) == 401
    assert one.job.state == "submitted"


@pytest.mark.parametrize("signed_for", ["another provider", "another key"])
def test_reference_that_was_signed_for_something_else_is_refused(signed_for, waiting, post, artifacts, keys):
    one = waiting()
    told = Reference(one.attempt, one.account)
    wrong = {
        "another provider": sign_reference("runway", told, keys),
        "another key": sign_reference(PROVIDER, told, [ANOTHER_KEY]),
    }[signed_for]
    assert post(wrong, one.body(artifacts=artifacts, replyRef=wrong)) == 401
    assert one.job.state == "submitted"


def test_refused_reference_touches_nothing_in_the_store(post, orchestrator):
    before = orchestrator.flow.store.stats()
    assert post("garbage", {"taskId": "x", "status": "RUNNING"}) == 401
    assert orchestrator.flow.store.stats() == before


def test_unknown_provider_is_not_found(waiting, post):
    one = waiting()
    assert post(one.reference, one.body(), provider="nobody") == 404


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_only_post_is_answered(method, waiting, stack):
    one = waiting()
    address = f"{stack.receiver_url}/callbacks/{PROVIDER}/{one.reference}"
    assert requests.request(method, address, json=one.body(), timeout=30).status_code == 405
    assert one.job.state == "submitted"


UNREADABLE = [
    pytest.param(b"", id="empty"),
    pytest.param(b"\xff\xfe\x00", id="bytes"),
    pytest.param(b"taskId=1&status=SUCCEEDED", id="a form"),
    pytest.param(b'{"taskId": "1", "status": "SUCCEEDED"', id="cut short"),
    pytest.param(b"[" * 200_000, id="deeply nested"),
    pytest.param(b'{"taskId":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001, id="deeply nested objects"),
    pytest.param(b'{"taskId": "1", "n": ' + b"1" * 5000 + b"}", id="a number without end"),
    pytest.param(b'["SUCCEEDED"]', id="a list"),
    pytest.param(b'"SUCCEEDED"', id="a text"),
    pytest.param(b"null", id="null"),
    pytest.param(b'{"status": "SUCCEEDED"}', id="no taskId"),
    pytest.param(b'{"taskId": "", "status": "SUCCEEDED"}', id="empty taskId"),
    pytest.param(b'{"taskId": 7, "status": "SUCCEEDED"}', id="taskId is a number"),
    pytest.param(b'{"task": [], "taskId": "1", "status": "SUCCEEDED"}', id="task is a list"),
    pytest.param(b'{"taskId": "\\ud800", "status": "RUNNING"}', id="half a character"),
]


@pytest.mark.parametrize("raw_body", UNREADABLE)
def test_body_that_cannot_be_read_is_refused_and_settles_nothing(raw_body, waiting, post):
    one = waiting()
    assert post(one.reference, raw_body) == 400
    assert one.job.state == "submitted"


@pytest.mark.parametrize("chunked", [False, True])
def test_body_that_is_too_large_is_refused_and_settles_nothing(chunked, waiting, post, artifacts):
    one = waiting()
    raw_body = json.dumps(one.body(artifacts=artifacts)).encode().ljust(MAX_BODY_BYTES + 1)
    assert post(one.reference, iter([raw_body]) if chunked else raw_body) == 413
    assert one.job.state == "submitted"


def test_body_of_the_largest_size_is_read(waiting, post, artifacts):
    one = waiting()
    raw_body = json.dumps(one.body(artifacts=artifacts)).encode().ljust(MAX_BODY_BYTES)
    assert post(one.reference, raw_body) == 204
    assert one.job.result(timeout=PATIENCE).artifacts


def test_body_of_another_attempt_is_refused(waiting, post, artifacts):
    one, another = waiting(), waiting()
    assert post(one.reference, another.body(artifacts=artifacts)) == 401
    assert post(one.reference, one.body(artifacts=artifacts, replyRef="garbage")) == 401
    assert (one.job.state, another.job.state) == ("submitted", "submitted")


def test_body_of_another_generation_is_refused(waiting, post, artifacts):
    one, another = waiting(), waiting()
    assert post(one.reference, one.body(artifacts=artifacts, taskId=another.upstream_id)) == 401
    assert (one.job.state, another.job.state) == ("submitted", "submitted")


# --- what a genuine callback does ----------------------------------------------------------------------


def test_genuine_callback_settles_the_attempt(waiting, post, artifacts, stats):
    one = waiting()
    before = stats()["accepted"]
    assert post(one.reference, one.body(artifacts=artifacts)) == 204
    result = one.job.result(timeout=PATIENCE)
    assert (result.attempts, len(result.artifacts)) == (1, 1)
    assert (result.account, result.artifacts[0].url) == (one.account, artifacts[0]["url"])
    assert stats()["accepted"] == before


def test_callback_without_the_optional_reference_in_its_body_is_believed(waiting, post, artifacts):
    one = waiting()
    body = one.body(artifacts=artifacts)
    del body["replyRef"]
    assert post(one.reference, body, headers={}) == 204
    assert one.job.result(timeout=PATIENCE)


def test_callback_of_a_failure_gives_its_reason(waiting, post):
    one = waiting()
    error = {"reason": "SAFETY.INPUT.TEXT", "errorMessage": f"not for {E_MAIL}"}
    assert post(one.reference, one.body("FAILED", error=error)) == 204
    with pytest.raises(JobFailed, match=r"Moderated.*not for <e-mail>"):
        one.job.result(timeout=PATIENCE)


def test_same_callback_again_is_thanked_for_and_harmless(waiting, post, artifacts):
    one = waiting()
    assert post(one.reference, one.body(artifacts=artifacts)) == 204
    result = one.job.result(timeout=PATIENCE)
    assert post(one.reference, one.body(artifacts=artifacts)) == 204
    assert post(one.reference, one.body("FAILED")) == 204
    assert one.job.result(timeout=1) == result


def test_hundred_callbacks_at_once_are_one_finish_and_one_result(
    waiting, post, artifacts, orchestrator, stack, log
):
    batch = f"batch-{uuid.uuid4().hex}"
    one = waiting(batch=batch)
    with ThreadPoolExecutor(25) as pool:
        answers = list(pool.map(lambda _: post(one.reference, one.body(artifacts=artifacts)), range(100)))
    assert answers == [204] * 100
    assert one.job.result(timeout=PATIENCE).attempts == 1
    words = re.findall(rf"attempt\.closed attempt={one.attempt} verdict=succeeded word=(\w+)", log())
    assert words == ["settled"]  # the duplicates are told at level debug
    with redis.Redis.from_url(stack.redis_url) as raw:
        assert raw.xlen(f"orc:ended-in:{batch}") == 1
    assert stack.log("worker").read_text().count(f"job.ended job={one.job.id}") == 1
    counts = orchestrator.batch(batch).counts()
    assert (counts["total"], counts["succeeded"]) == (1, 1)


def test_progress_changes_nothing_but_is_counted(waiting, post, artifacts, orchestrator):
    one = waiting()
    before = orchestrator.flow.store.stats()[f"{PROVIDER}/callbacks"]
    for status, ratio in (("PENDING", None), ("THROTTLED", "0"), ("RUNNING", 0.5), ("RUNNING", 10**400)):
        assert post(one.reference, one.body(status, progressRatio=ratio)) == 204
    assert orchestrator.flow.store.stats()[f"{PROVIDER}/callbacks"] >= before + 4
    assert one.job.state == "submitted"
    assert post(one.reference, one.body(artifacts=artifacts)) == 204
    assert one.job.result(timeout=PATIENCE)


def test_progress_of_another_generation_is_refused(waiting, post):
    one, another = waiting(), waiting()
    assert post(one.reference, one.body("RUNNING", taskId=another.upstream_id)) == 401
    assert one.job.state == "submitted"


def test_word_that_nobody_documented_is_progress(waiting, post, log):
    one = waiting()
    assert post(one.reference, one.body("REFLECTING")) == 204
    assert one.job.state == "submitted"
    assert "status.unknown provider=useapi_frames word='REFLECTING'" in log()


def test_progress_after_the_end_changes_nothing(waiting, post, artifacts):
    one = waiting()
    post(one.reference, one.body(artifacts=artifacts))
    result = one.job.result(timeout=PATIENCE)
    assert post(one.reference, one.body("RUNNING", progressRatio=0.9)) == 204
    assert one.job.state == "succeeded"
    assert one.job.result(timeout=1) == result


@pytest.mark.parametrize("status", ["SUCCEEDED", "RUNNING", "FAILED"])
def test_callback_for_an_attempt_nobody_knows_is_taken(status, post, artifacts, keys):
    reference = sign_reference(PROVIDER, Reference(f"{uuid.uuid4()}.1", "studio-1"), keys)
    assert post(reference, {"taskId": "x", "status": status, "artifacts": artifacts}) == 204


def test_failure_after_progress_of_an_attempt_nobody_knows_is_taken(post, keys):
    reference = sign_reference(PROVIDER, Reference(f"{uuid.uuid4()}.1", "studio-1"), keys)
    assert post(reference, {"taskId": "x", "status": "RUNNING"}) == 204
    assert post(reference, {"taskId": "x", "status": "FAILED"}) == 204


def test_callback_that_overtakes_the_submit_reply_is_kept(orchestrator, stats, log):
    before = stats()["accepted"]
    job = orchestrator.enqueue(PROVIDER, {"text_prompt": f"{uuid.uuid4().hex} [early]"})
    result = job.result(timeout=PATIENCE)
    assert (result.attempts, len(result.artifacts)) == (1, 1)
    assert f"attempt.closed attempt={job.id}.1 verdict=succeeded word=settled by=callbacks" in log()
    assert stats()["accepted"] == before + 1


# --- what is not written down --------------------------------------------------------------------------


def test_nothing_of_a_callback_is_written_to_the_log(waiting, post, artifacts, log):
    """Neither of those that are believed nor of those that are refused: no body, e-mail, token, reference."""
    time.sleep(1)  # of each kind of refusal one line a second is written
    one = waiting()
    headers = {"Authorization": f"Bearer {TOKEN}", "X-Secret": "a-secret-header"}
    body = one.body(artifacts=artifacts, email=E_MAIL, note="a-secret-in-the-body", token=TOKEN)
    body["error"] = {"reason": "a-secret-reason", "errorMessage": f"a-secret-message for {E_MAIL}"}
    for reference, status, sent in (
        ("garbage-reference", 401, body),
        (one.reference, 401, {**body, "replyRef": "a-secret-reference"}),
        (one.reference, 400, b"a-secret-body {" + E_MAIL.encode()),
        (one.reference, 413, json.dumps(body).encode().ljust(MAX_BODY_BYTES + 1)),
        (one.reference, 204, {**body, "status": "RUNNING"}),
        (one.reference, 204, body),
        (one.reference, 204, {**body, "status": "FAILED"}),
    ):
        assert post(reference, sent, headers=headers) == status
    one.job.result(timeout=PATIENCE)
    written = log()
    assert written.count("by=callbacks") >= 1  # and those of earlier tests that were still on their way
    assert "callback.refused provider=useapi_frames kind=BadReference" in written
    assert "callback.refused provider=useapi_frames kind=Malformed" in written
    for secret in ("a-secret", "@", TOKEN, one.reference, "garbage-reference", artifacts[0]["url"]):
        assert secret not in written


@pytest.mark.parametrize("status", [{"for": E_MAIL}, f"waits for {E_MAIL}", "x" * 100_000])
def test_status_that_is_no_word_is_not_written_to_the_log(status, waiting, post, log):
    one = waiting()
    assert post(one.reference, one.body(status)) == 204
    assert E_MAIL.upper() not in log().upper()
    assert len(log()) < 10_000


# --- without a store -----------------------------------------------------------------------------------


@pytest.fixture
def nowhere() -> str:
    """A Redis URL that nobody listens at."""
    return f"redis://:a-password@127.0.0.1:{free_port()}/0"


def door(redis_url: str, broker_url: str) -> Iterator[FlaskClient]:
    """The door in this process, with a flow of the test's own."""
    exchange = Exchange(Upstream(), None, registry(), {}, [KEY], "https://jobs.example.com")
    broker = Broker(make_app(broker_url, broker_url))
    store = Store(redis_url)
    watch = Watch(store, exchange, time.time, random.random)
    flow = Flow(store, broker, exchange, watch, time.time, random.random)
    with create_app(flow).test_client() as client:
        yield client
    broker.app.close()
    exchange.upstream.close()
    flow.store.close()


@pytest.fixture
def client(nowhere: str) -> Iterator[FlaskClient]:
    yield from door(nowhere, nowhere)


@pytest.fixture
def client_without_broker(stack: Stack, nowhere: str) -> Iterator[FlaskClient]:
    yield from door(stack.redis_url, nowhere)


REFERENCE = sign_reference(PROVIDER, Reference("job.1", "studio-1"), [KEY])
BODY = {"taskId": "task-7", "status": "SUCCEEDED", "artifacts": [{"url": "https://x.cloudfront.net/1.png"}]}


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED", "RUNNING"])
def test_callback_that_cannot_be_recorded_now_is_asked_for_again(status, client):
    began = time.monotonic()
    answer = client.post(f"/callbacks/{PROVIDER}/{REFERENCE}", json={**BODY, "status": status})
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert b"password" not in answer.data
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (f"/callbacks/{PROVIDER}/{altered(-3)(REFERENCE)}", BODY, 401),
        (f"/callbacks/{PROVIDER}/{REFERENCE}", {**BODY, "replyRef": "another"}, 401),
        (f"/callbacks/nobody/{REFERENCE}", BODY, 404),
    ],
)
def test_callback_is_refused_without_asking_the_store(path, body, status, client):
    assert client.post(path, json=body).status_code == status


def test_a_body_that_cannot_be_read_is_asked_for_again_where_it_cannot_be_parked(client):
    assert client.post(f"/callbacks/{PROVIDER}/{REFERENCE}", json=[]).status_code == 503


def test_long_message_does_not_keep_the_door_busy(client):
    error = {"reason": "INTERNAL", "errorMessage": "x" * 30_000}
    began = time.monotonic()
    client.post(f"/callbacks/{PROVIDER}/{REFERENCE}", json={**BODY, "status": "FAILED", "error": error})
    assert time.monotonic() - began < 10


def test_receiver_without_redis_is_alive_but_not_ready(client):
    assert client.get("/healthz").status_code == 200
    answer = client.get("/readyz")
    assert (answer.status_code, answer.text) == (503, "redis does not answer (StoreUnavailable)\n")


def test_receiver_without_a_broker_is_not_ready(client_without_broker):
    answer = client_without_broker.get("/readyz")
    assert answer.status_code == 503
    assert answer.text.startswith("broker does not answer") and "password" not in answer.text


# --- the journal --------------------------------------------------------------------------------------


@pytest.fixture
def run(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    monkeypatch.setenv("COLUMNS", "200")

    def command(*words: str, code: int = 0) -> str:
        done = CliRunner().invoke(main, ["callbacks", *words])
        assert done.exit_code == code, (words, done.output, done.exception)
        assert not done.exception or isinstance(done.exception, SystemExit), done.exception
        assert TOKEN not in done.output and E_MAIL not in done.output
        return done.output

    return command


@pytest.fixture
def heard(run: Callable[..., str]) -> Callable[..., list[dict[str, Any]]]:
    """Callbacks of the journal, the latest first."""
    return lambda *words: json.loads(run("list", *words, "--json"))["callbacks"]


def words_of(heard: Callable[..., list[dict[str, Any]]], one: Waiting) -> list[str]:
    """News on the way apart: the simulator sends some of its own."""
    words = [entry["word"] for entry in heard("--job", one.job.id, "--limit", "1000")]
    return [word for word in words if word != "pending"]


def test_the_journal_tells_what_each_callback_led_to(waiting, post, artifacts, heard, run):
    one = waiting()
    post(one.reference, one.body("RUNNING"))
    post(one.reference, one.body(artifacts=artifacts))
    one.job.result(timeout=PATIENCE)
    post(one.reference, one.body("RUNNING"))  # out of order
    post(one.reference, one.body("FAILED"))
    assert post(one.reference, one.body(taskId="another")) == 401
    assert words_of(heard, one) == ["mismatch", "duplicate", "settled"]
    assert len(heard("--job", one.job.id, "--word", "pending")) >= 2
    (settled,) = heard("--job", one.job.id, "--word", "settled")
    assert (settled["attempt"], settled["provider"], settled["account"]) == (
        one.attempt,
        PROVIDER,
        one.account,
    )
    shown = run("list", "--job", one.job.id, "--limit", "2")
    assert "callbacks, the latest 2 are shown" in shown and "settled" not in shown
    assert run("replay", settled["id"]).startswith(f"attempt {one.attempt}: duplicate")


def test_hundreds_of_the_same_callback_are_one_settlement(waiting, post, artifacts, heard):
    one = waiting()
    with ThreadPoolExecutor(25) as pool:
        answers = list(pool.map(lambda _: post(one.reference, one.body(artifacts=artifacts)), range(300)))
    assert answers == [204] * 300
    assert one.job.result(timeout=PATIENCE).attempts == 1
    words = words_of(heard, one)
    assert (words.count("settled"), words.count("duplicate")) == (1, 299)


def test_a_callback_after_a_cancel_is_taken_and_kept_and_the_job_stays_cancelled(
    waiting, post, artifacts, heard, orchestrator
):
    one = waiting()
    assert one.job.cancel()
    assert post(one.reference, one.body(artifacts=artifacts)) == 204
    assert words_of(heard, one) == ["late"]
    time.sleep(1)
    assert one.job.state == "cancelled"
    (attempt,) = orchestrator.flow.store.attempts(one.job.record)
    assert (attempt["verdict"], attempt["fate"]) == ("succeeded", "confirmed")


SPELLINGS = [
    pytest.param(lambda text: text, id="plain"),
    pytest.param(lambda text: text.replace("@", "\\u0040").replace("/", "\\/"), id="escaped"),
]


@pytest.mark.parametrize("spell", SPELLINGS)
@pytest.mark.parametrize("status", ["RUNNING", "SUCCEEDED", "FAILED"])
def test_a_callback_of_an_unknown_attempt_is_parked_and_shown_without_secrets(
    status, spell, post, keys, heard, run
):
    job_id = str(uuid.uuid4())
    reference = sign_reference(PROVIDER, Reference(f"{job_id}.1", "studio-1"), keys)
    url = "https://dnznrvs05pmza.cloudfront.net/1.png?_jwt=a-secret-of-the-url"
    body = {"taskId": f"user:7-runwayml:{E_MAIL}-task:8", "status": status, "artifacts": [{"url": url}]}
    assert post(reference, spell(json.dumps(body)).encode()) == 204
    (entry,) = heard("--parked", "--job", job_id)
    assert (entry["word"], entry["attempt"]) == ("unknown", f"{job_id}.1")
    assert heard("--job", job_id) == [entry]
    for told in (
        run("list", "--parked", "--job", job_id),
        run("show", entry["id"]),
        run("show", entry["id"], "--json"),
        entry["body"],
    ):
        assert "cloudfront.net/1.png?…" in told.replace("\\u2026", "…")
        assert "a-secret" not in told and "example.org" not in told and "<e-mail>" in told
    # Tried again it leads nowhere still, and stays the one entry that it is.
    for _ in range(3):
        assert "unknown" in run("replay", entry["id"])
    assert heard("--job", job_id) == [entry]


def test_a_body_that_nobody_can_read_is_shown_without_secrets(waiting, post, heard, run):
    one = waiting()
    raw_body = b"taskId=1&by=" + E_MAIL.encode() + b"&url=https://x.cloudfront.net/1.png?_jwt=a-secret"
    assert post(one.reference, raw_body) == 400
    (entry,) = heard("--parked", "--job", one.job.id)
    assert entry["word"] == "unreadable"
    assert entry["body"] == "taskId=1&by=<e-mail>&url=https://x.cloudfront.net/1.png?…"


def test_an_unreadable_callback_settles_its_job_once_the_reader_is_mended(
    waiting, post, artifacts, heard, run, monkeypatch
):
    one = waiting()
    body = one.body(artifacts=artifacts)
    body["taskID"] = body.pop("taskId")  # the provider renamed a field
    assert post(one.reference, body) == 400
    (entry,) = heard("--parked", "--job", one.job.id)
    assert "no taskId in the body" in run("replay", entry["id"], code=1)
    assert heard("--parked", "--job", one.job.id) == [entry]
    assert one.job.state == "submitted"

    def mended(self: UseapiFrames, told: Any, read: Any = UseapiFrames.read_report) -> Any:
        return read(self, {**told, "taskId": told.get("taskId") or told["taskID"]})

    monkeypatch.setattr(UseapiFrames, "read_report", mended)
    assert run("replay", entry["id"]).startswith(f"attempt {one.attempt}: settled")
    assert len(one.job.result(timeout=PATIENCE).artifacts) == 1
    assert heard("--parked", "--job", one.job.id) == []
    assert words_of(heard, one) == ["settled"]


def test_a_body_of_another_attempt_is_not_believed_when_it_is_replayed(waiting, post, artifacts, heard, run):
    one, another = waiting(), waiting()
    assert post(one.reference, another.body(artifacts=artifacts, taskId=one.upstream_id)) == 401
    for entry in heard("--parked", "--job", one.job.id):
        assert "tells of another" in run("replay", entry["id"], code=1)
    assert (one.job.state, another.job.state) == ("submitted", "submitted")


@pytest.mark.parametrize("entry_id", ["nobody", "1-1", "*", "-", "1", ""])
def test_a_callback_that_is_not_in_the_journal_is_said_so(entry_id, run):
    for command in ("show", "replay"):
        assert "no callback" in run(command, "--", entry_id, code=1)
