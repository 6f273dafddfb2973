"""The HTTP API as it stands on the network: the real gunicorn, with two keys, against a stack's Redis."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from orchestrator.local.processes import free_port, http_answers
from orchestrator.local.valkey import EmbeddedServer
from tests.stack_kit import PATIENCE, REPOSITORY, eventually

ACME, GLOBEX = "acme-0123456789-0123456789-0123456789", "globex-0123456789-0123456789-012345678"
KEYS = f"acme:{ACME},globex:{GLOBEX}"
CONFIGURATION = "python:webhooks.api.gunicorn_conf"
ACCOUNT = """
[[accounts]]
provider = "{name}"
name = "only"
token = "env:TOKEN"
max_jobs = 1
base_url = "http://127.0.0.1:9"
"""
GUNICORN = (sys.executable, "-m", "gunicorn", "-c", CONFIGURATION, "--access-logfile", "-")


@dataclass
class Api:
    """A running API, and who asks it."""

    url: str
    key: str = ACME
    process: subprocess.Popen[bytes] | None = None
    log: Path | None = None

    def of(self, key: str) -> Api:
        return Api(self.url, key)

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.key}", **options.pop("headers", {})}
        return requests.request(method, self.url + path, headers=headers, timeout=PATIENCE, **options)

    def upload(self, lines: Any, **query: Any) -> requests.Response:
        headers = {"Content-Type": "application/x-ndjson"}
        return self.ask("POST", "/batches", params=query, data=lines, headers=headers)

    def kill(self) -> None:
        """At once, and all of its processes."""
        assert self.process
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def serving(environ: Mapping[str, str], folder: Path, workers: int = 1) -> Iterator[Api]:
    port, log = free_port(), folder / "api.log"
    command = [*GUNICORN, "--bind", f"127.0.0.1:{port}", "--workers", str(workers)]
    with log.open("ab") as out:
        process = subprocess.Popen(
            command,
            env={**os.environ, "ORCHESTRATOR_API_KEYS": KEYS, **environ},
            cwd=REPOSITORY,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        eventually(lambda: http_answers(port, "/healthz") or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield Api(f"http://127.0.0.1:{port}", ACME, process, log)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(PATIENCE)


@contextmanager
def waiting(folder: Path) -> Iterator[Api]:
    """An API with a Redis of its own, and no worker that takes what is enqueued."""
    accounts = folder / "accounts.toml"
    names = ("useapi_frames", "freepik_runway", "runway")
    accounts.write_text("".join(ACCOUNT.format(name=name) for name in names))
    with EmbeddedServer.start(folder / "valkey") as server:
        environ = {
            "ORCHESTRATOR_REDIS_URL": server.url,
            "ORCHESTRATOR_ACCOUNTS": str(accounts),
            "ORCHESTRATOR_ARTIFACTS": "none",
            "TOKEN": "a-token-that-goes-nowhere",
        }
        with serving(environ, folder) as made:
            yield made
