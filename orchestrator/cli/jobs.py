"""Commands about jobs and batches: ask for one, and ask how they are doing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.plainly import json_option, names, pairs, with_orchestrator
from orchestrator.cli.waiting import waiting
from orchestrator.errors import JobCancelled, JobFailed
from orchestrator.schemas import PortableRequest, shown, typed
from orchestrator.views import jobs
from orchestrator.views.printing import print_json

if TYPE_CHECKING:
    from orchestrator.client import Orchestrator
    from orchestrator.handles import Job


@click.command()
@click.argument("provider", metavar="PROVIDER[,PROVIDER...]")
@click.argument("parameters", nargs=-1, metavar="KEY=VALUE...")
@click.option("--batch", default="", help="Name of the batch it belongs to.")
@click.option("--tenant", default="", help="Whose batches share one part of the slots.")
@click.option("--priority", type=click.IntRange(0, 9), default=0, show_default=True, help="9 goes first.")
@click.option("--max-attempts", type=int, help="Failures it may have, where not as its account says.")
@click.option("--expires", type=float, metavar="SECONDS", help="No attempt is begun after so long.")
@click.option("--even-if-moderated", is_flag=True, help="Send what moderation refused before.")
@click.option("--notify-url", default="", metavar="URL", help="Told of its end, by a signed webhook.")
@click.option("--wait", "wait_seconds", type=float, help="Wait so many seconds for the pictures.")
@json_option
@with_orchestrator
def enqueue(
    orchestrator: Orchestrator, provider: str, parameters: tuple[str, ...], wait_seconds: float | None,
    as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Ask for one generation: orchestrator enqueue useapi_frames text_prompt="a lighthouse in fog".

    Of several providers, joined by commas, any will do; KEY is then prompt, aspect_ratio, seed or style.
    Prints the job's id; with --wait, where its pictures are. Exits with 1 where it did not succeed by then.
    """
    wanted = names([provider]) if "," in provider else provider
    known = orchestrator.flow.exchange.providers.get(provider)
    schema = PortableRequest if isinstance(wanted, list) else known.schema if known else None
    job = orchestrator.enqueue(wanted, typed(pairs(parameters), schema().fields if schema else {}), **options)
    if wait_seconds is None:
        return click.echo(json.dumps({"id": job.id}) if as_json else job.id)
    with waiting(orchestrator, lambda: job.state):
        paths, trouble = _waited_for(job, wait_seconds)
    if as_json:
        print_json(shown(job.record))
    for path in () if as_json else paths:
        click.echo(path)
    if trouble:
        raise click.ClickException(trouble)


def _waited_for(job: Job, seconds: float) -> tuple[list[str], str]:
    """Where its pictures are; or why there are none, with its id."""
    try:
        return [artifact.path or artifact.url for artifact in job.result(timeout=seconds).artifacts], ""
    except TimeoutError as error:
        return [], str(error)
    except (JobFailed, JobCancelled) as error:
        return [], f"job {job.id} {job.state}: {error}"


@click.command()
@click.argument("job_id", metavar="[JOB]", default="")
@click.option("--uncertain", is_flag=True, help="List the submits that may have arrived or not.")
@json_option
@with_orchestrator
def status(orchestrator: Orchestrator, job_id: str, uncertain: bool, as_json: bool) -> None:
    """Say how the whole, or one job, is doing."""
    if uncertain:
        jobs.show_uncertain(orchestrator, as_json)
    elif job_id:
        jobs.show_job(orchestrator, job_id, as_json)
    else:
        jobs.show_status(orchestrator, as_json)


@click.command()
@click.argument("job_id", metavar="JOB")
@json_option
@with_orchestrator
def explain(orchestrator: Orchestrator, job_id: str, as_json: bool) -> None:
    """Say what a job waits for, and until when."""
    jobs.show_explanation(orchestrator, job_id, as_json)


def _counts(context: click.Context, parameter: click.Parameter, text: str) -> list[int]:
    words = text.split(",") if text else []
    if not all(word.strip().isdecimal() and int(word) for word in words):
        raise click.BadParameter(f"{text!r} is no list of numbers of accounts, such as 1,2,4")
    return sorted({int(word) for word in words})


@click.command()
@click.argument("batch")
@click.option(
    "--more", default="1,2,4", show_default=True, callback=_counts, metavar="N,N...",
    help="How many accounts more to reckon with.",
)  # fmt: skip
@json_option
@with_orchestrator
def forecast(orchestrator: Orchestrator, batch: str, more: list[int], as_json: bool) -> None:
    """Say when a batch will end, and when with more accounts."""
    jobs.show_forecast(orchestrator, batch, more, as_json)
