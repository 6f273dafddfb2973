"""Every workload in one run: a table, JSON and a picture."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from bench.contestants import OURS, PYTHON
from bench.picture import Panel, picture
from bench.report import MEBIBYTE, machine
from bench.rows import Row, gathered
from bench.stack import REPOSITORY
from bench.suite import PARTS, Part, beside_celery
from bench.tables import Found, page, sentence

OUTPUT = Path("bench-output")
DOOR = ("progress", "final")  # ours, beside the bare answer
SIZES = "jobs"


@click.command("all")
@click.option("--quick", is_flag=True, help="Small sizes: what runs, not how fast it is.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option(
    "--only", multiple=True, type=click.Choice([part.name for part in PARTS]), help="May be repeated."
)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default=OUTPUT, show_default=True,
    help="Folder for results.json, table.md and picture.svg.",
)  # fmt: skip
def everything(quick: bool, rounds: int, only: Sequence[str], out: Path) -> None:
    """Run every workload, and tell all figures with their spread."""
    about = machine()
    found: list[Found] = []
    failed: list[str] = []
    for part in [part for part in PARTS if not only or part.name in only]:
        if part.peers and not PYTHON.exists():
            click.echo(f"{part.name}: left out, the peers are not installed", err=True)
            continue
        begun = time.monotonic()
        click.echo(part.name, err=True)
        try:
            found.append(_ran(part, quick, 1 if part.once else rounds))
        except click.ClickException as error:  # what the others found is worth telling
            failed.append(part.name)
            error.show()
        click.echo(f"  {time.monotonic() - begun:.0f} s", err=True)
        _write(out, about, quick, found)
    click.echo(page(about, found, quick))
    click.echo(f"{out}/results.json, table.md, picture.svg", err=True)
    if failed:
        raise click.ClickException(f"these did not end well: {', '.join(failed)}")


def _write(out: Path, about: Mapping[str, Any], quick: bool, found: Sequence[Found]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    results = {"machine": about, "quick": quick, "parts": [_told(each) for each in found]}
    (out / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    (out / "table.md").write_text(page(about, found, quick), encoding="utf-8")
    (out / "picture.svg").write_text(picture(_panels(found, quick), sentence(about)), encoding="utf-8")


def _ran(part: Part, quick: bool, rounds: int) -> Found:
    options = part.quick if quick else ()
    if part.in_rounds:
        told = [_run(part, [*options, "--rounds", str(rounds)])]
    else:
        told = [_run(part, options) for _ in range(rounds)]
    rows = [Row(row["name"], row["figures"]) for row in told[0]["rows"]]
    rows = beside_celery(rows) or [gathered(OURS, [_own(each) for each in told])]
    return Found(part, part.title.format(**told[0]["settings"]), rows, rounds)


def _run(part: Part, options: Sequence[str]) -> dict[str, Any]:
    """What one run of a workload tells. Raises: `ClickException` where a job was lost or paid for twice."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        file = Path(folder, "figures.json")
        command = [sys.executable, "-m", "bench", *part.command, *options, "--json", str(file)]
        done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise click.ClickException(f"{part.name} ended with {done.returncode}:\n{done.stdout}")
        told: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return told


def _own(told: Mapping[str, Any]) -> dict[str, float | None]:
    """The figures of a run that compares nothing, and what it cost."""
    figures = {
        name: each for name, each in told["figures"].items() if each is None or isinstance(each, int | float)
    }
    return {
        **figures,
        "cpu_ms_per_job": told["cpu_ms_per_job"],
        "pss_mib": told["pss_bytes"] / MEBIBYTE,
        "rss_mib": told["rss_bytes"] / MEBIBYTE,
        "lost": told["lost"],
        "paid_twice": told["paid_twice"],
    }


def _told(found: Found) -> dict[str, Any]:
    rows = [asdict(row) for row in found.rows]
    return {"name": found.part.name, "title": found.title, "rounds": found.rounds, "rows": rows}


def _panels(found: Sequence[Found], quick: bool) -> list[Panel]:
    return [
        Panel(each.title, figure, each.rows, _ours(each.rows), None if quick else _floor(each.part, figure))
        for each in found
        for figure in each.part.bars
    ]


def _ours(rows: Sequence[Row]) -> list[str]:
    return [row.name for row in rows if row.name in (OURS, *DOOR) or row.name.endswith(SIZES)]


def _floor(part: Part, figure: str) -> float | None:
    """Of a figure, whichever of our rows it is of."""
    for floor in part.floors:
        if floor.figure == figure:
            return floor.least if floor.least is not None else floor.most
    return None
