"""HTTP/1.1 on a socket, both ways: the requests of our clients, and the answers to our callbacks."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from http.client import responses
from typing import Any

from orchestrator.simulator.web import UNKNOWN, Request, Response, http_error

RECEIVED_AT_ONCE = 16_384
MOST_HEAD_BYTES = 65_536
MOST_BODY_BYTES = 1024 * 1024
WITHOUT_BODY = (204, 304)

Headers = dict[str, str]


class Unreadable(ValueError):
    """What came is no HTTP, or too long; `status` is what a server says to that."""

    def __init__(self, status: int) -> None:
        super().__init__(f"unreadable: {status}")
        self.status = status


class Reader:
    """Takes messages from a connection. Every method raises: Unreadable, OSError, EOFError at its end."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._unread = b""

    def head(self) -> tuple[str, Headers]:
        """The first line and the headers of the next message, their names in lower case."""
        first, *lines = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return first, headers

    def body(self, headers: Mapping[str, str]) -> bytes:
        """What follows a head, where the head says how long it is; else nothing."""
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return self._chunks()
        length = _length(headers.get("content-length") or "0", 10)
        return self._exactly(length) if length else b""

    @property
    def has_unread(self) -> bool:
        """Whether more has come than was asked for."""
        return bool(self._unread)

    def _chunks(self) -> bytes:
        body = b""
        while length := _length(self._until(b"\r\n").partition(b";")[0].decode("latin-1"), 16):
            body += self._exactly(length)
            self._until(b"\r\n")
            if len(body) > MOST_BODY_BYTES:
                raise Unreadable(413)
        while self._until(b"\r\n"):
            pass  # a trailer
        return body

    def _until(self, end: bytes) -> bytes:
        while (place := self._unread.find(end)) < 0:
            if len(self._unread) > MOST_HEAD_BYTES:
                raise Unreadable(431)
            self._receive()
        found, self._unread = self._unread[:place], self._unread[place + len(end) :]
        return found

    def _exactly(self, length: int) -> bytes:
        while len(self._unread) < length:
            self._receive()
        found, self._unread = self._unread[:length], self._unread[length:]
        return found

    def _receive(self) -> None:
        received = self._connection.recv(RECEIVED_AT_ONCE)
        if not received:
            raise EOFError
        self._unread += received


def write(first_line: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """A message as it goes out, in one piece: with two, the second may wait for the first one's ACK."""
    lines = [first_line, *[f"{name}: {value}" for name, value in headers.items()], "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def send(connection: Any, message: bytes) -> None:
    """All of it. gevent's own `sendall` asks for the size of the socket's buffer first, each time."""
    sent = connection.send(message)
    if sent < len(message):
        connection.sendall(message[sent:])


def serve_connection(
    answer: Callable[[Request], Response], connection: Any, address: tuple[str, int]
) -> None:
    """Answer what comes on one connection, one after another, until either side is done with it."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    reader = Reader(connection)
    try:
        while _serve_one(answer, reader, connection, address[0]):
            pass
    except Unreadable as error:
        send(connection, _write_response(http_error(error.status)))
    except (OSError, EOFError):
        pass  # the client has gone


def _serve_one(answer: Callable[[Request], Response], reader: Reader, connection: Any, address: str) -> bool:
    """False: it was the last one."""
    first, headers = reader.head()
    method, _, rest = first.partition(" ")
    target, _, version = rest.partition(" ")
    if not version.startswith("HTTP/1."):
        raise Unreadable(400)
    if headers.get("expect", "").lower() == "100-continue":
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    path, _, query = target.partition("?")
    body = reader.body(headers)
    response = answer(Request(method, path, query, headers, body, address, connection))
    send(connection, _write_response(response))
    return stays_open(version, headers)


def stays_open(version: str, headers: Mapping[str, str]) -> bool:
    """Whether another message may follow on the connection."""
    wish = headers.get("connection", "").lower()
    return wish == "keep-alive" if version == "HTTP/1.0" else wish != "close"


def _write_response(response: Response) -> bytes:
    first_line = f"HTTP/1.1 {response.status} {responses.get(response.status, UNKNOWN)}"
    if response.status in WITHOUT_BODY:
        return write(first_line, {}, b"")
    return write(first_line, {**response.headers, "Content-Length": str(len(response.body))}, response.body)


def _length(text: str, base: int) -> int:
    try:
        length = int(text, base)
    except ValueError:
        raise Unreadable(400) from None
    if length < 0:
        raise Unreadable(400)
    if length > MOST_BODY_BYTES:
        raise Unreadable(413)
    return length
