"""POSTs to whoever waits for callbacks, on connections that are kept."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import gevent

from orchestrator.simulator.wire import WITHOUT_BODY, Reader, Unreadable, send, stays_open, write

DEFAULT_PORTS = {"http": 80, "https": 443}
UNQUOTED = "%/:=&?~#+!$,;'@()*[]"


@dataclass(slots=True)
class Line:
    """An open connection. `reader` has what came on it and was not read yet."""

    connection: Any
    reader: Reader = field(init=False)

    def __post_init__(self) -> None:
        self.reader = Reader(self.connection)

    def is_idle(self) -> bool:
        """Whether it is open and silent, as it should be between two calls."""
        if self.reader.has_unread:
            return False
        self.connection.settimeout(0)
        try:
            self.connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            self.connection.settimeout(None)
        return False  # it was closed, or talks unasked


class Target(NamedTuple):
    """A URL taken apart. `path` has the query, `host` the port where it was given."""

    encrypted: bool
    place: tuple[str, int]
    path: str
    host: str


class Outbound:
    """Any number of calls at once; each takes a line that is free, or a new one."""

    def __init__(self) -> None:
        self._free: dict[tuple[str, int], list[Line]] = {}

    def post(self, url: str, headers: Mapping[str, str], body: bytes, seconds: float) -> int:
        """The status of the answer, which has so many seconds in all.

        Raises: ValueError (no URL, or no HTTP in answer), OSError and EOFError. Not safe to call twice.
        """
        target = _read_url(url)
        told = {"Host": target.host, "Content-Length": str(len(body)), **headers}
        with gevent.Timeout(seconds, TimeoutError):
            line = _open_encrypted(target.place) if target.encrypted else self._take(target.place)
            kept = False
            try:
                send(line.connection, write(f"POST {target.path} HTTP/1.1", told, body))
                status, stays = _read_answer(line.reader)
                kept = stays and not target.encrypted
            finally:
                if kept:
                    self._free.setdefault(target.place, []).append(line)
                else:
                    line.connection.close()
        return status

    def close(self) -> None:
        """End what is kept open. Safe to call twice."""
        while self._free:
            for line in self._free.popitem()[1]:
                line.connection.close()

    def _take(self, place: tuple[str, int]) -> Line:
        free = self._free.get(place, [])
        while free:
            line = free.pop()
            if line.is_idle():
                return line
            line.connection.close()
        return Line(_connect(place))


@lru_cache(maxsize=4096)
def _read_url(url: str) -> Target:
    parts = urlsplit(url)
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise ValueError(f"not a URL to post to: {url!r}")
    place = parts.hostname, parts.port or DEFAULT_PORTS[parts.scheme]
    path = quote(f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}", safe=UNQUOTED)
    return Target(parts.scheme == "https", place, path, parts.netloc.rpartition("@")[2])


def _read_answer(reader: Reader) -> tuple[int, bool]:
    """The status, and whether the line can be used again."""
    status = 100
    while 100 <= status < 200:
        first, headers = reader.head()
        version, _, rest = first.partition(" ")
        status = int(rest[:3])
    if status in WITHOUT_BODY:
        return status, stays_open(version, headers)
    if "content-length" not in headers and "transfer-encoding" not in headers:
        return status, False  # the end of the connection is that of the body
    try:
        reader.body(headers)
    except Unreadable:
        return status, False
    return status, stays_open(version, headers)


def _connect(place: tuple[str, int]) -> Any:
    connection = socket.create_connection(place)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _open_encrypted(place: tuple[str, int]) -> Line:
    return Line(ssl.create_default_context().wrap_socket(_connect(place), server_hostname=place[0]))
