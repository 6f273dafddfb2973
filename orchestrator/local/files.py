"""Files that only their owner may read: folders 0700, files 0600, and locks between processes."""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.local.errors import FolderInUse, LocalError

TAIL_BYTES = 16_384
TAIL_LINES = 15
LOCK_POLL_SECONDS = 0.05
KEY_LOCK_SECONDS = 10.0


def private_folder(path: Path) -> Path:
    """Gives the absolute path of a folder that only its owner may enter. Safe to call twice.

    Raises: `LocalError` where it holds files and is open to others: closing it could break what is not ours.
    """
    path = path.absolute()
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_mode & 0o077:
        if any(path.iterdir()):
            raise LocalError(f"{path} is open to other users: `chmod 700` it, or choose a new folder")
        path.chmod(0o700)
    return path


def write_private(path: Path, text: str) -> None:
    """Replaces a file as a whole with one of mode 0600; a reader sees the old text or the new."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)


def secret_kept_in(path: Path) -> str:
    """Gives the random key of this file, made the first time. Safe to call twice, also by two processes."""
    with locked(path.with_name(f"{path.name}.lock"), KEY_LOCK_SECONDS):
        if not path.exists():
            write_private(path, secrets.token_urlsafe(32))
        return path.read_text(encoding="utf-8").strip()


def log_tail(path: Path, lines: int = TAIL_LINES) -> str:
    """Gives the last lines of a log, or nothing where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.rstrip().splitlines()[-lines:])


def take_lock(path: Path, timeout_seconds: float) -> int:
    """Gives a descriptor that holds the lock until it, and every copy of it a child got, is closed.

    Raises: `FolderInUse` where somebody else holds it for all of `timeout_seconds`.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise FolderInUse(f"{path.parent} is in use by another process ({path.name})") from None
            time.sleep(LOCK_POLL_SECONDS)
        else:
            return descriptor


@contextmanager
def locked(path: Path, timeout_seconds: float) -> Iterator[None]:
    """Holds the lock for the length of a block. Raises: `FolderInUse`."""
    descriptor = take_lock(path, timeout_seconds)
    try:
        yield
    finally:
        os.close(descriptor)
