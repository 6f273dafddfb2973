"""A group of child processes: started one by one, waited for, watched, and stopped in reverse order.

Every child is guarded (`guard.py`), writes to a log of its own (0600, the log of the run before is kept as
`<log>.1`) and leads a process group, so that its own children go with it.
"""

from __future__ import annotations

import http.client
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from orchestrator.local.errors import LocalError, NotReady, ProcessEnded
from orchestrator.local.files import log_tail
from orchestrator.local.guard import Guard

POLL_SECONDS = 0.02
# Below what Linux and macOS give to outgoing connections, so that none of those takes a port we chose.
PORTS = range(20_000, 32_000)
_given_ports: set[int] = set()


@dataclass(frozen=True)
class Command:
    """How to run a child. `ready` is asked until it says yes; without it the child counts as ready at once.

    `stop_seconds` is the time from SIGTERM to SIGKILL.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(repr=False)
    cwd: Path
    log: Path
    ready: Callable[[], bool] | None = None
    timeout_seconds: float = 30.0
    stop_seconds: float = 10.0
    stdin: Path = Path(os.devnull)
    pass_fds: Sequence[int] = ()


@dataclass(frozen=True)
class Ended:
    """A child that ended though nobody stopped it. A negative exit code is the signal that ended it."""

    name: str
    exit_code: int
    log_tail: str


@dataclass
class _Child:
    command: Command
    process: subprocess.Popen[bytes]
    swept: bool = False


class Processes:
    """Children by name, in the order of their start; a context manager stops them. Not thread-safe."""

    def __init__(self, guard: Guard | None = None) -> None:
        self._guard = guard or Guard()
        self._owns_guard = guard is None
        self._children: dict[str, _Child] = {}

    def start(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        log: Path,
        ready: Callable[[], bool] | None = None,
        timeout_seconds: float = 30.0,
    ) -> None:
        """Starts a child and waits until it is ready. Raises what `launch` and `wait` raise."""
        self.launch(Command(name, argv, env, cwd, log, ready, timeout_seconds))
        self.wait(name)

    def launch(self, command: Command) -> None:
        """Starts a child without waiting for it. Raises: `LocalError` where its name is taken; `OSError`."""
        if command.name in self._children:
            raise LocalError(f"{command.name} was started before")
        self._children[command.name] = _Child(command, self._spawn(command))

    def wait(self, name: str) -> None:
        """Waits until a launched child is ready; otherwise ends and forgets it. Safe to call twice.

        Raises: `ProcessEnded`, `NotReady`, both with the last lines of its log.
        """
        child = self._children[name]
        deadline = time.monotonic() + child.command.timeout_seconds
        try:
            while not self._is_ready(child):
                if time.monotonic() > deadline:
                    raise NotReady(name, child.command.timeout_seconds, log_tail(child.command.log))
                time.sleep(POLL_SECONDS)
        except BaseException:
            self._end(child)
            self._children.pop(name, None)
            raise

    def names(self) -> list[str]:
        """Gives the children that were started and not stopped, in the order of their start."""
        return list(self._children)

    def poll(self) -> list[Ended]:
        """Gives the children that ended by themselves and were not restarted since. Safe to call twice."""
        ended: list[Ended] = []
        for child in self._children.values():
            exit_code = child.process.poll()
            if exit_code is not None:
                self._sweep(child)
                ended.append(Ended(child.command.name, exit_code, log_tail(child.command.log)))
        return ended

    def pid(self, name: str) -> int:
        """Gives the pid of a child, which is also the id of its process group."""
        return self._children[name].process.pid

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Sends a signal to the child itself, not to its children. Safe to call twice."""
        self._children[name].process.send_signal(number)

    def restart(self, name: str) -> None:
        """Ends a child if it still runs, starts it as before and waits. Raises what `wait` raises."""
        child = self._children[name]
        self._end(child)
        # The same key: it keeps its place in the order.
        self._children[name] = _Child(child.command, self._spawn(child.command))
        self.wait(name)

    def stop(self) -> None:
        """Ends all children, the last one first, each within its own time. Safe to call twice."""
        while self._children:
            name = next(reversed(self._children))
            self._end(self._children[name])
            self._children.pop(name)
        if self._owns_guard:
            self._guard.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _spawn(self, command: Command) -> subprocess.Popen[bytes]:
        command.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if command.log.exists():
            command.log.replace(command.log.with_name(f"{command.log.name}.1"))
        output = os.open(command.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            return self._guard.spawn(
                command.argv,
                env=command.env,
                cwd=command.cwd,
                output=output,
                stdin=command.stdin,
                pass_fds=command.pass_fds,
            )
        finally:
            os.close(output)

    def _is_ready(self, child: _Child) -> bool:
        exit_code = child.process.poll()
        if exit_code is not None:
            raise ProcessEnded(child.command.name, exit_code, log_tail(child.command.log))
        return child.command.ready is None or child.command.ready()

    def _end(self, child: _Child) -> None:
        if child.process.poll() is None:
            child.process.terminate()
            try:
                child.process.wait(child.command.stop_seconds)
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
        self._sweep(child)

    def _sweep(self, child: _Child) -> None:
        """Ends what an ended child left behind, once: later its group's id may be another's."""
        if child.swept:
            return
        child.swept = True
        try:
            os.killpg(child.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass  # nothing left; macOS calls a group of zombies "not permitted"
        self._guard.release(child.process.pid)


def free_port() -> int:
    """Gives a port of 127.0.0.1 that was free a moment ago, and each only once to this process.

    Raises: `LocalError` where none is found.
    """
    for port in random.sample(PORTS, 1_000):
        if port in _given_ports:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            _given_ports.add(port)
            return port
    raise LocalError(f"no free port on 127.0.0.1 between {PORTS.start} and {PORTS.stop - 1}")


def http_answers(port: int, path: str) -> bool:
    """Tells whether something on this port of 127.0.0.1 answers this path with success."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status < 400
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
