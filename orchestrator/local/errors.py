"""What can go wrong when processes are started on this machine.

LocalError
├─ ProcessEnded     it ended while we waited for it; name, exit code, last log lines
├─ NotReady         it runs, but did not become ready in time; name, last log lines
├─ ServerNotFound   no usable Valkey or Redis server on this machine
└─ FolderInUse      another process holds the folder
"""

from __future__ import annotations


class LocalError(RuntimeError):
    """The local stack cannot run; the message says what to do where we know."""


class ProcessEnded(LocalError):
    """A process ended before it was ready. A negative exit code is the signal that ended it."""

    def __init__(self, name: str, exit_code: int, log_tail: str) -> None:
        super().__init__(f"{name} ended with exit code {exit_code} before it was ready{_shown(log_tail)}")
        self.name = name
        self.exit_code = exit_code
        self.log_tail = log_tail


class NotReady(LocalError):
    """A process was not ready within its time and has been ended."""

    def __init__(self, name: str, seconds: float, log_tail: str) -> None:
        super().__init__(f"{name} was not ready after {seconds:g} s{_shown(log_tail)}")
        self.name = name
        self.log_tail = log_tail


class ServerNotFound(LocalError):
    """There is no Valkey or Redis server that we could start."""


class FolderInUse(LocalError):
    """A folder is held by another process that does not let go or does not answer."""


def _shown(log_tail: str) -> str:
    return f"; its last words:\n{log_tail}" if log_tail else "; it wrote no log"
