"""`orchestrator …`: thin commands over the client, the local stack and the demo."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click
from marshmallow import fields
from rich.text import Text

from orchestrator import views
from orchestrator.client import Orchestrator
from orchestrator.doctor import examine
from orchestrator.errors import OrchestratorError
from orchestrator.local.errors import LocalError
from orchestrator.operations import KINDS
from orchestrator.providers import registry
from orchestrator.schemas import shown
from orchestrator.up import up_until_stopped

console = views.console
MARKS = {"ok": Text("✓", "green"), "warning": Text("!", "yellow"), "fault": Text("✗", "red")}


def _plainly(command: Callable[..., Any]) -> Callable[..., Any]:
    """A mistake of the user's ends in a sentence, not in a traceback."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except (OrchestratorError, LocalError, TimeoutError) as error:
            raise click.ClickException(str(error)) from None
        except KeyboardInterrupt:
            raise SystemExit(130) from None

    return run


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="orchestrator")
def main() -> None:
    """Thousands of image generations: enqueue, walk away, find the pictures."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


@main.command()
@click.option("--exit", "leave", is_flag=True, help="Stop at the end; 0 if every job ended as scripted.")
@click.option(
    "--output", type=click.Path(path_type=Path), default=Path("demo-output"), show_default=True,
    help="Folder for the pictures and the gallery.",
)  # fmt: skip
@_plainly
def demo(leave: bool, output: Path) -> None:
    """Run the main job for real on this machine alone, against simulated providers."""
    from orchestrator.demo.run import run

    if not run(output, stay=not leave, console=console):
        raise SystemExit(1)


@main.command()
@click.option("--simulator", is_flag=True, help="With simulated providers and two accounts at them.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True)
@click.option(
    "--port", type=click.IntRange(1, 65535), default=8000, show_default=True, help="Of the receiver."
)
@click.option("--flower-port", type=click.IntRange(1, 65535), default=5555, show_default=True)
@_plainly
def up(simulator: bool, workers: int, port: int, flower_port: int) -> None:
    """Run the whole local stack; Ctrl-C stops it."""
    up_until_stopped(simulator, workers, port, flower_port, console)


@main.command(context_settings={"ignore_unknown_options": True})
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


@main.command()
@click.argument("provider")
@click.argument("parameters", nargs=-1, metavar="KEY=VALUE...")
@click.option("--batch", default="", help="Name of the batch it belongs to.")
@click.option("--priority", type=click.IntRange(0, 9), default=0, show_default=True, help="9 goes first.")
@click.option("--wait", "wait_seconds", type=float, help="Wait so many seconds for the pictures.")
@click.option("--json", "as_json", is_flag=True)
@_plainly
def enqueue(
    provider: str, parameters: tuple[str, ...], batch: str, priority: int, wait_seconds: float | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Ask for one generation: orchestrator enqueue useapi_frames text_prompt="a lighthouse in fog"."""
    with Orchestrator.from_env() as orchestrator:
        job = orchestrator.enqueue(
            provider, _parameters(provider, parameters), batch=batch, priority=priority
        )
        if wait_seconds is None:
            return click.echo(json.dumps({"id": job.id}) if as_json else job.id)
        result = job.result(timeout=wait_seconds)
        if as_json:
            return click.echo(json.dumps(shown(job.record), indent=2))
        for artifact in result.artifacts:
            click.echo(artifact.path or artifact.url)


@main.command()
@click.argument("job_id", metavar="[JOB]", default="")
@click.option("--json", "as_json", is_flag=True)
@_plainly
def status(job_id: str, as_json: bool) -> None:
    """Say how the whole, or one job, is doing."""
    with Orchestrator.from_env() as orchestrator:
        if job_id:
            views.show_job(orchestrator, job_id, as_json)
        else:
            views.show_all(orchestrator, as_json)


@main.command()
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("name")
@_plainly
def resume(kind: str, name: str) -> None:
    """Let an account, a provider or a batch take work again."""
    with Orchestrator.from_env() as orchestrator:
        orchestrator.operations.resume(kind, name)
        click.echo(f"{name} takes work again")


@main.command()
@click.option("--json", "as_json", is_flag=True)
def providers(as_json: bool) -> None:
    """List the providers: how an outcome comes, whether it is signed, the limits, the documentation."""
    views.show_providers(as_json)


@main.command()
@_plainly
def doctor() -> None:
    """Check the settings and everything they name, and say what to mend."""
    findings = examine()
    for finding in findings:
        console.print(MARKS[finding.verdict], finding.text, soft_wrap=True)
    if any(finding.verdict == "fault" for finding in findings):
        raise SystemExit(1)


def _parameters(provider: str, words: tuple[str, ...]) -> dict[str, Any]:
    """`key=value` words as the provider's schema wants them: text stays text, the rest is read as JSON."""
    known = registry().get(provider)
    declared = known.schema().fields if known else {}
    found: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise click.ClickException(f"{word!r} is not of the form key=value")
        found[name] = text if isinstance(declared.get(name), fields.String) else _read(text)
    return found


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
