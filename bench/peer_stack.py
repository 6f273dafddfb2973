"""A peer at work: a server, a simulator and its own processes, all fresh, in its own environment."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import requests

from bench.batch import Ran
from bench.contestants import PYTHON, READY, Peer
from bench.sampler import Sampler
from bench.stack import FRAMES, REPOSITORY, Place, Setup, folder_of
from bench.usage import CLIENT, Usage, spent, usage_of
from orchestrator.environment import environment
from orchestrator.local.errors import LocalError
from orchestrator.local.guard import Guard
from orchestrator.local.processes import Command, Processes, free_port, http_answers
from orchestrator.local.valkey import EmbeddedServer
from orchestrator.simulator.options import Seconds

SIMULATOR, THEIRS = "simulator", "their client"
SIMULATOR_COMMAND = (sys.executable, "-m", "orchestrator.simulator", "--port")
READY_SECONDS = 60.0
OVER_SECONDS = 30.0  # beyond a client's own patience


class PeerRunning:
    """A peer whose processes run, its client among them. `groups`: process group by name."""

    def __init__(
        self,
        setup: Setup,
        place: Place,
        simulator: str,
        client: subprocess.Popen[str],
        groups: dict[str, int],
    ) -> None:
        self._setup = setup
        self._place = place
        self._simulator = simulator
        self._client = client
        self._groups = groups
        self._next = 0

    def run(self, jobs: int) -> Ran:
        """Have a batch run. What is measured is the same as of ours; the client is a process of its own."""
        before = self._usage()
        with Sampler(f"{self._simulator}/__stats__") as sampler:
            begun = time.monotonic()
            counts = self._ask(jobs)
            seconds = time.monotonic() - begun
            after = self._usage()
        total = requests.get(f"{self._simulator}/__stats__", timeout=30).json()["total"]
        return Ran(jobs, seconds, counts, total, sampler.samples, spent(before, after))

    def warm(self, jobs: int) -> None:
        """As ours does before it is measured."""
        if jobs:
            self._ask(jobs)
            requests.post(f"{self._simulator}/__reset__", timeout=30).raise_for_status()

    def _ask(self, jobs: int) -> dict[str, int]:
        assert self._client.stdin is not None
        patience = self._setup.patience(jobs, self._place.scale)
        order = {"first": self._next, "jobs": jobs, "patience": patience}
        self._next += jobs
        self._client.stdin.write(json.dumps(order) + "\n")
        self._client.stdin.flush()
        return {**json.loads(_line(self._client, patience + OVER_SECONDS)), "cancelled": 0}

    def _usage(self) -> dict[str, Usage]:
        usages = usage_of({**self._groups, THEIRS: self._client.pid}, aside=0.0)
        usages[CLIENT] = usages.pop(THEIRS)  # this process only measures
        return usages


@contextmanager
def peer_started(peer: Peer, setup: Setup, place: Place) -> Iterator[PeerRunning]:
    """Everything of a peer, ready. Raises: `LocalError` and its kinds."""
    with (
        folder_of(place) as folder,
        closing(Guard()) as guard,
        EmbeddedServer.start(folder / "valkey", guard=guard) as server,
        Processes(guard) as processes,
    ):
        port, callback_port = free_port(), free_port()
        simulator = f"http://127.0.0.1:{port}"
        processes.launch(
            Command(
                SIMULATOR,
                (*SIMULATOR_COMMAND, str(port), *setup.simulator_arguments(place.scale)),
                environment(), REPOSITORY, folder / "simulator.log",
                lambda: http_answers(port, "/__stats__"), READY_SECONDS,
            )
        )  # fmt: skip
        environ = _environ(peer, setup, place, server.url, simulator, callback_port)
        for command in _commands(peer, environ, folder, callback_port):
            processes.launch(command)
        for name in (SIMULATOR, *peer.processes):
            processes.wait(name)
        groups = {name: processes.pid(name) for name in (*peer.processes, SIMULATOR)}
        if peer.processes:
            groups["valkey"] = server.pid
        with _client(peer, environ, folder) as client:
            yield PeerRunning(setup, place, simulator, client, groups)


def _environ(
    peer: Peer, setup: Setup, place: Place, server: str, simulator: str, callback_port: int
) -> dict[str, str]:
    """What a peer is told, in `bench/peers/work.py`'s words."""
    seconds = Seconds.parse(setup.seconds)
    usual = ((seconds.low or 0.0) + (seconds.high or 0.0)) / 2 * place.scale
    return {
        **environment(),
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONUNBUFFERED": "1",
        "PEER_REDIS_URL": server,
        "PEER_SIMULATOR": simulator,
        "PEER_TOKEN": "user:0-peer",
        "PEER_EMAILS": ",".join(setup.emails) if setup.provider == FRAMES else "",
        "PEER_SLOTS": str(setup.slots),
        "PEER_SECONDS": str(usual),
        "PEER_CONCURRENCY": str(peer.concurrency(setup.all_slots)),
        "PEER_CALLBACK_PORT": str(callback_port),
    }


def _commands(peer: Peer, environ: dict[str, str], folder: Path, port: int) -> Iterator[Command]:
    places = {"module": peer.module, "concurrency": environ["PEER_CONCURRENCY"], "port": port}
    for name, words in peer.processes.items():
        log = folder / f"{name}.log"
        argv = (str(PYTHON), "-m", *(word.format(**places) for word in words))
        ready = {"receiver": lambda: http_answers(port, "/healthz")}.get(name, _says(log, READY))
        yield Command(name, argv, environ, REPOSITORY, log, ready, READY_SECONDS)


def _says(log: Path, words: str) -> Any:
    return lambda: words in log.read_text(encoding="utf-8", errors="replace")


@contextmanager
def _client(peer: Peer, environ: dict[str, str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Its own process group, ended with this. Raises: `LocalError` where it does not become ready."""
    with (folder / "client.log").open("w") as log, subprocess.Popen(
        [str(PYTHON), "-m", "bench.peers", peer.module], cwd=REPOSITORY, env=environ, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True,
    ) as client:  # fmt: skip
        try:
            _line(client, READY_SECONDS)
            yield client
        finally:
            client.kill()


def _line(client: subprocess.Popen[str], seconds: float) -> str:
    """What it says next. Raises: `LocalError` where it ends, or says nothing for so long."""
    assert client.stdout is not None
    alarm = threading.Timer(seconds, client.kill)
    alarm.start()
    try:
        said = client.stdout.readline()
    finally:
        alarm.cancel()
    if not said:
        raise LocalError("the client of a peer ended before its work: see client.log with --folder")
    return said
