"""The HTTP API and whoever means it no good: each refusal is a problem, nothing is enqueued, nothing told."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from orchestrator.api_keys import api_keys
from orchestrator.models import ApiKey, Secret
from tests.api_kit import ACME, GLOBEX, Api, waiting
from tests.stack_kit import PATIENCE
from webhooks.api.asking import Seats
from webhooks.api.keys import Keys
from webhooks.headers import HEADERS
from webhooks.worker import Client

FRAMES = "useapi_frames"
JSON = "application/json"
PROBLEM = "application/problem+json"
GOOD = {"provider": FRAMES, "parameters": {"text_prompt": "a fox"}}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with waiting(tmp_path_factory.mktemp("api")) as made:
        yield made


@pytest.fixture
def log(api: Api) -> Callable[[], str]:
    assert api.log
    began = api.log.stat().st_size
    return lambda: api.log.read_bytes()[began:].decode()


def refused(answer: requests.Response, status: int) -> dict[str, Any]:
    """What a refusal tells, once it is known to be one of ours."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == PROBLEM
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
    assert "Server" not in answer.headers
    told: dict[str, Any] = answer.json()
    assert (told["type"], told["status"]) == ("about:blank", status) and told["title"] and told["detail"]
    return told


# --- who asks ------------------------------------------------------------------------------------------

ADDRESSES = [
    ("POST", "/jobs"), ("GET", "/jobs/x"), ("DELETE", "/jobs/x"), ("POST", "/batches"), ("GET", "/batches/x"),
    ("DELETE", "/batches/x"), ("GET", "/batches/x/outcomes"), ("GET", "/providers"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), ADDRESSES)
def test_nothing_is_told_without_a_key(method, path, api):
    answer = requests.request(method, api.url + path, data=b"{", timeout=PATIENCE)
    refused(answer, 401)
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="orchestrator"'


@pytest.mark.parametrize(
    "header",
    [
        "Bearer", "Bearer ", f"Bearer {ACME[:-1]}", f"Bearer {ACME}x", f"Bearer {ACME.upper()}",
        f"Basic {ACME}", ACME, f"Bearer {ACME} {ACME}", f"Bearer acme:{ACME}", f"Bearer {ACME},{GLOBEX}",
        "Bearer " + "x" * 8000,
        "Bearer \xe9\xff".encode("latin-1"),
    ],
)  # fmt: skip
def test_a_wrong_key_is_refused_and_not_written_down(header, api, log):
    answer = requests.get(f"{api.url}/providers", headers={"Authorization": header}, timeout=PATIENCE)
    refused(answer, 401)
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
    assert ACME[:-1] not in log() + answer.text and "xxxx" not in log()


def test_the_word_bearer_has_no_case_and_no_key_is_ever_written_down(api, log):
    for word in ("bearer", "BEARER", "Bearer "):
        headers = {"Authorization": f"{word} {ACME}"}
        assert requests.get(f"{api.url}/providers", headers=headers, timeout=PATIENCE).status_code == 200
    requests.get(f"{api.url}/providers?key={ACME}", headers=headers, timeout=PATIENCE)
    assert ACME not in log()


def test_every_key_is_compared_whichever_fits(monkeypatch):
    compared: list[bytes] = []
    monkeypatch.setattr("hmac.compare_digest", lambda one, other: compared.append(one) or one == other)
    keys = Keys([ApiKey(name, Secret(name * 40)) for name in "abc"])
    assert [keys.tenant_of(f"Bearer {name * 40}") for name in "abcd"] == ["a", "b", "c", None]
    assert len(compared) == 4 * 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x" * 40, "entry 1 is not name:secret"),
        (f"acme:{ACME},:{GLOBEX}", "entry 2 is not name:secret"),
        (f"a/b:{ACME}", "entry 1 is not name:secret"),
        ("acme:" + "y" * 31, "the secret of 'acme' is shorter than 32 characters"),
        ("acme:" + "y z" * 20, "the secret of 'acme' has characters that no header takes"),
        (f"acme:{ACME},globex:{ACME}", "'acme' and 'globex' have the same secret"),
    ],
)
def test_keys_that_will_not_do_are_refused_without_being_shown(text, words):
    faults: list[str] = []
    api_keys(text, lambda _, told: Secret(told), faults)
    (fault,) = faults
    assert words in fault and ACME not in fault and "yyy" not in fault and "xxx" not in fault


def test_a_name_may_have_two_keys_while_one_takes_the_others_place():
    faults: list[str] = []
    found = api_keys(f"acme:{ACME}, acme:{GLOBEX} ,", lambda _, told: Secret(told), faults)
    assert [key.tenant for key in found] == ["acme", "acme"] and not faults
    assert ACME not in repr(found)


# --- what is sent --------------------------------------------------------------------------------------


def nested(depth: int) -> bytes:
    inner = b"[" * depth + b"]" * depth
    return b'{"provider": "webhook_json", "parameters": {"prompt": "a", "parameters": {"x": %s}}}' % inner


def with_prompt(text: str) -> bytes:
    return b'{"provider": "useapi_frames", "parameters": {"text_prompt": "%s"}}' % text.encode()


def good_but(**wrong: Any) -> bytes:
    return json.dumps({**GOOD, **wrong}).encode()


BODIES = [
    (b"", 400), (b"{", 400), (b"[]", 400), (b"null", 400), (b'"text"', 400), (b"{}", 422), (b"\0", 400),
    (b"\xff\xfe{\0}\0", 400), (b"\xff", 400), (b'{"a": NaN}', 400), (b'{"a": 1e999}', 400),
    (b'{"a": ' + b"9" * 5000 + b"}", 400), (b"[" * 100_000, 400), (b'{"a":' * 100_000, 400),
    (nested(60), 422), (nested(65), 400), (nested(900), 400), (with_prompt("\\ud800"), 400),
    (b'{"provider": "useapi_frames", "provider": "runway", "parameters": {}}', 400),
    (b'{"provider": 1, "parameters": {"text_prompt": "a"}}', 422),
    (b'{"provider": {}, "parameters": {"text_prompt": "a"}}', 422),
    (b'{"provider": [], "parameters": {"prompt": "a"}}', 422),
    (b'{"provider": [[]], "parameters": {"prompt": "a"}}', 422),
    (b'{"provider": "nobody", "parameters": {"text_prompt": "a"}}', 422),
    (b'{"provider": "useapi_frames", "parameters": []}', 422),
    (b'{"provider": "useapi_frames", "parameters": null}', 422),
    (b'{"provider": "useapi_frames", "parameters": {"text_prompt": ["a"]}}', 422),
    (good_but(priority=True), 422), (good_but(priority="9"), 422), (good_but(tenant="globex"), 422),
    (good_but(batch="a/b"), 422), (good_but(batch="a\0"), 422), (good_but(idempotency_key="x"), 422),
    (good_but(custom_id="a\nb"), 422), (good_but(expires=-1), 422),
    (b'{"email": "somebody@example.org"}', 422), (with_prompt("x" * 2**20), 413),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status"), BODIES, ids=range(len(BODIES)))
@pytest.mark.parametrize("chunked", [False, True])
def test_a_job_that_is_none_is_refused(body, status, chunked, api):
    sent = (body[at : at + 50_000] for at in range(0, len(body), 50_000)) if chunked else body
    refused(api.ask("POST", "/jobs", data=sent, headers={"Content-Type": JSON}), status)


def test_every_fault_of_a_job_is_told_at_once_with_its_value(api):
    body = {"provider": FRAMES, "parameters": {"text_prompt": "", "seed": "x"}, "priority": 12, "colour": 1}
    told = refused(api.ask("POST", "/jobs", json=body), 422)
    assert {each["place"] for each in told["errors"]} == {"parameters", "priority", "colour"}
    for words in ("text_prompt = ''", "seed = 'x'", "priority = 12", "colour = 1"):
        assert words in told["detail"]


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "", "application/xml", "json"]
)
def test_another_type_of_body_is_refused(kind, api):
    refused(api.ask("POST", "/jobs", data=b"{}", headers={"Content-Type": kind}), 415)
    words = f"name=x&provider={FRAMES}"
    refused(api.ask("POST", f"/batches?{words}", data=b"{}", headers={"Content-Type": kind}), 415)


@pytest.mark.parametrize("key", ["x" * 201, '""', '"' + "x" * 201 + '"'])
def test_a_key_that_names_nothing_is_refused(key, api):
    refused(api.ask("POST", "/jobs", json=GOOD, headers={"Idempotency-Key": key}), 422)


def test_two_names_for_one_job_are_refused(api):
    headers = {"Idempotency-Key": "one"}
    told = refused(api.ask("POST", "/jobs", json={**GOOD, "custom_id": "two"}, headers=headers), 422)
    assert told["errors"][0]["place"] == "Idempotency-Key"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404), ("GET", "/jobs/", 404), ("GET", "/jobs/%00", 404), ("GET", "/jobs/%ff%fe", 404),
        ("GET", "/jobs/*", 404), ("GET", "/jobs/..%2f..", 404), ("GET", "//jobs/x", 404),
        ("GET", "/static/x", 404), ("GET", "/callbacks/useapi_frames/x", 404), ("GET", "/jobs", 405),
        ("PUT", "/jobs/x", 405), ("PATCH", "/batches/x", 405), ("TRACE", "/jobs/x", 405),
        ("OPTIONS", "/jobs", 405),
        ("GET", "/jobs/x?wait=61", 422), ("GET", "/jobs/x?wait=nan", 422), ("GET", "/jobs/x?wait=", 422),
        ("GET", "/jobs/x?wat=1", 422), ("GET", "/batches/x/outcomes?after=$", 422),
        ("GET", "/batches/x/outcomes?after=0-0-0", 422), ("GET", "/batches/" + "x" * 3000, 404),
    ],
)  # fmt: skip
def test_an_address_that_is_none_is_refused(method, path, status, api):
    answer = api.ask(method, path, allow_redirects=False)
    refused(answer, status)
    assert (status == 405) == ("Allow" in answer.headers)


@pytest.mark.parametrize(
    "query",
    [
        "", "name=x", f"provider={FRAMES}", f"name=&provider={FRAMES}", "name=x&provider=",
        f"name={'x' * 101}&provider={FRAMES}", f"name=x%00&provider={FRAMES}", "name=x&provider=nobody",
        "name=x&provider=useapi_preview", f"name=x&provider={FRAMES}&weigth=3",
        f"name=x&provider={FRAMES}&tenant=globex", f"name=x&provider={FRAMES}&custom_id=x",
        f"name=x&provider={FRAMES}&priority={'[' * 1200}", f"name=x&provider={FRAMES}&max_spend=NaN",
        f"name=x&provider={FRAMES}&expires=1e999",
    ],
    ids=range(15),
)  # fmt: skip
def test_a_batch_of_wrong_words_is_refused_before_its_body_is_read(query, api):
    lines = {"Content-Type": "application/x-ndjson"}
    refused(api.ask("POST", f"/batches?{query}", data=b'{"text_prompt": "a"}', headers=lines), 422)
    assert api.ask("GET", "/batches/x").status_code == 404


@pytest.mark.parametrize(
    "url",
    ["x", "http://127.0.0.1/x", "http://redis:6379/", "ftp://example.org", "https://a:b@example.org/x",
     '{"task": "orchestrator.generate", "args": []}', "https://example.org/ok"],
)  # fmt: skip
@pytest.mark.parametrize("name", ["notify_url", "on_each", "on_complete"])
def test_nobody_is_told_where_it_can_never_work_or_is_forbidden(name, url, api):
    """No secret to sign with is known here: not even what is right is taken."""
    lines, query = {"Content-Type": "application/x-ndjson"}, {"name": "told", "provider": FRAMES, name: url}
    answer = api.ask("POST", "/batches", params=query, data=line(), headers=lines)
    assert refused(answer, 422)["errors"][0]["place"] == name
    assert api.ask("GET", "/batches/told").status_code == 404
    if name == "notify_url":
        told = refused(api.ask("POST", "/jobs", json={**GOOD, name: url, "priority": 10}), 422)
        assert {each["place"] for each in told["errors"]} == {name, "priority"}


def line(**values: Any) -> bytes:
    return json.dumps({"text_prompt": "a", **values}).encode()


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b"", "body"), (b"\n\n \n", "body"), (b"\xff\xfe\n", None), (b"PAR1", None), (b"\x1f\x8b\x08", None),
        (b"\0", "line 1"), (b"[" * 100_000, "line 1"), (line() + b"\n" + b"x" * (2**20 + 1), "line 2"),
        (line(custom_id=["x"]), "line 1"), (line(custom_id=True), "line 1"), (line(custom_id="\0"), "line 1"),
        (line(custom_id=2) + b"\n" + line(), "line 2"), (line(tenant="globex"), "line 1"),
        (line(priority=10), "line 1"), (line(replyUrl="https://example.org"), "line 1"), (b"{}", "line 1"),
        (line() + line(), "line 1"), (b'{"text_prompt": "a", "seed": 1e999}', "line 1"),
    ],
    ids=range(18),
)  # fmt: skip
def test_lines_that_are_none_are_refused_and_nothing_is_enqueued(body, place, api):
    told = refused(api.upload(body, name="none", provider=FRAMES), 422)
    assert place is None or told["errors"][-1]["place"] == place
    assert api.ask("GET", "/batches/none").status_code == 404


def test_an_upload_that_is_too_large_is_refused_before_it_has_come(api):
    parts = urlsplit(api.url)
    with socket.create_connection((parts.hostname, parts.port), PATIENCE) as connection:
        connection.sendall(
            f"POST /batches?name=x&provider={FRAMES} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ACME}\r\n"
            f"Content-Type: application/x-ndjson\r\nContent-Length: {2**28 + 1}\r\n\r\n".encode()
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


# --- who waits -----------------------------------------------------------------------------------------


def test_others_are_answered_while_an_upload_is_checked(api):
    done = threading.Event()
    answers: list[int] = []

    def upload() -> None:
        api.upload(b'{"text_prompt": "", "seed": "x"}\n' * 30_000, name="long", provider=FRAMES)
        done.set()

    thread = threading.Thread(target=upload)
    thread.start()
    while not done.is_set():
        answers.append(api.ask("GET", "/providers").status_code)
    thread.join()
    assert len(answers) > 5 and set(answers) == {200}


def test_who_finds_no_seat_is_not_let_in():
    seats = Seats(2)
    with seats.taken() as first, seats.taken() as second, seats.taken() as third:
        assert (first, second, third) == (True, True, False)
    with seats.taken() as again:
        assert again


def test_who_has_shown_a_key_is_given_more_time_for_this_request_alone():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        client = Client(ours, 5.0, set())
        theirs.sendall(b"xxxx")
        assert client.recv(1) == b"x"
        client.allow(-1)
        client.allow(5)
        assert client.recv(1) == b"x"
        client.allow(-1)
        client.next_request()
        assert client.recv(1) == b"x"
        client.allow(-1)
        assert client.recv(1) == b""  # its time is over
