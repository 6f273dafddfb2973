"""The heartbeat of a real worker and a real ticker, and the health check that looks at it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from celery import Celery

from orchestrator.broker import FINISH_QUEUE, TICK
from orchestrator.local.processes import Command, Processes
from orchestrator.local.stack import PYTHON
from orchestrator.local.valkey import EmbeddedServer
from tests.crashing import SILENT
from tests.stack_kit import PATIENCE, REPOSITORY, eventually

CHECK = (sys.executable, "-IS", str(REPOSITORY / "deploy" / "healthcheck.py"))
SILENT_AT_LEAST_SECONDS = 8 * 0.5  # looks between the first silent one and the last, in tests.crashing


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[EmbeddedServer]:
    with EmbeddedServer.start(tmp_path_factory.mktemp("valkey")) as made:
        yield made


@pytest.fixture
def beats(tmp_path) -> Path:
    return tmp_path / "heartbeat"


@pytest.fixture
def run(server, beats, tmp_path) -> Iterator[Processes]:
    with Processes() as processes:

        def start(*celery: str) -> Processes:
            own = {"ORCHESTRATOR_REDIS_URL": server.url, "ORCHESTRATOR_HEARTBEAT": str(beats)}
            environ = {**os.environ, **own, "CRASH_FOLDER": str(tmp_path)}
            argv = (*PYTHON, "celery", *celery)
            processes.launch(Command("part", argv, environ, REPOSITORY, tmp_path / "log"))
            eventually(beats.exists, "the first beat")
            return processes

        yield start


def beat_again(beats: Path) -> None:
    last = beats.stat().st_mtime_ns
    eventually(lambda: beats.stat().st_mtime_ns > last, "another beat")


def checked(*arguments: str, heartbeat: Path | str = "") -> tuple[int, str]:
    environ = {"PATH": os.environ["PATH"], "ORCHESTRATOR_HEARTBEAT": str(heartbeat)}
    done = subprocess.run([*CHECK, *arguments], env=environ, capture_output=True, text=True, timeout=PATIENCE)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout


def test_worker_beats_until_messages_wait_that_it_is_not_brought(run, beats, server, tmp_path):
    parts = run("-A", "tests.crashing", "worker", "--loglevel=INFO", "-Q", FINISH_QUEUE)
    beat_again(beats)
    assert checked("heartbeat", heartbeat=beats)[0] == 0
    (tmp_path / SILENT).touch()
    eventually(lambda: not (tmp_path / SILENT).exists())
    with Celery(broker=server.url) as app:
        for _ in range(3):  # one it may be brought yet: it had asked before
            app.send_task(TICK, queue=FINISH_QUEUE, ignore_result=True)
    (ended,) = eventually(parts.poll)
    assert ended.exit_code == 75
    said = (tmp_path / "log").stat().st_mtime
    assert said - beats.stat().st_mtime >= SILENT_AT_LEAST_SECONDS


def test_ticker_beats_only_while_redis_tells_it_what_is_due(run, beats, server, tmp_path):
    run("-A", "workers", "beat", "--pidfile=")
    beat_again(beats)
    server.kill()
    eventually(server.poll)
    gone_at = time.time()
    eventually(lambda: "Error" in (tmp_path / "log").read_text(), "the ticker has noticed")
    assert beats.stat().st_mtime <= gone_at
    server.restart()
    beat_again(beats)


def test_check_of_a_heartbeat_that_is_old_or_never_was(beats):
    assert checked("heartbeat", heartbeat=beats) == (1, "No such file or directory\n")
    beats.touch()
    assert checked("heartbeat", heartbeat=beats)[0] == 0
    os.utime(beats, times=(0, time.time() - 60))
    assert checked("heartbeat", heartbeat=beats) == (1, "the last heartbeat was 60 s ago\n")


def test_check_of_a_door(run):
    class Door(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response({"/readyz": 200}.get(self.path, 503))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Door) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        port = str(server.server_port)
        assert checked("http", port, "/readyz") == (0, "HTTP/1.0 200 OK\n")
        assert checked("http", port, "/other") == (1, "HTTP/1.0 503 Service Unavailable\n")
        server.shutdown()
    assert checked("http", port, "/readyz") == (1, "Connection refused\n")
