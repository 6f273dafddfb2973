"""Connections that keep one deadline for a whole call; and those that go only to a public address.

A timeout of a socket is for one read: a peer that sends a byte now and then would hold a thread for ever.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import NameResolutionError, NewConnectionError

from orchestrator.addresses import is_public
from orchestrator.errors import NotPublic

# One that stood idle for longer is not used again: a load balancer on the way may be about to drop it, and a
# POST that meets that may or may not have arrived. AWS: 60 s, where nobody says otherwise (read 2026-11).
# https://docs.aws.amazon.com/elasticloadbalancing/latest/classic/config-idle-timeout.html
IDLE_SECONDS = 50.0
BUFFER_BYTES = 64 * 2**10
PIECE_BYTES = 16 * 2**10  # one TLS record: `sendall` begins its timeout anew with each

_until: ContextVar[float] = ContextVar("until", default=float("inf"))  # of time.monotonic()


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Everything sent to or read from our connections inside ends by then, with TimeoutError."""
    token = _until.set(min(_until.get(), time.monotonic() + seconds))
    try:
        yield
    finally:
        _until.reset(token)


def _set_timeout(sock: socket.socket, most: float | None = None) -> None:
    """Raises: TimeoutError where the time is over."""
    left = _until.get() - time.monotonic()
    if left <= 0:
        raise TimeoutError("the deadline of the call")
    seconds = min(left, most if most is not None else left)
    sock.settimeout(None if seconds == float("inf") else seconds)


class _TimedReader(io.RawIOBase):
    """What a socket brings, each read within what is left of the time."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock, self._raw = sock, sock.makefile("rb", buffering=0)

    def makefile(self, mode: str) -> io.BufferedReader:
        """What a response reads of its socket."""
        return io.BufferedReader(self, BUFFER_BYTES)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        _set_timeout(self._sock)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(_TimedReader(sock), *args, **options)  # type: ignore[arg-type]


class _TimedConnection(HTTPConnection):
    response_class = _TimedResponse
    _used_at = 0.0  # of time.monotonic()

    @property
    def is_connected(self) -> bool:
        """Whether it may be used for one more request."""
        return time.monotonic() < self._used_at + IDLE_SECONDS and super().is_connected

    def request(self, *args: Any, **options: Any) -> None:
        """Head and body go out together: in one system call, and in one packet where they are small."""
        self._used_at = time.monotonic()
        self._written: list[bytes] = []
        super().request(*args, **options)
        view = memoryview(b"".join(self._written))
        self._written.clear()
        if self.sock is None:
            self.connect()
        for start in range(0, len(view), PIECE_BYTES):
            _set_timeout(self.sock)
            self.sock.sendall(view[start : start + PIECE_BYTES])

    def send(self, data: Any) -> None:
        self._written.append(data)


class _TimedTlsConnection(_TimedConnection, HTTPSConnection):
    pass


class _PublicConnection(_TimedConnection):
    """Connects to the very address that was found public: the name is asked for once.

    The certificate is verified against the name, as ever. A connection that is kept stays where it is, so a
    name that gets another address later leads nowhere new.
    """

    def _new_conn(self) -> socket.socket:
        try:
            found = socket.getaddrinfo(self._dns_host, self.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise NameResolutionError(self.host, self, error) from error  # type: ignore[arg-type]
        # One that is not public condemns them all: an honest name has none.
        if not found or not all(is_public(str(place[0])) for *_, place in found):
            raise NotPublic(f"the host {self.host!r} has an address that is not public")
        failed: OSError | None = None
        for family, kind, protocol, _, place in found:
            sock = socket.socket(family, kind, protocol)
            try:
                for option in self.socket_options or ():
                    sock.setsockopt(*option)
                _set_timeout(sock, self.timeout)
                sock.connect(place)
                return sock
            except OSError as error:
                sock.close()
                failed = error
        raise NewConnectionError(self, f"no address of it answers: {failed}")


class _PublicTlsConnection(_PublicConnection, HTTPSConnection):
    pass


class _TimedPool(HTTPConnectionPool):
    ConnectionCls = _TimedConnection


class _TimedTlsPool(HTTPSConnectionPool):
    ConnectionCls = _TimedTlsConnection


class _PublicPool(HTTPConnectionPool):
    ConnectionCls = _PublicConnection


class _PublicTlsPool(HTTPSConnectionPool):
    ConnectionCls = _PublicTlsConnection


ANYWHERE = {"http": _TimedPool, "https": _TimedTlsPool}
PUBLIC = {"https": _PublicTlsPool}
PUBLIC_OR_PLAIN = {"http": _PublicPool, **PUBLIC}
