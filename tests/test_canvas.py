"""A job is an ordinary Celery task: every canvas, with real workers, and every way to stop one.

Beside the stack's worker two more run: `foreign`, of an app that only shares broker and backend with the
product and so sends bare messages, and `product`, of the product's app with other people's tasks in it.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis
import requests
from celery import chain, chord, group
from celery.canvas import Signature
from celery.exceptions import ChordError, TaskRevokedError
from celery.result import AsyncResult
from kombu import Connection

from orchestrator import Orchestrator
from orchestrator.errors import Invalid, JobCancelled, JobFailed, Unsupported
from orchestrator.local.processes import Command, Processes
from orchestrator.local.stack import Stack
from tests.stack_kit import eventually

pytestmark = pytest.mark.long

FRAMES = "useapi_frames"
GENERATE = "orchestrator.generate"
EMAILS = ("studio-1@example.com", "studio-2@example.com")
MAX_JOBS = 5
SECONDS = 60.0
WORKERS = {"foreign": "tests.helpers_tasks", "product": "workers"}
QUEUES = {"foreign": "tests", "product": "tests.product"}


@pytest.fixture(scope="module")
def generate(environment: dict[str, str]) -> Any:
    from workers import generate

    return generate


@pytest.fixture(scope="module")
def app(generate: Any) -> Any:
    return generate.app


@pytest.fixture(scope="module")
def server(stack: Stack) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(stack.redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture(scope="module", autouse=True)
def helpers(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The two other workers."""
    folder = tmp_path_factory.mktemp("helpers")
    options = ("--pool=threads", "--concurrency=4", "--loglevel=INFO", "--include=tests.helpers_tasks")
    with Processes() as processes:
        for name, app_name in WORKERS.items():
            log = folder / f"{name}.log"
            argv = (sys.executable, "-m", "celery", "-A", app_name, "worker", "-n", f"{name}@%h")
            argv = (*argv, "-Q", QUEUES[name], *options)
            ready = lambda log=log: "ready." in log.read_text()  # noqa: E731
            root = Path(__file__).parent.parent
            processes.launch(Command(name, argv, dict(os.environ), root, log, ready, SECONDS))
        for name in WORKERS:
            processes.wait(name)
        yield


@pytest.fixture
def plain(app: Any) -> Callable[..., Signature]:
    """A signature of a plain task, by name, on the foreign worker unless told otherwise."""

    def make(name: str, *args: Any, worker: str = "foreign") -> Signature:
        return app.signature(f"tests.{name}", args=args, queue=QUEUES[worker])

    return make


@pytest.fixture
def prompt(request: pytest.FixtureRequest) -> str:
    """A prompt that nobody else uses."""
    return f"{request.node.name.partition('[')[0]} {uuid.uuid4().hex[:8]}"


@pytest.fixture
def job(generate: Any, prompt: str) -> Callable[..., Signature]:
    """The signature of a job with this test's prompt and some words more."""

    def make(*words: object, **parameters: Any) -> Signature:
        return generate.s(FRAMES, {"text_prompt": " ".join((prompt, *map(str, words))), **parameters})

    return make


@pytest.fixture
def upstream(stack: Stack) -> Callable[[str], list[dict[str, Any]]]:
    """The generations that the simulator was paid for whose prompt begins so, by its own list."""

    def read(prompt: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for email in EMAILS:
            answer = requests.get(
                f"{stack.simulator_url}/v1/runwayml/tasks/",
                params={"offset": 0, "limit": 1000, "email": email},
                headers={"Authorization": f"Bearer {os.environ['SIMULATOR_TOKEN']}"},
                timeout=10,
            )
            tasks = answer.json()["tasks"]
            found += [task for task in tasks if task["options"]["text_prompt"].startswith(prompt)]
        return found

    return read


@pytest.fixture
def recorded(server: redis.Redis) -> Callable[[str], Any]:
    """What a helper task recorded under a key; waits for it."""

    def read(key: str) -> Any:
        found = server.blpop([f"tests:{key}"], timeout=SECONDS)
        assert found, f"nothing was recorded as {key}"
        return json.loads(found[1])

    return read


@pytest.fixture
def used(orchestrator: Orchestrator) -> Callable[[], int]:
    """How many slots are taken."""
    return lambda: sum(row["used"] for row in orchestrator.flow.store.accounts.rows(FRAMES, time.time()))


@pytest.fixture
def full_house(
    orchestrator: Orchestrator, used: Callable[[], int], prompt: str
) -> Iterator[Callable[[], None]]:
    """Every slot is taken by a generation that never ends; calling it ends them all."""
    eventually(lambda: used() == 0, "the jobs of earlier tests are over")
    endless = ({"text_prompt": f"{prompt} [forever] {n}"} for n in range(len(EMAILS) * MAX_JOBS))
    batch = orchestrator.enqueue_many(FRAMES, endless)
    eventually(lambda: batch.counts()["submitted"] == len(EMAILS) * MAX_JOBS)

    def leave() -> None:
        for each in batch.jobs():
            each.cancel()

    yield leave
    leave()


@pytest.fixture
def finishing_in_product(app: Any) -> Iterator[None]:
    """Jobs are finished by the product's worker that knows the helpers' tasks, and by no other."""

    def move(source: str, target: str) -> None:
        for act, name in ((app.control.add_consumer, target), (app.control.cancel_consumer, source)):
            answers = act("orchestrator.finish", **one(name), reply=True, timeout=SECONDS)
            assert "ok" in answers[0][host(name)], answers

    move("worker", "product")
    yield
    move("product", "worker")


def host(name: str) -> str:
    return f"{name}@{socket.gethostname()}"


def one(name: str) -> dict[str, Any]:
    """The options of a command to one worker, which is over as soon as that one answered."""
    return {"destination": [host(name)], "limit": 1}


def submitted(orchestrator: Orchestrator, job_id: str) -> dict[str, str]:
    """The record of the job's attempt that the provider has; on a slow machine it need not be the first."""

    def read() -> dict[str, str] | None:
        rows = orchestrator.flow.store.attempts(orchestrator.job(job_id).record)
        return next((dict(row) for row in rows if row.get("state") == "submitted"), None)

    found: dict[str, str] = eventually(read, "submitted")
    return found


# --- result --------------------------------------------------------------------------------------------


def test_the_result_of_a_job_is_the_result_of_the_task(
    orchestrator: Orchestrator, app: Any, server: redis.Redis, prompt: str
) -> None:
    job = orchestrator.enqueue(FRAMES, {"text_prompt": prompt})
    result = AsyncResult(job.id, app=app)
    got = result.get(timeout=SECONDS)
    assert got["job_id"] == job.id
    assert got["provider"] == FRAMES
    assert got["attempts"] == 1
    assert Path(got["artifacts"][0]["path"]).stat().st_size == got["artifacts"][0]["bytes"]
    assert result.state == "SUCCESS"
    stored = json.loads(server.get(f"celery-task-meta-{job.id}"))
    assert stored["result"] == got == json.loads(json.dumps(got))
    assert eventually(lambda: orchestrator.job(job.id).record.result) == got


def test_a_job_waits_as_started(orchestrator: Orchestrator, app: Any, job: Callable[..., Signature]) -> None:
    result = job("[slow]").apply_async()
    submitted(orchestrator, result.id)
    assert app.AsyncResult(result.id).state == "STARTED"
    result.revoke()
    eventually(lambda: result.state == "REVOKED")


def test_a_failed_job_raises_its_reason(job: Callable[..., Signature]) -> None:
    with pytest.raises(JobFailed, match="Moderated: Text did not pass"):
        job("[moderated]").delay().get(timeout=SECONDS)


def test_only_json_is_read_from_the_broker(
    stack: Stack, app: Any, job: Callable[..., Signature], tmp_path: Path
) -> None:
    assert app.conf.task_serializer == app.conf.result_serializer == "json"
    assert app.conf.accept_content == ["json"]
    pickled, task_id = tmp_path / "pickled", str(uuid.uuid4())
    headers = {"task": GENERATE, "id": task_id, "lang": "py", "root_id": task_id, "parent_id": None}
    with Connection(stack.redis_url) as connection, connection.Producer() as producer:
        # Unpickled, it makes a file.
        producer.publish(
            b"cpathlib\nPath.touch\n(cpathlib\nPath\n(V%s\ntRtR." % str(pickled).encode(),
            routing_key="orchestrator.submit",
            content_type="application/x-python-serialize",
            content_encoding="binary",
            headers=headers,
        )
    # A job that is sent after it has a result, so the message before it was taken, too.
    assert job().delay().get(timeout=SECONDS)["artifacts"]
    assert not pickled.exists()
    assert app.AsyncResult(task_id).state == "PENDING"


# --- chains --------------------------------------------------------------------------------------------


def test_a_chain_may_begin_with_a_job(plain: Callable[..., Signature], job: Callable[..., Signature]) -> None:
    result = chain(job(), plain("pick", "job_id")).apply_async()
    assert result.get(timeout=SECONDS) == result.parent.id


@pytest.mark.parametrize("worker", WORKERS)
def test_a_job_in_a_chain_takes_parameters_from_the_task_before_it(
    generate: Any,
    plain: Callable[..., Signature],
    upstream: Callable[[str], list[dict[str, Any]]],
    prompt: str,
    worker: str,
) -> None:
    found = {"text_prompt": prompt, "aspect_ratio": "1:1", "style": "sketch"}
    result = chain(
        plain("give", found, worker=worker),
        generate.s(FRAMES, {"style": "vivid"}),
        plain("pick", "job_id", worker=worker),
    ).apply_async()
    assert result.get(timeout=SECONDS) == result.parent.id
    [made] = upstream(prompt)
    assert made["options"]["style"] == "vivid", "the job's own parameters win"
    assert made["options"]["width"] == made["options"]["height"]


def test_an_immutable_job_sees_nothing_of_the_task_before_it(
    generate: Any,
    plain: Callable[..., Signature],
    upstream: Callable[[str], list[dict[str, Any]]],
    prompt: str,
) -> None:
    result = chain(
        plain("give", {"style": "sketch"}), generate.si(FRAMES, {"text_prompt": prompt})
    ).apply_async()
    result.get(timeout=SECONDS)
    assert "style" not in upstream(prompt)[0]["options"]


def test_a_job_may_follow_a_job(
    orchestrator: Orchestrator,
    app: Any,
    job: Callable[..., Signature],
    upstream: Callable[[str], list[dict[str, Any]]],
    prompt: str,
) -> None:
    result = chain(job("first"), job("second"), job("third")).apply_async()
    assert result.get(timeout=SECONDS)["job_id"] == result.id
    first, second, third = result.parent.parent, result.parent, result
    assert {task["options"]["text_prompt"] for task in upstream(prompt)} == {
        f"{prompt} {word}" for word in ("first", "second", "third")
    }
    assert first.get()["job_id"] == first.id
    # Who came from whom, as the backend and the store know it.
    for parent, child in ((first, second), (second, third)):
        assert app.AsyncResult(parent.id).children == [child]
        kept = orchestrator.job(child.id).record.options
        assert (kept["root_id"], kept["parent_id"]) == (first.id, parent.id)


def test_a_task_after_a_job_knows_its_parent_and_root(
    job: Callable[..., Signature], plain: Callable[..., Signature]
) -> None:
    result = chain(job("first"), job("second"), plain("where")).apply_async()
    assert result.get(timeout=SECONDS) == {
        "parent_id": result.parent.id,
        "root_id": result.parent.parent.id,
        "stamps": {},
    }


def test_a_failed_job_ends_its_chain(
    job: Callable[..., Signature],
    plain: Callable[..., Signature],
    upstream: Callable[[str], list[dict[str, Any]]],
    recorded: Callable[[str], Any],
    prompt: str,
) -> None:
    result = chain(job("[moderated]"), job("after"), plain("pick", "job_id")).apply_async(
        link_error=plain("old_error")
    )
    with pytest.raises(JobFailed, match="Moderated"):
        result.get(timeout=SECONDS)
    failed = result.parent.parent
    assert recorded(f"old_error:{failed.id}") == failed.id
    assert failed.state == result.state == "FAILURE"
    assert len(upstream(prompt)) == 1


def test_a_task_may_enqueue_a_job(
    app: Any, plain: Callable[..., Signature], orchestrator: Orchestrator, prompt: str
) -> None:
    task = plain("spawn", FRAMES, {"text_prompt": prompt}, worker="product").apply_async()
    job_id = task.get(timeout=SECONDS)
    assert app.AsyncResult(job_id).get(timeout=SECONDS)["job_id"] == job_id
    assert [child.id for child in app.AsyncResult(task.id).children] == [job_id]
    assert orchestrator.job(job_id).record.options["parent_id"] == task.id


# --- groups and chords ---------------------------------------------------------------------------------


def test_a_group_of_jobs_joins_in_order(job: Callable[..., Signature]) -> None:
    result = group(job(n) for n in range(4)).apply_async()
    assert [each["job_id"] for each in result.join(timeout=SECONDS)] == [each.id for each in result]
    assert result.successful()


def test_a_chord_of_twenty_jobs_calls_its_body_once(
    job: Callable[..., Signature], plain: Callable[..., Signature], server: redis.Redis, prompt: str
) -> None:
    body = plain("join")
    body.link(plain("record", prompt))
    result = chord([job(n) for n in range(20)], body).apply_async()
    got = result.get(timeout=SECONDS)
    assert [each["job_id"] for each in got] == [each.id for each in result.parent]
    eventually(lambda: server.llen(f"tests:{prompt}"))
    assert server.llen(f"tests:{prompt}") == 1


def test_a_chord_with_a_failing_job_fails_its_body(
    job: Callable[..., Signature], plain: Callable[..., Signature], recorded: Callable[[str], Any]
) -> None:
    body = plain("join").on_error(plain("old_error"))
    result = chord([job(0), job("[moderated]"), job(2)], body).apply_async()
    error = result.get(timeout=SECONDS, propagate=False)
    assert isinstance(error, ChordError)
    assert "Moderated: Text did not pass" in str(error)
    assert recorded(f"old_error:{result.id}") == result.id
    eventually(result.parent.ready)
    assert [each.state for each in result.parent] == ["SUCCESS", "FAILURE", "SUCCESS"]


def test_a_job_may_be_the_body_of_a_chord(
    generate: Any,
    plain: Callable[..., Signature],
    job: Callable[..., Signature],
    upstream: Callable[[str], list[dict[str, Any]]],
    prompt: str,
) -> None:
    body = generate.s(FRAMES, {"text_prompt": f"{prompt} body"})
    result = chord([job(0), plain("add", 1, 2), job(1)], body).apply_async()
    assert result.get(timeout=SECONDS)["job_id"] == result.id
    assert len(upstream(prompt)) == 3


def test_a_group_in_a_chain(job: Callable[..., Signature], plain: Callable[..., Signature]) -> None:
    result = chain(job("first"), group(job(0), job(1)), plain("join"), job("last")).apply_async()
    assert result.get(timeout=SECONDS)["job_id"] == result.id
    joined = result.parent
    assert [each["job_id"] for each in joined.get()] == [each.id for each in joined.parent]


def test_a_chord_of_chains(job: Callable[..., Signature], plain: Callable[..., Signature]) -> None:
    chains = [chain(job(n, "first"), job(n, "second"), plain("pick", "job_id")) for n in range(3)]
    result = chord(chains, plain("join")).apply_async()
    assert result.get(timeout=SECONDS) == [last.parent.id for last in result.parent]


def test_a_chord_in_a_chord(job: Callable[..., Signature], plain: Callable[..., Signature]) -> None:
    inner = chord([job(0), job(1)], plain("join"))
    result = chord([inner, job(2)], plain("join")).apply_async()
    (first, second), third = result.get(timeout=SECONDS)
    assert len({first["job_id"], second["job_id"], third["job_id"]}) == 3


# --- links ---------------------------------------------------------------------------------------------


def test_a_link_is_called_with_the_result(
    generate: Any, plain: Callable[..., Signature], recorded: Callable[[str], Any], prompt: str
) -> None:
    links = [plain("record", f"{prompt} one"), plain("record", f"{prompt} two")]
    result = generate.apply_async((FRAMES, {"text_prompt": prompt}), link=links)
    got = result.get(timeout=SECONDS)
    assert recorded(f"{prompt} one") == recorded(f"{prompt} two") == got


def test_a_link_error_of_the_old_style_is_told_the_id(
    job: Callable[..., Signature], plain: Callable[..., Signature], recorded: Callable[[str], Any]
) -> None:
    result = job("[moderated]").apply_async(link_error=plain("old_error"))
    assert recorded(f"old_error:{result.id}") == result.id
    assert result.state == "FAILURE"


def test_a_link_error_of_the_new_style_is_told_the_error(
    finishing_in_product: None,
    job: Callable[..., Signature],
    plain: Callable[..., Signature],
    recorded: Callable[[str], Any],
) -> None:
    result = job("[moderated]").apply_async(link_error=plain("new_error"))
    told = recorded(f"new_error:{result.id}")
    assert (told["kind"], told["task"]) == ("JobFailed", GENERATE)
    assert "Moderated: Text did not pass" in told["error"]
    assert "Traceback" in told["traceback"]


# --- faults in a canvas --------------------------------------------------------------------------------


def test_bad_parameters_are_refused_at_the_call(generate: Any, stats: Callable[[], dict[str, Any]]) -> None:
    before = stats()["posts"]
    with pytest.raises(Invalid, match=r"text_prompt.*required"):
        generate.delay(FRAMES, {"style": "vivid"})
    with pytest.raises(Unsupported, match="nobody"):
        generate.delay("nobody", {})
    assert stats()["posts"] == before


@pytest.mark.parametrize("worker", WORKERS)
def test_bad_parameters_in_a_chain_fail_that_task_alone(
    generate: Any, plain: Callable[..., Signature], recorded: Callable[[str], Any], worker: str
) -> None:
    result = chain(
        plain("give", {"diversity": 99}, worker=worker),
        generate.s(FRAMES, {"text_prompt": "never"}),
        plain("pick", "job_id"),
    ).apply_async(link_error=plain("old_error"))
    with pytest.raises((JobFailed, Invalid), match="diversity"):
        result.get(timeout=SECONDS)
    given, refused = result.parent.parent, result.parent
    assert recorded(f"old_error:{refused.id}") == refused.id
    assert (given.state, refused.state) == ("SUCCESS", "FAILURE")


def test_bad_parameters_after_a_job_leave_its_result_alone(
    generate: Any, job: Callable[..., Signature]
) -> None:
    result = chain(job(), generate.s(FRAMES, {"text_prompt": ""})).apply_async()
    with pytest.raises(JobFailed, match="text_prompt"):
        result.get(timeout=SECONDS)
    assert result.parent.get(timeout=SECONDS)["job_id"] == result.parent.id


@pytest.mark.parametrize("worker", WORKERS)
def test_bad_parameters_of_one_job_fail_the_chord_around_it(
    generate: Any, job: Callable[..., Signature], plain: Callable[..., Signature], worker: str
) -> None:
    jobs = group(job(), generate.s(FRAMES, {"text_prompt": ""}))
    result = chain(plain("give", {}, worker=worker), jobs, plain("join")).apply_async()
    error = result.get(timeout=SECONDS, propagate=False)
    assert isinstance(error, ChordError)
    assert "text_prompt" in str(error)


# --- messages and options ------------------------------------------------------------------------------


def test_a_bare_message_by_name_becomes_a_job(orchestrator: Orchestrator, app: Any, prompt: str) -> None:
    result = app.send_task(GENERATE, args=[FRAMES, {"text_prompt": prompt}], kwargs={"batch": "bare"})
    assert result.get(timeout=SECONDS)["job_id"] == result.id
    assert orchestrator.job(result.id).record.batch == "bare"


def test_a_bare_message_with_bad_parameters_fails_as_itself(app: Any) -> None:
    result = app.send_task(GENERATE, args=[FRAMES, {"text_prompt": "a", "ratio": "1:1"}])
    with pytest.raises(Invalid, match="ratio"):
        result.get(timeout=SECONDS)


def test_a_bare_message_without_interest_in_its_result_leaves_none(
    orchestrator: Orchestrator, app: Any, server: redis.Redis, prompt: str
) -> None:
    result = app.send_task(GENERATE, args=[FRAMES, {"text_prompt": prompt}], ignore_result=True)
    eventually(lambda: server.exists(f"orc:job:{result.id}"))
    assert orchestrator.job(result.id).result(timeout=SECONDS).artifacts
    assert not server.exists(f"celery-task-meta-{result.id}")


@pytest.mark.parametrize("how", ["countdown", "eta"])
def test_a_later_start_waits_in_the_due_list(
    orchestrator: Orchestrator,
    app: Any,
    job: Callable[..., Signature],
    upstream: Callable[[str], list[dict[str, Any]]],
    prompt: str,
    how: str,
) -> None:
    wait = 2
    start_at = time.time() + wait
    when = {"countdown": wait} if how == "countdown" else {"eta": datetime.fromtimestamp(start_at, UTC)}
    result = job().apply_async(**when)
    record = orchestrator.job(result.id).record
    assert (record.state, record.attempts) == ("queued", 0)
    assert record.due_at == pytest.approx(start_at, abs=1)
    held = app.control.inspect(**one("worker"), timeout=SECONDS).scheduled()
    assert held == {host("worker"): []}
    result.get(timeout=SECONDS)
    [made] = upstream(prompt)
    assert datetime.fromisoformat(made["createdAt"]).timestamp() >= start_at - 0.1


@pytest.mark.parametrize(
    "expires",
    [
        pytest.param(-1, id="seconds"),
        pytest.param(datetime(2020, 1, 1, tzinfo=UTC), id="datetime"),
        pytest.param("2020-01-01T00:00:00+00:00", id="text"),
    ],
)
def test_a_job_that_expired_before_its_start_is_cancelled(
    orchestrator: Orchestrator,
    used: Callable[[], int],
    job: Callable[..., Signature],
    upstream: Callable[[str], list[dict[str, Any]]],
    prompt: str,
    expires: Any,
) -> None:
    task_id = str(uuid.uuid4())
    try:
        result = job().apply_async(task_id=task_id, expires=expires)
        with pytest.raises(TaskRevokedError):
            result.get(timeout=SECONDS)
    finally:
        orchestrator.job(task_id).cancel()
    assert result.state == "REVOKED"
    with pytest.raises(JobCancelled):
        orchestrator.job(result.id).result(timeout=SECONDS)
    eventually(lambda: used() == 0, "the slot is free again")
    assert not upstream(prompt)


def test_expiry_counts_from_the_call_also_in_a_lane(
    full_house: Callable[[], None],
    job: Callable[..., Signature],
    upstream: Callable[[str], list[dict[str, Any]]],
    prompt: str,
) -> None:
    seconds = 0.2
    result = job("expired").apply_async(expires=seconds)
    time.sleep(seconds)
    full_house()
    with pytest.raises(TaskRevokedError):
        result.get(timeout=SECONDS)
    assert not upstream(f"{prompt} expired")


def test_expiry_bounds_the_start_and_not_the_wait(job: Callable[..., Signature]) -> None:
    # The generation takes 4 s: its end is not too late.
    result = job("[slow]").apply_async(expires=3)
    assert result.get(timeout=SECONDS)["attempts"] == 1


def test_no_attempt_begins_after_the_expiry(job: Callable[..., Signature]) -> None:
    result = job("[slow:1] [failed:1]").apply_async(expires=3)
    with pytest.raises(JobFailed, match="BadOutput"):
        result.get(timeout=SECONDS)


def test_a_job_with_ignore_result_leaves_none(
    orchestrator: Orchestrator, job: Callable[..., Signature], server: redis.Redis
) -> None:
    result = job().apply_async(ignore_result=True)
    assert orchestrator.job(result.id).result(timeout=SECONDS).artifacts
    assert not server.exists(f"celery-task-meta-{result.id}")


@pytest.mark.parametrize("how", ["called", "bare"])
def test_stamps_and_headers_reach_the_finish(
    finishing_in_product: None,
    generate: Any,
    app: Any,
    plain: Callable[..., Signature],
    recorded: Callable[[str], Any],
    prompt: str,
    how: str,
) -> None:
    options = {"stamped_headers": ["team"], "team": "posters", "headers": {"x-tenant": "acme"}}
    args = (FRAMES, {"text_prompt": prompt})
    result = (
        generate.apply_async(args, **options) if how == "called" else app.send_task(GENERATE, args, **options)
    )
    told = recorded(f"finish:{result.id}")
    assert told["stamped_headers"] == ["team"]
    assert told["stamps"] == {"team": "posters"}
    assert told["x-tenant"] == "acme"
    assert told["root_id"] == result.id
    result.get(timeout=SECONDS)


def test_a_stamped_canvas_keeps_its_stamps_beyond_a_job(
    job: Callable[..., Signature], plain: Callable[..., Signature]
) -> None:
    told = []
    for first in (plain("give", 0), job()):
        canvas = chain(first, plain("where"))
        canvas.stamp(team="posters")
        told.append(canvas.apply_async().get(timeout=SECONDS)["stamps"])
    assert told[0] == told[1] == {"team": "posters"}


def test_the_same_id_twice_is_one_job(
    generate: Any,
    upstream: Callable[[str], list[dict[str, Any]]],
    orchestrator: Orchestrator,
    prompt: str,
) -> None:
    task_id = str(uuid.uuid4())
    results = [generate.apply_async((FRAMES, {"text_prompt": prompt}), task_id=task_id) for _ in range(3)]
    assert [each.get(timeout=SECONDS)["job_id"] for each in results] == [task_id] * 3
    generate.apply_async((FRAMES, {"text_prompt": prompt}), task_id=task_id)
    assert len(upstream(prompt)) == 1
    eventually(lambda: orchestrator.job(task_id).state == "succeeded")


# --- stopping ------------------------------------------------------------------------------------------


@pytest.fixture(params=["revoke", "cancel"])
def stop(request: pytest.FixtureRequest, orchestrator: Orchestrator) -> Callable[[AsyncResult], object]:
    """Celery's way, by a command to the workers, and ours, without one."""
    if request.param == "revoke":
        return AsyncResult.revoke
    return lambda result: orchestrator.job(result.id).cancel()


def test_stopping_a_waiting_job_ends_it_everywhere(
    stop: Callable[[AsyncResult], object],
    orchestrator: Orchestrator,
    job: Callable[..., Signature],
    upstream: Callable[[str], list[dict[str, Any]]],
    used: Callable[[], int],
    stats: Callable[[], dict[str, Any]],
    prompt: str,
) -> None:
    eventually(lambda: used() == 0)
    deleted = stats()["tasks"].get("DELETED", 0)
    result = job("[forever]").apply_async()
    submitted(orchestrator, result.id)
    assert used() == len(upstream(prompt)) == 1
    stop(result)
    with pytest.raises(TaskRevokedError):
        result.get(timeout=SECONDS)
    assert result.state == "REVOKED"
    with pytest.raises(JobCancelled):
        orchestrator.job(result.id).result(timeout=SECONDS)
    eventually(lambda: used() == 0, "the slot is free")
    eventually(lambda: not upstream(prompt), "deleted upstream")
    assert stats()["tasks"]["DELETED"] == deleted + 1
    eventually(lambda: orchestrator.job(result.id).record.due_at is None, "nothing of it is due any more")


def test_provider_that_did_not_hear_of_the_end_of_a_revoked_job_is_asked_again(
    orchestrator: Orchestrator,
    job: Callable[..., Signature],
    upstream: Callable[[str], list[dict[str, Any]]],
    prompt: str,
) -> None:
    from workers import tasks

    result = job("[forever]").apply_async()
    submitted(orchestrator, result.id)
    orchestrator.flow.store.cancel(result.id, time.time())  # by one who died before he asked the provider
    assert len(upstream(prompt)) == 1
    tasks.revoked(SimpleNamespace(id=result.id), terminated=False)  # the message that should have finished it
    eventually(lambda: not upstream(prompt), "deleted upstream")


def test_stopping_a_job_in_a_lane_ends_it_before_it_costs_anything(
    stop: Callable[[AsyncResult], object],
    full_house: Callable[[], None],
    orchestrator: Orchestrator,
    job: Callable[..., Signature],
    upstream: Callable[[str], list[dict[str, Any]]],
    prompt: str,
) -> None:
    stopped, other = job("stopped").apply_async(), job("other").apply_async()
    record = orchestrator.job(stopped.id).record
    assert (record.state, record.attempts) == ("queued", 0)
    stop(stopped)
    with pytest.raises(TaskRevokedError):
        stopped.get(timeout=SECONDS)
    eventually(lambda: orchestrator.job(stopped.id).state == "cancelled")
    full_house()
    assert other.get(timeout=SECONDS)["job_id"] == other.id
    assert not upstream(f"{prompt} stopped")


def test_stopping_a_job_gives_its_slot_to_the_next(
    stop: Callable[[AsyncResult], object],
    full_house: Callable[[], None],
    orchestrator: Orchestrator,
    job: Callable[..., Signature],
    generate: Any,
) -> None:
    next_in_line, last = job("[forever] next").apply_async(), job("last").apply_async()
    assert orchestrator.job(next_in_line.id).record.attempts == 0
    full_house()
    submitted(orchestrator, next_in_line.id)
    stop(next_in_line)
    assert last.get(timeout=SECONDS)["job_id"] == last.id


def test_a_stopped_job_fails_the_chord_around_it(
    stop: Callable[[AsyncResult], object],
    orchestrator: Orchestrator,
    job: Callable[..., Signature],
    plain: Callable[..., Signature],
) -> None:
    result = chord([job("[forever]"), job()], plain("join")).apply_async()
    submitted(orchestrator, result.parent[0].id)
    stop(result.parent[0])
    error = result.get(timeout=SECONDS, propagate=False)
    assert isinstance(error, ChordError)
    assert "cancelled" in str(error) or "revoked" in str(error)


def test_revoking_a_job_that_is_over_changes_nothing(
    orchestrator: Orchestrator, app: Any, job: Callable[..., Signature]
) -> None:
    result = job().apply_async()
    got = result.get(timeout=SECONDS)
    eventually(lambda: orchestrator.job(result.id).state == "succeeded")
    result.revoke()
    app.control.ping(**one("worker"), timeout=SECONDS)  # answered after the revoke
    assert orchestrator.job(result.id).cancel() is False
    assert app.AsyncResult(result.id).get(timeout=SECONDS) == got
    assert orchestrator.job(result.id).state == "succeeded"
