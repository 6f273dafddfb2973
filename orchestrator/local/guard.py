"""Children that never outlive us, not even after `kill -9`, on Linux and macOS alike.

A small helper process (`guard_process.py`) holds the other end of a pipe. The kernel closes our end however
we die, and the helper then ends what we had started.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from orchestrator.local.errors import LocalError

HELPER = Path(__file__).with_name("guard_process.py")
POLL_SECONDS = 0.02

# The child waits here until the helper knows its pid; were we to die before, `read` fails and nothing is run.
# `exec` keeps the pid.
GATE = 'read -r _ || exit 1; input=$1; shift; exec "$@" <"$input"'


class Guard:
    """Starts children that end with this process. One helper serves them all, from the first child on.

    Safe to use from several threads. A plain `os.fork` without `exec` would keep the pipe open: do not fork
    while children run.
    """

    def __init__(self) -> None:
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._helper: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def spawn(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        output: int,
        stdin: Path = Path(os.devnull),
        pass_fds: Sequence[int] = (),
    ) -> subprocess.Popen[bytes]:
        """Starts a child in a session of its own, so that its pid is its group's; not safe to call twice.

        `output` is a descriptor for both its streams. A program that cannot be run ends with 126 or 127.
        """
        child = subprocess.Popen(
            ["/bin/sh", "-c", GATE, "gate", str(stdin), *argv],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(env),
            cwd=cwd,
            start_new_session=True,
            pass_fds=tuple(pass_fds),
        )
        self._let_go(child)
        return child

    def release(self, pid: int) -> None:
        """Forgets a child whose whole group has ended. Safe to call twice."""
        with self._lock:
            if self._children.pop(pid, None) is not None and self._helper is not None:
                self._write(self._helper, f"-{pid}\n")

    def close(self) -> None:
        """Ends what is still running, within about 5 seconds, and the helper. Safe to call twice."""
        with self._lock:
            helper, self._helper = self._helper, None
            children, self._children = self._children, {}
        if helper is None or helper.stdin is None:
            return
        helper.stdin.close()
        while helper.poll() is None:
            for child in children.values():
                child.poll()  # one that ended and is not collected would still count as running
            time.sleep(POLL_SECONDS)

    def _let_go(self, child: subprocess.Popen[bytes]) -> None:
        assert child.stdin is not None
        try:
            with child.stdin:
                self._register(child)
                child.stdin.write(b"\n")
        except BrokenPipeError:
            pass  # killed at the gate by somebody else: the caller sees its exit code
        except BaseException:
            child.kill()
            child.wait()
            raise

    def _register(self, child: subprocess.Popen[bytes]) -> None:
        with self._lock:
            self._children[child.pid] = child
            if self._helper is not None and self._write(self._helper, f"+{child.pid}\n"):
                return
            # The first child, or somebody killed the helper: a new one is told all that it must know.
            self._helper = _start_helper()
            if not self._write(self._helper, "".join(f"+{pid}\n" for pid in self._children)):
                raise LocalError(f"the guard of our processes does not run: {sys.executable} {HELPER}")

    def _write(self, helper: subprocess.Popen[bytes], lines: str) -> bool:
        assert helper.stdin is not None
        try:
            helper.stdin.write(lines.encode())
        except BrokenPipeError:
            helper.stdin.close()
            helper.wait()
            return False
        return True


def _start_helper() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(HELPER)],
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )
