"""A RabbitMQ of the tests' own: name, ports and folder are its own, and it ends with the test."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.local.processes import Command, Processes, free_port

PASSWORD = "rabbit-password-that-must-never-show"
START_SECONDS = 120.0
SCRIPTS = Path("/usr/lib/rabbitmq/bin")  # not Debian's wrappers, which would run them as another user


def missing() -> str:
    """Why there can be none here; empty where there can."""
    if not (SCRIPTS / "rabbitmq-server").exists():
        return "no rabbitmq-server here: `apt-get install rabbitmq-server`"
    return "" if shutil.which("erl") else "no Erlang here"


class Rabbit:
    """`restart` ends it as an operator does, and starts it again with its data."""

    def __init__(self, folder: Path, processes: Processes) -> None:
        self._processes = processes
        self._port, distribution, mapper = free_port(), free_port(), free_port()
        self._environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),  # of the cookie
            "RABBITMQ_NODENAME": f"orchestrator-{self._port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self._port),
            "RABBITMQ_DIST_PORT": str(distribution),
            "ERL_EPMD_PORT": str(mapper),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "logs"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
            "RABBITMQ_SERVER_START_ARGS": "-start_epmd false",
        }
        (folder / "plugins").write_text("[].\n")
        (folder / "rabbitmq.conf").write_text(f"default_user = pictures\ndefault_pass = {PASSWORD}\n")
        self._folder = folder

    @property
    def url(self) -> str:
        return f"amqp://pictures:{PASSWORD}@127.0.0.1:{self._port}//"

    def start(self) -> None:
        epmd = ("epmd", "-port", self._environ["ERL_EPMD_PORT"], "-address", "127.0.0.1")
        self._processes.launch(Command("epmd", epmd, self._environ, self._folder, self._folder / "epmd.log"))
        argv = (str(SCRIPTS / "rabbitmq-server"),)
        log = self._folder / "server.log"
        self._processes.start(
            "rabbit", argv, env=self._environ, cwd=self._folder, log=log,
            ready=self._answers, timeout_seconds=START_SECONDS,
        )  # fmt: skip

    def restart(self) -> None:
        self._processes.restart("rabbit")

    def lengths(self) -> dict[str, int]:
        """Queue → messages in it, those included that a worker has taken."""
        argv = [str(SCRIPTS / "rabbitmqctl"), "-q", "list_queues", "name", "messages", "--no-table-headers"]
        told = subprocess.run(argv, env=self._environ, capture_output=True, text=True, check=True, timeout=60)
        rows = (line.split("\t") for line in told.stdout.splitlines())
        return {name: int(count) for name, count in rows}

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=2) as sock:
                sock.settimeout(2)
                sock.sendall(b"AMQP\x00\x00\x09\x01")
                return bool(sock.recv(7))
        except OSError:
            return False


@contextmanager
def rabbit_in(folder: Path) -> Iterator[Rabbit]:
    with Processes() as processes:
        made = Rabbit(folder, processes)
        made.start()
        yield made
