"""What the receiver gives away, how long it waits, and what it writes down: as little as it can."""

from __future__ import annotations

import itertools
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import gevent
import gevent.socket
import pytest
import requests
from gunicorn.config import Config
from gunicorn.glogging import Logger

from orchestrator.local.stack import Stack
from orchestrator.logs import Redacting, redacted
from webhooks import worker
from webhooks.headers import HEADERS
from webhooks.logs import ReceiverLogger, Sparing
from webhooks.worker import Client

PATH = "/callbacks/useapi_frames/cmVmZXJlbmNl.c2lnbmF0dXJl"
POST = f"POST {PATH} HTTP/1.1\r\nHost: x\r\n"


def exchange(stack: Stack, data: bytes, *, hang_up: bool = True) -> bytes:
    """Everything that is answered to these bytes."""
    answer = b""
    with socket.create_connection(("127.0.0.1", stack.receiver_port), 5) as connection:
        connection.sendall(data)
        if hang_up:
            connection.shutdown(socket.SHUT_WR)
        while more := connection.recv(65536):
            answer += more
    return answer


# --- what every answer says ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/healthz", 200),
        ("HEAD", "/healthz", 200),
        ("GET", "/readyz", 200),
        ("POST", PATH, 401),
        ("POST", "/callbacks/nobody/x", 404),
        ("POST", "/", 404),
        ("GET", "/", 404),
        ("GET", "/console", 404),
        ("GET", "/static/x", 404),
        ("POST", PATH + "/", 404),
        ("POST", PATH.replace("/callbacks/", "/callbacks//"), 404),
        ("GET", PATH, 405),
        ("HEAD", PATH, 405),
        ("OPTIONS", PATH, 405),
        ("TRACE", PATH, 405),
        ("POST", "/healthz", 405),
        ("OPTIONS", "/healthz", 405),
    ],
)
def test_an_answer_is_bare_and_says_what_a_browser_must_not_do(stack, method, path, status):
    answer = requests.request(method, stack.receiver_url + path, timeout=30, allow_redirects=False)
    assert answer.status_code == status
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
    assert not {"Server", "Set-Cookie", "Location", "X-Powered-By", "Via"} & set(answer.headers)
    assert status == 200 or (answer.content, answer.headers.get("Content-Type")) == (b"", None)
    assert (status == 405) == ("Allow" in answer.headers)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01 <script>\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"<script> / HTTP/1.1\r\n\r\n", 400),
        (b"POST /" + b"a" * 5000 + b" HTTP/1.1\r\n\r\n", 414),
        (POST.encode() + b"X: " + b"y" * 9000 + b"\r\n\r\n", 431),
        (POST.encode() + b"X: y\r\n" * 65 + b"\r\n", 431),
        (POST.encode() + (b"X: " + b"y" * 1000 + b"\r\n") * 35, 431),  # and never an end of it
        (POST.encode() + b"no colon <script>\r\n\r\n", 400),
        (POST.encode() + b"Content-Length: -1\r\n\r\n", 400),
        (POST.encode() + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}", 400),
        (POST.encode() + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (POST.encode() + b"Transfer-Encoding: <script>\r\n\r\n", 400),
        (POST.encode() + b"Expect: <script>\r\n\r\n", 417),
    ],
)
def test_what_is_no_request_is_refused_as_barely_by_the_server_below(stack, data, status):
    head, _, body = exchange(stack, data).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert body == b""
    assert b"script" not in head and b"gunicorn" not in head.lower()
    for name, text in HEADERS.items():
        assert f"\r\n{name}: {text}".encode() in head


def test_a_forged_callback_is_refused_before_its_body_has_come(stack):
    answer = exchange(stack, POST.encode() + b"Content-Length: 1000000\r\n\r\n{", hang_up=True)
    assert answer.startswith(b"HTTP/1.1 401 ")


def test_what_stands_behind_a_refused_body_is_not_taken_for_a_request(stack):
    """The body of the first is not read: what it holds must never be answered."""
    inner = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    for size in (len(inner), 100_000):
        body = inner.ljust(size)
        answer = exchange(stack, POST.encode() + b"Content-Length: %d\r\n\r\n" % size + body)
        assert answer.count(b"HTTP/1.1 ") == 1


def test_one_connection_serves_many_requests(stack):
    with requests.Session() as session:
        for _ in range(5):
            assert session.post(stack.receiver_url + PATH, data=b"{}", timeout=30).status_code == 401
            assert session.get(stack.receiver_url + "/healthz", timeout=30).text == "ok\n"


def test_a_header_does_not_make_anyone_a_proxy(stack):
    headers = {
        "X-Forwarded-For": "1.2.3.4",
        "X-Forwarded-Proto": "https",
        "Script-Name": "/x",
        "Path-Info": "/readyz",
    }
    assert requests.get(stack.receiver_url + "/healthz", headers=headers, timeout=30).text == "ok\n"


# --- how long it waits ---------------------------------------------------------------------------------


LONG_SECONDS = 30.0  # beside the fractions of one that are waited for here


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_a_client_that_drips_has_hung_up_when_its_time_is_over(pair, monkeypatch):
    monkeypatch.setattr(worker, "REQUEST_SECONDS", 0.3)
    ours, theirs = pair
    client, over = Client(ours, LONG_SECONDS, set()), threading.Event()

    def drip() -> None:
        while not over.wait(0.02):
            theirs.sendall(b"x")

    thread = threading.Thread(target=drip)
    thread.start()
    began = time.monotonic()
    while client.recv(100):
        pass
    assert 0.2 < time.monotonic() - began < LONG_SECONDS
    assert client.recv(100) == b""  # and stays so
    client.next_request()
    assert client.recv(100) == b""  # what comes now is a piece of the one before, and no request
    over.set()
    thread.join()


def test_a_client_may_rest_between_two_requests_longer_than_within_one(pair, monkeypatch):
    monkeypatch.setattr(worker, "REQUEST_SECONDS", 0.05)
    ours, theirs = pair
    idle: set[Client] = set()
    client = Client(ours, LONG_SECONDS, idle)
    timer = threading.Timer(0.2, lambda: (theirs.sendall(b"x"), seen.append(len(idle))))
    seen: list[int] = []
    timer.start()
    assert client.recv(100) == b"x"
    timer.join()
    began = time.monotonic()
    assert client.recv(100) == b""
    assert time.monotonic() - began < LONG_SECONDS
    assert (seen[0] in (0, 1), idle) == (True, set())
    assert Client(ours, 0.1, idle).recv(100) == b""  # nothing comes any more
    assert idle == set()


class Here:
    """A worker in this process, and a connection to it."""

    def __init__(self, log: Logger, config: Config) -> None:
        self.served: list[str] = []
        self.worker = worker.Worker(0, os.getppid(), [], None, LONG_SECONDS, config, log)
        self.worker.wsgi = self._refuse
        self.connection, self._theirs = gevent.socket.socketpair()
        self.connection.settimeout(LONG_SECONDS)

    def handle(self) -> gevent.Greenlet:
        listener = SimpleNamespace(getsockname=lambda: ("127.0.0.1", 8000))
        return gevent.spawn(self.worker.handle, listener, self._theirs, ("127.0.0.1", 1))

    def _refuse(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        self.served.append(environ["PATH_INFO"])
        start_response("401 Unauthorized", [("Content-Length", "0")])
        return []


@pytest.fixture
def here() -> Iterator[Here]:
    config = Config()
    config.set("keepalive", 2 * int(LONG_SECONDS))
    log = Logger(config)
    made = Here(log, config)
    with made.connection:
        yield made
    made.worker.tmp.close()
    for each in (log.error_log, log.access_log):
        each.handlers.clear()


def test_what_comes_after_a_body_that_stopped_is_not_taken_for_a_request(here, monkeypatch):
    """The front that sent it takes all of it for the body, and what is answered for the next one's answer."""
    monkeypatch.setattr(worker, "REQUEST_SECONDS", 0.2)
    handled = here.handle()
    inner = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    here.connection.sendall(POST.encode() + b"Content-Length: %d\r\n\r\n{" % (1 + len(inner)))
    assert here.connection.recv(4096).startswith(b"HTTP/1.1 401 ")
    assert here.connection.recv(1) == b""  # it waited for the rest, and ends
    with suppress(OSError):
        here.connection.sendall(inner)
        here.connection.shutdown(socket.SHUT_WR)
    assert handled.join(LONG_SECONDS) is None and handled.ready()
    assert here.served == [PATH]


def test_who_sends_one_request_behind_the_other_leaves_others_their_turn(here):
    count, seen = 200, [0]  # so many that all answers find room
    here.connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * count)
    here.connection.shutdown(socket.SHUT_WR)
    handled = here.handle()
    while not handled.ready():
        gevent.sleep(0)
        seen.append(len(here.served))
    assert seen[-1] == count
    assert max(after - before for before, after in itertools.pairwise(seen)) <= worker.TURN_REQUESTS


# --- what it writes down -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("POST /callbacks/useapi_frames/abc.def HTTP/1.1", "POST /callbacks/useapi_frames/… HTTP/1.1"),
        ("'/callbacks/useapi_frames/abc.def' [POST]", "'/callbacks/useapi_frames/…' [POST]"),
        ("//callbacks//x//abc/def?a=b", "//callbacks//x//…?…"),
        ("/callbacks/x/abc?token=secret HTTP/1.1", "/callbacks/x/…?… HTTP/1.1"),
        ("https://jobs.example.com/callbacks/x/abc", "https://jobs.example.com/callbacks/x/…"),
        ("GET /healthz?token=secret HTTP/1.1", "GET /healthz?… HTTP/1.1"),
        ("GET /healthz HTTP/1.1", "GET /healthz HTTP/1.1"),
    ],
)
def test_a_line_tells_no_reference_and_no_query(line, told):
    assert redacted(line) == told


class Lines(logging.Handler):
    def __init__(self, *filters: logging.Filter) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.filters[:] = filters

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def logger(*filters: logging.Filter) -> tuple[logging.Logger, list[str]]:
    made, handler = logging.Logger("a test"), Lines(*filters)
    made.addHandler(handler)
    return made, handler.lines


def test_a_flood_is_one_line_a_second_of_each_kind_with_a_count():
    now = 100.0
    log, lines = logger(Sparing(lambda: now))
    for _ in range(1000):
        log.warning("refused kind=%s", "A")
        log.error("refused kind=%s", "B")
        log.info("received")
    assert [lines.count(f"refused kind={kind}") for kind in "AB"] == [1, 1]
    assert lines.count("received") == 1000
    now = 101.0
    log.warning("refused kind=%s", "A")
    log.warning("refused kind=%s", "A")
    assert lines[-1] == "refused kind=A (and 999 more before)"
    now = 102.0
    log.warning("refused kind=%s", "A")
    assert lines[-1] == "refused kind=A (and 1 more before)"


def test_a_flood_of_kinds_is_one_kind_and_takes_no_memory():
    now = 100.0
    sparing = Sparing(lambda: now)
    log, lines = logger(sparing)
    for number in range(10_000):
        log.warning("%d is another kind each time", number)
    assert len(lines) < 200
    assert len(sparing._held) < 200


def test_gunicorns_own_lines_are_spared_and_redacted(monkeypatch):
    config = Config()
    config.set("accesslog", "-")
    made = ReceiverLogger(config)
    for each, sparing in ((made.error_log, True), (made.access_log, False)):
        assert any(isinstance(one, Redacting) for one in each.filters)
        assert any(isinstance(one, Sparing) for one in each.filters) is sparing
        lines = Lines()
        each.addHandler(lines)
        each.error('%(h)s "%(r)s"', {"h": "1.2.3.4", "r": f"POST {PATH} HTTP/1.1"})
        each.removeHandler(lines)
        assert lines.lines == ['1.2.3.4 "POST /callbacks/useapi_frames/… HTTP/1.1"']
        for handler in list(each.handlers):
            each.removeHandler(handler)


def test_how_it_is_served_is_said_by_the_environment(monkeypatch):
    import importlib

    from webhooks import gunicorn_conf

    monkeypatch.setenv("WEB_CONCURRENCY", "7")
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "10.0.0.1")
    settings: dict[str, Any] = vars(importlib.reload(gunicorn_conf))
    assert (settings["workers"], settings["forwarded_allow_ips"]) == (7, "10.0.0.1")
    monkeypatch.delenv("WEB_CONCURRENCY")
    monkeypatch.delenv("FORWARDED_ALLOW_IPS")
    settings = vars(importlib.reload(gunicorn_conf))
    assert (settings["workers"], settings["forwarded_allow_ips"]) == (1, "")
    config = Config()
    for name in settings.keys() & config.settings.keys():
        config.set(name, settings[name])  # gunicorn takes them all
    assert config.worker_class_str == "webhooks.worker.Worker"
