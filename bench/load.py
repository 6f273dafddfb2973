"""Load on an HTTP server, from a process of its own: `python -m bench.load < ORDER`. Says JSON.

The order is JSON: `port`; `requests`, each a text as it goes over the wire, sent once; `connections`, kept
alive; `rate`, requests a second, or null for as fast as they are answered. At a rate a request's time runs
from the moment it was due, so that a server that stands still is charged for all that came meanwhile.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from collections import Counter
from typing import Any

END = b"\r\n\r\n"  # the answers have no body
ANSWER_BYTES = 65_536
PATIENCE_SECONDS = 30.0


class Load:
    """One run. Answers are read by their head alone."""

    def __init__(self, port: int, requests: list[str], connections: int, rate: float | None) -> None:
        self._requests = [each.encode() for each in requests]
        self._rate = rate
        self._sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]
        for each in self._sockets:
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._free = list(self._sockets)
        self._due: dict[socket.socket, float] = {}
        self._heard: dict[socket.socket, bytes] = {}
        self.seconds: list[float] = []
        self.statuses: Counter[str] = Counter()

    def run(self) -> float:
        """Seconds from the first request to the last answer."""
        begun, sent = time.perf_counter(), 0
        while len(self.seconds) < len(self._requests):
            now = time.perf_counter()
            while sent < len(self._requests) and self._free:
                due = begun + sent / self._rate if self._rate else now
                if due > now:
                    break
                self._send(self._requests[sent], due)
                sent += 1
            wait = PATIENCE_SECONDS
            if self._rate and self._free and sent < len(self._requests):
                wait = max(0.0, begun + sent / self._rate - now)
            ready, _, _ = select.select(list(self._due), [], [], wait)
            if not ready and wait == PATIENCE_SECONDS:
                raise TimeoutError(f"{len(self._due)} requests are not answered")
            for each in ready:
                self._hear(each)
        return time.perf_counter() - begun

    def _send(self, request: bytes, due: float) -> None:
        connection = self._free.pop()
        self._due[connection] = due
        connection.sendall(request)

    def _hear(self, connection: socket.socket) -> None:
        heard = self._heard.pop(connection, b"") + connection.recv(ANSWER_BYTES)
        if not heard:
            raise ConnectionError("the server closed a connection")
        if not heard.endswith(END):
            self._heard[connection] = heard
            return
        self.seconds.append(time.perf_counter() - self._due.pop(connection))
        self.statuses[heard.split(b" ", 2)[1].decode()] += 1
        self._free.append(connection)


def told(order: dict[str, Any]) -> dict[str, Any]:
    load = Load(**order)
    cpu = time.process_time()
    seconds = load.run()
    ascending = sorted(load.seconds)
    return {
        "seconds": seconds,
        "busy": (time.process_time() - cpu) / seconds,  # near 1: the load was the limit, not the server
        "statuses": load.statuses,
        **{f"p{share}_ms": ascending[len(ascending) * share // 100] * 1000 for share in (50, 99)},
    }


if __name__ == "__main__":
    print(json.dumps(told(json.load(sys.stdin))))
