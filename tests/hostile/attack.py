"""Sends hostile requests over raw sockets, holds slow connections open, and knocks honestly meanwhile."""

from __future__ import annotations

import http.client
import random
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.hostile.forge import REPLAY, Forger, Hostile, Spoils

ANSWER_SECONDS = 10.0
STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.I)
SILENT, DROPPED = "no answer in time", "hung up"


@dataclass
class Figures:
    """What was sent, and what became of it."""

    answers: Counter[tuple[str, str]] = field(default_factory=Counter)  # (kind, status or what else)
    honest: Counter[str] = field(default_factory=Counter)
    honest_seconds: list[float] = field(default_factory=list)
    slow_opened: int = 0
    slow_ended: int = 0
    seconds: float = 0.0
    rss_before: int = 0  # bytes, of all processes of the receiver
    rss_after: int = 0
    log_lines: int = 0
    replays_noted: int = 0

    @property
    def sent(self) -> int:
        return sum(count for (_, status), count in self.answers.items() if not status.startswith("+"))

    def of(self, what: Callable[[str], bool]) -> int:
        return sum(count for (_, status), count in self.answers.items() if what(status.lstrip("+")))

    @property
    def accepted(self) -> int:
        """Without replays: each is answered as it was to the provider, which may not have heard that."""
        return sum(
            count
            for (kind, status), count in self.answers.items()
            if kind != REPLAY and status.lstrip("+").startswith("2")
        )

    @property
    def server_errors(self) -> int:
        return self.of(lambda status: status.startswith("5"))


class Sender:
    """One connection after the other, each used until the receiver ends it."""

    def __init__(self, port: int, figures: Figures, lock: threading.Lock) -> None:
        self._port, self._figures, self._lock = port, figures, lock
        self._socket: socket.socket | None = None

    def send(self, hostile: Hostile) -> None:
        fresh = self._socket is None
        statuses = self._exchange(hostile)
        if statuses == [DROPPED] and not fresh:  # it had ended before, perhaps
            statuses = self._exchange(hostile)
        with self._lock:
            for place, status in enumerate(statuses):
                self._figures.answers[hostile.kind, f"+{status}" if place else status] += 1

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _exchange(self, hostile: Hostile) -> list[str]:
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), ANSWER_SECONDS)
        connection, data = self._socket, b""
        try:
            try:
                connection.sendall(hostile.data)
                if hostile.last:
                    connection.shutdown(socket.SHUT_WR)
            except TimeoutError:
                raise
            except OSError:
                pass  # it answers, and hangs up, before it has read all
            while hostile.last or not _is_whole(data):
                more = connection.recv(65536)
                if not more:
                    break
                data += more
        except TimeoutError:
            self.close()
            return [SILENT]
        except OSError:
            pass  # what came before that was read
        if hostile.last or not _is_whole(data):
            self.close()
        return [found.decode() for found in STATUS.findall(data)] or [DROPPED]


def _is_whole(data: bytes) -> bool:
    head, end, body = data.partition(b"\r\n\r\n")
    length = LENGTH.search(head + b"\r\n")
    return bool(end) and len(body) >= (int(length[1]) if length else 0)


class Slow(threading.Thread):
    """Holds connections open by a byte a second, and opens one anew where it was ended."""

    def __init__(
        self, port: int, count: int, reference: str, over: threading.Event, figures: Figures
    ) -> None:
        super().__init__()
        head = b"POST /callbacks/useapi_frames/%b HTTP/1.1\r\nHost: x\r\n" % reference.encode()
        self._begins = (head + b"X-Slow: ", head + b"Content-Length: 100000\r\n\r\n{")
        self._port, self._count, self._over, self._figures = port, count, over, figures
        self.held = threading.Event()

    def run(self) -> None:
        connections = [self._open(number) for number in range(self._count)]
        self.held.set()
        while not self._over.wait(1):
            for number, connection in enumerate(connections):
                try:
                    connection.sendall(b"x")
                    connection.setblocking(False)
                    ended = connection.recv(4096) == b""
                except BlockingIOError:
                    ended = False
                except OSError:
                    ended = True
                connection.settimeout(ANSWER_SECONDS)
                if ended:
                    self._figures.slow_ended += 1
                    connection.close()
                    connections[number] = self._open(number)
        for connection in connections:
            connection.close()

    def _open(self, number: int) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self._port), ANSWER_SECONDS)
        connection.sendall(self._begins[number % len(self._begins)])
        self._figures.slow_opened += 1
        return connection


class Honest(threading.Thread):
    """Sends genuine callbacks, one after the other, until it is over."""

    PAUSE_SECONDS = 0.02

    def __init__(
        self,
        port: int,
        make: Callable[[int], tuple[str, bytes, dict[str, str]]],
        over: threading.Event,
        figures: Figures,
    ) -> None:
        super().__init__()
        self._port, self._make, self._over, self._figures = port, make, over, figures

    def run(self) -> None:
        number = 0
        while not self._over.wait(self.PAUSE_SECONDS):
            path, body, headers = self._make(number)
            number += 1
            began = time.monotonic()
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_SECONDS)
            try:
                connection.request("POST", path, body, headers)
                status = str(connection.getresponse().status)
            except (OSError, http.client.HTTPException) as error:
                status = type(error).__name__
            connection.close()
            self._figures.honest[status] += 1
            self._figures.honest_seconds.append(time.monotonic() - began)


def resident_bytes(pid: int) -> int:
    """Of a process and its children; 0 where this system does not tell."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        pages = [int(Path(f"/proc/{each}/statm").read_text().split()[1]) for each in (str(pid), *children)]
    except OSError:
        return 0
    return sum(pages) * 4096


def attack(
    *,
    port: int,
    pid: int,
    requests: int,
    seed: int,
    spoils: Spoils,
    honest: Callable[[int], tuple[str, bytes, dict[str, str]]],
    senders: int = 8,
    slow: int = 200,
) -> Figures:
    """Memory is taken when a tenth of the requests was sent, and at the end."""
    figures, lock, over = Figures(), threading.Lock(), threading.Event()
    left, began = iter(range(requests)), time.monotonic()

    def run(name: int) -> None:
        forger = Forger(random.Random(f"{seed}/{name}"), spoils, time.time)
        sender = Sender(port, figures, lock)
        while True:
            with lock:
                number = next(left, None)
            if number is None:
                return sender.close()
            if number == requests // 10:
                figures.rss_before = resident_bytes(pid)
            sender.send(forger.next())

    beside = [
        Slow(port, slow, spoils.waiting[0].reference, over, figures),
        Honest(port, honest, over, figures),
    ]
    for thread in beside:
        thread.start()
    beside[0].held.wait(30)  # type: ignore[union-attr]
    threads = [threading.Thread(target=run, args=(name,)) for name in range(senders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    figures.seconds = time.monotonic() - began
    over.set()
    for each in beside:
        each.join()
    figures.rss_after = resident_bytes(pid)
    return figures
