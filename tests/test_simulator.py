"""The provider simulator, talked to over HTTP as a client would, in a process of its own."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import gevent
import pytest
import requests

from orchestrator.simulator.apis.useapi_frames import UseapiFrames
from orchestrator.simulator.contender import AGAIN_SECONDS
from orchestrator.simulator.control import Control
from orchestrator.simulator.courier import Courier, Delivery
from orchestrator.simulator.engine import LATE_PROGRESS, Engine
from orchestrator.simulator.markers import Marker, read_markers
from orchestrator.simulator.model import Order, Phase
from orchestrator.simulator.options import Options, Seconds
from orchestrator.simulator.pictures import draw_picture, picture_id
from orchestrator.simulator.replies import HANG_SECONDS
from orchestrator.simulator.timers import Timers
from orchestrator.simulator.web import Request, Routes
from tests.stack_kit import eventually

EMAIL = "a@example.com"
GENERATION = 0.1  # real seconds of one generation, with the options below
USUAL = ("--scale", "0.02", "--seconds", "5", "--account", f"{EMAIL}=5")
ANSWER_SECONDS = 30.0  # in which a request is answered, however busy the machine is

SimFactory = Callable[..., "Sim"]


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 500  # a crowd of callbacks comes at once


class Receiver:
    """Takes callbacks on a free port. Refuses the first that tells of each status in `refused`, with 503."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.refused: set[str] = set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                assert self.headers["Content-Type"] == "application/json"
                body = json.loads(self.rfile.read(length))
                receiver.bodies.append(body)
                refuses = body["status"] in receiver.refused
                receiver.refused.discard(body["status"])
                self.send_response(503 if refuses else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *words: Any) -> None:
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/reply?token=t"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def of(self, reference: str) -> list[dict[str, Any]]:
        """As they came: on several connections, where one may overtake another."""
        return [body for body in list(self.bodies) if body["replyRef"] == reference]

    def statuses(self, reference: str) -> list[str]:
        """Sorted."""
        return sorted(body["status"] for body in self.of(reference))


class Sim:
    """A running simulator and what is needed to talk to it."""

    references = itertools.count()

    def __init__(self, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.simulator", "--port", "0", *options],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("simulator listening on http://127.0.0.1:"), line
        self.url = line.split()[-1]
        self.receiver = Receiver()
        self.session = requests.Session()
        self.session.headers["Authorization"] = "Bearer token"

    def call(self, method: str, path: str, **more: Any) -> requests.Response:
        root = self.url if path.startswith(("/__", "/artifacts")) else f"{self.url}/v1/runwayml"
        return self.session.request(method, root + path, timeout=ANSWER_SECONDS, **more)

    def create(self, prompt: str, **more: Any) -> requests.Response:
        return self.call("POST", "/frames/create", json={"text_prompt": prompt, "email": EMAIL, **more})

    def accepted(self, prompt: str, **more: Any) -> dict[str, Any]:
        answer = self.create(prompt, **more)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def with_callback(self, prompt: str, **more: Any) -> tuple[str, dict[str, Any]]:
        reference = f"ref-{next(self.references)}"
        return reference, self.accepted(prompt, replyUrl=self.receiver.url, replyRef=reference, **more)

    def task(self, task_id: str) -> dict[str, Any]:
        return self.call("GET", f"/tasks/{task_id}").json()

    def ended(self, task: dict[str, Any]) -> dict[str, Any]:
        eventually(lambda: self.task(task["taskId"])["status"] in ("SUCCEEDED", "FAILED"))
        return self.task(task["taskId"])

    def control(self, **orders: Any) -> None:
        assert self.call("POST", "/__control__", json=orders).status_code == 200

    def hold(self) -> None:
        """What begins from now on goes on until it is told to end."""
        self.control(seconds="500000")

    def end_all(self) -> None:
        """What runs ends; what begins from now on takes as long as usual."""
        self.control(seconds="5", end_all=0)

    def stats(self) -> dict[str, Any]:
        return self.call("GET", "/__stats__").json()["apis"]["useapi_frames"]

    def stop(self) -> int:
        self.process.terminate()
        code = self.process.wait(timeout=HANG_SECONDS / 2)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.session.close()
        self.receiver.server.shutdown()
        self.receiver.server.server_close()
        return code


def parse_png(file: bytes) -> tuple[int, int, bytes]:
    """Width, height and pixels; asserts that every chunk is sound."""
    assert file[:8] == b"\x89PNG\r\n\x1a\n"
    place, chunks = 8, []
    while place < len(file):
        (length,) = struct.unpack(">I", file[place : place + 4])
        kind, body = file[place + 4 : place + 8], file[place + 8 : place + 8 + length]
        assert zlib.crc32(kind + body) == struct.unpack(">I", file[place + 8 + length :][:4])[0]
        chunks.append((kind, body))
        place += 12 + length
    assert chunks[0][0] == b"IHDR" and chunks[-1] == (b"IEND", b"")
    width, height, depth, colours = struct.unpack(">IIBB", chunks[0][1][:10])
    assert (depth, colours) == (8, 2)
    raw = zlib.decompress(b"".join(body for kind, body in chunks if kind == b"IDAT"))
    assert len(raw) == height * (1 + 3 * width)
    return width, height, raw


@pytest.fixture(scope="module")
def sim_factory() -> Iterator[SimFactory]:
    """Starts simulators with the options given and ends them after the last test."""
    started: list[Sim] = []

    def start(*options: str) -> Sim:
        started.append(Sim(*options))
        return started[-1]

    start.usual = start(*USUAL)  # type: ignore[attr-defined]
    yield start
    for sim in started:
        if sim.process.poll() is None:
            sim.stop()


@pytest.fixture
def sim(sim_factory: SimFactory) -> Sim:
    """The shared simulator, empty as after its start."""
    shared: Sim = sim_factory.usual  # type: ignore[attr-defined]
    assert shared.call("POST", "/__reset__").json() == {"ok": True}
    shared.receiver.refused.clear()
    shared.receiver.bodies.clear()
    return shared


# create and poll


def test_create_answers_with_a_pending_task_of_the_documented_shape(sim: Sim) -> None:
    task = sim.accepted("a lake", replyRef="job.1", style="vivid", seed=7, diversity=5)
    assert task["taskId"] == f"user:1-runwayml:{EMAIL}-task:{task['id']}"
    assert set(task) == {
        *("taskId", "id", "name", "image", "createdAt", "updatedAt", "taskType", "options", "status"),
        *("error", "progressText", "progressRatio", "estimatedTimeToStartSeconds", "artifacts"),
        *("sharedAsset", "sourceAssetId", "features", "replyUrl", "replyRef", "code"),
    }
    assert (task["status"], task["progressRatio"], task["artifacts"]) == ("PENDING", None, [])
    assert (task["error"], task["replyRef"], task["replyUrl"], task["code"]) == (None, "job.1", None, 200)
    assert task["createdAt"].endswith("Z") and task["taskType"] == "text_to_image"
    wanted = {"text_prompt": "a lake", "style": "vivid", "seed": 7, "diversity": 5, "exploreMode": False}
    assert wanted.items() <= task["options"].items()


def test_form_data_is_read_like_json(sim: Sim) -> None:
    fields = {"text_prompt": "a lake", "seed": "12", "num_images": "4", "exploreMode": "true", "email": EMAIL}
    answer = sim.call("POST", "/frames/create", files={name: (None, value) for name, value in fields.items()})
    assert answer.status_code == 200
    assert answer.json()["options"]["seed"] == 12 and answer.json()["options"]["exploreMode"] is True
    assert len(sim.ended(answer.json())["artifacts"]) == 4


def test_task_goes_from_pending_through_running_to_succeeded(sim: Sim) -> None:
    seen = [sim.accepted("a lake [forever]")]

    def comes_to(status: str, ratio: float) -> bool:
        now = sim.task(seen[0]["taskId"])
        seen.append(now)
        return now["status"] == status and float(now["progressRatio"]) >= ratio

    eventually(lambda: comes_to("RUNNING", 0.99))
    sim.end_all()
    eventually(lambda: comes_to("SUCCEEDED", 1.0))
    statuses = [status for status, _ in itertools.groupby(task["status"] for task in seen)]
    assert statuses == ["PENDING", "RUNNING", "SUCCEEDED"]
    ratios = [task["progressRatio"] for task in seen]
    assert {type(ratio) for ratio in ratios} == {type(None), str, float}
    numbers = [float(ratio) for ratio in ratios if ratio is not None]
    assert numbers == sorted(numbers) and numbers[-1] == 1.0


def test_artifact_has_the_documented_shape_and_is_a_real_picture(sim: Sim) -> None:
    task = sim.ended(sim.accepted("a lake", aspect_ratio="21:9"))
    (artifact,) = task["artifacts"]
    assert artifact["taskId"] == task["taskId"]
    assert artifact["assetId"] == f"user:1-runwayml:{EMAIL}-asset:{artifact['id']}"
    assert artifact["url"].startswith(f"{sim.url}/artifacts/") and artifact["url"].endswith("/0.png")
    file = sim.session.get(artifact["url"], timeout=ANSWER_SECONDS)
    assert file.headers["Content-Type"] == "image/png"
    assert artifact["fileSize"] == str(len(file.content))
    width, height, _ = parse_png(file.content)
    assert [width, height] == artifact["metadata"]["dimensions"] and width == 320


def test_four_pictures_are_four_different_ones(sim: Sim) -> None:
    task = sim.ended(sim.accepted("a lake", num_images=4))
    urls = [artifact["url"] for artifact in task["artifacts"]]
    files = [sim.session.get(url, timeout=ANSWER_SECONDS).content for url in urls]
    assert len({parse_png(file)[2] for file in files}) == 4


@pytest.mark.parametrize("ratio", ["16:9", "9:16", "1:1", "4:3", "3:4", "21:9"])
def test_size_follows_the_aspect_ratio(sim: Sim, ratio: str) -> None:
    options = sim.accepted("a lake", aspect_ratio=ratio)["options"]
    across, down = map(int, ratio.split(":"))
    assert options["width"] / options["height"] == pytest.approx(across / down, rel=0.03)


def test_artifact_urls_carry_the_host_that_the_caller_used(sim: Sim) -> None:
    host = sim.url.replace("http://127.0.0.1", "localhost")
    body = {"text_prompt": "a lake"}
    task = sim.call("POST", "/frames/create", json=body, headers={"Host": host}).json()
    assert sim.ended(task)["artifacts"][0]["url"].startswith(f"http://{host}/artifacts/")


@pytest.mark.parametrize("name", ["nonsense", "00000000-00000000-999x999", "00000000-00000000-320x10"])
def test_unknown_picture_is_not_found(sim: Sim, name: str) -> None:
    assert sim.call("GET", f"/artifacts/{name}/0.png").status_code == 404


def test_unknown_task_is_not_found_and_a_bare_uuid_is_unknown(sim: Sim) -> None:
    task = sim.accepted("a lake")
    for unknown in (task["id"], f"user:1-runwayml:b@b-task:{task['id']}", "x"):
        answer = sim.call("GET", f"/tasks/{unknown}")
        assert (answer.status_code, answer.json()) == (404, {"error": "Not found.", "code": 404})


# lists


def test_list_shows_the_newest_first_with_its_reference(sim: Sim) -> None:
    for number in range(5):
        sim.accepted(f"lake {number}", replyRef=f"r{number}")
    listed = sim.call("GET", "/tasks/", params={"offset": 1, "limit": 3}).json()["tasks"]
    assert [task["replyRef"] for task in listed] == ["r3", "r2", "r1"]


def test_list_can_be_narrowed_by_status_and_account(sim: Sim) -> None:
    forever = sim.accepted("[forever]")
    sim.ended(sim.accepted("a lake"))
    sim.accepted("a hill", email="b@example.com")
    page = {"offset": 0, "limit": 10, "email": EMAIL}
    listed = sim.call("GET", "/tasks/", params={**page, "statuses": "PENDING,RUNNING"}).json()["tasks"]
    assert [task["id"] for task in listed] == [forever["id"]]
    assert len(sim.call("GET", "/tasks", params=page).json()["tasks"]) == 2
    assert sim.call("GET", "/tasks/", params={**page, "email": ""}).status_code == 400


@pytest.mark.parametrize(
    "page",
    [{}, {"offset": 0}, {"limit": 1}, {"offset": -1, "limit": 1}, {"offset": 0, "limit": 1001},
     {"offset": "x", "limit": 1}, {"offset": 0, "limit": 1, "statuses": "SIMMERING"}],
)  # fmt: skip
def test_list_without_a_sound_page_is_a_bad_request(sim: Sim, page: dict[str, Any]) -> None:
    answer = sim.call("GET", "/tasks/", params=page)
    assert answer.status_code == 400 and answer.json()["code"] == 400


def test_scheduler_lists_what_is_tracked_now(sim: Sim) -> None:
    sim.ended(sim.accepted("a lake"))
    plain, known = sim.accepted("[forever]"), sim.accepted("[forever]", replyRef="r", replyUrl="http://x/")
    assert sim.call("GET", "/scheduler").json() == [
        {"taskId": plain["taskId"]},
        {"taskId": known["taskId"], "replyUrl": "http://x/", "replyRef": "r"},
    ]


def test_task_taken_from_the_scheduler_goes_on_without_a_callback(sim: Sim) -> None:
    sim.hold()
    reference, task = sim.with_callback("a lake")
    path = f"/scheduler/{task['taskId']}"
    assert sim.call("DELETE", path).json() == {"success": True, "code": 200}
    assert sim.call("DELETE", path).status_code == 404
    assert sim.call("GET", "/scheduler").json() == []
    sim.end_all()
    assert sim.ended(task)["status"] == "SUCCEEDED"
    next_one, _ = sim.with_callback("a hill")
    eventually(lambda: "SUCCEEDED" in sim.receiver.statuses(next_one))
    assert sim.receiver.statuses(reference) == []


def test_deleted_task_frees_its_slot_and_never_calls_back(sim: Sim) -> None:
    sim.hold()
    reference, task = sim.with_callback("a lake", maxJobs=1)
    assert sim.create("a hill", maxJobs=1).status_code == 429
    assert sim.call("DELETE", f"/tasks/{task['taskId']}").json() == {"success": True, "code": 200}
    assert sim.call("GET", f"/tasks/{task['taskId']}").status_code == 404
    assert sim.call("DELETE", f"/tasks/{task['taskId']}").status_code == 404
    next_one = sim.accepted("a hill", maxJobs=1)
    sim.end_all()
    sim.ended(next_one)
    assert sim.receiver.statuses(reference) == []
    assert sim.stats()["tasks"] == {"DELETED": 1, "SUCCEEDED": 1}


def test_accounts_show_limits_but_no_secrets(sim: Sim) -> None:
    sim.accepted("a lake", email="new@example.com")
    assert sim.call("GET", "/accounts").json() == {
        EMAIL: {"email": EMAIL, "maxJobs": 5},
        "new@example.com": {"email": "new@example.com", "maxJobs": 5},
    }


# refusals


@pytest.mark.parametrize("authorization", [None, "Bearer", "Bearer ", "Basic abc", "Bearer bad-token"])
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/frames/create"), ("GET", "/tasks/x"), ("GET", "/tasks/"), ("DELETE", "/tasks/x"),
     ("GET", "/scheduler"), ("DELETE", "/scheduler/x"), ("GET", "/accounts")],
)  # fmt: skip
def test_without_a_good_token_everything_is_unauthorized(
    sim: Sim, method: str, path: str, authorization: str | None
) -> None:
    answer = sim.call(method, path, headers={"Authorization": authorization})
    assert (answer.status_code, answer.json()) == (401, {"error": "Unauthorized", "code": 401})


@pytest.mark.parametrize(
    "wrong",
    [{"text_prompt": None}, {"text_prompt": ""}, {"text_prompt": "x" * 1001}, {"text_prompt": 5},
     {"style": "loud"}, {"aspect_ratio": "2:1"}, {"aspect_ratio": []}, {"diversity": 6}, {"diversity": -1},
     {"seed": 0}, {"seed": 4294967295}, {"seed": "7"}, {"seed": True}, {"num_images": 2},
     {"num_images": True}, {"exploreMode": "yes"}, {"replyUrl": "h" * 1025}, {"replyRef": "r" * 1025},
     {"maxJobs": 0}, {"maxJobs": 11}],
)  # fmt: skip
def test_parameter_beyond_its_limits_is_a_bad_request(sim: Sim, wrong: dict[str, Any]) -> None:
    answer = sim.create("a lake", **wrong)
    assert answer.status_code == 400
    assert set(answer.json()) == {"error", "code"} and answer.json()["code"] == 400
    assert sim.stats()["refused"] == {"400": 1} and sim.stats()["accepted"] == 0


@pytest.mark.parametrize("body", ["", "{", "[]", "null", '"text"'])
def test_body_that_is_no_object_is_a_bad_request(sim: Sim, body: str) -> None:
    assert sim.call("POST", "/frames/create", data=body).status_code == 400


def test_values_at_their_limits_are_accepted(sim: Sim) -> None:
    sim.accepted(
        "x" * 1000, seed=4294967294, diversity=0, replyRef="r" * 1024, replyUrl="u" * 1024, maxJobs=10
    )


def test_full_account_answers_429_with_what_is_running(sim: Sim) -> None:
    first = sim.accepted("[forever]", replyRef="r1", replyUrl="http://x/")
    for _ in range(4):
        sim.accepted("[forever]")
    answer = sim.create("a lake")
    assert answer.status_code == 429
    body = answer.json()
    assert body["error"] == f"Account {EMAIL} is busy executing 5 tasks" and body["code"] == 429
    running = body["runningTasks"][EMAIL]
    assert len(running) == 5
    assert running[0] == {
        "email": EMAIL, "taskId": first["taskId"], "id": first["id"], "replyUrl": "http://x/",
        "replyRef": "r1",
    }  # fmt: skip
    assert sim.stats()["refused"] == {"429A": 1} and sim.stats()["max_concurrent"] == {EMAIL: 5}


def test_max_jobs_of_the_request_overrides_that_of_the_account(sim: Sim) -> None:
    sim.accepted("[forever]")
    refused = sim.create("a lake", maxJobs=1)
    assert refused.json()["error"] == f"Account {EMAIL} is busy executing 1 tasks"
    for number in range(6):
        sim.accepted(f"[forever] {number}", maxJobs=10)


def test_runway_limit_answers_429_without_a_list_until_it_is_lifted(sim: Sim) -> None:
    sim.control(runway_limit={"email": EMAIL, "tasks": 1})
    sim.accepted("[forever]")
    answer = sim.create("a lake")
    assert answer.status_code == 429 and set(answer.json()) == {"error"}
    assert answer.json()["error"].startswith("You have too many tasks running or pending.")
    assert sim.stats()["refused"] == {"429B": 1}
    sim.control(runway_limit={"email": EMAIL, "tasks": None})
    sim.accepted("a lake")
    sim.control(runway_limit={"email": EMAIL, "tasks": 1})
    sim.control(runway_limit=None)
    sim.accepted("a lake")


def test_all_that_runs_is_ended_and_what_begins_then_takes_as_long_as_told(sim: Sim) -> None:
    sim.hold()
    waiting = [sim.accepted(f"a lake {number}") for number in range(3)]
    sim.end_all()
    assert all(sim.ended(task)["status"] == "SUCCEEDED" for task in waiting)
    assert sim.ended(sim.accepted("a hill"))["status"] == "SUCCEEDED"
    assert sim.call("POST", "/__control__", json={"seconds": "soon"}).status_code == 400


def test_without_an_email_an_account_with_free_capacity_is_taken(sim: Sim) -> None:
    for number in range(5):
        sim.accepted(f"[forever] {number}", email="b@example.com")
    for number in range(5):
        assert f":{EMAIL}-" in sim.accepted(f"[forever] {number}", email=None)["taskId"]
    assert sim.create("a lake", email=None).status_code == 429


def test_unknown_path_and_unknown_verb_are_answered_in_json(sim: Sim) -> None:
    assert sim.call("GET", "/nowhere").json()["code"] == 404
    assert sim.call("GET", "/frames/create").json()["code"] == 405


# callbacks


def test_callbacks_tell_progress_and_then_the_end(sim: Sim) -> None:
    reference, task = sim.with_callback("a lake")
    eventually(lambda: sim.stats()["callbacks_sent"] == 3)
    assert sim.receiver.statuses(reference) == ["RUNNING", "RUNNING", "SUCCEEDED"]
    assert sim.task(task["taskId"]) in sim.receiver.of(reference)


def test_callback_that_is_refused_is_tried_again(sim: Sim) -> None:
    sim.receiver.refused.add("SUCCEEDED")
    reference, _ = sim.with_callback("a lake")
    eventually(lambda: sim.stats()["callbacks_sent"] == 3)
    assert sim.receiver.statuses(reference) == ["RUNNING", "RUNNING", "SUCCEEDED", "SUCCEEDED"]
    assert sim.stats()["callbacks_refused"] == 1


def test_callback_to_nobody_is_given_up_after_three_more_tries(sim_factory: SimFactory) -> None:
    sim = sim_factory(*USUAL, "--progress", "0")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    sim.accepted("a lake", replyUrl=f"http://127.0.0.1:{port}/")
    sim.accepted("a hill", replyUrl="no url at all")
    eventually(lambda: sim.stats()["callbacks_lost"] == 2)
    assert sim.stats()["callbacks_refused"] == 8 and sim.stats()["callbacks_sent"] == 0


# markers


def test_moderated_prompt_fails_with_the_safety_reason(sim: Sim) -> None:
    reference, task = sim.with_callback("a lake [moderated]")
    ended = sim.ended(task)
    assert ended["status"] == "FAILED" and ended["artifacts"] == []
    assert set(ended["error"]) == {"errorMessage", "reason", "message", "moderation_category", "tally_asimov"}
    assert ended["error"]["reason"] == "SAFETY.INPUT.TEXT" and ended["error"]["tally_asimov"] is True
    eventually(lambda: "FAILED" in sim.receiver.statuses(reference))


def test_failed_prompt_fails_with_an_internal_reason(sim: Sim) -> None:
    ended = sim.ended(sim.accepted("a lake [failed]"))
    assert (ended["status"], ended["error"]["reason"]) == ("FAILED", "INTERNAL.BAD_OUTPUT.CODE01")


@pytest.mark.parametrize(
    ("marker", "kind", "status", "body"),
    [
        ("unauthorized", "401", 401, {"error": "Unauthorized", "code": 401}),
        ("credits", "412", 412, {"error": "You do not have enough credits to run this task."}),
        ("broken", "596", 596, {"error": f"Account {EMAIL} in error state: session expired", "code": 596}),
        ("5xx-refused", "5xx", 503, {"error": "Service Unavailable", "code": 503}),
    ],
)
def test_marker_can_refuse_the_order(
    sim: Sim, marker: str, kind: str, status: int, body: dict[str, Any]
) -> None:
    answer = sim.create(f"a lake [{marker}]")
    assert (answer.status_code, answer.json()) == (status, body)
    assert sim.stats()["refused"] == {kind: 1} and sim.stats()["accepted"] == 0


def test_moderation_may_also_refuse_the_order(sim: Sim) -> None:
    answer = sim.create("a lake [moderated-422]")
    assert answer.status_code == 422 and answer.json()["reason"] == "SAFETY.INPUT.TEXT"


def test_slow_task_takes_ten_times_as_long(sim: Sim) -> None:
    started = time.monotonic()
    sim.ended(sim.accepted("a lake [slow]"))
    assert time.monotonic() - started >= 10 * GENERATION
    engine, api = in_process(seconds=Seconds.parse("5"))
    plain, slow = (engine.submit(Order(api, prompt)) for prompt in ("a lake", "a lake [slow]"))
    assert slow.seconds == 10 * plain.seconds


def test_lost_task_succeeds_in_silence(sim: Sim) -> None:
    reference, task = sim.with_callback("a lake [lost]")
    assert sim.ended(task)["status"] == "SUCCEEDED"
    time.sleep(0.05)
    assert sim.receiver.statuses(reference) == [] and sim.stats()["callbacks_lost"] == 1


def test_double_sends_the_final_callback_twice(sim: Sim) -> None:
    reference, _ = sim.with_callback("a lake [double]")
    twice = ["RUNNING", "RUNNING", "SUCCEEDED", "SUCCEEDED"]
    eventually(lambda: sim.receiver.statuses(reference) == twice)


def test_early_callback_overtakes_the_create_reply(sim: Sim) -> None:
    started = time.monotonic()
    reference, task = sim.with_callback("a lake [early]")
    assert time.monotonic() - started >= 0.3
    assert sim.receiver.statuses(reference) == ["SUCCEEDED"] and task["status"] == "PENDING"
    assert sim.task(task["taskId"])["status"] == "SUCCEEDED"


def test_5xx_hides_a_task_that_was_accepted(sim: Sim) -> None:
    answer = sim.create("a lake [5xx]", replyUrl=sim.receiver.url, replyRef="hidden")
    assert (answer.status_code, answer.json()["code"]) == (503, 503)
    eventually(lambda: "SUCCEEDED" in sim.receiver.statuses("hidden"))
    assert sim.stats()["spoiled"] == {"5xx": 1} and sim.stats()["accepted"] == 1


def test_timeout_lets_the_client_wait_but_runs_the_task(sim: Sim) -> None:
    with pytest.raises(requests.Timeout):
        requests.post(
            f"{sim.url}/v1/runwayml/frames/create",
            json={"text_prompt": "a lake [timeout]", "replyUrl": sim.receiver.url, "replyRef": "hung"},
            headers={"Authorization": "Bearer x"},
            timeout=0.3,
        )
    eventually(lambda: "SUCCEEDED" in sim.receiver.statuses("hung"))


def test_reset_closes_the_connection_but_runs_the_task(sim: Sim) -> None:
    with pytest.raises(requests.ConnectionError):
        sim.create("a lake [reset]", replyUrl=sim.receiver.url, replyRef="cut")
    eventually(lambda: "SUCCEEDED" in sim.receiver.statuses("cut"))
    assert sim.stats()["spoiled"] == {"reset": 1}


def test_empty_success_has_no_artifacts(sim: Sim) -> None:
    ended = sim.ended(sim.accepted("a lake [empty]"))
    assert (ended["status"], ended["artifacts"]) == ("SUCCEEDED", [])


def test_weird_task_uses_words_that_nobody_knows(sim: Sim) -> None:
    reference, _ = sim.with_callback("a lake [weird]")
    eventually(lambda: sim.receiver.statuses(reference) == ["SIMMERING", "SIMMERING", "SUCCEEDED"])


def test_out_of_order_sends_progress_after_the_end(sim: Sim) -> None:
    reference, _ = sim.with_callback("a lake [out-of-order]")
    eventually(lambda: len(sim.receiver.statuses(reference)) == 4)
    told = [(body["status"], float(body["progressRatio"])) for body in sim.receiver.of(reference)]
    assert told.index(("RUNNING", LATE_PROGRESS)) > told.index(("SUCCEEDED", 1.0))


def test_no_picture_gives_a_url_that_is_not_found(sim: Sim) -> None:
    url = sim.ended(sim.accepted("a lake [no-picture]"))["artifacts"][0]["url"]
    assert sim.session.get(url, timeout=ANSWER_SECONDS).status_code == 404


def test_forever_never_ends_and_keeps_its_slot(sim: Sim) -> None:
    task = sim.accepted("a lake [forever]", maxJobs=1)
    time.sleep(3 * GENERATION)
    assert sim.task(task["taskId"])["status"] == "RUNNING"
    assert sim.create("a hill", maxJobs=1).status_code == 429


def test_counted_marker_acts_only_on_the_first_submissions_of_that_prompt(sim: Sim) -> None:
    statuses = [sim.ended(sim.accepted("a lake [failed:2]"))["status"] for _ in range(3)]
    assert statuses == ["FAILED", "FAILED", "SUCCEEDED"]
    assert [sim.create("a lake [credits:1]").status_code for _ in range(2)] == [412, 200]


def test_order_that_met_a_full_account_does_not_use_up_a_counted_marker(sim: Sim) -> None:
    blocker = sim.accepted("[forever]")
    assert sim.create("a lake [failed:1]", maxJobs=1).status_code == 429
    sim.call("DELETE", f"/tasks/{blocker['taskId']}")
    assert sim.ended(sim.accepted("a lake [failed:1]", maxJobs=1))["status"] == "FAILED"


def test_markers_combine_and_other_words_in_brackets_are_part_of_the_picture() -> None:
    prompt = "a [lake] [slow] at [failed:2] [double:0] dawn [Slow:x]"
    assert read_markers(prompt, 2) == {Marker.SLOW, Marker.FAILED}
    assert read_markers(prompt, 3) == {Marker.SLOW}
    assert read_markers("a lake", 1) == set()


# determinism


def in_process(seed: int = 1, **options: Any) -> tuple[Engine, UseapiFrames]:
    timers = Timers()
    engine = Engine(Options(seed=seed, scale=0.5, **options), timers, Courier(timers))
    api = UseapiFrames(engine)
    engine.add(api)
    return engine, api


def test_times_and_choices_follow_from_the_seed_and_not_from_the_order_of_arrival() -> None:
    prompts = [f"lake {number}" for number in range(4)] * 2
    outcomes = []
    for seed, arrival in ((1, prompts), (1, prompts[::-1]), (2, prompts)):
        engine, api = in_process(seed)
        tasks = [engine.submit(Order(api, prompt, email=prompt)) for prompt in arrival]
        outcomes.append({(task.order.prompt, task.seconds, task.dice) for task in tasks})
    assert outcomes[0] == outcomes[1] and len(outcomes[0]) == 8
    assert not outcomes[0] & outcomes[2]


def test_progress_that_is_late_is_told_before_the_end() -> None:
    engine, api = in_process(seconds=Seconds.parse("0.1"))
    sent: list[Delivery] = []
    engine.courier.send = sent.append  # type: ignore[method-assign]
    engine.timers.start()
    engine.submit(Order(api, "a lake", reply_url="http://x/"))
    time.sleep(0.1)  # in which no greenlet has a turn; the generation takes 0.05 s
    gevent.sleep(0.01)
    assert [each.snapshot.phase for each in sent] == [Phase.RUNNING, Phase.RUNNING, Phase.SUCCEEDED]


def test_two_simulators_of_one_seed_draw_the_same_pictures(sim: Sim, sim_factory: SimFactory) -> None:
    other = sim_factory(*USUAL, "--seed", "1")
    prompts = ["a lake", "a hill"]
    here = {prompt: sim.ended(sim.accepted(prompt)) for prompt in prompts}
    there = {prompt: other.ended(other.accepted(prompt)) for prompt in reversed(prompts)}
    for prompt in prompts:
        assert here[prompt]["options"] == there[prompt]["options"]
        assert here[prompt]["id"] != there[prompt]["id"]
        files = [
            side.session.get(task[prompt]["artifacts"][0]["url"], timeout=ANSWER_SECONDS).content
            for side, task in ((sim, here), (other, there))
        ]
        assert files[0] == files[1]


def test_picture_names_the_hash_of_its_prompt() -> None:
    name = picture_id("a lake", 5, 1920, 1088)
    assert name.startswith(hashlib.sha256(b"a lake").hexdigest()[:8])
    assert len({draw_picture(picture_id(f"lake {n}", n, 1456, 1456), 0) for n in range(10)}) == 10


# stats and control


def test_stats_count_what_happened(sim: Sim) -> None:
    begun = time.time()
    for prompt, reference in (("a lake", "r1"), ("a lake", "r2"), ("a hill", "r2")):
        sim.ended(sim.accepted(prompt, replyRef=reference))
    sim.create("", replyRef="r3")
    polls = sim.stats()["polls"]
    assert polls >= 6
    stats = sim.stats()
    assert (stats["posts"], stats["accepted"], stats["refused"]) == (4, 3, {"400": 1})
    assert (stats["duplicates_by_reply_ref"], stats["duplicates_by_prompt"]) == (1, 1)
    assert stats["tasks"] == {"SUCCEEDED": 3}
    assert begun <= stats["first_submit_at"] < stats["last_end_at"] <= time.time()
    assert 3 * GENERATION <= stats["busy_seconds"] <= stats["last_end_at"] - stats["first_submit_at"]
    assert sim.call("GET", "/__stats__").json()["total"] == stats


def test_stats_tell_refusals_and_ends_by_account(sim: Sim) -> None:
    sim.ended(sim.accepted("a lake", maxJobs=1))
    sim.accepted("a hill [forever]", email="b@example.com")
    for _ in range(2):
        sim.create("a lake", email="b@example.com", maxJobs=1)
    sim.create("a lake [credits]", email="b@example.com")
    sim.create("")
    stats = sim.stats()
    assert stats["refused"] == {"429A": 2, "412": 1, "400": 1}
    assert stats["refused_by_account"] == {"b@example.com": {"429A": 2, "412": 1}}
    assert stats["ended_by_account"] == {EMAIL: 1}


def test_stats_tell_how_long_slots_were_held_so_far(sim: Sim) -> None:
    sim.accepted("a lake [forever]")
    sim.control(foreign={"email": EMAIL, "seconds": 500})
    before = sim.call("GET", "/__stats__").json()
    time.sleep(GENERATION)
    after = sim.call("GET", "/__stats__").json()
    passed = after["now"] - before["now"]
    for whose in ("ours", "foreign"):
        held = [each["total"]["held_seconds"][whose] for each in (before, after)]
        assert held[1] - held[0] == pytest.approx(passed, abs=0.002)
    assert after["total"]["busy_seconds"] == after["total"]["foreign_busy_seconds"] == 0


def test_stats_tell_how_fast_a_freed_slot_of_a_full_account_is_filled(sim: Sim) -> None:
    for _ in range(2):
        sim.ended(sim.accepted("a lake"))
    assert sim.stats()["refills"] == 0 and sim.stats()["refill_p50_ms"] is None
    began, pause = time.monotonic(), GENERATION
    for _ in range(3):
        sim.ended(sim.accepted("a lake", maxJobs=1))
        time.sleep(pause)
    most = time.monotonic() - began - 3 * GENERATION
    stats = sim.stats()
    assert stats["refills"] == 2
    assert 1000 * pause <= stats["refill_p50_ms"] <= stats["refill_p95_ms"] <= 1000 * most


def test_tasks_are_all_that_was_accepted_of_us(sim: Sim) -> None:
    begun = time.time()
    sim.ended(sim.accepted("a lake [failed]"))
    stopped = sim.accepted("a hill [forever]")
    sim.call("DELETE", f"/tasks/{stopped['taskId']}")
    sim.with_callback("a wood [forever] [empty]")
    sim.control(foreign={"email": EMAIL, "seconds": 500})
    sim.create("a lake [credits]")
    tasks = sim.call("GET", "/__tasks__").json()["tasks"]
    assert [(task["prompt"], task["status"], task["empty"]) for task in tasks] == [
        ("a lake [failed]", "FAILED", False),
        ("a hill [forever]", "DELETED", False),
        ("a wood [forever] [empty]", "RUNNING", True),
    ]
    assert stopped["taskId"].endswith(tasks[1]["id"]) and tasks[1]["account"] == EMAIL
    assert tasks[2]["reply_url"] == sim.receiver.url and tasks[2]["ended_at"] is None
    assert begun <= tasks[0]["created_at"] < tasks[0]["ended_at"] <= time.time()
    sim.call("POST", "/__reset__")
    assert sim.call("GET", "/__tasks__").json() == {"tasks": []}


def test_stats_tell_what_was_staged_with_callbacks(sim: Sim) -> None:
    for markers in ("[lost]", "[double] [out-of-order]", "[early]", ""):
        sim.with_callback(f"a lake {markers}")
    sim.ended(sim.accepted("a lake [double] [lost]"))  # asks for no callback
    expected = {"lost": 1, "double": 1, "out-of-order": 1, "early": 1}
    eventually(lambda: sim.stats()["staged"] == expected)


def test_reset_forgets_everything(sim: Sim) -> None:
    sim.hold()
    reference, task = sim.with_callback("a lake [failed:1]")
    sim.accepted("a lake", email="b@example.com")
    sim.control(fail={"status": 503, "count": 3}, runway_limit={"email": EMAIL, "tasks": 0})
    sim.call("POST", "/__reset__")
    assert sim.stats()["posts"] == 0 and list(sim.call("GET", "/accounts").json()) == [EMAIL]
    assert sim.call("GET", f"/tasks/{task['taskId']}").status_code == 404
    assert sim.ended(sim.accepted("a lake [failed:1]"))["status"] == "FAILED"
    assert sim.receiver.statuses(reference) == []


def test_next_creates_can_be_told_to_fail(sim: Sim) -> None:
    sim.control(fail={"status": 503, "count": 2, "accept": False})
    assert [sim.create("a lake").status_code for _ in range(3)] == [503, 503, 200]
    assert sim.stats()["refused"] == {"5xx": 2}
    sim.control(fail={"status": 500, "count": 1, "accept": True})
    assert sim.create("a hill").status_code == 500
    assert sim.stats()["accepted"] == 2 and sim.stats()["spoiled"] == {"5xx": 1}
    sim.control(fail={"status": 429, "count": 1})
    assert set(sim.create("a hill").json()) == {"error"}


def test_next_polls_can_be_told_to_fail(sim: Sim) -> None:
    task = sim.accepted("a lake")
    sim.control(poll_fail={"status": 503, "count": 2})
    answers = [sim.call("GET", f"/tasks/{task['taskId']}").status_code for _ in range(3)]
    assert answers == [503, 503, 200]


def test_foreign_tasks_take_slots_but_are_nobodys(sim: Sim) -> None:
    sim.control(foreign={"email": EMAIL, "count": 5, "seconds": 5000})
    refused = sim.create("a lake")
    assert refused.status_code == 429 and len(refused.json()["runningTasks"][EMAIL]) == 5
    assert sim.call("GET", "/scheduler").json() == []
    listed = sim.call("GET", "/tasks/", params={"offset": 0, "limit": 10}).json()["tasks"]
    assert [task["replyRef"] for task in listed] == [None] * 5
    sim.call("POST", "/__reset__")
    sim.control(foreign={"email": EMAIL, "count": 5, "seconds": 5})
    eventually(lambda: sim.create("a lake [forever]").status_code == 200)
    assert sim.stats()["accepted"] == 1 and sim.stats()["tasks"] == {"RUNNING": 1}
    listed = sim.call("GET", "/tasks/", params={"offset": 0, "limit": 10}).json()["tasks"]
    over = [task for task in listed if task["status"] == "SUCCEEDED"]
    assert len(over) == 5 and not any(task["artifacts"] for task in over)


def test_contender_takes_what_is_free_and_never_more(sim: Sim) -> None:
    ours = sim.accepted("a lake [forever]", replyRef="ours")
    sim.control(contender={"email": EMAIL, "tasks": 9, "seconds": 5000})
    refused = sim.create("a hill")
    running = refused.json()["runningTasks"][EMAIL]
    assert refused.status_code == 429 and len(running) == 5
    assert [task["taskId"] for task in running if "replyRef" in task] == [ours["taskId"]]


def test_contender_goes_on_with_others_of_its_own(sim: Sim) -> None:
    sim.accepted("a lake [forever]")
    sim.control(contender={"email": EMAIL, "tasks": 9, "seconds": 5})
    eventually(lambda: sim.stats()["ended_by_account"].get(EMAIL, 0) >= 8)
    stats = sim.stats()
    assert (stats["accepted"], stats["tasks"], stats["busy_seconds"]) == (1, {"RUNNING": 1}, 0)
    assert stats["foreign_busy_seconds"] >= 8 * GENERATION
    assert len(sim.call("GET", "/scheduler").json()) == 1


def test_contender_competes_for_each_slot_that_becomes_free(sim: Sim) -> None:
    sim.control(contender={"email": EMAIL, "tasks": 4, "seconds": 5})

    def both_had_slots() -> bool:
        sim.create("a lake")
        stats = sim.stats()
        ours = stats["tasks"].get("SUCCEEDED", 0)
        return ours >= 10 and stats["ended_by_account"][EMAIL] - ours >= 10

    eventually(both_had_slots)
    stats = sim.stats()
    assert stats["max_concurrent"] == {EMAIL: 5}
    assert stats["refused_by_account"][EMAIL]["429A"] > 0


def test_contender_holds_what_it_was_told_last_until_it_is_told_to_stop(sim: Sim) -> None:
    def others() -> int:
        limit = sim.create("a lake", maxJobs=1)  # refused, so that it takes no slot
        return len(limit.json()["runningTasks"][EMAIL]) if limit.status_code == 429 else 0

    sim.control(contender={"email": EMAIL, "tasks": 1, "seconds": 5000})
    sim.control(contender={"email": EMAIL, "tasks": 3, "seconds": 5000})
    eventually(lambda: others() == 3)
    time.sleep(3 * AGAIN_SECONDS)
    assert others() == 3
    sim.call("POST", "/__reset__")
    time.sleep(2 * AGAIN_SECONDS)
    assert sim.create("a lake", maxJobs=1).status_code == 200

    email = "b@example.com"
    sim.control(contender={"email": email, "tasks": 2, "seconds": 1})
    eventually(lambda: sim.stats()["ended_by_account"].get(email, 0) >= 2)
    sim.control(contender={"email": email, "tasks": 0})
    eventually(lambda: sim.create("[forever]", email=email, maxJobs=1).status_code == 200)
    over = sim.stats()["ended_by_account"][email]
    time.sleep(3 * AGAIN_SECONDS)
    assert sim.stats()["ended_by_account"][email] == over


def test_contender_is_one_client_of_each_api(sim: Sim) -> None:
    sim.control(contender={"api": "freepik_runway", "email": "key", "tasks": 1, "seconds": 1})
    eventually(lambda: sim.call("GET", "/__stats__").json()["total"]["ended_by_account"].get("key", 0) > 1)
    assert sim.stats()["ended_by_account"] == {}


@pytest.mark.parametrize(
    "body", ["", "[]", "{}", '{"x": 1}', '{"fail": {}}', '{"contender": {"email": "a@b"}}',
             '{"contender": {"email": "a@b", "tasks": -1}}', '{"fail": {"status": 200}}', '{"foreign": 5}',
             '{"runway_limit": {"email": "a@b", "tasks": 1, "api": "x"}}', '{"poll_fail": {"status": "x"}}'],
)  # fmt: skip
def test_unreadable_control_is_a_bad_request(sim: Sim, body: str) -> None:
    assert sim.call("POST", "/__control__", data=body).status_code == 400


def test_control_door_is_shut_to_other_machines() -> None:
    engine, _ = in_process(1)
    routes = Routes()
    for route in Control(engine).routes():
        routes.add(route)
    for address, status in (("192.0.2.1", 403), ("127.0.0.1", 200), ("::1", 200)):
        answer = routes.answer(Request("GET", "/__stats__", address=address))
        assert answer.status == status


# the process


def test_crowd_of_tasks_ends_with_one_callback_each(sim_factory: SimFactory) -> None:
    sim = sim_factory("--seconds", "1-2", "--scale", "0.2", "--max-jobs", "1000", "--progress", "0")
    references = [sim.with_callback(f"lake {number}")[0] for number in range(200)]
    eventually(lambda: len(sim.receiver.bodies) >= 200)
    assert sorted(body["replyRef"] for body in sim.receiver.bodies) == sorted(references)
    eventually(lambda: sim.stats()["callbacks_sent"] == 200)


def test_terminated_simulator_stops_even_while_a_reply_hangs() -> None:
    sim = Sim(*USUAL)
    address = sim.url.removeprefix("http://").split(":")
    body = json.dumps({"text_prompt": "a lake [timeout]"})
    with socket.create_connection((address[0], int(address[1]))) as hanging:
        hanging.sendall(
            f"POST /v1/runwayml/frames/create HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        eventually(lambda: sim.stats()["accepted"] == 1)
        assert sim.stop() == 0


@pytest.mark.parametrize("wrong", [("--account", "a@b"), ("--seconds", "soon"), ("--scale", "0")])
def test_unreadable_option_is_refused_at_the_start(wrong: tuple[str, str]) -> None:
    command = [sys.executable, "-m", "orchestrator.simulator", "--port", "0", *wrong]
    assert subprocess.run(command, capture_output=True, timeout=ANSWER_SECONDS).returncode == 2


def test_span_of_seconds_can_be_fixed_uniform_or_lognormal() -> None:
    assert Seconds.parse("2.0").draw(random.Random(1)) == 2.0
    assert 5 <= Seconds.parse("5-15").draw(random.Random(1)) <= 15
    drawn = sorted(Seconds.parse("lognormal").draw(random.Random(n)) for n in range(999))
    assert 11 < drawn[499] < 13
    for wrong in ("", "-1", "3-2", "inf", "x"):
        with pytest.raises(ValueError):
            Seconds.parse(wrong)


def test_deleting_and_ending_twice_changes_nothing() -> None:
    engine, api = in_process(1)
    task = engine.submit(Order(api, "a lake"))
    engine.end(task)
    engine.end(task)
    engine.delete(task)
    engine.delete(task)
    assert api.tally.tasks == {"RUNNING": 0, "SUCCEEDED": 1}
    assert task.now().phase is Phase.SUCCEEDED
