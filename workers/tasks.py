"""The tasks: `orchestrator.generate`, which is one job, and the two that look after what is due."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import Any

from celery import Celery, Task, states
from celery.app.trace import trace_ok_t
from celery.exceptions import Ignore
from celery.result import AsyncResult
from celery.signals import task_revoked
from celery.utils.time import maybe_make_aware
from celery.worker.request import Request

from orchestrator import rows
from orchestrator.broker import (
    ATTEMPT,
    FINISH,
    GENERATE,
    NOTIFY,
    PHASE,
    POLL,
    REASON,
    REFUSED,
    SUBMIT,
    TICK,
    TICK_SECONDS,
    TRACE,
    task_options,
)
from orchestrator.errors import (
    JobCancelled,
    JobFailed,
    OrchestratorError,
    StoreUnavailable,
    masked,
    without_queries,
)
from orchestrator.events import warn
from orchestrator.flow import Flow
from orchestrator.intake import new_job
from orchestrator.models import Message, attempt_id
from workers import leaving, revoke
from workers.moments import at_their_moments
from workers.results import Results
from workers.wiring import built

app: Celery = built().flow.broker.app
flow: Flow = built().flow


class _Left:
    """What a tracer gives that left the task as it is, as if by Celery's `Ignore`."""

    exception = Ignore()


LEFT = _Left()


class _Shown:
    """What the task returns: kombu stores it by `__json__`, Celery's events show it by `repr`."""

    def __init__(self, result: Mapping[str, Any]) -> None:
        self.result = result

    def __json__(self) -> Mapping[str, Any]:
        return self.result

    def __repr__(self) -> str:
        return rows.brought(self.result)


class _Request(Request):  # type: ignore[misc]
    """Events show the arguments by these texts; in a message that we did not send they are unmasked."""

    @property
    def argsrepr(self) -> str:
        return masked(without_queries(self._argsrepr or ""))

    @property
    def kwargsrepr(self) -> str:
        return masked(without_queries(self._kwargsrepr or ""))


class Generate(Task):  # type: ignore[misc]
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
    _tracer: Callable[..., Any] | None = None
    # A prefork child that dies is no end of the task: Celery's Request.on_failure would store a failure.
    reject_on_worker_lost = True

    @cached_property
    def backend(self) -> Results:
        """Where its tracer and its own code keep its states."""
        return Results(self.app.backend)

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
        options["expires"] = _expires(options.get("expires"))
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

    @property
    def __trace__(self) -> Callable[..., Any] | None:
        return self._tracer

    @__trace__.setter
    def __trace__(self, celerys: Callable[..., Any] | None) -> None:
        self._tracer = celerys and partial(self._trace, celerys)

    def _trace(
        self,
        celerys: Callable[..., Any],
        task_id: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        request: Mapping[str, Any],
    ) -> Any:
        """Celery's tracer is for what may end the task: leaving it again costs more than a submit does."""
        if request.get(PHASE) != SUBMIT:
            return celerys(task_id, args, kwargs, request)
        self._submit(task_id, request, *args[:2])
        return trace_ok_t(LEFT, info=True, runtime=0.0, retstr=None)

    def run(self, *args: Any, **kwargs: Any) -> Any:
        request = self.request
        phase = request.get(PHASE)
        if phase == FINISH:
            return self._finish()
        if phase == REFUSED:
            raise JobFailed(request.get(REASON))
        options = {**request.as_execution_options(), "ignore_result": request.ignore_result or None}
        self._record(request.id, args, kwargs, options, capped=False)
        raise Ignore("recorded")

    def _submit(
        self, job_id: str, request: Mapping[str, Any], provider: str, parameters: Mapping[str, Any]
    ) -> None:
        number, shown = request[ATTEMPT], None
        if number == 1 and not request.get("ignore_result"):
            shown = flow.broker.started(job_id, request["hostname"])
        with _within(SUBMIT, job_id, request), _postponing(job_id, SUBMIT):
            flow.submit(provider, job_id, number, parameters, shown)

    def after_return(
        self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any
    ) -> None:
        if self.request.get(PHASE) != FINISH:
            return
        with _within("end", task_id, self.request):
            if status == states.SUCCESS:
                flow.end(task_id, retval.result)
            else:
                flow.end(task_id, None, str(retval))

    def _record(
        self,
        task_id: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any],
        capped: bool,
    ) -> None:
        provider, parameters, job_options = _asked(args, kwargs)
        if options.get("priority") is not None:
            job_options.setdefault("priority", options["priority"])
        job = new_job(
            flow.exchange,
            task_id,
            provider,
            parameters,
            job_options,
            flow.clock(),
            start_at=_start_at(options),
            expires_at=_moment(options.get("expires")),
            task_options=task_options(**options),
        )
        flow.enqueue([job], capped)

    def _finish(self) -> _Shown:
        job_id = self.request.id
        with _within(FINISH, job_id, self.request), _postponing(job_id, FINISH):
            try:
                result = flow.finish(job_id, on_again=lambda: self._leave_if_kept(job_id))
            except JobCancelled as error:
                self.backend.mark_as_revoked(job_id, str(error), request=self.request)
                self.send_event("task-revoked", terminated=False, signum=None, expired=False)
                flow.end(job_id, None)
                raise Ignore("cancelled") from None
            if result is not None:
                return _Shown(result)
            self._leave_if_kept(job_id)
        raise Ignore("finished elsewhere, or later")

    def _leave_if_kept(self, job_id: str) -> None:
        """Where Celery has the result, what the job is linked to was sent: what came after is made up for."""
        known = self.backend.get_task_meta(job_id, cache=False)
        if known["status"] != states.SUCCESS:
            return
        if self.request.chord:
            self.backend.on_chord_part_return(self.request, states.SUCCESS, known["result"])
        self.send_event("task-succeeded", result=repr(_Shown(known["result"])), runtime=0)
        flow.end(job_id, known["result"])
        raise Ignore("finished before")


def _within(name: str, job_id: str, request: Mapping[str, Any]) -> AbstractContextManager[None]:
    number = request.get(ATTEMPT)
    attempt = {"attempt": attempt_id(job_id, number)} if number else {}
    return built().parts.moment(name, request.get(TRACE), job=job_id, **attempt)


@contextmanager
def _postponing(job_id: str, phase: str) -> Iterator[None]:
    """Within a phase of a recorded job only its own end may end the task; the due list sees to all else."""
    try:
        yield
    except (Ignore, JobFailed):
        raise
    except Exception as error:
        unforeseen = not isinstance(error, StoreUnavailable)
        warn("phase.postponed", job=job_id, phase=phase, exc_info=unforeseen)


def _asked(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
    """Provider, parameters and job options of a call, with a chain's previous result merged in."""
    options = dict(kwargs)
    positional = list(args)
    if positional and isinstance(positional[-1], str) and not {"provider", "parameters"} & options.keys():
        positional.append({})  # `generate.s(provider)`: all parameters come from the task before
    parameters = (
        options.pop("parameters") if "parameters" in options else positional.pop() if positional else {}
    )
    provider = options.pop("provider") if "provider" in options else positional.pop() if positional else None
    previous = positional[0] if positional else None
    if isinstance(previous, Mapping) and "artifacts" not in previous and isinstance(parameters, Mapping):
        parameters = {**previous, **parameters}
    return provider, parameters, options


def _expires(expires: Any) -> str | None:
    """The moment as text. Seconds count from the call, not from a message that is sent later."""
    if isinstance(expires, int | float):
        expires = datetime.fromtimestamp(flow.clock() + expires, UTC)
    if isinstance(expires, datetime):
        expires = maybe_make_aware(expires, app.timezone).isoformat()
    return expires or None


def _start_at(options: Mapping[str, Any]) -> float:
    """`countdown` and `eta` in unix seconds: they wait in the due list, never in a worker."""
    if options.get("countdown"):
        return flow.clock() + float(options["countdown"])
    return _moment(options.get("eta"))


def _moment(told: Any) -> float:
    """Unix seconds of a moment, or of its ISO 8601 text; 0 for none."""
    if isinstance(told, str):
        told = datetime.fromisoformat(told)
    return float(maybe_make_aware(told, app.timezone).timestamp()) if told else 0.0


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
def revoked(request: Any, expired: bool, **_: Any) -> None:
    """A message that Celery itself discarded: it expired before its submit, or was revoked."""
    flow.cancel(request.id)
    flow.end(request.id, None, "revoked after the pictures were made")


revoke.hook(flow.cancel)
leaving.install(app, built().settings.stop_seconds, flow.leases.let_go)
