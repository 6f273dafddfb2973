"""Who wants to know is told, by real workers, whatever the one who is told does, and whatever is killed."""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import os
import socket
import struct
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import redis
from click.testing import CliRunner
from standardwebhooks import Webhook

from orchestrator import Invalid, Orchestrator
from orchestrator.cli import main
from orchestrator.local.processes import Command, Processes
from orchestrator.local.stack import Stack
from orchestrator.models import Notice
from orchestrator.notices import task_id
from tests import stack_kit
from tests.conftest import usual_accounts
from tests.stack_kit import REPOSITORY, SECRETS, client_of, stack_in

pytestmark = pytest.mark.long

FRAMES = "useapi_frames"
SECRET = f"whsec_{base64.b64encode(b'x' * 32).decode()}"
OLD_SECRET = f"whsec_{base64.b64encode(b'y' * 32).decode()}"
QUERY = "?token=s3cret-of-the-receiver"
SECRETS_TO_TELL = {
    **SECRETS,
    "ORCHESTRATOR_NOTIFY_SECRET": f"{SECRET},{OLD_SECRET}",
    "ORCHESTRATOR_NOTIFY_HOSTS": "127.0.0.1",
}
VERY_QUICK = ("--scale", "0.1", "--seconds", "1")
PATIENCE = 90.0
Answer = Callable[[BaseHTTPRequestHandler], None]
eventually = functools.partial(stack_kit.eventually, seconds=PATIENCE)


class Receiver(ThreadingHTTPServer):
    """Somebody who is told. It answers with 204, or as `answers` says, first to last."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *answers: Answer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers, self.heard = list(answers), list[tuple[dict[str, str], bytes]]()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/told{QUERY}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def events(self) -> list[dict[str, Any]]:
        """What was told, each genuine."""
        return [Webhook(SECRET).verify(body, headers) for headers, body in list(self.heard)]

    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in list(self.heard)]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A sender that was killed hangs up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.heard.append(({name.lower(): value for name, value in self.headers.items()}, body))
        answer = self.server.answers.pop(0) if self.server.answers else status(204)
        answer(self)

    do_GET = do_POST

    def log_message(self, *_: Any) -> None:
        pass


def status(code: int, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        if code != 204:
            handler.send_header("content-length", "0")
        handler.end_headers()

    return answer


def resets(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    handler.connection.close()


def waits_for(event: threading.Event) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        event.wait(PATIENCE)
        status(204)(handler)

    return answer


@pytest.fixture
def receiver() -> Iterator[Callable[..., Receiver]]:
    made: list[Receiver] = []

    def make(*answers: Answer) -> Receiver:
        made.append(Receiver(*answers))
        return made[-1]

    yield make
    for each in made:
        each.shutdown()
        each.server_close()


@pytest.fixture(scope="module")
def telling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that may tell whom it finds on this machine."""
    folder = tmp_path_factory.mktemp("telling")
    with stack_in(folder, usual_accounts, SECRETS_TO_TELL, simulator_arguments=VERY_QUICK) as made:
        yield made


@pytest.fixture(scope="module", autouse=True)
def orchestrator(telling: Stack) -> Iterator[Orchestrator]:
    with client_of(telling, SECRETS_TO_TELL) as made:
        yield made


@pytest.fixture
def batch() -> str:
    return f"batch-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def run(telling: Stack) -> Callable[..., Any]:
    """What a command gives as JSON; it must show no secret."""

    def command(*words: object) -> Any:
        done = CliRunner().invoke(main, [*map(str, words)])
        assert done.exit_code == 0, (words, done.output, done.exception)
        assert "s3cret" not in done.output
        return json.loads(done.output) if "--json" in words else done.output

    return command


def prompts(count: int, marker: str = "") -> list[dict[str, str]]:
    return [{"text_prompt": f"{uuid.uuid4().hex} {marker}"} for _ in range(count)]


def notice_of(orchestrator: Orchestrator, job_id: str, state: str) -> Notice:
    """The job's only notice, once it is in this state."""

    def look() -> Notice | None:
        found = [each for each in orchestrator.flow.store.notices.of_job(job_id) if each.state == state]
        return found[0] if found else None

    return eventually(look, f"a notice that is {state}")


def heard(where: Receiver, count: int) -> list[dict[str, Any]]:
    eventually(lambda: len(where.heard) >= count, f"{count} deliveries")
    return where.events()


# --- webhooks ------------------------------------------------------------------------------------------


def test_the_end_of_a_job_is_told_by_a_signed_webhook(orchestrator, receiver, run):
    where = receiver()
    job = orchestrator.enqueue(FRAMES, *prompts(1), notify_url=where.url)
    (event,) = heard(where, 1)
    assert event["type"] == "job.succeeded" and event["data"]["job_id"] == job.id
    assert event["data"]["artifacts"][0]["sha256"] == job.result(timeout=30).artifacts[0].sha256
    headers, body = where.heard[0]
    assert Webhook(OLD_SECRET).verify(body, headers) == event  # while secrets are rotated
    assert headers["content-type"] == "application/json"
    notice = notice_of(orchestrator, job.id, "delivered")
    assert (notice.tries, notice.answer) == (1, "204") and headers["webhook-id"] == notice.id
    (shown,) = run("status", job.id, "--json")["notices"]
    assert (shown["state"], shown["answer"], shown["tries"]) == ("delivered", "204", 1)
    assert shown["to"].endswith("/told?…")
    assert "job.succeeded: delivered" in run("status", job.id)


def test_failed_and_cancelled_jobs_are_told_as_well(orchestrator, receiver):
    where = receiver()
    failed = orchestrator.enqueue(FRAMES, *prompts(1, "[moderated]"), notify_url=where.url)
    cancelled = orchestrator.enqueue(FRAMES, *prompts(1, "[forever]"), notify_url=where.url)
    assert cancelled.cancel()
    told = {event["type"]: event["data"] for event in heard(where, 2)}
    assert told["job.failed"]["job_id"] == failed.id and told["job.failed"]["error"]["kind"] == "Moderated"
    assert told["job.cancelled"]["job_id"] == cancelled.id


# What it does first → whether it is told in the end, and by how many tries at least.
@pytest.mark.parametrize(
    "answers",
    [(status(500),), (status(503, retry_after="1"), status(429)), (resets,), (status(404), status(302))],
)
def test_whoever_does_not_take_it_at_first_is_told_again_under_the_same_id(answers, orchestrator, receiver):
    where = receiver(*answers)
    job = orchestrator.enqueue(FRAMES, *prompts(1), notify_url=where.url)
    notice = notice_of(orchestrator, job.id, "delivered")
    assert notice.tries == len(where.heard) == len(answers) + 1
    assert set(where.ids()) == {notice.id}
    assert len({body for _, body in where.heard}) == 1
    assert where.events()


def test_whoever_hangs_is_told_again_and_holds_nobody_up(orchestrator, receiver):
    held = threading.Event()
    slow, quick = receiver(*[waits_for(held)] * 4), receiver()
    jobs = [orchestrator.enqueue(FRAMES, each, notify_url=slow.url) for each in prompts(6)]
    eventually(lambda: len(slow.heard) >= 2)
    orchestrator.enqueue(FRAMES, *prompts(1), notify_url=quick.url)
    heard(quick, 1)
    held.set()
    for job in jobs:
        notice_of(orchestrator, job.id, "delivered")


def test_a_redirect_is_not_followed(orchestrator, receiver):
    inside = receiver()
    where = receiver(status(302, location=inside.url), status(307, location=inside.url))
    job = orchestrator.enqueue(FRAMES, *prompts(1), notify_url=where.url)
    assert notice_of(orchestrator, job.id, "delivered").tries == 3
    assert not inside.heard


def test_whoever_is_gone_is_told_no_more_until_a_person_says_so(orchestrator, receiver, run):
    where = receiver(status(410), status(410))
    job = orchestrator.enqueue(FRAMES, *prompts(1), notify_url=where.url)
    notice = notice_of(orchestrator, job.id, "dead")
    assert notice.tries == 1
    listed = run("notices", "list", "--job", job.id, "--json")
    assert listed["count"] == 1 and listed["notices"][0]["answer"].startswith("410")
    shown = run("notices", "show", notice.id, "--json")
    assert shown["told"]["job_id"] == job.id and shown["state"] == "dead" and shown["next_at"] is None
    assert run("status", "--json")["notices"]["dead"] >= 1
    assert "dead: `orchestrator notices list`" in run("status")
    assert run("notices", "replay", "--job", job.id) == "1 notice replayed\n"
    assert notice_of(orchestrator, job.id, "dead").id == notice.id  # it was answered with 410 once more
    eventually(lambda: len(where.heard) == 2)
    assert run("notices", "replay", notice.id) == "1 notice replayed\n"
    notice_of(orchestrator, job.id, "delivered")
    assert set(where.ids()) == {notice.id}


def test_dead_notices_are_purged(orchestrator, receiver, run):
    where = receiver(status(410))
    job = orchestrator.enqueue(FRAMES, *prompts(1), notify_url=where.url)
    notice = notice_of(orchestrator, job.id, "dead")
    assert notice.id in run("notices", "list", "--dead")
    assert run("notices", "purge", notice.id, "--json") == {"purged": 1}
    assert run("notices", "list", "--job", job.id, "--json")["count"] == 0


@pytest.mark.parametrize("words", [("replay",), ("purge",)])
def test_nothing_is_done_to_all_of_them_by_mistake(words, telling):
    done = CliRunner().invoke(main, ["notices", *words])
    assert done.exit_code == 2 and "which of them?" in done.output


@pytest.mark.parametrize("words", [("show", "nobody"), ("replay", "nobody")])
def test_a_notice_that_is_not_known_is_named(words, telling):
    done = CliRunner().invoke(main, ["notices", *words])
    assert done.exit_code == 1 and "nobody" in done.output and "Traceback" not in done.output


def test_a_worker_that_is_killed_while_it_tells_tells_again(telling, orchestrator, receiver):
    held = threading.Event()
    where = receiver(waits_for(held))
    job = orchestrator.enqueue(FRAMES, *prompts(1), notify_url=where.url)
    eventually(lambda: where.heard)
    telling.kill("worker")
    telling.restart("worker")
    notice = notice_of(orchestrator, job.id, "delivered")
    held.set()
    assert notice.tries == 2 and where.ids() == [notice.id] * 2
    assert where.heard[0][1] == where.heard[1][1]


def test_a_batch_whose_jobs_end_side_by_side_is_completed_once(orchestrator, receiver, batch):
    where = receiver()
    count = 200
    orchestrator.enqueue_many(FRAMES, prompts(count), batch=batch, notify_url=where.url)
    orchestrator.batch(batch).wait(timeout=PATIENCE)
    events = heard(where, count + 1)
    eventually(lambda: not orchestrator.flow.store.notices.counts()[0])
    types = [event["type"] for event in where.events()]
    assert types.count("batch.completed") == 1 and types.count("job.succeeded") == count
    assert len(set(where.ids())) == len(where.heard) == count + 1
    (completed,) = [event["data"] for event in events if event["type"] == "batch.completed"]
    assert completed == {
        "batch": batch, "total": count, "succeeded": count, "failed": 0, "cancelled": 0
    }  # fmt: skip


def test_the_end_of_a_batch_alone_may_be_told_to_a_url(orchestrator, receiver, batch):
    where = receiver()
    for _ in range(2):  # extended, it completes again
        orchestrator.enqueue_many(FRAMES, prompts(1), batch=batch, on_complete=where.url)
        orchestrator.batch(batch).wait(timeout=PATIENCE)
    assert sorted(event["data"]["total"] for event in heard(where, 2)) == [1, 2]
    assert {event["type"] for event in where.events()} == {"batch.completed"} and len({*where.ids()}) == 2


def test_nothing_of_a_url_that_may_open_something_is_logged(telling, orchestrator, receiver):
    where = receiver(status(500))
    job = orchestrator.enqueue(FRAMES, *prompts(1), notify_url=where.url)
    notice = notice_of(orchestrator, job.id, "delivered")
    logs = {name: telling.log(name).read_text() for name in ("worker", "ticker", "receiver")}
    assert f"notice.postponed notice={notice.id}" in logs["worker"]
    assert f"notice.delivered notice={notice.id}" in logs["worker"]
    for name, text in logs.items():
        assert "s3cret" not in text and SECRET not in text, name


@pytest.mark.parametrize("url", ["https://localhost/", "http://10.0.0.1/hook", "hooks.example.com"])
def test_a_url_that_can_never_work_is_refused_before_anything_is_stored(url, orchestrator, batch):
    with pytest.raises(Invalid, match="notify_url"):
        orchestrator.enqueue(FRAMES, *prompts(1), batch=batch, notify_url=url)
    with pytest.raises(Invalid, match="notify_url"):
        orchestrator.enqueue_many(FRAMES, prompts(2), batch=batch, notify_url=url)
    assert orchestrator.batch(batch).counts()["total"] == 0


def test_the_command_line_tells_whom_it_is_told_to(run, receiver):
    where = receiver()
    job_id = run("enqueue", FRAMES, f"text_prompt={uuid.uuid4().hex}", "--notify-url", where.url).strip()
    assert heard(where, 1)[0]["data"]["job_id"] == job_id


# --- Celery --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def theirs(telling: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Another app, with a worker of its own."""
    from tests import helpers_tasks

    log = tmp_path_factory.mktemp("theirs") / "theirs.log"
    argv = (sys.executable, "-m", "celery", "-A", "tests.helpers_tasks", "worker", "-n", "theirs@%h")
    argv = (*argv, "-Q", "tests", "--pool=threads", "--concurrency=4", "--loglevel=INFO")
    ready = lambda: "ready." in log.read_text()  # noqa: E731
    with Processes() as processes:
        processes.launch(Command("theirs", argv, dict(os.environ), REPOSITORY, log, ready, PATIENCE))
        processes.wait("theirs")
        yield helpers_tasks.app


@pytest.fixture
def kept(telling: Stack) -> Iterator[Callable[[str, int], list[Any]]]:
    """What `tests.record` was called with by a key, once that is so much."""
    with redis.Redis.from_url(telling.redis_url, decode_responses=True) as client:

        def read(key: str, count: int) -> list[Any]:
            eventually(lambda: client.llen(f"tests:{key}") >= count, f"{count} calls")
            return [json.loads(each) for each in client.lrange(f"tests:{key}", 0, -1)]

        yield read


def test_signatures_are_called_for_each_job_and_for_the_batch(orchestrator, theirs, kept, batch):
    """They say no queue: they go where the app they are of would send them."""
    told = [*prompts(4), *prompts(1, "[moderated]")]
    orchestrator.enqueue_many(
        FRAMES,
        told,
        batch=batch,
        custom_ids=[f"line {place}" for place in range(len(told))],
        on_each=theirs.signature("tests.record", args=(f"each {batch}",)),
        on_complete=theirs.signature("tests.record", args=(f"complete {batch}",)),
    )
    each = kept(f"each {batch}", 5)
    assert {one["custom_id"] for one in each} == {f"line {place}" for place in range(5)}
    assert sorted(one["state"] for one in each) == ["failed", *["succeeded"] * 4]
    for one in each:
        result = orchestrator.job(one["job_id"]).record.result
        assert result is None or result.items() <= one.items()
        assert (one["error"] is None) == (one["state"] == "succeeded") == bool(one["artifacts"])
    (complete,) = kept(f"complete {batch}", 1)
    assert complete == {"batch": batch, "total": 5, "succeeded": 4, "failed": 1, "cancelled": 0}


def test_a_bare_message_may_name_who_is_told_and_flower_does_not_see_its_query(theirs, receiver):
    where, seen, over = receiver(), list[str](), threading.Event()

    def note(event: dict[str, Any]) -> None:
        seen.append(event.get("kwargs", ""))

    def watch() -> None:
        with theirs.connection() as connection:
            events = theirs.events.Receiver(connection, handlers={"task-received": note})
            while not over.is_set():
                with contextlib.suppress(TimeoutError):
                    events.capture(limit=None, timeout=0.5, wakeup=True)

    watching = threading.Thread(target=watch)
    watching.start()
    sent = 0
    while not any("notify_url" in each for each in seen) and sent < PATIENCE:  # until it watches
        arguments = (FRAMES, {"text_prompt": f"{uuid.uuid4().hex}"})
        theirs.send_task("orchestrator.generate", arguments, {"notify_url": where.url})
        heard(where, sent := sent + 1)
    over.set()
    watching.join()
    assert any("/told?…" in each for each in seen) and "s3cret" not in str(seen)


def test_a_whole_canvas_may_be_called(orchestrator, theirs, kept, batch):
    from celery import chain

    pick = theirs.signature("tests.pick", args=("succeeded",))
    record = theirs.signature("tests.record", args=(f"canvas {batch}",))
    orchestrator.enqueue_many(FRAMES, prompts(2), batch=batch, on_complete=chain(pick, record, app=theirs))
    assert kept(f"canvas {batch}", 1) == [2]


def test_a_task_that_is_called_has_the_id_of_its_notice(telling, orchestrator, theirs, batch):
    """So that it is known when it is sent twice, by a worker that dies before it has recorded that."""
    call = theirs.signature("tests.give", queue=f"nobody-{batch}")
    orchestrator.enqueue_many(FRAMES, prompts(1), batch=batch, on_complete=call)
    with redis.Redis.from_url(telling.redis_url, decode_responses=True) as client:
        eventually(lambda: client.llen(f"nobody-{batch}"))
        (notice_key,) = [
            key for key in client.scan_iter("orc:notice:*") if client.hget(key, "about") == batch
        ]
        notice = orchestrator.flow.store.notices.one(notice_key.removeprefix("orc:notice:"))
        (message,) = client.lrange(f"nobody-{batch}", 0, -1)
        assert json.loads(message)["headers"]["id"] == task_id(notice)
