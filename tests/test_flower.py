"""What a person sees in Flower, and what nobody may see there: pages and API of the real Flower."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import requests
from celery import chain

from orchestrator import Orchestrator
from orchestrator.local.processes import Command, Processes, free_port, http_answers
from orchestrator.local.stack import Stack
from tests.stack_kit import REPOSITORY, eventually

FRAMES = "useapi_frames"
GENERATE = "orchestrator.generate"
EMAILS = ("studio-1@example.com", "studio-2@example.com")
SECONDS = 60.0  # patience: the machine may be busy
LONG = "a lighthouse in fog, painted with a wide brush and the colours of a cold morning by the sea"


class Flower:
    """A browser that is logged in."""

    def __init__(self, url: str, login: tuple[str, str]) -> None:
        self.url = url
        self.session = requests.Session()
        self.session.auth = login

    def get(self, path: str) -> requests.Response:
        return self.session.get(self.url + path, timeout=30)

    def task(self, task_id: str) -> dict[str, Any]:
        """What the API tells of a task; nothing before its first event."""
        answer = self.get(f"/api/task/info/{task_id}")
        return answer.json() if answer.ok else {"state": None}

    def reaches(self, task_id: str, state: str) -> dict[str, Any]:
        """The task once it is in this state."""
        eventually(lambda: self.task(task_id)["state"] == state, f"{task_id} is {state} in Flower")
        return self.task(task_id)


@dataclass(frozen=True)
class Ids:
    """Tasks of every kind, by id."""

    waiting: str
    done: str
    moderated: str
    refused: str
    bare: str
    bare_refused: str
    cancelled: str

    def all(self) -> list[str]:
        return list(vars(self).values())


@pytest.fixture(scope="module")
def flower(stack: Stack) -> Iterator[Flower]:
    assert stack.flower_url
    made = Flower(stack.flower_url, stack.flower_login)
    with made.session:
        yield made


@pytest.fixture(scope="module")
def ids(orchestrator: Orchestrator, flower: Flower, stop_generations: Callable[[str], None]) -> Iterator[Ids]:
    """One of each is on its way; the last to end is cancelled when the module is over."""
    from workers import app, generate

    run = uuid.uuid4().hex[:8]

    def send(words: str, **more: Any) -> str:
        return orchestrator.enqueue(FRAMES, {"text_prompt": f"{run} {words}", **more}).id

    broken = chain(generate.s(FRAMES, {"text_prompt": f"{run} first"}), generate.s(FRAMES, {"diversity": 99}))
    bad = {"text_prompt": f"{run} bare", "email": f"{EMAILS[0]}x", "ratio": "1:1"}
    good = {"text_prompt": f"{run} bare", "email": EMAILS[0]}
    made = Ids(
        waiting=send(f"[forever] {LONG}", email=EMAILS[0]),
        done=send(LONG, email=EMAILS[1]),
        moderated=send(f"[moderated] {EMAILS[0]}", email=EMAILS[0]),
        refused=broken.apply_async().id,
        bare=app.send_task(GENERATE, [FRAMES, good]).id,
        bare_refused=app.send_task(GENERATE, [FRAMES], {"parameters": bad}).id,
        cancelled=send("[forever] stop"),
    )
    flower.reaches(made.cancelled, "STARTED")
    orchestrator.job(made.cancelled).cancel()
    yield made
    orchestrator.job(made.waiting).cancel()
    stop_generations(run)


@pytest.fixture(scope="module")
def settled(ids: Ids, flower: Flower) -> Ids:
    """The same, when nothing changes any more."""
    flower.reaches(ids.waiting, "STARTED")
    flower.reaches(ids.cancelled, "REVOKED")
    for task_id in (ids.done, ids.bare):
        flower.reaches(task_id, "SUCCESS")
    for task_id in (ids.moderated, ids.refused, ids.bare_refused):
        flower.reaches(task_id, "FAILURE")
    return ids


def test_a_waiting_job_is_started_with_name_provider_and_a_short_prompt(settled: Ids, flower: Flower) -> None:
    task = flower.task(settled.waiting)
    assert (task["name"], task["state"], task["result"]) == (GENERATE, "STARTED", None)
    assert "[forever] a lighthouse in fog" in task["args"]
    assert LONG not in task["args"]
    assert "…" in task["args"]
    eventually(lambda: "'submitted'" in flower.task(settled.waiting)["kwargs"], "its record is read")
    found = flower.get(f"/api/tasks?search=kwargs:job=submitted kwargs:account=studio-1 {settled.waiting}")
    assert settled.waiting in found.json()
    page = flower.get(f"/task/{settled.waiting}").text
    assert f"submitted · {FRAMES}/studio-1" in page
    assert "STARTED" in page
    assert GENERATE in page
    assert "a lighthouse in fog" in page


def test_a_finished_job_shows_what_it_brought(settled: Ids, flower: Flower) -> None:
    task = flower.task(settled.done)
    assert (task["name"], task["state"]) == (GENERATE, "SUCCESS")
    assert task["result"].startswith("1 artifact(s): image/png")
    assert "studio-2" in task["result"]
    assert "a lighthouse in fog" in task["args"]
    page = flower.get(f"/task/{settled.done}").text
    assert "SUCCESS" in page
    assert "1 artifact(s): image/png" in page


def test_a_failed_job_says_why(settled: Ids, flower: Flower) -> None:
    task = flower.task(settled.moderated)
    assert (task["name"], task["state"]) == (GENERATE, "FAILURE")
    assert task["exception"].startswith("Moderated: Text did not pass content moderation")
    assert task["exception"].endswith("Cure: change the prompt, and enqueue it anew")
    assert (task["traceback"], "\n" in task["exception"]) == (None, False)
    assert "Text did not pass content moderation" in flower.get(f"/task/{settled.moderated}").text


@pytest.mark.parametrize("which", ["refused", "bare_refused"])
def test_a_job_with_bad_parameters_says_which(settled: Ids, flower: Flower, which: str) -> None:
    task = flower.task(getattr(settled, which))
    assert (task["name"], task["state"]) == (GENERATE, "FAILURE")
    assert ("diversity" if which == "refused" else "ratio") in task["exception"]


def test_a_cancelled_job_is_revoked(settled: Ids, flower: Flower) -> None:
    assert "REVOKED" in flower.get(f"/task/{settled.cancelled}").text


def test_a_job_is_one_row(settled: Ids, flower: Flower) -> None:
    tasks = flower.get(f"/api/tasks?taskname={GENERATE}").json()
    assert set(settled.all()) <= set(tasks)
    assert {task["name"] for task in tasks.values()} == {GENERATE}


def test_its_button_stops_a_waiting_job(orchestrator: Orchestrator, flower: Flower, settled: Ids) -> None:
    job = orchestrator.enqueue(FRAMES, {"text_prompt": f"{uuid.uuid4().hex} [forever]"})
    flower.reaches(job.id, "STARTED")
    url = f"{flower.url}/api/task/revoke/{job.id}?terminate=true"
    answer = flower.session.post(url, headers={"X-Requested-With": "XMLHttpRequest"}, timeout=30)
    assert answer.ok, answer.text
    flower.reaches(job.id, "REVOKED")
    assert job.state == "cancelled"


def paths(flower: Flower, ids: Ids) -> list[str]:
    """Every page and every answer of the API that can be read."""
    workers = list(flower.get("/api/workers?refresh=1").json())
    return [
        *("/", "/workers", "/tasks", "/broker"),
        "/tasks/datatable?draw=1&start=0&length=100000&order[0][column]=0&columns[0][data]=name",
        *("/api/tasks", "/api/workers?refresh=1", "/api/task/types", "/api/queues/length"),
        *(f"/worker/{quote(name)}" for name in workers),
        *(f"/task/{task_id}" for task_id in ids.all()),
        *(f"/api/task/info/{task_id}" for task_id in ids.all()),
        *(f"/api/task/result/{task_id}" for task_id in ids.all()),
    ]


def secrets(stack: Stack) -> dict[str, str]:
    """What must not be read anywhere, by what it is."""
    kept = {
        "the token": os.environ["SIMULATOR_TOKEN"],
        "an account's e-mail": "example.com",
        "an upstream id": "-runwayml:",
        "a secret key": stack.environment["ORCHESTRATOR_SECRET_KEYS"],
        "the password of Redis": str(urlsplit(stack.redis_url).password),
        "the password of Flower": stack.flower_login[1],
    }
    for email in EMAILS:
        answer = requests.get(
            f"{stack.simulator_url}/v1/runwayml/tasks/",
            params={"offset": 0, "limit": 1000, "email": email},
            headers={"Authorization": f"Bearer {os.environ['SIMULATOR_TOKEN']}"},
            timeout=10,
        )
        ours = [task for task in answer.json()["tasks"] if task["replyRef"]]
        for task in ours:
            kept[f"the reference of {task['id']}"] = task["replyRef"]
            kept[f"the upstream id {task['id']}"] = task["id"]
    assert len(kept) > 10
    return kept


def leaks(text: str, kept: dict[str, str]) -> set[str]:
    """Which secrets stand in a text, in any spelling that JSON or a page may give them."""
    spellings = {text, text.replace("&#64;", "@").replace("%40", "@").replace("\\u0040", "@")}
    return {what for what, secret in kept.items() if any(secret in spelling for spelling in spellings)}


def test_no_secret_and_no_account_shows_anywhere(stack: Stack, flower: Flower, settled: Ids) -> None:
    kept = secrets(stack)
    bare = {settled.bare, settled.bare_refused}
    found: dict[str, set[str]] = {}
    for path in paths(flower, settled):
        if bare & {path.rpartition("/")[2]}:
            continue  # see the test below
        answer = flower.get(path)
        assert answer.ok, (path, answer.status_code)
        text = answer.text
        if path.startswith(
            ("/api/tasks", "/tasks/datatable")
        ):  # those of bare messages have a test of their own
            rows = answer.json()
            rows = rows["data"] if "data" in rows else list(rows.values())
            assert {settled.waiting, settled.done} <= {row["uuid"] for row in rows}
            text = json.dumps(
                [row for row in rows if row["uuid"] not in (settled.bare, settled.bare_refused)]
            )
        if leaked := leaks(text, kept):
            found[path] = leaked
    assert not found


@pytest.mark.parametrize("which", ["bare", "bare_refused"])
def test_a_bare_message_shows_no_account_either(
    stack: Stack, flower: Flower, settled: Ids, which: str
) -> None:
    kept, task_id = secrets(stack), getattr(settled, which)
    for path in (f"/task/{task_id}", f"/api/task/info/{task_id}", f"/api/task/result/{task_id}"):
        assert not leaks(flower.get(path).text, kept), path


def test_nothing_is_answered_without_the_login(stack: Stack, flower: Flower, settled: Ids) -> None:
    for path in paths(flower, settled):
        for login in (None, (stack.flower_login[0], "wrong")):
            answer = requests.get(flower.url + path, auth=login, timeout=30, allow_redirects=False)
            assert answer.status_code == 401, path
            assert "lighthouse" not in answer.text
    for path in (
        f"/api/task/revoke/{settled.waiting}",
        f"/api/task/apply/{GENERATE}",
        "/api/worker/shutdown/x",
    ):
        headers = {"X-Requested-With": "XMLHttpRequest"}
        assert requests.post(flower.url + path, headers=headers, timeout=30).status_code == 401, path
    assert requests.get(f"{flower.url}/metrics", timeout=30).status_code == 401
    assert "flower_events_total" in flower.get("/metrics").text
    assert requests.get(f"{flower.url}/healthcheck", timeout=30).text == "OK"  # for probes


# --- tasks of your own in the same app ------------------------------------------------------------------

PICTURE = "https://cdn.example.org/a.png?X-Amz-Signature=abcdef0123456789"
THEIR_SECRETS = (
    "ada@example.org",
    "X-Amz-Signature",
    "abcdef0123456789",
    "sesame-sesame",
    "hunter22-hunter22",
)


def test_a_task_of_your_own_shows_no_address_token_or_signed_url(
    orchestrator: Orchestrator, flower: Flower
) -> None:
    from workers import app

    task_id, token = str(uuid.uuid4()), os.environ["SIMULATOR_TOKEN"]
    words = f"('ada@example.org', '{PICTURE}', 'Bearer sesame-sesame', '{token}')"
    with app.events.default_dispatcher(hostname="theirs@host") as dispatcher:
        told = {"args": words, "kwargs": "{'password': 'hunter22-hunter22'}"}
        dispatcher.send("task-received", uuid=task_id, name="shop.mail", **told)
        trace = f"Traceback (most recent call last):\n  File shop.py\nValueError: {words}"
        dispatcher.send("task-failed", uuid=task_id, exception=f"ValueError({words})", traceback=trace)
    result = {"to": ["ada@example.org"], "url": PICTURE, "token": token}
    meta = {"status": "SUCCESS", "result": result, "task_id": task_id, "traceback": None, "children": []}
    app.backend.client.set(app.backend.get_key_for_task(task_id), app.backend.encode(meta))
    flower.reaches(task_id, "FAILURE")
    seen = [
        flower.get(path).text
        for path in (
            f"/task/{task_id}",
            f"/api/task/info/{task_id}",
            f"/api/task/result/{task_id}",
            "/api/tasks?taskname=shop.mail",
            "/tasks/datatable?draw=1&start=0&length=100&order[0][column]=0&columns[0][data]=name"
            "&search[value]=shop.mail",
        )
    ]
    assert all("cdn.example.org/a.png" in text for text in seen)
    assert "File shop.py\n" in flower.task(task_id)["traceback"]
    for secret in (*THEIR_SECRETS, token):
        assert not [text for text in seen if secret in text.replace("&#64;", "@")], secret


# --- as it is shipped for production -------------------------------------------------------------------

PLAIN = (sys.executable, "-m", "celery", "-A", "workers", "flower")
FLOWER = (*PLAIN, "--conf=deploy/flowerconfig.py")


@pytest.mark.parametrize("argv", [PLAIN, FLOWER], ids=["plain", "as shipped"])
def test_flower_is_not_started_without_a_login(
    argv: tuple[str, ...], stack: Stack, environment: dict[str, str], tmp_path: Path
) -> None:
    environ = {name: text for name, text in os.environ.items() if name != "FLOWER_BASIC_AUTH"}
    argv = (*argv, f"--port={free_port()}", "--address=127.0.0.1", f"--db={tmp_path}/flower/tasks")
    ended = subprocess.run(argv, cwd=REPOSITORY, env=environ, capture_output=True, text=True, timeout=SECONDS)
    assert ended.returncode != 0
    assert "FLOWER_BASIC_AUTH must be user:password" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_jobs_are_shown_again_by_a_flower_that_was_killed_or_that_is_new(
    stack: Stack, orchestrator: Orchestrator, settled: Ids, tmp_path: Path
) -> None:
    """As it is shipped: it asks for the login, and keeps its rows in a folder of its own."""
    store, batch = orchestrator.flow.store, f"held-{uuid.uuid4().hex[:8]}"
    store.lanes.pause("batch", batch, time.time())
    held = orchestrator.enqueue(FRAMES, {"text_prompt": "held"}, batch=batch).id
    ending = orchestrator.enqueue(FRAMES, {"text_prompt": f"{batch} [forever]"}).id
    eventually(lambda: orchestrator.job(ending).state == "submitted", "it is at the provider")

    port, login, kept = free_port(), ("somebody", "a-long-password"), tmp_path / "flower" / "tasks"
    more = {"FLOWER_DB": str(kept), "FLOWER_STATE_SAVE_INTERVAL": "200"}
    environ = {**os.environ, "FLOWER_BASIC_AUTH": ":".join(login), **more}
    argv = (*FLOWER, f"--port={port}", "--address=127.0.0.1")
    command = Command(
        "flower",
        argv,
        environ,
        REPOSITORY,
        tmp_path / "log",
        lambda: http_answers(port, "/healthcheck"),
        SECONDS,
    )
    with Processes() as processes:
        processes.launch(command)
        processes.wait("flower")
        shipped = Flower(f"http://127.0.0.1:{port}", login)
        for wrong in (None, (login[0], "wrong"), ("", "")):
            assert requests.get(f"{shipped.url}/tasks", auth=wrong, timeout=30).status_code == 401
        shown = re.findall(r'<th data-column="(\w+)"', shipped.get("/tasks").text)
        assert shown[:4] == ["state", "kwargs", "args", "result"]
        shipped.reaches(settled.waiting, "STARTED")  # no event of these is sent any more
        assert "'queued'" in shipped.reaches(held, "PENDING")["kwargs"]
        shipped.reaches(ending, "STARTED")
        passing = orchestrator.enqueue(FRAMES, {"text_prompt": f"{batch} passing"}).id
        brought = shipped.reaches(passing, "SUCCESS")["result"]
        seen_at = time.time()
        eventually(lambda: kept.exists() and kept.stat().st_mtime > seen_at + 0.5, "it is kept")
        assert (kept.parent.stat().st_mode & 0o077, kept.stat().st_mode & 0o077) == (0, 0)
        processes.kill("flower", signal.SIGKILL)
        orchestrator.job(ending).cancel()
        orchestrator.job(held).cancel()
        eventually(lambda: orchestrator.job(ending).state == "cancelled", "it ended meanwhile")
        processes.restart("flower")
        assert shipped.reaches(passing, "SUCCESS")["result"] == brought
        for over in (ending, held):
            assert "'cancelled'" in shipped.reaches(over, "REVOKED")["kwargs"]
        shipped.reaches(settled.waiting, "STARTED")
    shipped.session.close()
    store.lanes.resume("batch", batch, time.time())
