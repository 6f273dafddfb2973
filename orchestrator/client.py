"""The public Python API: `Orchestrator`, the way in."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from itertools import zip_longest
from typing import Any

from orchestrator.batches import Batches, Terms
from orchestrator.build import Built, build, read_settings
from orchestrator.errors import Invalid, ProviderError
from orchestrator.flow import Flow
from orchestrator.handles import Batch, Job, Result
from orchestrator.insight import Insight
from orchestrator.intake import known_provider, new_job
from orchestrator.models import NewJob, batch_name
from orchestrator.operations import Operations
from orchestrator.outbox import Outbox
from orchestrator.schemas import JobOptions, check

__all__ = ["Batch", "Job", "Orchestrator", "Result"]

FAULTS_SHOWN = 20
OF_MANY = ("custom_ids", *(field.name for field in fields(Terms)))  # what `enqueue_many` takes of the whole
Wanted = str | Sequence[str]  # a provider, or several of which any will do


class Orchestrator:
    """The way in. Thread-safe; close it, or use it as a context manager."""

    def __init__(self, built: Built) -> None:
        self._built = built
        self.flow: Flow = built.flow
        providers = tuple(built.flow.exchange.providers)
        self.operations = Operations(built.flow.store, built.flow.broker, built.flow.clock, providers)
        """What a person tells the running product: limits, pauses, dead letters."""
        self.batches = Batches(self.flow, self.operations)
        """What is done to a batch as a whole."""
        self.outbox = Outbox(built.flow.store, built.flow.clock)
        """Notices that wait or are dead: what must be told of ends."""
        self.insight = Insight(built.flow.store, built.flow.clock)
        """What a person asks of it: why a job waits, when a batch will end."""

    @property
    def owns_server(self) -> bool:
        """Whether this process has started the embedded server, which ends with it."""
        return self._built.server is not None

    @classmethod
    def from_env(cls) -> Orchestrator:
        """Raises: ConfigurationError with everything that is wrong in the environment."""
        return cls(build(read_settings(), lean=True))

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
        told = {**options, "batch": batch}
        job = new_job(self.flow.exchange, None, provider, parameters, told, self.flow.clock())
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
        max_failures: int | None = None,
        max_failure_share: float | None = None,
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
        accounts' prices; before more, it is paused. `max_failures`, `max_failure_share`: once so many of its
        jobs, or such a share of at least 20 that ended, have failed, it is paused, until it is resumed.
        `on_each`, `on_complete`: a Celery signature, or a URL, that is told of the end of each job, and of
        the batch; `notify_url`: a URL that is told of both.
        Raises: Invalid with the faults of up to 20 of them by position, QueueFull, or Conflict (see
        `enqueue`), and nothing enqueued.
        """
        for name in [provider] if isinstance(provider, str) else provider:
            known_provider(self.flow.exchange, name)
        if options.get("idempotency_key"):
            raise Invalid("idempotency_key: it names one job; give many of them `custom_ids`")
        terms = Terms(weight, max_spend, max_failures, max_failure_share, notify_url, on_each, on_complete)
        name = batch or f"batch-{uuid.uuid4().hex[:12]}"
        options["batch"] = name
        common, now = check(JobOptions, options, "job options", OF_MANY), self.flow.clock()
        jobs: dict[str, NewJob] = {}
        faults: list[str] = []
        for place, (each, named) in enumerate(_named(parameters, custom_ids)):
            try:
                job = new_job(self.flow.exchange, None, provider, each, named, now, common=common)
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
        self.batches.agree(name, tenant, terms)
        self.flow.enqueue(list(jobs.values()))
        return Batch(self.flow, name)

    def job(self, job_id: str) -> Job:
        """A handle to a job of any process. Raises: JobNotFound when it is asked something."""
        return Job(self.flow, job_id)

    def batch(self, name: str) -> Batch:
        """A handle to a batch of any process; one of a tenant is called `<tenant>/<name>`."""
        return Batch(self.flow, name)

    @contextmanager
    def filling(self, batch: str, producer: str = "") -> Iterator[Batch]:
        """Within this, a batch that is enqueued bit by bit is not over, although all so far may have ended.

        `enqueue_many` sees to that for its own jobs. `batch`: one of a tenant is called `<tenant>/<name>`.
        An exception, or the death of the process, leaves it so for 600 seconds: for the producer that comes
        back. Coming back with the same `producer`, a name of one's own, it takes its own place again.
        Raises: Invalid.
        """
        with self.batches.filling(batch, producer):
            yield self.batch(batch)

    def close(self) -> None:
        """Safe to call twice."""
        self._built.close()

    def __enter__(self) -> Orchestrator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


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
