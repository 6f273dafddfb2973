"""How gunicorn serves our apps: gevent's worker, a time limit for a whole request, and bare refusals.

A connection that waits costs a greenlet and no thread, so that slow ones do not keep honest ones waiting.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from http import HTTPStatus
from socket import SHUT_RD
from typing import Any

import gevent
from gunicorn import util
from gunicorn.http import errors, wsgi
from gunicorn.workers.ggevent import GeventWorker

from orchestrator.events import log, warn
from webhooks.headers import HEADERS

REQUEST_SECONDS = 15.0  # from its first byte to its last
HEAD_BYTES = 32 * 2**10  # the parser looks at all of it again with each piece that comes
UNREAD_BYTES = 64 * 2**10  # of a body that is not read; with more the connection ends
TURN_REQUESTS = 64  # of one connection, which may have sent many; then others have their turn
REST_SECONDS = 0.001

# What gunicorn calls a bad request; it would answer with a page that repeats what was sent.
STATUSES = {
    errors.LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    errors.LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    errors.ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
    errors.ParseException: HTTPStatus.BAD_REQUEST,
}


class Client:
    """A connection. One that is too slow with a request has hung up for good, as its reader sees it."""

    def __init__(self, socket: Any, idle_seconds: float, idle: set[Client]) -> None:
        self.socket = socket
        self._idle_seconds = idle_seconds
        self._idle = idle
        self._until: float | None = None  # of time.monotonic(); None: between two requests
        self._head_bytes: int | None = 0  # None: the head is read
        self._requests = 0
        self.has_hung_up = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.socket, name)

    def recv(self, size: int) -> bytes:
        if self._until is not None:
            return self._receive(size, self._until - time.monotonic())
        self._idle.add(self)
        try:
            return self._receive(size, self._idle_seconds)
        finally:
            self._idle.discard(self)
            self._until = time.monotonic() + REQUEST_SECONDS

    def _receive(self, size: int, seconds: float) -> bytes:
        if self._head_bytes is not None and self._head_bytes > HEAD_BYTES:
            raise errors.LimitRequestHeaders(f"more than {HEAD_BYTES} bytes")
        data = self._data(size, seconds)
        self.has_hung_up = not data
        if self._head_bytes is not None:
            self._head_bytes += len(data)
        return data

    def _data(self, size: int, seconds: float) -> bytes:
        if seconds <= 0 or self.has_hung_up:
            return b""
        self.socket.settimeout(seconds)
        try:
            data: bytes = self.socket.recv(size)
        except TimeoutError:
            return b""
        return data

    def allow(self, seconds: float) -> None:
        """So much time from now on for this request: of somebody who has shown who he is."""
        self._until = time.monotonic() + seconds

    def head_is_read(self) -> None:
        self._head_bytes = None

    def next_request(self) -> None:
        self._until, self._head_bytes = None, 0

    def give_way(self) -> None:
        """Called after each request. Where the next one is there already, nothing else lets others go on."""
        self._requests += 1
        if self._requests % TURN_REQUESTS == 0:
            gevent.sleep(REST_SECONDS)


class Worker(GeventWorker):  # type: ignore[misc]
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._idle: set[Client] = set()

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        super().handle(listener, Client(client, self.cfg.keepalive, self._idle), addr)

    def handle_request(self, listener_name: Any, req: Any, sock: Client, addr: Any) -> None:
        sock.head_is_read()
        super().handle_request(listener_name, req, sock, addr)
        sock.give_way()
        if not self.alive or not _is_read(req.body) or sock.has_hung_up:
            util.close_graceful(sock.socket)  # so that the answer is not lost with what was not read
            raise StopIteration
        sock.next_request()

    def handle_exit(self, sig: Any, frame: Any) -> None:
        super().handle_exit(sig, frame)
        gevent.spawn(self._end_idle)  # no socket is touched within a signal

    def _end_idle(self) -> None:
        """Ends the connections that only wait; what has arrived is still read and answered."""
        for client in list(self._idle):
            with suppress(OSError):
                client.socket.shutdown(SHUT_RD)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        status = next((code for kind, code in STATUSES.items() if isinstance(exc, kind)), None)
        if status is not None:
            warn("request.refused", logger=self.log.error_log, status=int(status), kind=type(exc).__name__)
        elif isinstance(exc, Exception):
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            log(
                "request.failed",
                logging.ERROR,
                logger=self.log.error_log,
                exc_info=True,
                kind=type(exc).__name__,
            )
        else:
            return  # the worker ends
        head = "".join(f"{name}: {text}\r\n" for name, text in HEADERS.items())
        answer = f"HTTP/1.1 {status} {status.phrase}\r\nConnection: close\r\nContent-Length: 0\r\n{head}\r\n"
        with suppress(OSError):
            util.write_nonblock(client, answer.encode())


def _is_read(body: Any) -> bool:
    try:
        return len(body.read(UNREAD_BYTES)) < UNREAD_BYTES
    except Exception:  # what is no body any more
        return False


def _without_banner(response: Any, default_headers: Any = wsgi.Response.default_headers) -> Any:
    return [line for line in default_headers(response) if not line.startswith("Server:")]


wsgi.Response.default_headers = _without_banner
