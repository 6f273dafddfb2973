"""The tasks: `orchestrator.generate`, which is one job, and those that see to what is due."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from celery import Celery
from celery.exceptions import Ignore, Reject
from celery.result import AsyncResult
from celery.signals import task_revoked
from celery.worker.request import Request

from orchestrator.broker import (
    FINISH,
    GENERATE,
    NOTIFY,
    PHASE,
    POLL,
    REASON,
    REFUSED,
    TICK,
    TICK_SECONDS,
)
from orchestrator.canvas import task_options
from orchestrator.errors import (
    JobCancelled,
    JobFailed,
    OrchestratorError,
    StoreUnavailable,
    masked,
    without_queries,
)
from orchestrator.flow import Flow
from orchestrator.intake import new_job
from orchestrator.models import Message, State
from workers import calls, leaving, links, revoke
from workers.moments import at_their_moments
from workers.phases import Phases
from workers.wiring import built

app: Celery = built().flow.broker.app
flow: Flow = built().flow

AGAIN_SECONDS = 1.0  # before a message is taken once more whose job could not be recorded


class _Request(Request):  # type: ignore[misc]
    """Events show the arguments by these texts; in a message that we did not send they are unmasked."""

    @property
    def argsrepr(self) -> str:
        return masked(without_queries(self._argsrepr or ""))

    @property
    def kwargsrepr(self) -> str:
        return masked(without_queries(self._kwargsrepr or ""))


class Generate(Phases):
    """One job, from enqueue to result, under one id. It runs twice and waits in between without a worker.

    `generate.s(provider, parameters, batch=…, priority=…)`. In the middle of a chain the result of the task
    before comes first: where it is a mapping of parameters it is merged below `parameters`, where it is
    anything else (such as another job's result) it is left aside; `generate.si(…)` never sees it.
    """

    name = GENERATE
    Request = _Request
    typing = False
    throws = (JobFailed, JobCancelled, OrchestratorError)
    acks_late = True
    # A prefork child that dies is no end of the task: Celery's Request.on_failure would store a failure.
    reject_on_worker_lost = True

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        task_id: str | None = None,
        **options: Any,
    ) -> AsyncResult:
        """Record the job, and let it run once there is a slot. Safe to call twice with the same `task_id`.

        Raises: Invalid, Unsupported, ConfigurationError; inside a worker the task itself fails instead, so
        that the canvas it is a part of sees it.
        """
        task_id = task_id or str(uuid.uuid4())
        options["expires"] = calls.expires_at(options.get("expires"), flow.clock(), app.timezone)
        parent = self.app.current_worker_task
        if parent:
            options["root_id"] = options.get("root_id") or parent.request.root_id or parent.request.id
            options["parent_id"] = options.get("parent_id") or parent.request.id
        result = self.AsyncResult(task_id)
        try:
            self._record(task_id, args or (), kwargs or {}, options, capped=not parent)
        except StoreUnavailable:
            raise
        except OrchestratorError as error:
            if not parent:
                raise
            flow.broker.refuse(Message(task_id, "", {}, task_options(**options), 0), str(error))
        if parent and options.get("add_to_parent", True):
            parent.add_trail(result)
        return result

    def run(self, *args: Any, **kwargs: Any) -> Any:
        request = self.request
        phase = request.get(PHASE)
        if phase == FINISH:
            return self.finish()
        if phase == REFUSED:
            raise JobFailed(request.get(REASON))
        options = {**request.as_execution_options(), "ignore_result": request.ignore_result or None}
        try:
            self._record(request.id, args, kwargs, options, capped=False)
        except StoreUnavailable as error:  # it may be recorded by now: to record it again is harmless
            time.sleep(AGAIN_SECONDS)
            raise Reject(error, requeue=True) from None
        raise Ignore("recorded")

    def _record(
        self,
        task_id: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any],
        capped: bool,
    ) -> None:
        provider, parameters, job_options = calls.asked(args, kwargs)
        if options.get("priority") is not None:
            job_options.setdefault("priority", options["priority"])
        job = new_job(
            flow.exchange,
            task_id,
            provider,
            parameters,
            job_options,
            flow.clock(),
            start_at=calls.start_at(options, flow.clock(), app.timezone),
            expires_at=calls.moment(options.get("expires"), app.timezone),
            task_options=task_options(**options),
        )
        flow.enqueue([job], capped)


generate: Generate = app.register_task(Generate())


@app.task(name=TICK, ignore_result=True, send_events=False)  # type: ignore[untyped-decorator]
def tick() -> None:
    flow.tick(horizon_seconds=TICK_SECONDS)


@app.task(name=POLL, ignore_result=True, send_events=False)  # type: ignore[untyped-decorator]
def poll(attempts: list[tuple[str, float]], until: float) -> None:
    at_their_moments(flow, attempts, until)


@app.task(name=NOTIFY, ignore_result=True, send_events=False)  # type: ignore[untyped-decorator]
def notify(host: str) -> None:
    built().notifier.send(host)


@task_revoked.connect(sender=generate)  # type: ignore[untyped-decorator]
def revoked(request: Any, terminated: bool, **_: Any) -> None:
    """A message that Celery itself discarded: it expired before its submit, or was revoked.

    One that runs ends its job by itself, or the due list does: `terminated` says so.

    Its consumer calls this, and must not wait for the provider, which may be asked to stop.
    """
    revoke.aside(_cancel if terminated else _end, [request.id])


def _cancel(job_id: str) -> None:
    if not flow.cancel(job_id):
        for job in flow.store.jobs([job_id]):
            if job.state is State.CANCELLED:
                flow.endings.stop_again(job)


def _end(job_id: str) -> None:
    _cancel(job_id)
    flow.endings.end(job_id, None, "revoked after the pictures were made")


links.hook(app)
revoke.hook(flow.cancel)
leaving.install(app, built().settings.stop_seconds, flow.endings.leases.let_go)
