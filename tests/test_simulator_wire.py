"""How the simulator speaks HTTP, to its clients and to those who wait for callbacks, over real sockets."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from orchestrator.simulator.outbound import Outbound
from orchestrator.simulator.web import Request, Response, Route, Routes, reply
from orchestrator.simulator.wire import MOST_BODY_BYTES, Reader, serve_connection

SECONDS = 30.0
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def echo(request: Request) -> Response:
    return reply([request.method, request.path, request.args, request.body.decode()])


@contextmanager
def client_of(answer: object = echo) -> Iterator[socket.socket]:
    """A connection that is served on a thread; ends with it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname(), timeout=SECONDS)
        served, address = server.accept()

    def serve() -> None:
        with served:
            serve_connection(answer, served, address)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with client:
        yield client
    thread.join(SECONDS)
    assert not thread.is_alive()


def told(reader: Reader) -> tuple[int, object]:
    first, headers = reader.head()
    return int(first.split()[1]), json.loads(reader.body(headers) or "null")


# requests


def test_requests_of_one_connection_are_answered_in_order_however_they_arrive() -> None:
    requests = b"POST /a?x=1&x=2 HTTP/1.1\r\nContent-Length: 2\r\n\r\nhiGET /b%20c HTTP/1.1\r\n\r\n"
    with client_of() as client:
        for byte in requests:
            client.sendall(bytes([byte]))
        reader = Reader(client)
        assert told(reader) == (200, ["POST", "/a", {"x": "1"}, "hi"])
        assert told(reader) == (200, ["GET", "/b%20c", {}, ""])


def test_body_in_chunks_is_read_and_its_trailers_left_out() -> None:
    head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    with client_of() as client:
        client.sendall(
            head + b"3;a=b\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\nX: y\r\n\r\nGET / HTTP/1.0\r\n\r\n"
        )
        reader = Reader(client)
        assert told(reader) == (200, ["POST", "/", {}, "abc0123456789abcdef"])
        assert told(reader) == (200, ["GET", "/", {}, ""])
        with pytest.raises(EOFError):  # HTTP/1.0 asks for no more
            reader.head()


def test_client_that_waits_for_it_is_told_to_go_on() -> None:
    with client_of() as client:
        client.sendall(b"POST / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        reader = Reader(client)
        assert reader.head() == ("HTTP/1.1 100 Continue", {})
        client.sendall(b"hi")
        assert told(reader) == (200, ["POST", "/", {}, "hi"])


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / SPDY/3\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (MOST_BODY_BYTES + 1), 413),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000, 431),
    ],
)
def test_what_cannot_be_read_is_answered_and_ends_the_connection(sent: bytes, status: int) -> None:
    with client_of() as client:
        client.sendall(sent)
        reader = Reader(client)
        assert told(reader)[0] == status
        with pytest.raises((EOFError, ConnectionResetError)):
            reader.head()


def test_a_fault_of_a_view_is_a_500_and_the_connection_stays(capsys: pytest.CaptureFixture[str]) -> None:
    routes = Routes()
    routes.add(Route("GET", "/faulty", lambda request: 1 / 0))
    routes.add(Route("GET", "/tasks/{}", lambda request, task: reply(task)))
    with client_of(routes.answer) as client:
        client.sendall(b"GET /faulty HTTP/1.1\r\n\r\nGET /tasks/user%3Aa%2Fb/ HTTP/1.1\r\n\r\n")
        reader = Reader(client)
        assert told(reader) == (500, {"error": "Internal Server Error", "code": 500})
        assert told(reader) == (200, "user:a/b")
    assert "ZeroDivisionError" in capsys.readouterr().err


# callbacks


@pytest.fixture
def outbound() -> Iterator[Outbound]:
    made = Outbound()
    yield made
    made.close()


class Listener:
    """Takes connections; on each, the answers of its list in order, then it is closed."""

    def __init__(self, *connections: list[bytes]) -> None:
        self.heads: list[list[str]] = [[] for _ in connections]
        self.hung_up = threading.Semaphore(0)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run, args=(connections,), daemon=True)
        self._thread.start()

    def _run(self, connections: tuple[list[bytes], ...]) -> None:
        for heads, answers in zip(self.heads, connections, strict=True):
            connection, _ = self._server.accept()
            with connection:
                connection.settimeout(SECONDS)
                reader = Reader(connection)
                for answer in answers:
                    first, headers = reader.head()
                    reader.body(headers)
                    heads.append(first)
                    connection.sendall(answer)
            self.hung_up.release()

    def close(self) -> None:
        self._thread.join(SECONDS)
        self._server.close()
        assert not self._thread.is_alive()


@pytest.mark.parametrize(
    "answer",
    [
        ANSWER,
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200\r\ncontent-length:0\r\n\r\n",
    ],
)
def test_a_connection_is_used_again_after_each_kind_of_answer(outbound: Outbound, answer: bytes) -> None:
    listener = Listener([answer, answer])
    for path in ("/a b?c=d", ""):
        assert outbound.post(listener.url + path, {}, b"{}", SECONDS) in (200, 204)
    listener.close()
    assert listener.heads == [["POST /a%20b?c=d HTTP/1.1", "POST / HTTP/1.1"]]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n\r\nas long as it takes",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        ANSWER + b"more than was asked for",
    ],
)
def test_a_connection_that_is_over_or_unclear_is_not_used_again(outbound: Outbound, answer: bytes) -> None:
    listener = Listener([answer], [ANSWER])
    assert [outbound.post(listener.url, {}, b"{}", SECONDS) for _ in range(2)] == [200, 200]
    listener.close()
    assert [len(heads) for heads in listener.heads] == [1, 1]


def test_a_receiver_that_hung_up_between_two_callbacks_is_called_anew(outbound: Outbound) -> None:
    listener = Listener([ANSWER], [ANSWER])
    for _ in range(2):
        assert outbound.post(listener.url, {}, b"{}", SECONDS) == 200
        assert listener.hung_up.acquire(timeout=SECONDS)
    listener.close()
    assert [len(heads) for heads in listener.heads] == [1, 1]


@pytest.mark.parametrize("url", ["", "nowhere", "ftp://x/", "http://", "http://x:99999/", "http://[x/"])
def test_what_is_no_url_is_posted_nowhere(outbound: Outbound, url: str) -> None:
    with pytest.raises(ValueError):
        outbound.post(url, {}, b"{}", SECONDS)
