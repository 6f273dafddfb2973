"""The public Python API: `Orchestrator`, and handles to jobs and batches."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from rich.console import Console

from orchestrator import models
from orchestrator.build import Built, build, read_settings
from orchestrator.errors import Invalid, JobCancelled, JobFailed, ProviderError
from orchestrator.flow import Flow
from orchestrator.insight import Insight
from orchestrator.intake import known_provider, new_job, targets
from orchestrator.models import Artifact, NewJob, State, batch_name
from orchestrator.operations import Operations
from orchestrator.outbox import Outbox
from orchestrator.store.jobs import FIRST_END
from orchestrator.views.progress import LOOK_SECONDS, Progress, Quiet

FAULTS_SHOWN = 20
Wanted = str | Sequence[str]  # a provider, or several of which any will do


class Orchestrator:
    """The way in. Thread-safe; close it, or use it as a context manager."""

    def __init__(self, built: Built) -> None:
        self._built = built
        self.flow: Flow = built.flow
        providers = tuple(built.flow.exchange.providers)
        self.operations = Operations(built.flow.store, built.flow.broker, built.flow.clock, providers)
        """What a person tells the running product: limits, pauses, dead letters."""
        self.outbox = Outbox(built.flow.store, built.flow.clock)
        """Notices that wait or are dead: what must be told of ends."""
        self.insight = Insight(built.flow.store, built.flow.clock)
        """What a person asks of it: why a job waits, when a batch will end."""

    @classmethod
    def from_env(cls) -> Orchestrator:
        """Raises: ConfigurationError with everything that is wrong in the environment."""
        return cls(build(read_settings()))

    def enqueue(
        self, provider: Wanted, parameters: Mapping[str, Any], *, batch: str = "", **options: Any
    ) -> Job:
        """Ask for one generation. Each call is a job of its own, and safe to repeat only with a name.

        `provider`: a name; or several of which any will do, and then `parameters` is a portable request:
        `prompt`, `aspect_ratio`, `seed`, `style`.
        `options`: `priority` (0 to 9, 9 first, within its batch), `tenant` (whose batches share one part),
        `max_attempts` (failures it may have), `expires` (seconds after which no attempt is begun),
        `even_if_moderated` (send what moderation refused before), `notify_url` (told of its end), and a name
        by which the same call made again gives the same job: `custom_id` (within the batch) or
        `idempotency_key`.
        Raises: Invalid with every fault of the parameters; Unsupported; ConfigurationError; QueueFull;
        Conflict where the name was given to something else.
        """
        job = self._new_job(provider, parameters, {**options, "batch": batch})
        self.flow.enqueue([job])
        return Job(self.flow, job.id)

    def enqueue_many(
        self,
        provider: Wanted,
        parameters: Iterable[Mapping[str, Any]],
        *,
        batch: str | None = None,
        custom_ids: Iterable[str] | None = None,
        weight: float | None = None,
        max_spend: float | None = None,
        notify_url: str = "",
        on_each: Any = None,
        on_complete: Any = None,
        **options: Any,
    ) -> Batch:
        """Ask for many generations. All are checked before the first is enqueued.

        `provider` and `options` as for `enqueue`. `batch` None: a name is made up. A batch of that name that
        exists already is extended. `custom_ids`: a name for each, unique in the batch; what was enqueued by
        the same name before is not enqueued again, so that the call may be repeated. `weight`: how many times
        the share of another it gets (or its tenant). `max_spend`: what the whole batch may cost, in its
        accounts' prices; before more, it is paused. `on_each`, `on_complete`: a Celery signature, or a URL,
        that is told of the end of each job, and of the batch; `notify_url`: a URL that is told of both.
        Raises: Invalid with the faults of up to 20 of them by position, QueueFull, or Conflict (see
        `enqueue`), and nothing enqueued.
        """
        for name in [provider] if isinstance(provider, str) else provider:
            known_provider(self.flow.exchange, name)
        if options.get("idempotency_key"):
            raise Invalid("idempotency_key: it names one job; give many of them `custom_ids`")
        told = targets(
            self.flow.notify_rules, notify_url=notify_url, on_each=on_each, on_complete=on_complete
        )
        name = batch or f"batch-{uuid.uuid4().hex[:12]}"
        options["batch"] = name
        jobs: dict[str, NewJob] = {}
        faults: list[str] = []
        for place, (each, named) in enumerate(_named(parameters, custom_ids)):
            try:
                job = self._new_job(provider, each, {**options, **named})
            except ProviderError as error:
                faults.append(f"  [{place}] {error}")
                continue
            if job.id in jobs:
                faults.append(f"  [{place}] custom_id = {job.custom_id!r}: an earlier one is called so")
            jobs[job.id] = job
        if faults:
            more = f"\n  … and {len(faults) - FAULTS_SHOWN} more" if len(faults) > FAULTS_SHOWN else ""
            shown = "\n".join(faults[:FAULTS_SHOWN])
            raise Invalid(f"{len(faults)} of {place + 1} jobs cannot be sent:\n{shown}{more}")
        tenant = options.get("tenant", "")
        name = batch_name(name, tenant)
        self.operations.prepare(name, tenant, weight, max_spend)
        if told:
            self.flow.store.notices.tell_of(name, told)
        self.flow.enqueue(list(jobs.values()))
        return Batch(self.flow, name)

    def _new_job(self, provider: Wanted, parameters: Any, options: Mapping[str, Any]) -> NewJob:
        now = self.flow.clock()
        return new_job(self.flow.exchange, None, provider, parameters, options, now)

    def job(self, job_id: str) -> Job:
        """A handle to a job of any process. Raises: JobNotFound when it is asked something."""
        return Job(self.flow, job_id)

    def batch(self, name: str) -> Batch:
        """A handle to a batch of any process; one of a tenant is called `<tenant>/<name>`."""
        return Batch(self.flow, name)

    def close(self) -> None:
        """Safe to call twice."""
        self._built.close()

    def __enter__(self) -> Orchestrator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class Result:
    """What a job that succeeded has brought."""

    job_id: str
    provider: str
    account: str
    attempts: int
    seconds: float  # from enqueue to the picture in its place
    artifacts: tuple[Artifact, ...]


class Job:
    """A handle to one job. Every property asks Redis anew."""

    def __init__(self, flow: Flow, job_id: str) -> None:
        self._flow = flow
        self.id = job_id

    @property
    def record(self) -> models.Job:
        """All that is known of it. Raises: JobNotFound."""
        return self._flow.store.job(self.id)

    @property
    def state(self) -> str:
        """queued, submitted, collecting, succeeded, failed or cancelled."""
        return self.record.state.value

    def result(self, timeout: float | None = None) -> Result:
        """Wait for the end, pushed by Redis. `timeout` in seconds; None waits for ever.

        Raises: JobFailed, JobCancelled, TimeoutError, JobNotFound. Safe to call twice.
        """
        job = self._flow.store.wait_ended(self.id, timeout)
        if job is None:
            raise TimeoutError(f"job {self.id} was {self.state} after {timeout} seconds; it goes on")
        if job.state is State.CANCELLED:
            raise JobCancelled(job.reason or f"job {job.id} was cancelled")
        if job.state is not State.SUCCEEDED or job.result is None:
            raise JobFailed(job.reason)
        fields = {**job.result, "artifacts": tuple(Artifact(**each) for each in job.result["artifacts"])}
        return Result(**fields)

    def refresh(self) -> tuple[str, ...]:
        """Ask the provider for fresh URLs of its pictures; those not kept yet are collected by them.

        Generates nothing; safe to call twice. Raises: NotFound, ProviderError, CollectFailed.
        """
        return self._flow.refresh(self.id)

    def cancel(self) -> bool:
        """Cancel it, at the provider too where it can. False where it is too late."""
        return self._flow.cancel(self.id)

    def __repr__(self) -> str:
        return f"Job({self.id!r})"


class Batch:
    """A handle to the jobs of one name."""

    def __init__(self, flow: Flow, name: str) -> None:
        self._flow = flow
        self.name = name

    def counts(self) -> dict[str, int]:
        """`total`, and jobs by state."""
        known = self._flow.store.batch(self.name)
        return {word: int(known.get(word, 0)) for word in ("total", *(state.value for state in State))}

    def jobs(self) -> list[Job]:
        """Its jobs in the order they were enqueued."""
        return [Job(self._flow, job_id) for job_id in self._flow.store.jobs_of(self.name)]

    def as_completed(self, timeout: float | None = None) -> Iterator[Job]:
        """Its jobs as they end, each once, pushed by Redis; those that ended before come first.

        Raises: TimeoutError once `timeout` seconds have passed; the jobs go on.
        """
        total, seen = self.counts()["total"], set[str]()
        if not total:
            return
        for job_id in self._flow.store.ended_in(self.name, timeout):
            if job_id in seen:
                continue
            seen.add(job_id)
            yield Job(self._flow, job_id)
            if len(seen) >= total:
                total = self.counts()["total"]
                if len(seen) >= total:
                    return

    def wait(self, timeout: float | None = None, progress: bool = False) -> dict[str, int]:
        """Wait until every job has ended, and give the counts. `progress`: show it on a terminal.

        Raises: TimeoutError; the jobs go on.
        """
        with closing(self._display() if progress else Quiet()) as shown:
            shown.running(self.name, 0)
            for _ in self._looks(timeout):
                shown.look()
        return self.counts()

    def _display(self) -> Progress | Quiet:
        console = Console(stderr=True, markup=False, highlight=False)
        insight = Insight(self._flow.store, self._flow.clock)
        return Progress(insight, console) if console.is_terminal else Quiet()

    def _looks(self, timeout: float | None) -> Iterator[None]:
        """One when something ended, and about once a second, until all has. Raises: TimeoutError."""
        give_up_at = None if timeout is None else time.monotonic() + timeout
        last = FIRST_END
        while not self._is_over():
            left = LOOK_SECONDS if give_up_at is None else give_up_at - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"batch {self.name!r} was not over after {timeout} seconds")
            _, last = self._flow.store.ended_after(self.name, last, min(LOOK_SECONDS, left))
            yield

    def _is_over(self) -> bool:
        counts = self.counts()
        return sum(counts[state.value] for state in State if state.ended) >= counts["total"]

    def __repr__(self) -> str:
        return f"Batch({self.name!r})"


def _named(
    parameters: Iterable[Mapping[str, Any]], custom_ids: Iterable[str] | None
) -> Iterator[tuple[Mapping[str, Any], Mapping[str, str]]]:
    """Each with the options that name it. Raises: Invalid where there are not as many names."""
    if custom_ids is None:
        yield from ((each, {}) for each in parameters)
        return
    nothing: Any = object()
    for each, custom_id in zip_longest(parameters, custom_ids, fillvalue=nothing):
        if nothing in (each, custom_id):
            raise Invalid("custom_ids: there must be one for each of the parameters")
        yield each, {"custom_id": custom_id}
