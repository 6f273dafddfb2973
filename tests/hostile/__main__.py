"""Attacks a receiver of its own, prints what became of it, and ends with 0 only if nothing got in."""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.hostile.attack import DROPPED, SILENT, Figures
from tests.hostile.scene import scene

MEGABYTE = 2**20
GROWTH_BYTES = 24 * MEGABYTE  # of all processes together, beside what they had after a tenth


def faults(figures: Figures) -> list[str]:
    """What is wrong; nothing where the receiver held."""
    wrong = sum(count for status, count in figures.honest.items() if status != "204")
    grown = figures.rss_after - figures.rss_before
    found = {
        f"{figures.accepted} forged requests were accepted": figures.accepted,
        f"{figures.replays_noted} replays were taken for news": figures.replays_noted,
        f"{figures.server_errors} answers were a 5xx": figures.server_errors,
        f"{figures.of(lambda status: status == SILENT)} requests were not answered in time": figures.of(
            lambda status: status == SILENT
        ),
        f"{wrong} honest callbacks were not answered with 204": wrong,
        "no honest callback was sent": not figures.honest,
        f"memory grew by {grown / MEGABYTE:.0f} MB": grown > GROWTH_BYTES,
    }
    return [fault for fault, is_so in found.items() if is_so]


def show(figures: Figures, console: Console) -> None:
    kinds = sorted({kind for kind, _ in figures.answers})
    statuses = sorted({status.lstrip("+") for _, status in figures.answers})
    table = Table("kind", *statuses)
    total: Counter[str] = Counter()
    for kind in kinds:
        row = Counter[str]()
        for (each, status), count in figures.answers.items():
            if each == kind:
                row[status.lstrip("+")] += count
        total += row
        table.add_row(kind, *(str(row[status] or "") for status in statuses))
    table.add_section()
    table.add_row("all", *(str(total[status]) for status in statuses))
    console.print(table)
    times = sorted(figures.honest_seconds)
    rows = {
        "requests": f"{figures.sent} in {figures.seconds:.0f} s",
        "requests a second": f"{figures.sent / figures.seconds:.0f}",
        "forged and accepted": str(figures.accepted),
        "5xx": str(figures.server_errors),
        "hung up without an answer": str(total[DROPPED]),
        "slow connections": f"{figures.slow_opened} opened, {figures.slow_ended} ended by the receiver",
        "honest callbacks": ", ".join(
            f"{count} answered {status}" for status, count in figures.honest.items()
        ),
        "honest ms": f"median {1000 * statistics.median(times):.1f}, "
        f"p99 {1000 * times[len(times) * 99 // 100]:.1f}, most {1000 * times[-1]:.1f}",
        "resident memory": f"{figures.rss_before / MEGABYTE:.1f} MB → {figures.rss_after / MEGABYTE:.1f} MB",
        "lines of warning": str(figures.log_lines),
    }
    for name, text in rows.items():
        console.print(f"{name:>26}  {text}", highlight=False)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as folder, scene(Path(folder)) as here:
        figures = here.attack(wanted.requests, wanted.seed)
        show(figures, console)
        found = faults(figures)
        if not here.untouched():
            found.append("a job was changed by what was forged")
        elif not here.settle():
            found.append("a job could not be settled by its own callback")
    for fault in found:
        console.print(fault, style="red")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
