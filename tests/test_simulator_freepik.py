"""The simulator's Freepik, talked to over HTTP as a client would, in a process of its own."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests
from standardwebhooks import Webhook

from tests.test_simulator import ANSWER_SECONDS, eventually, parse_png

KEY, SECRET = "FPSX-signed", "a-secret-of-freepik"
USUAL = ("--scale", "0.02", "--seconds", "5", "--freepik-secret", f"{KEY}={SECRET}", "--account", f"{KEY}=3")
PROMPT = {"prompt": "a lake", "ratio": "1024:1024"}


class Receiver:
    """Takes callbacks on a free port, headers and raw bodies; answers with `answers`, then 200."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: list[int] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                told = {name.lower(): value for name, value in self.headers.items()}
                receiver.taken.append((self.path, told, raw))
                self.send_response(receiver.answers.pop(0) if receiver.answers else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *words: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def of(self, path: str) -> list[tuple[dict[str, str], dict[str, Any]]]:
        """Headers and body of what came to a path."""
        return [(told, json.loads(raw)) for where, told, raw in list(self.taken) if where == path]

    def statuses(self, path: str) -> list[str]:
        """Sorted: they come on several connections, where one may overtake another."""
        return sorted(body["status"] for _, body in self.of(path))


class Freepik:
    """A running simulator, and what is needed to talk to its Freepik."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.simulator", "--port", "0", *USUAL],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split()[-1]
        self.receiver = Receiver()

    def call(self, method: str, path: str = "", key: str | None = KEY, **more: Any) -> requests.Response:
        root = self.url if path.startswith("/__") else f"{self.url}/v1/ai/text-to-image/runway"
        headers = {"x-freepik-api-key": key} if key else {}
        return requests.request(method, root + path, timeout=ANSWER_SECONDS, headers=headers, **more)

    def create(self, prompt: str = "a lake", key: str = KEY, **more: Any) -> requests.Response:
        return self.call("POST", key=key, json={**PROMPT, "prompt": prompt, **more})

    def accepted(self, prompt: str = "a lake", key: str = KEY, **more: Any) -> dict[str, Any]:
        answer = self.create(prompt, key, **more)
        assert answer.status_code == 200, answer.text
        assert set(answer.json()) == {"data"}
        return answer.json()["data"]

    def with_callback(self, prompt: str, key: str = KEY) -> tuple[str, dict[str, Any]]:
        path = f"/{uuid.uuid4()}"
        return path, self.accepted(prompt, key, webhook_url=f"{self.receiver.url}{path}")

    def task(self, task: dict[str, Any], key: str = KEY) -> dict[str, Any]:
        return self.call("GET", f"/{task['task_id']}", key=key).json()["data"]

    def ended(self, task: dict[str, Any], key: str = KEY) -> dict[str, Any]:
        eventually(lambda: self.task(task, key)["status"] in ("COMPLETED", "FAILED"))
        return self.task(task, key)

    def control(self, **orders: Any) -> int:
        return self.call("POST", "/__control__", json=orders).status_code

    def stats(self) -> dict[str, Any]:
        return self.call("GET", "/__stats__").json()["apis"]["freepik_runway"]


@pytest.fixture(scope="module")
def running() -> Iterator[Freepik]:
    made = Freepik()
    yield made
    made.process.terminate()
    made.process.wait(timeout=ANSWER_SECONDS)
    assert made.process.stdout is not None
    made.process.stdout.close()
    made.receiver.server.shutdown()
    made.receiver.server.server_close()


@pytest.fixture
def freepik(running: Freepik) -> Freepik:
    """The shared simulator, empty as after its start."""
    assert running.call("POST", "/__reset__").ok
    running.receiver.answers.clear()
    running.receiver.taken.clear()
    return running


# create and poll


def test_create_answers_with_a_created_task_under_data(freepik):
    task = freepik.accepted(seed=0)
    assert task == {"task_id": str(uuid.UUID(task["task_id"])), "status": "CREATED", "generated": []}


def test_task_goes_from_created_through_in_progress_to_completed(freepik):
    seen = [freepik.accepted("a lake [forever]")]

    def comes_to(status: str) -> bool:
        seen.append(freepik.task(seen[0]))
        return seen[-1]["status"] == status

    eventually(lambda: comes_to("IN_PROGRESS"))
    freepik.control(end_all=0)
    eventually(lambda: comes_to("COMPLETED"))
    statuses = [status for status, _ in itertools.groupby(task["status"] for task in seen)]
    assert statuses == ["CREATED", "IN_PROGRESS", "COMPLETED"]
    assert all((task["generated"] != []) == (task["status"] == "COMPLETED") for task in seen)


@pytest.mark.parametrize(("ratio", "size"), [("1920:1080", (320, 180)), ("720:1280", (180, 320))])
def test_picture_is_a_real_one_of_that_ratio_behind_a_signed_url(freepik, ratio, size):
    (url,) = freepik.ended(freepik.accepted(ratio=ratio))["generated"]
    assert url.startswith(f"{freepik.url}/artifacts/")
    assert "?token=exp=" in url and "~hmac=" in url
    assert parse_png(requests.get(url, timeout=ANSWER_SECONDS).content)[:2] == size


def test_list_has_status_and_id_of_the_keys_own_tasks_newest_first(freepik):
    tasks = [freepik.accepted("[forever]") for _ in range(3)]
    freepik.accepted(key="another")
    rows = freepik.call("GET").json()["data"]
    assert [row["task_id"] for row in rows] == [task["task_id"] for task in reversed(tasks)]
    assert {frozenset(row) for row in rows} == {frozenset({"task_id", "status"})}
    second = freepik.call("GET", params={"page": 2, "per_page": 1}).json()["data"]
    assert [row["task_id"] for row in second] == [tasks[1]["task_id"]]


def test_task_of_another_key_or_of_nobody_is_not_found(freepik):
    task = freepik.accepted()
    for path, key in ((f"/{task['task_id']}", "another"), ("/x", KEY), (f"/{uuid.uuid4()}", KEY)):
        answer = freepik.call("GET", path, key=key)
        assert (answer.status_code, answer.json()) == (404, {"message": "Not found"})


# errors


@pytest.mark.parametrize(("key", "words"), [(None, "Missing API key"), ("bad-token", "Invalid API key")])
def test_key_is_asked_for_everywhere(freepik, key, words):
    for method, path in (("POST", ""), ("GET", ""), ("GET", "/x")):
        answer = freepik.call(method, path, key=key, json=PROMPT)
        assert (answer.status_code, answer.json()) == (401, {"message": words})
    assert freepik.stats()["refused"] == {"401": 1}


def test_key_may_come_in_magnifics_header(freepik):
    url = f"{freepik.url}/v1/ai/text-to-image/runway"
    assert requests.post(url, json=PROMPT, headers={"x-magnific-api-key": "k"}, timeout=ANSWER_SECONDS).ok


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({}, ["prompt", "ratio"]),
        ({**PROMPT, "prompt": ""}, ["prompt"]),
        ({**PROMPT, "prompt": "x" * 1001}, ["prompt"]),
        ({**PROMPT, "ratio": "16:9"}, ["ratio"]),
        ({**PROMPT, "ratio": ["1024:1024"]}, ["ratio"]),
        ({**PROMPT, "seed": -1}, ["seed"]),
        ({**PROMPT, "seed": 4294967296}, ["seed"]),
        ({**PROMPT, "seed": True}, ["seed"]),
        ({**PROMPT, "webhook_url": "nowhere"}, ["webhook_url"]),
    ],
)
def test_wrong_parameter_is_a_problem_that_names_it(freepik, body, names):
    answer = freepik.call("POST", json=body)
    assert (answer.status_code, answer.headers["Content-Type"]) == (400, "application/problem+json")
    assert [each["name"] for each in answer.json()["problem"]["invalid_params"]] == names
    assert freepik.stats()["refused"] == {"400": 1}


def test_body_that_is_no_json_and_a_wrong_page_have_the_other_two_shapes(freepik):
    assert set(freepik.call("POST", data="x").json()) == {"message"}
    assert freepik.call("POST", json=[]).status_code == 400
    for page in ("0", "x", "\u0661", "9" * 5000):
        answer = freepik.call("GET", params={"page": page})
        assert answer.status_code == 400
        assert set(answer.json()) == {"message", "invalid_params"}


def test_full_account_is_a_429_with_a_message(freepik):
    for _ in range(3):  # --account
        freepik.accepted("[forever]")
    answer = freepik.create()
    assert answer.status_code == 429
    assert set(answer.json()) == {"message"}
    assert freepik.stats()["refused"] == {"429A": 1}
    assert freepik.create(key="another").ok


def test_control_orders_trouble_here_too(freepik):
    assert freepik.control(runway_limit={"api": "freepik_runway", "email": KEY, "tasks": 0}) == 200
    assert freepik.create().status_code == 429
    assert freepik.control(runway_limit=None, fail={"status": 500}, poll_fail={"status": 503}) == 200
    assert freepik.create().json() == {"message": "Internal Server Error"}
    answer = freepik.call("GET", "/x")
    assert answer.json() == {"message": "Service Unavailable. Please try again later."}


# callbacks


def test_callback_comes_on_every_change_without_the_envelope(freepik):
    path, task = freepik.with_callback("a lake")
    eventually(lambda: len(freepik.receiver.of(path)) == 2)
    told = {body["status"]: body for _, body in freepik.receiver.of(path)}
    working, over = told["IN_PROGRESS"], told["COMPLETED"]
    assert working == {"task_id": task["task_id"], "status": "IN_PROGRESS", "generated": []}
    assert over == freepik.task(task)
    eventually(lambda: freepik.stats()["callbacks_sent"] == 2)


def test_callbacks_of_a_key_with_a_secret_are_signed(freepik):
    path, _ = freepik.with_callback("a lake")
    eventually(lambda: len(freepik.receiver.of(path)) == 2)
    taken = [(told, raw) for where, told, raw in freepik.receiver.taken if where == path]
    for told, raw in taken:
        assert Webhook(SECRET.encode()).verify(raw, told) == json.loads(raw)
        assert told["content-type"] == "application/json"
    assert len({told["webhook-id"] for told, _ in taken}) == 2


def test_callbacks_of_another_key_are_not_signed(freepik):
    path, _ = freepik.with_callback("a lake", key="another")
    eventually(lambda: freepik.receiver.of(path))
    assert not [name for name in freepik.receiver.of(path)[0][0] if name.startswith("webhook-")]


def test_secret_can_be_set_rotated_and_taken_away(freepik):
    assert freepik.control(freepik_secret={"key": "another", "secret": "old, new"}) == 200
    path, _ = freepik.with_callback("a lake", key="another")
    eventually(lambda: freepik.receiver.of(path))
    told, body = freepik.receiver.of(path)[0]
    first, second = told["webhook-signature"].split(" ")
    assert (first[:3], second[:3]) == ("v1,", "v2,")
    raw = json.dumps(body).encode()
    for secret, signature in (("old", first), ("new", second.replace("v2", "v1", 1))):
        Webhook(secret.encode()).verify(raw, {**told, "webhook-signature": signature})
    assert freepik.control(freepik_secret={"key": KEY, "secret": None}) == 200
    path, _ = freepik.with_callback("a lake")
    eventually(lambda: freepik.receiver.of(path))
    assert "webhook-signature" not in freepik.receiver.of(path)[0][0]
    freepik.call("POST", "/__reset__")
    path, _ = freepik.with_callback("a lake")
    eventually(lambda: freepik.receiver.of(path))
    assert "webhook-signature" in freepik.receiver.of(path)[0][0]


@pytest.mark.parametrize("wish", [None, {}, {"key": KEY}, {"secret": "x"}, 5, "x"])
def test_unreadable_secret_is_a_bad_request(freepik, wish):
    assert freepik.control(freepik_secret=wish) == 400


def test_delivery_that_is_tried_again_keeps_its_id(freepik):
    freepik.receiver.answers[:] = [500]
    path, _ = freepik.with_callback("a lake")
    eventually(lambda: len(freepik.receiver.of(path)) == 3)
    ids = Counter(told["webhook-id"] for told, _ in freepik.receiver.of(path))
    assert sorted(ids.values()) == [1, 2]


# markers


def test_failed_task_gives_no_reason(freepik):
    for prompt in ("a lake [failed]", "a lake [moderated]"):
        task = freepik.ended(freepik.accepted(prompt))
        assert task == {"task_id": task["task_id"], "status": "FAILED", "generated": []}


@pytest.mark.parametrize(
    ("marker", "status"),
    [("unauthorized", 401), ("credits", 402), ("moderated-422", 403), ("broken", 403), ("5xx-refused", 503)],
)
def test_marker_can_refuse_the_order(freepik, marker, status):
    answer = freepik.create(f"a lake [{marker}]")
    assert (answer.status_code, set(answer.json())) == (status, {"message"})
    assert freepik.stats()["accepted"] == 0


def test_double_is_one_delivery_twice(freepik):
    path, _ = freepik.with_callback("a lake [double]")
    eventually(lambda: freepik.receiver.statuses(path) == ["COMPLETED", "COMPLETED", "IN_PROGRESS"])
    over = [told for told, body in freepik.receiver.of(path) if body["status"] == "COMPLETED"]
    first, second = [told["webhook-id"] for told in over]
    assert first == second


def test_early_callback_overtakes_the_create_reply(freepik):
    path, task = freepik.with_callback("a lake [early]")
    assert freepik.receiver.statuses(path) == ["COMPLETED"]
    assert task["status"] == "CREATED"


def test_lost_task_completes_in_silence(freepik):
    path, task = freepik.with_callback("a lake [lost]")
    assert freepik.ended(task)["status"] == "COMPLETED"
    time.sleep(0.05)
    assert freepik.receiver.statuses(path) == []
    assert freepik.stats()["callbacks_lost"] == 1


def test_5xx_hides_a_task_that_was_accepted(freepik):
    answer = freepik.create("a lake [5xx]", webhook_url=f"{freepik.receiver.url}/hidden")
    assert answer.status_code == 503
    eventually(lambda: "COMPLETED" in freepik.receiver.statuses("/hidden"))
    assert freepik.stats()["spoiled"] == {"5xx": 1}


def test_empty_weird_out_of_order_and_no_picture(freepik):
    assert freepik.ended(freepik.accepted("a lake [empty]"))["generated"] == []
    (url,) = freepik.ended(freepik.accepted("a lake [no-picture]"))["generated"]
    assert requests.get(url, timeout=ANSWER_SECONDS).status_code == 404
    weird, _ = freepik.with_callback("a lake [weird]")
    late, _ = freepik.with_callback("a lake [out-of-order]")
    eventually(lambda: freepik.receiver.statuses(weird) == ["COMPLETED", "SIMMERING"])
    eventually(lambda: freepik.receiver.statuses(late) == ["COMPLETED", "IN_PROGRESS", "IN_PROGRESS"])


def test_stats_count_what_happened(freepik):
    for prompt in ("a lake", "a lake", "a hill"):
        freepik.ended(freepik.accepted(prompt, webhook_url=f"{freepik.receiver.url}/same"))
    stats = freepik.stats()
    assert (stats["posts"], stats["accepted"], stats["tasks"]) == (3, 3, {"SUCCEEDED": 3})
    assert stats["duplicates_by_reply_ref"] == 2  # the callback URL is the only reference there is
    assert stats["duplicates_by_prompt"] == 1
    assert stats["max_concurrent"] == {KEY: 1}


@pytest.mark.parametrize("wrong", ["x", "=x", "x="])
def test_secret_without_a_key_is_refused_at_the_start_and_not_shown(wrong):
    command = [sys.executable, "-m", "orchestrator.simulator", "--port", "0", "--freepik-secret", wrong]
    ended = subprocess.run(command, capture_output=True, timeout=ANSWER_SECONDS, text=True)
    assert ended.returncode == 2
    assert "KEY=SECRET" in ended.stderr
