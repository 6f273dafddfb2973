"""A short attack on the receiver; `make hostile` is the long one."""

from __future__ import annotations

import random
import signal
import socket
from pathlib import Path

from tests.hostile.__main__ import faults
from tests.hostile.forge import Forger, Spoils, Waiting
from tests.hostile.scene import scene
from tests.stack_kit import eventually
from webhooks.gunicorn_conf import graceful_timeout

REQUESTS = 3_000
LINES = 400  # of thousands of refusals


def test_nothing_hostile_is_taken_and_everything_honest_is(tmp_path: Path) -> None:
    with scene(tmp_path) as here:
        figures = here.attack(REQUESTS, seed=1)
        assert faults(figures) == []
        assert figures.sent == REQUESTS
        assert len({kind for kind, _ in figures.answers}) == 11
        assert here.untouched()
        assert here.settle()
        assert figures.log_lines < LINES
        log = here.stack.log("receiver").read_text()
        assert "Traceback" not in log
        assert "MonkeyPatchWarning" not in log  # gevent came first
        assert not any(one.reference in log for one in here.waiting)
        with socket.create_connection(("127.0.0.1", here.stack.receiver_port)) as idle:
            idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert idle.recv(4096).startswith(b"HTTP/1.1 200 ")
            here.stack.processes.kill("receiver", signal.SIGTERM)
            (ended,) = eventually(here.stack.poll, "it ends", graceful_timeout - 5)
            assert ended.exit_code == 0  # a connection that only waits does not keep it


def test_the_same_seed_makes_the_same_attack() -> None:
    spoils = Spoils([Waiting("j.1", "a", "u", "QUJD.REVG")], "QUJD.REVG", [b"POST / HTTP/1.1\r\n\r\n"])

    def first(seed: int) -> list[bytes]:
        forger = Forger(random.Random(seed), spoils, lambda: 1_800_000_000.0)
        return [forger.next().data for _ in range(500)]

    assert first(7) == first(7) != first(8)
