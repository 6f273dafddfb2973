"""A receiver of our own with all behind it, jobs that await their callbacks, and how they must end."""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from orchestrator import Orchestrator
from orchestrator.client import Job
from orchestrator.local.stack import Stack, StackOptions
from orchestrator.models import Secret
from orchestrator.signatures import Reference, sign_reference
from orchestrator.store.journal import KEPT_PARKED
from tests.hostile.attack import Figures, attack
from tests.hostile.forge import SIGNED, SIGNED_ACCOUNT, UNSIGNED, Spoils, Waiting, signed

REPOSITORY = Path(__file__).parents[2]
JOBS = 4
PATIENCE = 60.0
REPLAYS = 50
SIGNING_SECRET = "a-signing-secret-of-the-attack-alone"
ACCOUNTS = """
[[accounts]]
provider = "useapi_frames"
name = "studio-1"
token = "env:SIMULATOR_TOKEN"
email = "studio-1@example.com"
max_jobs = 5
base_url = "{simulator}/v1/runwayml"
deadline_seconds = 7200

[[accounts]]
provider = "freepik_runway"
name = "sig-1"
token = "env:SIMULATOR_TOKEN"
signing_secret = "env:SIGNING_SECRET"
base_url = "{simulator}"
"""


@dataclass
class Scene:
    stack: Stack
    orchestrator: Orchestrator
    jobs: list[Job]
    waiting: list[Waiting]
    reference: Callable[[], str]  # the next one of the signing provider's, of an attempt that nobody knows
    signed_deliveries: int = 0  # of this scene's; each is parked, as nobody knows its attempt

    def attack(self, count: int, seed: int) -> Figures:
        delivered = [self._deliver(uuid.uuid4().hex) for _ in range(REPLAYS)]
        log = self.stack.log("receiver")
        lines = log.read_bytes().count(b" WARNING ")
        figures = attack(
            port=self.stack.receiver_port,
            pid=self.stack.processes.pid("receiver"),
            requests=count,
            seed=seed,
            spoils=Spoils(self.waiting, self.reference(), delivered),
            honest=self._honest,
        )
        figures.log_lines = log.read_bytes().count(b" WARNING ") - lines
        parked = self.orchestrator.flow.store.journal.recent(KEPT_PARKED, parked=True)
        noted = sum(entry.provider == SIGNED for entry in parked)
        figures.replays_noted = noted - self.signed_deliveries
        return figures

    def untouched(self) -> bool:
        """Whether every job still awaits its one generation."""
        states = [(job.state, job.record.attempts) for job in self.jobs]
        return states == [("submitted", 1)] * len(self.jobs)

    def settle(self) -> bool:
        """Whether the genuine callback of each still works."""
        for one in self.waiting:
            body = {"taskId": one.upstream_id, "status": "FAILED", "replyRef": one.reference}
            body["error"] = {"reason": "SAFETY.INPUT.TEXT", "errorMessage": "no"}
            address = f"{self.stack.receiver_url}/callbacks/{UNSIGNED}/{one.reference}"
            assert requests.post(address, json=body, timeout=10).status_code == 204
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and any(job.state != "failed" for job in self.jobs):
            time.sleep(0.05)
        return all(job.state == "failed" and job.record.attempts == 1 for job in self.jobs)

    def _honest(self, number: int) -> tuple[str, bytes, dict[str, str]]:
        if number % 2:
            one = self.waiting[number % len(self.waiting)]
            body = {"taskId": one.upstream_id, "status": "RUNNING", "replyRef": one.reference}
            return f"/callbacks/{UNSIGNED}/{one.reference}", json.dumps(body).encode(), {}
        head, _, raw_body = self._signed(uuid.uuid4().hex).partition(b"\r\n\r\n")
        line, *lines = head.decode().split("\r\n")
        headers = dict(each.split(": ", 1) for each in lines)
        return line.split(" ")[1], raw_body, headers

    def _signed(self, delivery: str) -> bytes:
        self.signed_deliveries += 1
        body = json.dumps({"task_id": "task-1", "status": "IN_PROGRESS", "generated": []}).encode()
        return signed(self.reference(), body, delivery, time.time(), SIGNING_SECRET.encode())

    def _deliver(self, delivery: str) -> bytes:
        """A genuine delivery that is taken; the attacker has seen it."""
        data = self._signed(delivery)
        with socket.create_connection(("127.0.0.1", self.stack.receiver_port), 10) as connection:
            connection.sendall(data)
            answer = connection.recv(4096)
        assert answer.startswith(b"HTTP/1.1 204 "), answer
        return data


@contextmanager
def scene(folder: Path) -> Iterator[Scene]:
    accounts = folder / "accounts.toml"
    secrets = {"SIMULATOR_TOKEN": "user:1-a-token", "SIGNING_SECRET": SIGNING_SECRET}
    options = StackOptions(
        accounts=accounts,
        artifacts="none",
        cwd=REPOSITORY,
        environ={**os.environ, **secrets},
        flower=False,
        simulator_arguments=("--scale", "0.1"),
    )
    stack = Stack(folder / "run", options)
    accounts.write_text(ACCOUNTS.format(simulator=stack.simulator_url), encoding="utf-8")
    with stack, pytest.MonkeyPatch.context() as patch:
        for name, value in {**stack.environment, **secrets}.items():
            patch.setenv(name, value)
        with Orchestrator.from_env() as orchestrator:
            keys = [Secret(stack.environment["ORCHESTRATOR_SECRET_KEYS"])]
            jobs = [orchestrator.enqueue(UNSIGNED, {"text_prompt": f"{n} [forever]"}) for n in range(JOBS)]
            waiting = [_submitted(orchestrator, job, keys) for job in jobs]
            yield Scene(stack, orchestrator, jobs, waiting, lambda: _unknown(keys))


def _unknown(keys: list[Secret]) -> str:
    """Of an attempt that nobody knows: what it brings is taken, and changes nothing."""
    return sign_reference(SIGNED, Reference(f"{uuid.uuid4()}.1", SIGNED_ACCOUNT), keys)


def _submitted(orchestrator: Orchestrator, job: Job, keys: list[Secret]) -> Waiting:
    deadline = time.monotonic() + PATIENCE
    while not (attempt := orchestrator.flow.store.attempt(f"{job.id}.1")) or attempt.state != "submitted":
        assert time.monotonic() < deadline, f"{job.id} is not submitted"
        time.sleep(0.02)
    reference = sign_reference(UNSIGNED, Reference(attempt.id, attempt.account), keys)
    return Waiting(attempt.id, attempt.account, str(attempt.upstream_id), reference)
