"""What a workload found: a table for people, JSON for programs, and whether anything went wrong."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.rows import Row, table, words
from bench.usage import NOT_OURS, NOTES, Usage, in_sum
from orchestrator.local.binary import find_binary
from orchestrator.local.errors import LocalError

MEBIBYTE = 1024 * 1024
LISTED = 4  # of a figure by account; of more, the lowest and the highest


@dataclass(frozen=True)
class Report:
    """`jobs`: those that `usage` was spent on. `paid_twice`: generations beyond the first of a job.

    `rows`: of a workload that compares, one for each that it compared, with its figures of every round.
    """

    figures: Mapping[str, Any]
    jobs: int
    usage: Mapping[str, Usage]
    lost: int
    paid_twice: int
    rows: Sequence[Row] = ()

    @property
    def sound(self) -> bool:
        return not self.lost and not self.paid_twice


def machine() -> dict[str, Any]:
    """Where and when: the load average tells whether it was quiet."""
    return {
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "platform": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
        "server": _server(),
        "load_average": os.getloadavg()[0],
        "day": date.today().isoformat(),
    }


def _processor() -> str:
    """Its model, where the system tells it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _server() -> str:
    """Name and version of the embedded server."""
    try:
        said = subprocess.run([find_binary().path, "--version"], capture_output=True, text=True, check=True)
    except (LocalError, OSError, subprocess.CalledProcessError):
        return "unknown"
    name, _, rest = said.stdout.partition(" ")
    version = re.search(r"v=(\S+)", rest)
    return f"{name} {version[1]}" if version else said.stdout.strip()


def as_json(
    name: str, settings: Mapping[str, Any], about: Mapping[str, Any], report: Report
) -> dict[str, Any]:
    """`about`: the machine before the work began."""
    return {
        "workload": name,
        "settings": settings,
        "machine": about,
        "figures": report.figures,
        "cpu_ms_per_job": in_sum(report.usage).cpu_seconds * 1000 / report.jobs,
        "pss_bytes": in_sum(report.usage).pss_bytes,
        "rss_bytes": in_sum(report.usage).rss_bytes,
        "processes": {name: asdict(usage) for name, usage in report.usage.items()},
        "lost": report.lost,
        "paid_twice": report.paid_twice,
        "rows": [asdict(row) for row in report.rows],
        "notes": NOTES,
    }


def show(report: Report, console: Console) -> None:
    figures = Table(show_header=False, box=None)
    for name, value in [*report.figures.items(), ("lost", report.lost), ("paid_twice", report.paid_twice)]:
        figures.add_row(Text(words(name), "bold"), _shown(value))
    processes = Table("process", "CPU s", "CPU ms/job", "PSS MiB", "RSS MiB", box=None)
    for name, usage in [*report.usage.items(), ("sum", in_sum(report.usage))]:
        cpu = (usage.cpu_seconds, usage.cpu_seconds * 1000 / report.jobs)
        row = (*cpu, usage.pss_bytes / MEBIBYTE, usage.rss_bytes / MEBIBYTE)
        processes.add_row(f"({name})" if name in NOT_OURS else name, *map(_shown, row))
    compared = [table(report.rows)] if report.rows else []
    ours = [processes] if report.usage else []
    console.print(figures, *compared, *ours, *NOTES, sep="\n", soft_wrap=True)


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, Mapping) and len(value) > LISTED:
        return f"{_shown(min(value.values()))} to {_shown(max(value.values()))} on {len(value)}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(each)}" for name, each in value.items()) or "none"
    if isinstance(value, float):
        return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
