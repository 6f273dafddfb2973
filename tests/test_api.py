"""The HTTP API end to end: the real gunicorn, Redis and worker, asked as a program in any language would."""

from __future__ import annotations

import json
import socket
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from orchestrator import Orchestrator
from orchestrator.local.stack import Stack
from tests.api_kit import ACME, GLOBEX, Api, serving
from tests.stack_kit import PATIENCE, eventually

FRAMES = "useapi_frames"


@pytest.fixture(scope="module")
def api(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with serving(environment, tmp_path_factory.mktemp("api"), workers=2) as made:
        yield made


@pytest.fixture
def name(orchestrator: Orchestrator) -> Iterator[str]:
    """Of a batch; whatever is left of it is cancelled."""
    made = f"batch-{uuid.uuid4().hex[:12]}"
    yield made
    for tenant in ("acme", "globex"):
        for job in orchestrator.batch(f"{tenant}/{made}").jobs():
            job.cancel()


def request(prompt: str = "", **more: Any) -> dict[str, Any]:
    return {"provider": FRAMES, "parameters": {"text_prompt": prompt or uuid.uuid4().hex}, **more}


def lines(count: int, marker: str = "", start: int = 1) -> bytes:
    """Each with a prompt of its own."""
    made = (
        {"custom_id": f"n{number}", "text_prompt": f"{uuid.uuid4().hex} {marker}"}
        for number in range(start, start + count)
    )
    return "".join(json.dumps(line) + "\n" for line in made).encode()


def all_outcomes(api: Api, name: str) -> list[dict[str, Any]]:
    """Page by page, until the batch is over."""
    path, found = f"/batches/{name}/outcomes", []

    def is_over() -> bool:
        nonlocal path
        over = api.ask("GET", f"/batches/{name}").json()["is_over"]
        answer = api.ask("GET", path, params={} if over else {"wait": 5})
        found.extend(json.loads(line) for line in answer.text.splitlines())
        path = answer.links["next"]["url"]
        return over and not answer.text

    eventually(is_over)
    return found


# --- one job -------------------------------------------------------------------------------------------


def test_a_job_is_asked_for_waited_for_and_its_picture_is_there(api):
    asked = api.ask("POST", "/jobs", json=request("a fox", priority=3, expires=600))
    assert asked.status_code == 201
    place = asked.headers["Location"]
    told = eventually(lambda: (now := api.ask("GET", f"{place}?wait=30").json())["ended_at"] and now)
    assert (told["state"], told["attempts"], told["priority"]) == ("succeeded", 1, 3)
    assert told["parameters"] == {"text_prompt": "a fox"}
    (artifact,) = told["result"]["artifacts"]
    assert Path(artifact["path"]).stat().st_size == artifact["bytes"]
    assert artifact["media_type"] == "image/png" and len(artifact["sha256"]) == 64
    assert "tenant" not in told and "@" not in json.dumps(told)


def test_the_same_key_and_body_give_the_same_job_and_another_body_is_refused(api):
    key = uuid.uuid4().hex
    body = request()
    first = api.ask("POST", "/jobs", json=body, headers={"Idempotency-Key": key})
    again = api.ask("POST", "/jobs", json=body, headers={"Idempotency-Key": f'"{key}"'})
    other = api.ask("POST", "/jobs", json=request(), headers={"Idempotency-Key": key})
    assert [each.status_code for each in (first, again, other)] == [201, 200, 409]
    assert first.json()["id"] == again.json()["id"]
    assert other.headers["Content-Type"] == "application/problem+json"
    theirs = api.of(GLOBEX).ask("POST", "/jobs", json=request(), headers={"Idempotency-Key": key})
    assert theirs.status_code == 201 and theirs.json()["id"] != first.json()["id"]


def test_twenty_at_once_with_one_key_are_one_job(api):
    headers, body = {"Idempotency-Key": uuid.uuid4().hex}, request()
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: api.ask("POST", "/jobs", json=body, headers=headers), range(20)))
    assert sorted(each.status_code for each in answers) == [200] * 19 + [201]
    assert len({each.json()["id"] for each in answers}) == 1


def test_a_custom_id_names_a_job_within_its_batch(api, name):
    body = request(batch=name, custom_id="one")
    first, again = (api.ask("POST", "/jobs", json=body) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200)
    assert (first.json()["batch"], first.json()["custom_id"]) == (name, "one")
    assert api.ask("GET", f"/batches/{name}").json()["total"] == 1


def test_a_portable_request_goes_to_whoever_has_a_slot(api):
    body = {"provider": [FRAMES], "parameters": {"prompt": "a fox", "aspect_ratio": "16:9"}}
    told = api.ask("POST", "/jobs", json=body).json()
    assert told["parameters"] == {"text_prompt": "a fox", "aspect_ratio": "16:9"}


def test_a_job_is_cancelled_once_and_an_ended_one_never(api):
    place = api.ask("POST", "/jobs", json=request("[forever]")).headers["Location"]
    for _ in range(2):
        answer = api.ask("DELETE", place)
        assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    ended = api.ask("POST", "/jobs", json=request()).headers["Location"]
    eventually(lambda: api.ask("GET", f"{ended}?wait=30").json()["state"] == "succeeded")
    answer = api.ask("DELETE", ended)
    assert answer.status_code == 409 and "succeeded" in answer.json()["detail"]


def test_who_waits_is_told_when_it_ends_or_when_the_time_is_over(api):
    place = api.ask("POST", "/jobs", json=request("[forever]")).headers["Location"]
    assert api.ask("GET", f"{place}?wait=0.2").json()["ended_at"] is None
    with ThreadPoolExecutor() as pool:
        waiting = [pool.submit(api.ask, "GET", f"{place}?wait=60") for _ in range(3)]
        api.ask("DELETE", place)
        assert [each.result().json()["state"] for each in waiting] == ["cancelled"] * 3


# --- batches -------------------------------------------------------------------------------------------


def test_a_batch_has_one_outcome_line_of_each_of_its_lines(api, name):
    asked = api.upload(lines(20), name=name, provider=FRAMES, max_attempts=3)
    assert (asked.status_code, asked.json()) == (201, {"name": name, "lines": 20, "enqueued": 20})
    assert asked.headers["Location"] == f"/batches/{name}"
    found = all_outcomes(api, name)
    assert sorted(each["custom_id"] for each in found) == sorted(f"n{number}" for number in range(1, 21))
    assert {each["state"] for each in found} == {"succeeded"}
    assert all(Path(each["path"]).exists() and each["sha256"] for each in found)
    told = api.ask("GET", f"/batches/{name}").json()
    assert (told["total"], told["succeeded"], told["is_over"], told["cost"]) == (20, 20, True, 20)


def test_an_upload_may_be_repeated_and_extended(api, name):
    body = lines(5, "[forever]")
    assert api.upload(body, name=name, provider=FRAMES).json()["enqueued"] == 5
    again = api.upload(body, name=name, provider=FRAMES)
    assert (again.status_code, again.json()["enqueued"]) == (200, 0)
    more = api.upload(body + lines(2, "[forever]", start=6), name=name, provider=FRAMES)
    assert (more.status_code, more.json()["enqueued"]) == (201, 2)
    assert api.ask("GET", f"/batches/{name}").json()["total"] == 7


def test_lines_without_a_name_are_called_by_their_number(api, name):
    body = b'{"text_prompt": "one [forever]"}\n\n{"text_prompt": "two [forever]", "priority": 9}\n'
    assert api.upload(body, name=name, provider=FRAMES, priority=1).json()["lines"] == 2
    assert api.ask("DELETE", f"/batches/{name}").status_code == 200
    told = sorted(all_outcomes(api, name), key=lambda each: each["custom_id"])
    assert [(each["custom_id"], each["state"]) for each in told] == [("1", "cancelled"), ("2", "cancelled")]


def test_of_a_batch_with_faults_nothing_is_enqueued_and_each_fault_is_told(api, name):
    wrong = [
        b'{"text_prompt": ""}',
        b'{"text_prompt": "a", "seed": "x", "style": "none"}',
        b'{"text_prompt": "a", "text_prompt": "b"}',
        b"[1]",
        b'{"text_prompt": "\\ud800"}',
        b'{"text_prompt": "a", "custom_id": "n1"}',
        b'{"text_prompt": "a\xff"}',
    ]
    answer = api.upload(lines(1) + b"\n".join(wrong), name=name, provider=FRAMES)
    told = answer.json()
    assert (answer.status_code, told["count"]) == (422, len(wrong))
    assert [each["place"] for each in told["errors"]] == [f"line {number}" for number in range(2, 9)]
    assert "seed = 'x'" in told["errors"][1]["detail"] and "style = 'none'" in told["errors"][1]["detail"]
    assert api.ask("GET", f"/batches/{name}").status_code == 404


def test_of_many_faults_the_first_hundred_are_told_and_all_are_counted(api, name):
    told = api.upload(b'{"text_prompt": 1}\n' * 1000, name=name, provider=FRAMES).json()
    assert (told["count"], len(told["errors"])) == (1000, 100)


def test_a_line_that_was_something_else_before_is_a_conflict_and_nothing_is_enqueued(api, name):
    body = lines(3, "[forever]")
    api.upload(body, name=name, provider=FRAMES)
    changed = lines(1, "[forever]") + body.partition(b"\n")[2] + lines(1, "[forever]", start=4)
    answer = api.upload(changed, name=name, provider=FRAMES)
    assert answer.status_code == 409
    assert [(each["place"], each["custom_id"]) for each in answer.json()["errors"]] == [("line 1", "n1")]
    assert api.ask("GET", f"/batches/{name}").json()["total"] == 3


def test_an_upload_that_breaks_off_enqueues_nothing_and_made_again_each_line_once(api, name):
    body = lines(30)
    parts = urlsplit(api.url)
    for head in (f"Content-Length: {len(body)}\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n2000\r\n"):
        with socket.create_connection((parts.hostname, parts.port), PATIENCE) as connection:
            connection.sendall(
                f"POST /batches?name={name}&provider={FRAMES} HTTP/1.1\r\nHost: x\r\n"
                f"Authorization: Bearer {ACME}\r\nContent-Type: application/x-ndjson\r\n{head}".encode()
            )
            connection.sendall(b"".join(body.splitlines(True)[:15]))  # to the end of a line
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(100).startswith(b"HTTP/1.1 400")
        assert api.ask("GET", f"/batches/{name}").status_code == 404
    assert api.upload(body, name=name, provider=FRAMES).json()["enqueued"] == 30
    assert [each["attempts"] for each in all_outcomes(api, name)] == [1] * 30


def test_chunks_of_any_size_are_one_body(api, name):
    body = lines(40, "[forever]")
    chunks = (body[at : at + 7] for at in range(0, len(body), 7))
    assert api.upload(chunks, name=name, provider=FRAMES).json()["lines"] == 40


# --- tenants -------------------------------------------------------------------------------------------


@pytest.fixture
def theirs(api: Api, name: str) -> Callable[[str, str], requests.Response]:
    """Asks as another tenant of what is acme's."""
    return api.of(GLOBEX).ask


def test_a_job_of_another_tenant_is_as_one_that_is_not_there(api, theirs):
    place = api.ask("POST", "/jobs", json=request("[forever]")).headers["Location"]
    nowhere = f"/jobs/{uuid.uuid4()}"
    for method in ("GET", "DELETE"):
        told, none = theirs(method, place), theirs(method, nowhere)
        assert (told.status_code, told.content) == (404, none.content)
    assert api.ask("DELETE", place).json()["state"] == "cancelled"


def test_batches_of_two_tenants_have_the_same_name_and_nothing_else_in_common(api, theirs, name):
    api.upload(lines(2, "[forever]"), name=name, provider=FRAMES)
    for method, path in (("GET", ""), ("GET", "/outcomes"), ("DELETE", "")):
        assert theirs(method, f"/batches/{name}{path}").status_code == 404
    api.of(GLOBEX).upload(lines(3, "[forever]"), name=name, provider=FRAMES)
    assert api.ask("GET", f"/batches/{name}").json()["total"] == 2
    assert theirs("DELETE", f"/batches/{name}").json()["cancelled"] == 3
    assert api.ask("GET", f"/batches/{name}").json()["cancelled"] == 0


@pytest.mark.parametrize(
    "path", ["/batches/acme%2F{name}", "/batches/acme/{name}", "/batches/..%2Facme%2F{name}"]
)
def test_no_name_leads_to_another_tenant(path, api, theirs, name):
    api.upload(lines(1, "[forever]"), name=name, provider=FRAMES)
    assert theirs("GET", path.format(name=name)).status_code == 404
    answer = api.of(GLOBEX).upload(lines(1), name=f"acme/{name}", provider=FRAMES)
    assert answer.status_code == 422


def test_what_python_enqueues_for_a_tenant_is_the_tenants(api, theirs, orchestrator, name):
    job = orchestrator.enqueue(FRAMES, {"text_prompt": "[forever]"}, tenant="acme", batch=name)
    nobodys = orchestrator.enqueue(FRAMES, {"text_prompt": "[forever]"})
    assert api.ask("GET", f"/jobs/{job.id}").json()["batch"] == name
    assert theirs("GET", f"/jobs/{job.id}").status_code == 404
    assert api.ask("GET", f"/jobs/{nobodys.id}").status_code == 404
    nobodys.cancel()


# --- around it -----------------------------------------------------------------------------------------


def test_providers_are_told_with_what_they_take(api):
    told = {each["name"]: each for each in api.ask("GET", "/providers").json()["providers"]}
    assert told[FRAMES]["is_available"] and not told["runway"]["is_available"]
    assert told[FRAMES]["parameters"]["properties"]["seed"]["maximum"] == 4294967294


def test_the_two_doors_have_nothing_in_common(api, stack: Stack):
    for path in ("/jobs", "/batches/x", "/providers", "/openapi.json"):
        headers = {"Authorization": f"Bearer {ACME}"}
        assert requests.get(stack.receiver_url + path, headers=headers, timeout=PATIENCE).status_code == 404
    assert api.ask("POST", f"/callbacks/{FRAMES}/x", data=b"{}").status_code == 404
    assert api.ask("GET", "/metrics").status_code == 404
