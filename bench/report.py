"""What a workload found: a table for people, JSON for programs, and whether anything went wrong."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.usage import NOT_OURS, NOTES, Usage, in_sum

MEBIBYTE = 1024 * 1024
LISTED = 4  # of a figure by account; of more, the lowest and the highest


@dataclass(frozen=True)
class Report:
    """`jobs`: those that `usage` was spent on. `paid_twice`: generations beyond the first of a job."""

    figures: Mapping[str, Any]
    jobs: int
    usage: Mapping[str, Usage]
    lost: int
    paid_twice: int

    @property
    def sound(self) -> bool:
        return not self.lost and not self.paid_twice


def machine() -> dict[str, Any]:
    """Where and when: the load average tells whether it was quiet."""
    return {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "load_average": os.getloadavg()[0],
    }


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
        "rss_bytes": in_sum(report.usage).rss_bytes,
        "processes": {name: asdict(usage) for name, usage in report.usage.items()},
        "lost": report.lost,
        "paid_twice": report.paid_twice,
        "notes": NOTES,
    }


def show(report: Report, console: Console) -> None:
    figures = Table(show_header=False, box=None)
    for name, value in [*report.figures.items(), ("lost", report.lost), ("paid_twice", report.paid_twice)]:
        figures.add_row(Text(name.replace("_", " "), "bold"), _shown(value))
    processes = Table("process", "CPU s", "CPU ms/job", "RSS MiB", box=None)
    for name, usage in [*report.usage.items(), ("sum", in_sum(report.usage))]:
        row = (usage.cpu_seconds, usage.cpu_seconds * 1000 / report.jobs, usage.rss_bytes / MEBIBYTE)
        processes.add_row(f"({name})" if name in NOT_OURS else name, *map(_shown, row))
    console.print(figures, processes, *NOTES, sep="\n", soft_wrap=True)


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
