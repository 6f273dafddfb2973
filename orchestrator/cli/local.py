"""Commands for this machine: the demo, the local stack, the simulator, and what there is."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import click
from rich.text import Text

from orchestrator.cli.plainly import json_option, plainly
from orchestrator.views.printing import console, print_json

MARKS = {"ok": Text("✓", "green"), "warning": Text("!", "yellow"), "fault": Text("✗", "red")}


@click.command()
@click.option("--exit", "leave", is_flag=True, help="Stop at the end; 0 if every job ended as scripted.")
@click.option(
    "--output", type=click.Path(path_type=Path), default=Path("demo-output"), show_default=True,
    help="Folder for the pictures and the gallery.",
)  # fmt: skip
@plainly
def demo(leave: bool, output: Path) -> None:
    """Run the main job for real on this machine alone, against simulated providers."""
    from orchestrator.demo.run import run

    if not run(output, stay=not leave, console=console):
        raise SystemExit(1)


@click.command()
@click.option("--simulator", is_flag=True, help="With simulated providers and two accounts at them.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True)
@click.option(
    "--collectors", type=click.IntRange(0), default=1, show_default=True,
    help="Workers that only keep pictures; with 0 the others do that too.",
)  # fmt: skip
@click.option(
    "--port", type=click.IntRange(1, 65535), default=8000, show_default=True, help="Of the receiver."
)
@click.option(
    "--api-port", type=click.IntRange(1, 65535), default=8001, show_default=True,
    help="Of the HTTP API, where ORCHESTRATOR_API_KEYS is set.",
)  # fmt: skip
@click.option("--flower-port", type=click.IntRange(1, 65535), default=5555, show_default=True)
@click.option("--operations-port", type=click.IntRange(1, 65535), default=5556, show_default=True)
@plainly
def up(
    simulator: bool,
    workers: int,
    collectors: int,
    port: int,
    api_port: int,
    flower_port: int,
    operations_port: int,
) -> None:
    """Run the whole local stack; Ctrl-C stops it."""
    from orchestrator.up import up_until_stopped

    ports = (port, api_port, flower_port, operations_port)
    up_until_stopped(simulator, workers, collectors, ports, console)


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--port", type=click.IntRange(0, 65535), required=True)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def simulate(port: int, arguments: tuple[str, ...]) -> None:
    """Serve the simulated providers on a local port. `orchestrator simulate --port 0 -- --help` says more."""
    command = [sys.executable, "-m", "orchestrator.simulator", "--port", str(port), *arguments]
    with subprocess.Popen(command) as process:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.terminate()
            code = process.wait()
    raise SystemExit(code)


@click.command()
@json_option
def providers(as_json: bool) -> None:
    """List the providers: how an outcome comes, whether it is signed, the limits, the documentation."""
    from orchestrator.views.providers import show_providers

    show_providers(as_json)


@click.command()
def openapi() -> None:
    """Print the OpenAPI document of the HTTP API, for what makes clients of it."""
    raise SystemExit(subprocess.call([sys.executable, "-m", "webhooks.api"]))


@click.command()
@json_option
@plainly
def doctor(as_json: bool) -> None:
    """Check the settings and everything they name, and say what to mend."""
    from orchestrator.doctor import examine

    findings = examine()
    if as_json:
        print_json([asdict(finding) for finding in findings])
    for finding in () if as_json else findings:
        console.print(MARKS[finding.verdict], finding.text, soft_wrap=True)
    if any(finding.verdict == "fault" for finding in findings):
        raise SystemExit(1)
