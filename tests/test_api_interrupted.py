"""The HTTP API on a stack of its own: killed in the middle of an upload, full, and without Redis."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import requests

from orchestrator import Orchestrator
from orchestrator.local.stack import Stack
from tests.api_kit import ACME, GUNICORN, KEYS, Api, serving
from tests.conftest import accounts
from tests.stack_kit import PATIENCE, REPOSITORY, SECRETS, client_of, eventually, stack_in

pytestmark = pytest.mark.long

FRAMES = "useapi_frames"
LINES = 600  # more than are enqueued in one step
QUICKLY = ("--scale", "0.1", "--seconds", "1")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    secrets = {
        **SECRETS,
        "ORCHESTRATOR_API_KEYS": KEYS,
        "ORCHESTRATOR_NOTIFY_SECRET": "whsec_" + base64.b64encode(b"x" * 32).decode(),
        "ORCHESTRATOR_NOTIFY_HOSTS": "127.0.0.1",
    }
    with stack_in(
        folder, lambda url: accounts(url, one=10, two=10), secrets, simulator_arguments=QUICKLY
    ) as made:
        yield made


@pytest.fixture(scope="module")
def orchestrator(stack: Stack) -> Iterator[Orchestrator]:
    with client_of(stack) as made:
        yield made


@pytest.fixture
def api(stack: Stack, orchestrator: Orchestrator, tmp_path: Path) -> Iterator[Api]:
    with serving(stack.environment, tmp_path) as made:
        yield made


def body(count: int, marker: str = "") -> bytes:
    return "".join(
        json.dumps({"custom_id": f"n{n}", "text_prompt": f"number {n} {marker}"}) + "\n" for n in range(count)
    ).encode()


def posts(stack: Stack) -> int:
    told: dict[str, Any] = requests.get(f"{stack.simulator_url}/__stats__", timeout=PATIENCE).json()
    return int(told["total"]["posts"])


def test_an_upload_whose_server_is_killed_is_made_again_and_each_line_is_posted_once(
    stack, api, orchestrator
):
    before = posts(stack)
    upload = threading.Thread(target=_broken_off, args=(api, body(LINES)))
    upload.start()
    while not orchestrator.flow.store.batch("acme/killed").get("total"):
        pass  # the first step is followed by the second in milliseconds
    api.kill()
    upload.join()
    known = api_of(stack).ask("GET", "/batches/killed").json()["total"]
    again = api_of(stack).upload(body(LINES), name="killed", provider=FRAMES).json()
    assert again == {"name": "killed", "lines": LINES, "enqueued": LINES - known}
    eventually(lambda: api_of(stack).ask("GET", "/batches/killed").json()["is_over"], seconds=240)
    told = api_of(stack).ask("GET", "/batches/killed").json()
    assert (told["total"], told["succeeded"]) == (LINES, LINES)
    assert posts(stack) - before == LINES


def _broken_off(api: Api, lines: bytes) -> None:
    with suppress(requests.ConnectionError):
        api.upload(lines, name="killed", provider=FRAMES)


def api_of(stack: Stack) -> Api:
    """The one that the stack itself started."""
    return Api(str(stack.api_url))


def test_the_stack_tells_the_keys_to_the_api_alone(stack):
    for name in ("worker", "ticker", "receiver", "api"):
        told = Path(f"/proc/{stack.processes.pid(name)}/environ").read_bytes()
        assert (ACME.encode() in told) == (name == "api")


def test_a_full_queue_takes_what_it_can_and_says_when_to_come_again(stack, orchestrator, tmp_path):
    orchestrator.operations.pause("provider", FRAMES)
    with serving({**stack.environment, "ORCHESTRATOR_MAX_WAITING": "550"}, tmp_path) as api:
        answer = api.upload(body(LINES, "[forever]"), name="full", provider=FRAMES)
        told = answer.json()
        assert (answer.status_code, told["enqueued"]) == (429, 500)
        assert "send the same again" in told["detail"] and "ORCHESTRATOR" not in told["detail"]
        assert int(answer.headers["Retry-After"]) > 0
        assert api.ask("GET", "/batches/full").json()["total"] == 500
        job = {"provider": FRAMES, "parameters": {"text_prompt": "one more"}, "batch": "full"}
        assert {api.ask("POST", "/jobs", json=job).status_code for _ in range(51)} == {201, 429}
    assert api_of(stack).ask("DELETE", "/batches/full").json()["is_over"]
    orchestrator.operations.resume("provider", FRAMES)


def test_for_how_long_a_job_is_known_is_told_as_it_was_set(stack, tmp_path):
    with serving({**stack.environment, "ORCHESTRATOR_KEEP_DAYS": "3"}, tmp_path) as api:
        told = api.ask("GET", "/jobs/nobody")
    assert told.status_code == 404 and "kept for 3 days after the end" in told.json()["detail"]


class Listener(BaseHTTPRequestHandler):
    told: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        self.told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


def test_who_is_to_be_told_is_told_of_jobs_and_of_their_batch(stack):
    with ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        threading.Thread(target=server.serve_forever).start()
        url, api = f"http://127.0.0.1:{server.server_port}/told", api_of(stack)
        assert api.upload(body(2), name="told", provider=FRAMES, notify_url=url).status_code == 201
        job = {"provider": FRAMES, "parameters": {"text_prompt": "a fox"}, "notify_url": url}
        alone = api.ask("POST", "/jobs", json=job)
        assert alone.status_code == 201 and "127.0.0.1" not in alone.text
        eventually(lambda: len({json.dumps(each, sort_keys=True) for each in Listener.told}) >= 4)
        server.shutdown()
    assert {each["type"] for each in Listener.told} == {"job.succeeded", "batch.completed"}


def test_without_redis_it_says_when_to_come_again_and_goes_on_once_it_is_back(stack, api):
    stack.kill("valkey")
    job = {"provider": FRAMES, "parameters": {"text_prompt": "a fox"}}
    for answer in (
        api.ask("POST", "/jobs", json=job),
        api.ask("GET", "/jobs/x?wait=5"),
        api.ask("DELETE", "/jobs/x"),
        api.ask("GET", "/batches/x"),
        api.ask("GET", "/batches/x/outcomes?wait=5"),
        api.upload(body(3), name="x", provider=FRAMES),
    ):
        assert (answer.status_code, answer.headers["Content-Type"]) == (503, "application/problem+json")
        assert int(answer.headers["Retry-After"]) > 0
        assert "127.0.0.1" not in answer.text and "redis" not in answer.text.lower()
    assert api.of("nobody").ask("GET", "/batches/x").status_code == 401
    assert api.ask("GET", "/healthz").status_code == 200
    eventually(lambda: api.ask("GET", "/readyz").status_code == 503)
    stack.restart("valkey")
    eventually(lambda: api.ask("POST", "/jobs", json=job).status_code == 201)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("", "ORCHESTRATOR_API_KEYS is not set"),
        ("acme:too-short", "the secret of 'acme' is shorter than 32 characters"),
    ],
)
def test_it_does_not_start_without_proper_keys(keys, words, stack, orchestrator):
    environ = {**os.environ, **stack.environment, "ORCHESTRATOR_API_KEYS": keys}
    ended = subprocess.run(
        [*GUNICORN, "--bind", "127.0.0.1:0"],
        env=environ, cwd=REPOSITORY, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert ended.returncode
    assert words in ended.stderr and "too-short" not in ended.stderr
