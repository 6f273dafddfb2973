"""An embedded Valkey (or Redis) server of our own: password, append-only file, and no way in from outside.

Its data stay in the folder over restarts. Nothing else in here knows how to speak to it beyond PING.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from orchestrator.local.binary import Binary, find_binary
from orchestrator.local.errors import FolderInUse, ProcessEnded
from orchestrator.local.files import locked, private_folder, take_lock, write_private
from orchestrator.local.guard import Guard
from orchestrator.local.processes import Command, Ended, Processes, free_port

NAME = "valkey"
URL_FILE = "redis.url"
LOG_FILE = "valkey.log"
READY_SECONDS = 60.0  # a large append-only file is read before the first answer
STOP_SECONDS = 10.0
FOLDER_SECONDS = 15.0  # a server whose owner was killed may need 5 s to end
START_SECONDS = FOLDER_SECONDS + READY_SECONDS + 5.0
OWNER_SECONDS = 3.0  # a command that began just before us may be about to end
OWNER_POLL_SECONDS = 0.1
PING_SECONDS = 1.0
PORT_TRIES = 3

CONFIG = """\
bind 127.0.0.1
protected-mode yes
port {port}
requirepass {password}
dir {folder}
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
hash-max-listpack-value 1024
latency-tracking no
daemonize no
"""
LOCKS = """\
enable-debug-command no
enable-module-command no
enable-protected-configs no
"""


class EmbeddedServer:
    """A server that this process owns: it ends with it, whatever ends it. Made by `start`."""

    def __init__(self, folder: Path, port: int, password: str, lock: int, processes: Processes) -> None:
        self.folder = folder
        self.port = port
        self._password = password
        self._lock: int | None = lock
        self._processes = processes

    @classmethod
    def start(cls, folder: Path, *, guard: Guard | None = None, binary: Binary | None = None) -> Self:
        """Starts a server on the folder's data and waits until it answers.

        Raises: `ServerNotFound`; `FolderInUse` while another server has this folder; `ProcessEnded` or
        `NotReady` with the last lines of its log.
        """
        binary = binary or find_binary()
        folder = private_folder(folder)
        # The server inherits the lock and holds it as long as it lives, also when we do not: two servers on
        # the same append-only file would ruin it.
        lock = take_lock(folder / "server.lock", FOLDER_SECONDS)
        processes = Processes(guard)
        try:
            for tries_left in reversed(range(PORT_TRIES)):
                server = cls(folder, free_port(), secrets.token_urlsafe(32), lock, processes)
                try:
                    server._launch(binary)
                    return server
                except ProcessEnded as error:
                    if "in use" not in error.log_tail or not tries_left:
                        raise
            raise AssertionError("unreachable")
        except BaseException:
            processes.stop()
            os.close(lock)
            raise

    @property
    def url(self) -> str:
        """Where it is, password included: never to be logged or put into a command line."""
        return f"redis://:{self._password}@127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """The pid of the server's process."""
        return self._processes.pid(NAME)

    def poll(self) -> list[Ended]:
        """Gives the server's end if it ended by itself, else nothing. Safe to call twice."""
        return self._processes.poll()

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Sends a signal to the server. Safe to call twice."""
        self._processes.kill(NAME, number)

    def restart(self) -> None:
        """Ends the server if it runs; starts it again, same URL, same data. Raises what `start` raises."""
        self._processes.restart(NAME)

    def stop(self) -> None:
        """Ends the server, its data written. Safe to call twice."""
        self._processes.stop()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"EmbeddedServer(redis://:***@127.0.0.1:{self.port}/0, folder={str(self.folder)!r})"

    def _launch(self, binary: Binary) -> None:
        assert self._lock is not None
        config = self.folder / "valkey.conf"
        text = CONFIG.format(port=self.port, password=self._password, folder=_quoted(str(self.folder)))
        write_private(config, text + LOCKS)
        # Read from its standard input, the server does not know the file and cannot be told to rewrite it.
        command = Command(
            name=NAME,
            argv=[str(binary.path), "-"],
            env={"LC_ALL": "C"},
            cwd=self.folder,
            log=self.folder / LOG_FILE,
            ready=lambda: answers(self.url),
            timeout_seconds=READY_SECONDS,
            stop_seconds=STOP_SECONDS,
            stdin=config,
            pass_fds=(self._lock,),
        )
        self._processes.launch(command)
        self._processes.wait(NAME)


def find_or_start(folder: Path, *, guard: Guard | None = None) -> tuple[str, EmbeddedServer | None]:
    """Gives the URL of the folder's server; with it the server itself where this call had to start one.

    Who started it must stop it; for all others it is gone then. Safe to call twice, also by two processes.
    Raises: what `EmbeddedServer.start` raises.
    """
    folder = private_folder(folder)
    with locked(folder / "start.lock", START_SECONDS):
        kept = folder / URL_FILE
        url = kept.read_text(encoding="utf-8").strip() if kept.exists() else ""
        if url and answers(url):
            return url, None
        server = EmbeddedServer.start(folder, guard=guard)
        write_private(kept, server.url + "\n")
        return server.url, server


def start_own(folder: Path, *, guard: Guard | None = None) -> EmbeddedServer:
    """Starts the folder's server for processes that must not lose it; for none but who calls to end.

    A command that has started it, as any does that finds none, is given a few seconds to end.
    Raises: `FolderInUse` where it goes on; what `EmbeddedServer.start` raises.
    """
    give_up_at = time.monotonic() + OWNER_SECONDS
    while True:
        _, server = find_or_start(folder, guard=guard)
        if server:
            return server
        if time.monotonic() > give_up_at:
            raise FolderInUse(
                f"the server in {folder} is that of another command, and ends with it: is `orchestrator up` "
                "running already? If not, end that command (Ctrl-C), and start it again after this one: what "
                "was enqueued is kept"
            )
        time.sleep(OWNER_POLL_SECONDS)


def answers(url: str) -> bool:
    """Tells whether the server of a `redis://` URL takes its password and answers PING within a second."""
    place = urlsplit(url)
    talk = (f"AUTH {place.password}\r\n" if place.password else "") + "PING\r\n"
    try:
        with socket.create_connection((place.hostname or "", place.port or 6379), PING_SECONDS) as connection:
            connection.settimeout(PING_SECONDS)
            connection.sendall(talk.encode())
            with connection.makefile("rb") as replies:
                return b"+PONG\r\n" in [replies.readline() for _ in talk.splitlines()]
    except OSError:
        return False


def _quoted(text: str) -> str:
    """A text as one word of the server's configuration."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
