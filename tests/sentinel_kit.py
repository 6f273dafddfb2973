"""Valkey servers and a sentinel of the tests' own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import redis

from orchestrator.local.binary import find_binary
from orchestrator.local.processes import Command, Processes, free_port
from tests.stack_kit import eventually

PASSWORD = "a-password-that-must-never-show"
SENTINEL_PASSWORD = "another-that-must-never-show"
MASTER = "pictures"
SERVER = f"""\
bind 127.0.0.1
requirepass {PASSWORD}
masterauth {PASSWORD}
appendonly yes
save ""
repl-diskless-sync-delay 0
"""
SENTINEL = f"""\
bind 127.0.0.1
requirepass {SENTINEL_PASSWORD}
sentinel monitor {MASTER} 127.0.0.1 {{port}} 1
sentinel auth-pass {MASTER} {PASSWORD}
sentinel down-after-milliseconds {MASTER} 1000
sentinel failover-timeout {MASTER} 3000
"""


def answering(port: int, password: str) -> Callable[[], bool]:
    def answers() -> bool:
        try:
            with redis.Redis(port=port, password=password) as client:
                return bool(client.ping())
        except redis.exceptions.ConnectionError:
            return False

    return answers


def launch(processes: Processes, folder: Path, name: str, text: str, password: str, *words: str) -> int:
    """Starts a server of this configuration, and gives its port."""
    port = free_port()
    home = folder / name
    home.mkdir()
    config = home / "server.conf"
    config.write_text(f"port {port}\ndir {home}\n{text}")
    argv = (str(find_binary().path), str(config), *words)
    processes.launch(Command(name, argv, {}, home, home / "log", answering(port, password)))
    return port


def await_replica(sentinel_port: int) -> None:
    """A sentinel asks for the replicas every 10 s: one that it does not know is promoted by nobody."""
    with redis.Redis(port=sentinel_port, password=SENTINEL_PASSWORD, decode_responses=True) as sentinel:
        eventually(
            lambda: any(each["master-link-status"] == "ok" for each in sentinel.sentinel_slaves(MASTER)),
            "the sentinel knows the replica",
        )


@contextmanager
def watched(folder: Path) -> Iterator[tuple[Processes, Mapping[str, int]]]:
    """A master, its replica and a sentinel: the processes and their ports, by name."""
    with Processes() as processes:
        ports = {"first": launch(processes, folder, "first", SERVER, PASSWORD)}
        follows = f"{SERVER}replicaof 127.0.0.1 {ports['first']}\n"
        ports["second"] = launch(processes, folder, "second", follows, PASSWORD)
        text = SENTINEL.format(port=ports["first"])
        ports["sentinel"] = launch(processes, folder, "sentinel", text, SENTINEL_PASSWORD, "--sentinel")
        for name in ports:
            processes.wait(name)
        await_replica(ports["sentinel"])
        yield processes, ports
