"""The options that all workloads have, and what becomes of their reports."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from bench.report import Report, as_json, machine, show
from bench.stack import Place
from orchestrator.errors import OrchestratorError
from orchestrator.local.errors import LocalError

OPTIONS = (
    click.option(
        "--scale", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True,
        help="Factor for the simulated durations; 0.1 is ten times faster.",
    ),
    click.option("--workers", type=click.IntRange(1), default=1, show_default=True),
    click.option(
        "--worker-argument", "worker_arguments", multiple=True, metavar="ARGUMENT",
        help="For `celery worker`, as in --worker-argument=--concurrency=50. May be repeated.",
    ),
    click.option(
        "--folder", type=click.Path(path_type=Path), help="A new folder, kept with all logs and pictures."
    ),
    click.option(
        "--json", "file", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures here, too."
    ),
)  # fmt: skip


def workload(run: Callable[..., Report]) -> click.Command:
    """A command of the function's name. The function is given a `Place` and its own options.

    The command ends with 1 where a job was lost or paid for twice, and for no figure.
    """

    @wraps(run)
    def command(
        scale: float, workers: int, worker_arguments: tuple[str, ...], folder: Path | None, file: Path | None,
        **own: Any,
    ) -> None:  # fmt: skip
        if folder and folder.exists():
            raise click.ClickException(f"{folder} exists: name a new folder")
        place, about, console = (
            Place(scale, workers, worker_arguments, folder),
            machine(),
            Console(markup=False),
        )
        try:
            report = run(place, **own)
        except (OrchestratorError, LocalError) as error:
            raise click.ClickException(str(error)) from None
        show(report, console)
        if file:
            settings = {**own, "scale": scale, "workers": workers, "worker_arguments": worker_arguments}
            found = as_json(run.__name__, settings, about, report)
            file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        if not report.sound:
            raise SystemExit(1)

    for option in reversed(OPTIONS):
        command = option(command)
    return click.command(run.__name__.replace("_", "-"))(command)


def warm_up_option(default: int = 20) -> Callable[..., Any]:
    return click.option(
        "--warm-up", type=click.IntRange(0), default=default, show_default=True,
        help="Jobs that run before, and are not measured.",
    )  # fmt: skip


def rounds_option(default: int = 3) -> Callable[..., Any]:
    return click.option("--rounds", type=click.IntRange(1), default=default, show_default=True)


def jobs_option(default: int) -> Callable[..., Any]:
    return click.option("--jobs", type=click.IntRange(1), default=default, show_default=True)


def seconds_option(default: str) -> Callable[..., Any]:
    return click.option(
        "--seconds", default=default, show_default=True,
        help="Of one generation, before scaling: fixed (2), a span (5-15) or lognormal.",
    )  # fmt: skip
