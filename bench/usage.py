"""CPU seconds and memory of processes: from `/proc` where there is one, else from `ps`."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

CLIENT = "client"
NOT_OURS = ("simulator",)
PROC = Path("/proc")
HAS_PROC = (PROC / "self/stat").exists()
NOTES = (
    "PSS is memory taken together: a page that processes share is there once, divided among them.",
    "RSS counts such a page once for each of them. The guard process is not counted.",
    "The sum is the product's and leaves the simulator out.",
    *(
        ()
        if HAS_PROC
        else (
            "ps does not tell the CPU of children that have ended; of those nothing is counted.",
            "ps does not tell PSS either: it stands for RSS here.",
        )
    ),
)


@dataclass(frozen=True)
class Usage:
    """CPU since the start, user and system; memory at this moment. PSS: of a shared page its part alone."""

    cpu_seconds: float
    rss_bytes: int
    pss_bytes: int


@dataclass(frozen=True)
class Row:
    """One process. `group`: the id of its process group."""

    pid: int
    group: int
    cpu_seconds: float
    rss_bytes: int


def usage_of(groups: Mapping[str, int], aside: float) -> dict[str, Usage]:
    """By name: each process group as a whole, and this process as `client`, less `aside` CPU seconds."""
    rows = _from_proc() if HAS_PROC else _from_ps()
    found = {name: _together(row for row in rows if row.group == group) for name, group in groups.items()}
    own = _together(row for row in rows if row.pid == os.getpid())
    return {**found, CLIENT: replace(own, cpu_seconds=time.process_time() - aside)}


def spent(before: Mapping[str, Usage], after: Mapping[str, Usage]) -> dict[str, Usage]:
    """CPU between two moments, and the memory at the later one."""
    return {
        name: replace(usage, cpu_seconds=usage.cpu_seconds - before[name].cpu_seconds)
        for name, usage in after.items()
    }


def in_sum(usages: Mapping[str, Usage]) -> Usage:
    """The product's, without the simulator's."""
    return _sum(usage for name, usage in usages.items() if name not in NOT_OURS)


def _together(rows: Iterable[Row]) -> Usage:
    return _sum(Usage(row.cpu_seconds, row.rss_bytes, _pss_bytes(row)) for row in rows)


def _sum(usages: Iterable[Usage]) -> Usage:
    each = list(usages)
    return Usage(
        sum(usage.cpu_seconds for usage in each),
        sum(usage.rss_bytes for usage in each),
        sum(usage.pss_bytes for usage in each),
    )


def _pss_bytes(row: Row) -> int:
    """Only of those that are asked for: the kernel walks through all their pages."""
    try:
        return read_rollup((PROC / str(row.pid) / "smaps_rollup").read_text())
    except (OSError, ValueError):  # it has just ended, or nobody tells it here
        return row.rss_bytes


def read_rollup(text: str) -> int:
    """The PSS, in bytes, in `/proc/<pid>/smaps_rollup`. Raises: ValueError where it tells none."""
    (kib,) = (line.split()[1] for line in text.splitlines() if line.startswith("Pss:"))
    return int(kib) * 1024


def _from_proc() -> list[Row]:
    rows: list[Row] = []
    for folder in PROC.iterdir():
        if folder.name.isdigit():
            try:
                rows.append(read_stat(int(folder.name), (folder / "stat").read_text(errors="replace")))
            except OSError:
                continue  # it has just ended
    return rows


def read_stat(pid: int, text: str) -> Row:
    """A line of `/proc/<pid>/stat`; the CPU includes that of children that have ended."""
    fields = text.rpartition(")")[2].split()
    ticks = sum(int(field) for field in fields[11:15])
    return Row(
        pid, int(fields[2]), ticks / os.sysconf("SC_CLK_TCK"), int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    )


def _from_ps() -> list[Row]:
    command = ["ps", "-A", "-o", "pid=,pgid=,rss=,time="]
    table = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "LC_ALL": "C"}
    )
    return [read_ps(line) for line in table.stdout.splitlines() if line.strip()]


def read_ps(line: str) -> Row:
    """`pid pgid rss time`: rss in KiB, time as [[days-]hours:]minutes:seconds[.hundredths]."""
    pid, group, kib, clock = line.split()
    days, _, rest = clock.rpartition("-")
    seconds = float(days or 0) * 86_400
    for place, part in enumerate(reversed(rest.split(":"))):
        seconds += float(part) * 60**place
    return Row(int(pid), int(group), seconds, int(kib) * 1024)
