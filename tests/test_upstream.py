"""What a failed exchange means, against a real socket: a POST that may have arrived is never sent again."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import ssl
import struct
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests
from urllib3.connection import HTTPConnection
from urllib3.exceptions import MaxRetryError, NameResolutionError, ProtocolError
from urllib3.exceptions import SSLError as PoolSSLError

from orchestrator.errors import Broken, CollectFailed, ProviderError, Uncertain, Unreachable
from orchestrator.models import Request
from orchestrator.upstream import (
    MAX_ARTIFACT_BYTES,
    MAX_REPLY_BYTES,
    TEXT_CHARACTERS,
    Upstream,
    _translated,
    may_fetch,
)

TIMEOUT_SECONDS = 5.0
LONG_SECONDS = 30.0  # beside the fractions of one after which a call is to be given up
Answer = Callable[[socket.socket], None]


class Loopback:
    """A server that reads one request per connection and then does what `answer` does with the socket."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.requests: list[tuple[str, dict[str, str], bytes]] = []  # request line, headers, body
        self.over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            # A client that has heard enough hangs up.
            with connection, contextlib.suppress(OSError):
                if self.over.is_set():
                    return
                self._read(connection)
                self.answer(connection)

    def _read(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as stream:
            line = stream.readline().decode().strip()
            headers = {}
            while pair := stream.readline().decode().strip():
                name, _, value = pair.partition(": ")
                headers[name.lower()] = value
            body = stream.read(int(headers.get("content-length", 0)))
        self.requests.append((line, headers, body))

    def close(self) -> None:
        self.over.set()
        socket.create_connection(self._listener.getsockname()).close()
        self._thread.join(10)
        self._listener.close()


def sends(*parts: bytes) -> Answer:
    def answer(connection: socket.socket) -> None:
        for part in parts:
            connection.sendall(part)

    return answer


def http(status: str, body: bytes = b"", **headers: object) -> bytes:
    """A whole HTTP answer; `content_length=…` lies about its length."""
    lines = {"content_length": len(body), "connection": "close", **headers}
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


def resets(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], Loopback]]:
    servers: list[Loopback] = []

    def start(answer: Answer) -> Loopback:
        servers.append(Loopback(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    made = Upstream()
    yield made
    made.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


# --- requests -----------------------------------------------------------------------------------------


def test_a_request_is_sent_as_it_was_built_and_the_answer_comes_back(serve, upstream):
    body = b'{"taskId": "t"}'
    server = serve(sends(http("201 Created", body, Retry_After="7")))
    request = Request(
        "POST", f"{server.url}/v1/tasks/u:a@b.com", {"Authorization": "Bearer t"}, {"limit": "1"}, {"a": "ü"}
    )
    reply = upstream.send(request, TIMEOUT_SECONDS)
    assert (reply.status, reply.body, reply.text) == (201, {"taskId": "t"}, body.decode())
    assert reply.headers["retry-after"] == "7"  # names in lower case
    ((line, headers, sent),) = server.requests
    assert line == "POST /v1/tasks/u:a@b.com?limit=1 HTTP/1.1"
    assert (headers["authorization"], headers["content-type"]) == ("Bearer t", "application/json")
    assert json.loads(sent) == {"a": "ü"}


@pytest.mark.parametrize("status", ["400 Bad Request", "429 Too Many Requests", "500 Oops", "596 Broken"])
def test_an_error_status_is_an_answer_and_no_exception(serve, upstream, status):
    server = serve(sends(http(status, b'{"error": "x"}')))
    reply = upstream.send(Request("POST", server.url), TIMEOUT_SECONDS)
    assert (reply.status, reply.body) == (int(status[:3]), {"error": "x"})
    assert len(server.requests) == 1


def test_a_body_that_is_no_json_is_none_and_its_text_is_cut(serve, upstream):
    server = serve(sends(http("502 Bad Gateway", b"<h1>\xff" + b"x" * 10_000)))
    reply = upstream.send(Request("GET", server.url), TIMEOUT_SECONDS)
    assert reply.body is None
    assert reply.text.startswith("<h1>\ufffdx")
    assert len(reply.text) == TEXT_CHARACTERS


def test_no_redirect_is_followed(serve, upstream):
    elsewhere = serve(sends(http("200 OK", b"{}")))
    server = serve(sends(http("302 Found", Location=elsewhere.url)))
    request = Request("POST", server.url, {"Authorization": "Bearer t"})
    assert upstream.send(request, TIMEOUT_SECONDS).status == 302
    assert elsewhere.requests == []  # and no token goes there


def test_the_environment_names_no_proxy_for_us(serve, upstream, monkeypatch):
    proxy = serve(sends(http("200 OK", b"{}")))
    server = serve(sends(http("204 No Content")))
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv("http_proxy", proxy.url)
    assert upstream.send(Request("GET", server.url), TIMEOUT_SECONDS).status == 204
    assert proxy.requests == []


def test_a_cookie_of_one_account_is_not_sent_for_another(serve, upstream):
    server = serve(sends(http("200 OK", b"{}", Set_Cookie="session=studio-1; Path=/")))
    for _ in range(2):
        upstream.send(Request("GET", server.url), TIMEOUT_SECONDS)
    assert [headers.get("cookie") for _, headers, _ in server.requests] == [None, None]


def test_a_login_of_the_environment_is_not_sent(serve, upstream, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login a-login password a-password")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    server = serve(sends(http("200 OK", b"{}")))
    upstream.send(Request("GET", server.url), TIMEOUT_SECONDS)
    upstream.send(Request("GET", server.url.replace("//", "//a:b@")), TIMEOUT_SECONDS)
    # That of a base_url is, as ever.
    assert [headers.get("authorization") for _, headers, _ in server.requests] == [None, "Basic YTpi"]


@pytest.mark.parametrize(
    ("body", "read"),
    [
        ('{"a": "ü"}'.encode(), {"a": "ü"}),
        (b"\xef\xbb\xbf{}", {}),  # with a mark of its byte order
        ('{"a": "ü"}'.encode("utf-16"), {"a": "ü"}),
        (b'{"a": "\xfc"}', {"a": "\ufffd"}),  # what cannot be read of it costs no more than itself
        (b"", None),
    ],
)
def test_json_is_read_in_whichever_encoding_it_comes(serve, upstream, body, read):
    server = serve(sends(http("200 OK", body, Content_Type="text/plain")))
    assert upstream.send(Request("GET", server.url), TIMEOUT_SECONDS).body == read


def test_a_header_that_comes_twice_is_one_list(serve, upstream):
    server = serve(sends(b"HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 0\r\n\r\n"))
    assert upstream.send(Request("GET", server.url), TIMEOUT_SECONDS).headers["x-a"] == "1, 2"


def test_a_kept_connection_that_the_server_closed_is_not_used_for_the_next_post(upstream):
    """Where it could be seen beforehand, no POST is spent on finding out."""
    requests_heard: list[bytes] = []
    closed = threading.Event()

    def one_answer_each(listener: socket.socket) -> None:
        for _ in range(2):
            connection, _ = listener.accept()
            with connection:
                requests_heard.append(connection.recv(65536))
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")  # it would keep it
            closed.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=one_answer_each, args=(listener,))
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        for number in range(2):
            assert upstream.send(Request("POST", url, json=number), TIMEOUT_SECONDS).body == {}
            assert closed.wait(30)
        thread.join()
    assert [heard.rpartition(b"\r\n\r\n")[2] for heard in requests_heard] == [b"0", b"1"]


@pytest.mark.parametrize(("idle_seconds", "connections"), [(50.0, 1), (0.0, 2)])
def test_a_connection_that_stood_idle_for_long_is_not_used_again(
    upstream, monkeypatch, idle_seconds, connections
):
    monkeypatch.setattr("orchestrator.connections.IDLE_SECONDS", idle_seconds)
    came_from = []

    class Keeping(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            came_from.append(self.client_address)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Keeping) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        for _ in range(2):
            upstream.send(Request("GET", f"http://127.0.0.1:{server.server_port}"), TIMEOUT_SECONDS)
        upstream.close()
        server.shutdown()
        thread.join()
    assert (len(came_from), len(set(came_from))) == (2, connections)


# --- failures of requests -----------------------------------------------------------------------------


def test_a_refused_connection_is_unreachable(upstream):
    with pytest.raises(Unreachable, match=r"^no connection \(ConnectionError\)$"):
        upstream.send(Request("POST", f"http://127.0.0.1:{free_port()}/"), TIMEOUT_SECONDS)


@pytest.mark.parametrize(
    "answer",
    [
        resets,
        sends(),  # hung up without a word
        sends(http("200 OK", b'{"taskId"', content_length=15)),  # within the body
        sends(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"tas'),
        sends(b"220 smtp.example.com\r\n"),  # no HTTP
        sends(http("200 OK", b"no gzip", Content_Encoding="gzip")),
    ],
)
def test_an_answer_that_breaks_off_is_uncertain_and_the_post_is_not_repeated(serve, upstream, answer):
    server = serve(answer)
    with pytest.raises(Uncertain, match=r"^no answer \(\w+\)$"):
        upstream.send(Request("POST", server.url, json={"a": 1}), TIMEOUT_SECONDS)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "begin",
    [
        b"",  # nothing at all
        b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{",  # or nothing further
    ],
)
def test_an_answer_that_does_not_come_in_time_is_uncertain_and_the_post_is_not_repeated(
    serve, upstream, begin
):
    answered = threading.Event()

    def hangs(connection: socket.socket) -> None:
        connection.sendall(begin)
        answered.wait(10)

    server = serve(hangs)
    try:
        with pytest.raises(Uncertain):
            upstream.send(Request("POST", server.url), 0.2)
    finally:
        answered.set()
    assert len(server.requests) == 1


def drips(begin: bytes, drop: bytes, over: threading.Event) -> Answer:
    """An answer that always goes on, and never ends. Each read alone is in time."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(begin)
        while not over.wait(0.02):
            connection.sendall(drop)

    return answer


@pytest.fixture
def over() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


DRIPS = [
    pytest.param(b"HTTP/1.1 200 ", b"O", id="status line"),
    pytest.param(b"HTTP/1.1 200 OK\r\nX: ", b"x", id="a header"),
    pytest.param(b"HTTP/1.1 200 OK\r\n", b"X: x\r\n", id="headers"),
    pytest.param(b"", b"HTTP/1.1 100 Continue\r\n\r\n", id="continue"),
    pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"x", id="body"),
    pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", id="chunks"),
    pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x", id="chunk size"),
    pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", b"x", id="until closed"),
]


@pytest.mark.parametrize(("begin", "drop"), DRIPS)
def test_an_answer_that_drips_is_uncertain_when_the_time_of_the_whole_call_is_over(
    serve, upstream, over, begin, drop
):
    server = serve(drips(begin, drop, over))
    began = time.monotonic()
    with pytest.raises(Uncertain, match="no answer"):
        upstream.send(Request("POST", server.url, json={"a": 1}), 0.3)
    assert 0.25 < time.monotonic() - began < LONG_SECONDS
    assert len(server.requests) == 1


def test_a_request_that_is_not_taken_is_uncertain_when_the_time_is_over(upstream):
    with socket.create_server(("127.0.0.1", 0)) as listener:  # nobody reads
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(Uncertain):
            upstream.send(Request("POST", url, json={"a": "x" * 30_000_000}), 0.3)
        assert time.monotonic() - began < LONG_SECONDS


def test_a_connection_kept_from_a_call_serves_the_next_one_with_a_time_of_its_own(upstream):
    """One that is kept open by both sides, whose earlier call had little time left."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

    def serve_twice(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            for pause in (0.1, 0.6):
                assert connection.recv(65536)
                time.sleep(pause)
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve_twice, args=(listener,))
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert upstream.send(Request("GET", url), 0.5).body == {}
        assert upstream.send(Request("GET", url), 5.0).body == {}
        thread.join()


@pytest.mark.parametrize(
    "answer",
    [
        http("200 OK", b'"' + b"x" * MAX_REPLY_BYTES + b'"'),
        http("200 OK", gzip.compress(b"x" * (MAX_REPLY_BYTES + 1)), Content_Encoding="gzip"),  # unpacked
    ],
    ids=["plain", "packed"],
)
def test_an_answer_without_end_is_not_read_to_its_end(serve, upstream, answer):
    server = serve(sends(answer))
    with pytest.raises(Uncertain, match=f"larger than {MAX_REPLY_BYTES} bytes") as uncertain:
        upstream.send(Request("POST", server.url), TIMEOUT_SECONDS)
    assert uncertain.value.http_status == 200


def test_json_nested_without_end_is_no_json(serve, upstream):
    server = serve(sends(http("200 OK", b"[" * 200_000)))
    assert upstream.send(Request("GET", server.url), TIMEOUT_SECONDS).body is None


@pytest.mark.parametrize("token", ["t\n", "t\u2713"])
def test_a_request_that_cannot_be_written_down_did_not_arrive(serve, upstream, token):
    server = serve(sends(http("200 OK", b"{}")))
    with pytest.raises(ProviderError) as failed:
        upstream.send(Request("POST", server.url, {"Authorization": f"Bearer {token}"}), TIMEOUT_SECONDS)
    assert server.requests == []
    assert isinstance(failed.value, Broken)


def pool_error(reason: Exception) -> MaxRetryError:
    return MaxRetryError(None, "/", reason)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "family"),
    [
        (requests.ConnectTimeout(), Unreachable),
        (requests.exceptions.InvalidURL(), Broken),
        # No such name. (urllib3 gives the reason inside; requests wraps it.)
        (
            requests.ConnectionError(pool_error(NameResolutionError("h", HTTPConnection("h"), OSError()))),  # type: ignore[arg-type]
            Unreachable,
        ),
        # Not the host it should be: the handshake comes before the request.
        (
            requests.exceptions.SSLError(
                pool_error(PoolSSLError(ssl.SSLCertVerificationError(1, "self-signed")))
            ),
            Unreachable,
        ),
        # After the handshake, with the request on its way.
        (
            requests.exceptions.SSLError(pool_error(PoolSSLError(ssl.SSLError(1, "bad record mac")))),
            Uncertain,
        ),
        (requests.ReadTimeout(), Uncertain),
        (requests.ConnectionError(), Uncertain),
        (requests.ConnectionError(ProtocolError("Connection aborted.", ConnectionResetError())), Uncertain),
        (requests.exceptions.ChunkedEncodingError(), Uncertain),
        (requests.exceptions.ContentDecodingError(), Uncertain),
        (requests.RequestException(), Uncertain),  # whatever we do not know
        (OSError(), Uncertain),
        (RuntimeError(), Uncertain),
    ],
)
def test_only_what_cannot_have_arrived_is_unreachable(error, family):
    assert type(_translated(error)) is family


def test_no_traceback_shows_the_address_in_a_task_url(upstream):
    address = "a@b.com"
    url = f"http://127.0.0.1:{free_port()}/tasks/user:1-runwayml:{address}"
    with pytest.raises(Unreachable) as failed:
        upstream.send(Request("GET", url), TIMEOUT_SECONDS)
    shown = "".join(traceback.format_exception(failed.value))  # requests' own error would show the path
    assert "no connection" in shown
    assert address not in shown


# --- which hosts --------------------------------------------------------------------------------------

HOSTS = (".cloudfront.net", ".runwayml.com", "files.example.com")
BASE_URL = "http://127.0.0.1:9000/v1/runwayml"


@pytest.mark.parametrize(
    "url",
    [
        "https://d1.cloudfront.net/0.png?_jwt=x",
        "https://a.b.runwayml.com:443/0.png",
        "https://D1.CloudFront.NET/0.png",
        "https://files.example.com/0.png",
        "http://127.0.0.1:9000/pictures/0.png",  # the account's own host, whatever it is
    ],
)
def test_a_picture_may_come_from_the_providers_hosts_and_the_accounts_own(url):
    assert may_fetch(url, HOSTS, BASE_URL)


@pytest.mark.parametrize(
    "url",
    [
        "http://d1.cloudfront.net/0.png",  # not encrypted
        "https://evil.example/0.png",
        "https://evilcloudfront.net/0.png",  # ends alike, is another domain
        "https://d1.cloudfront.net.evil.example/0.png",
        "https://evil.example/.cloudfront.net",
        "https://evil.example#.cloudfront.net",
        "https://evil.example?.cloudfront.net",
        "https://d1.cloudfront.net@evil.example/0.png",
        "https://evil.example@d1.cloudfront.net/0.png",  # credentials are never ours
        "https://d1.cloudfront.net:8443/0.png",
        "https://a.files.example.com/0.png",  # an exact name has no subdomains
        "https://cloudfront.net/0.png",
        "https://127.0.0.1/0.png",
        "https://[::1]/0.png",
        "http://169.254.169.254/latest/meta-data",
        "http://127.0.0.1:9001/0.png",  # the account's host, another port
        "https://127.0.0.1:9000/0.png",  # another scheme
        "http://user@127.0.0.1:9000/0.png",
        "file:///etc/passwd",
        "ftp://d1.cloudfront.net/0.png",
        "//d1.cloudfront.net/0.png",
        "0.png",
        "",
        "https://d1.cloudfront.net./0.png",
        "https://.cloudfront.net/0.png",
        "https://-.cloudfront.net/0.png",
        "https://d1.cloudfront.net:/0.png",
        "https://d1.cloudfront.net:0443/0.png",
        "https://:@d1.cloudfront.net/0.png",
        "https://d1%2ecloudfront.net/0.png",
        "https://evil.example%00.cloudfront.net/0.png",
        "https://evil.example .cloudfront.net/0.png",
        "https://d1.cloudfront\u3002net/0.png",  # a full stop to IDNA
        "https://\uff441.cloudfront.net/0.png",  # a wide d
        "https://evil.example\u2044.cloudfront.net/0.png",  # a slash to some
        "https://d1.cloudfront.net\t/0.png",  # urlsplit leaves it out
        "https://d1.cloudfront.net/0.png\r\nHost: evil.example",
        " https://d1.cloudfront.net/0.png",
        "https://[fe80::1%25eth0]/0.png",
        "https://[::ffff:127.0.0.1]/0.png",
        "https://evil.example]@.cloudfront.net/0.png",
        "https:///d1.cloudfront.net/0.png",
        "https:d1.cloudfront.net",
        "https://d1.cloudfront.net@/0.png",
    ],
)
def test_a_picture_may_come_from_nowhere_else(url):
    assert not may_fetch(url, (*HOSTS, ""), BASE_URL)  # an empty name is no host, least of all any


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "10.0x1", "1.2.3.4"])
def test_a_number_is_no_host_whatever_the_suffixes_say(host):
    assert not may_fetch(f"https://{host}/0.png", (host, ".1", "." + host.rpartition(".")[2]), BASE_URL)


def test_a_backslash_does_not_hide_the_host_that_would_be_called():
    url = "https://evil.example\\.cloudfront.net/0.png"
    assert str(requests.Request("GET", url).prepare().url).startswith("https://evil.example/")
    assert not may_fetch(url, HOSTS, BASE_URL)


@pytest.mark.parametrize("url", ["https://[bad/0.png", "https://d1.cloudfront.net:99999/0.png"])
def test_a_url_that_cannot_be_split_may_not_be_fetched(url):
    assert not may_fetch(url, HOSTS, BASE_URL)


# --- downloads ----------------------------------------------------------------------------------------


def download(upstream: Upstream, url: str, base_url: str = "") -> bytes:
    with upstream.download(url, HOSTS, base_url or url) as chunks:
        return b"".join(chunks)


@pytest.mark.parametrize(
    "answer",
    [
        http("200 OK", b"x" * 200_000),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n30d40\r\n" + b"x" * 200_000 + b"\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 200_000,  # until the connection ends
    ],
    ids=["length", "chunked", "until closed"],
)
def test_a_picture_is_fetched_whole(serve, upstream, answer):
    server = serve(sends(answer))
    assert download(upstream, f"{server.url}/0.png") == b"x" * 200_000
    ((line, headers, _),) = server.requests
    assert line == "GET /0.png HTTP/1.1"
    assert "authorization" not in headers  # the token is not for the picture's host


@pytest.mark.parametrize(
    "answer",
    [
        sends(http("200 OK", b"x" * 100_000, content_length=200_000)),
        sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n30d40\r\n" + b"x" * 1000),
        sends(),
        resets,
    ],
)
def test_a_picture_that_breaks_off_is_to_be_collected_again(serve, upstream, answer):
    server = serve(answer)
    with pytest.raises(CollectFailed, match=r"^fetching the picture (failed|broke off) \(\w+\)$"):
        download(upstream, f"{server.url}/0.png")
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "status", ["403 Forbidden", "404 Not Found", "204 No Content", "206 Partial", "500 Oops"]
)
def test_only_200_brings_a_picture(serve, upstream, status):
    server = serve(sends(http(status)))
    with pytest.raises(CollectFailed, match=f"answered with {status[:3]}"):
        download(upstream, server.url)


def redirects(*locations: str) -> Answer:
    """To one place after the other; then a picture."""
    left = list(locations)

    def answer(connection: socket.socket) -> None:
        reply = http("302 Found", Location=left.pop(0)) if left else http("200 OK", b"a picture")
        connection.sendall(reply)

    return answer


@pytest.mark.parametrize("location", ["/moved.png", "moved.png", "?moved"])
def test_a_picture_may_have_moved_to_where_it_may_come_from(serve, upstream, location):
    server = serve(redirects(location, location))
    assert download(upstream, f"{server.url}/0.png") == b"a picture"
    assert len(server.requests) == 3


def test_a_picture_is_not_sought_for_ever(serve, upstream):
    server = serve(redirects(*["/again"] * 9))
    with pytest.raises(CollectFailed, match="behind more than 3 redirects"):
        download(upstream, server.url)
    assert len(server.requests) == 4


def test_a_redirect_leads_nowhere_that_a_url_may_not_lead(serve, upstream):
    inside = serve(sends(http("200 OK", b"secret")))
    port = inside.url.rpartition(":")[2]
    elsewhere = (f"//127.0.0.1:{port}", "https://127.0.0.1/", "file:///etc/passwd", "https://evil.example/")
    for location in (inside.url, *elsewhere, "http://169.254.169.254/latest/meta-data", "//[bad/"):
        server = serve(redirects(location))
        with pytest.raises(CollectFailed, match="is not one the provider serves pictures from"):
            download(upstream, server.url)
        assert len(server.requests) == 1
    assert inside.requests == []


def test_what_comes_with_a_redirect_is_not_read(serve, upstream):
    def endless(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: https://evil.example/\r\n\r\n")
        while True:
            connection.sendall(b"x" * 2**20)

    server = serve(endless)
    with pytest.raises(CollectFailed, match=r"evil\.example"):
        download(upstream, server.url)
    with pytest.raises(Uncertain, match="larger than"):
        upstream.send(Request("POST", server.url), TIMEOUT_SECONDS)


def test_a_redirect_to_nowhere_is_the_answer(serve, upstream):
    server = serve(sends(http("302 Found")))
    with pytest.raises(CollectFailed, match="answered with 302"):
        download(upstream, server.url)


def test_a_picture_without_end_is_not_read_to_its_end(serve, upstream):
    def endless(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(b"x" * 2**20)

    server = serve(endless)
    with pytest.raises(CollectFailed, match=f"larger than {MAX_ARTIFACT_BYTES} bytes"):
        with upstream.download(server.url, HOSTS, server.url) as chunks:
            for _ in chunks:
                pass


@pytest.mark.parametrize(("begin", "drop"), DRIPS)
def test_a_picture_that_drips_is_given_up(serve, upstream, over, monkeypatch, begin, drop):
    monkeypatch.setattr("orchestrator.upstream.CHUNK_SECONDS", 0.3)
    server = serve(drips(begin, drop, over))
    began = time.monotonic()
    with pytest.raises(CollectFailed, match=r"^fetching the picture (failed|broke off) \(\w+\)$"):
        download(upstream, server.url)
    assert time.monotonic() - began < LONG_SECONDS


def test_a_picture_has_so_much_time_in_all(serve, upstream, over, monkeypatch):
    monkeypatch.setattr("orchestrator.upstream.DOWNLOAD_SECONDS", 0.5)
    server = serve(drips(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 70_000, over))  # fast enough, without end
    began = time.monotonic()
    with pytest.raises(CollectFailed, match="broke off"):
        download(upstream, server.url)
    assert time.monotonic() - began < LONG_SECONDS


@pytest.mark.parametrize("length", ["99999999999", "9" * 5000])
def test_a_picture_that_says_it_is_too_large_is_not_read(serve, upstream, length):
    server = serve(sends(http("200 OK", b"x", content_length=length)))
    with pytest.raises(CollectFailed, match="larger than"):
        download(upstream, server.url)


@pytest.mark.parametrize("length", ["-1", "abc", "5, 5", "٣"])
def test_a_length_that_is_none_is_no_trouble_of_ours(serve, upstream, length):
    server = serve(sends(http("200 OK", b"x" * 5, content_length=length)))
    with contextlib.suppress(CollectFailed):
        assert download(upstream, server.url) == b"x" * 5


def test_a_picture_is_asked_for_as_it_is(serve, upstream):
    """What is packed could be small on the way and without end here."""
    server = serve(
        sends(http("200 OK", gzip.compress(b"x" * (MAX_ARTIFACT_BYTES + 1)), Content_Encoding="gzip"))
    )
    with pytest.raises(CollectFailed, match="larger than"):
        with upstream.download(server.url, HOSTS, server.url) as chunks:
            for _ in chunks:
                pass


def test_a_host_that_is_not_the_providers_is_not_even_called(serve, upstream):
    server = serve(sends(http("200 OK", b"x")))
    with pytest.raises(CollectFailed, match=r"'127\.0\.0\.1' is not one the provider serves pictures from"):
        download(upstream, server.url, BASE_URL)
    assert server.requests == []


def test_an_unreachable_host_is_to_be_collected_again(upstream):
    with pytest.raises(CollectFailed, match=r"^fetching the picture failed \(ConnectionError\)$"):
        download(upstream, f"http://127.0.0.1:{free_port()}/0.png")


@pytest.mark.parametrize("host", ["a..cloudfront.net", "a" * 70 + ".cloudfront.net"], ids=["empty", "long"])
def test_a_host_name_that_cannot_exist_is_told_as_a_failed_collect(upstream, host):
    with pytest.raises(CollectFailed):
        download(upstream, f"https://{host}/0.png", BASE_URL)


def test_what_the_reader_of_the_chunks_raises_comes_through(serve, upstream):
    server = serve(sends(http("200 OK", b"<html>")))

    def refuse(_: Any) -> None:
        raise CollectFailed("what came is no picture")

    with pytest.raises(CollectFailed, match="what came is no picture"):
        with upstream.download(server.url, HOSTS, server.url) as chunks:
            refuse(chunks)
