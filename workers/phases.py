"""The two times that a job's task runs: to submit it, and to finish it.

Celery's tracer is for what it alone can do: failures, and tasks that are linked to this one. What goes well
by itself is ended here, in one step with the job: leaving the tracer costs more than a submit does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

from celery import Task, states
from celery.app.trace import trace_ok_t
from celery.exceptions import Ignore, Reject
from celery.signals import task_postrun, task_prerun, task_success

from orchestrator import rows
from orchestrator.broker import ATTEMPT, FINISH, PHASE, SUBMIT, TRACE
from orchestrator.errors import JobCancelled, JobFailed, StoreUnavailable
from orchestrator.events import warn
from orchestrator.flow import Flow
from orchestrator.models import attempt_id
from orchestrator.results import Results
from workers.wiring import built

flow: Flow = built().flow
results: Results = flow.broker.results

LINKED = ("callbacks", "chain", "chord")
RAISED = "job_raised"  # of a request: how the finish, which was made already, failed


class _Left:
    """What a tracer gives that left the task as it is, as if by Celery's `Ignore`."""

    exception = Ignore()


LEFT = trace_ok_t(_Left(), info=True, runtime=0.0, retstr=None)


class _Kept(Ignore):  # type: ignore[misc]
    """Celery has the result already."""

    def __init__(self, result: Mapping[str, Any]) -> None:
        super().__init__("finished before")
        self.result = result


class Returned:
    """What the task returns: kombu stores it by `__json__`, Celery's events show it by `repr`."""

    def __init__(self, result: Mapping[str, Any]) -> None:
        self.result = result

    def __json__(self) -> Mapping[str, Any]:
        return self.result

    def __repr__(self) -> str:
        return rows.brought(self.result)


class Phases(Task):  # type: ignore[misc]
    """A task that submits where its message says so, and finishes where it says that."""

    abstract = True
    _tracer: Callable[..., Any] | None = None

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
        phase = request.get(PHASE)
        if phase == SUBMIT:
            self._submit(task_id, request, *args[:2])
            return LEFT
        trace = partial(celerys, task_id, args, kwargs)
        if phase == FINISH and _is_alone(request):
            return self._finish_alone(trace, task_id, request)
        try:
            return trace(request)
        except Reject as unsent:  # see workers/links.py; the tracer sees itself to one that the task raises
            warn("phase.postponed", job=task_id, phase=FINISH, error=str(unsent))
            return LEFT

    def _submit(
        self, job_id: str, request: Mapping[str, Any], provider: str, parameters: Mapping[str, Any]
    ) -> None:
        number = request[ATTEMPT]
        shown = None if request.get("ignore_result") else results.started(job_id, request["hostname"])
        with within(SUBMIT, job_id, request), _postponing(job_id, SUBMIT):
            alone_at = request.get("hostname", "") if _is_alone(request) else ""
            flow.submit(provider, job_id, number, parameters, shown, alone_at)

    def _finish_alone(self, trace: Callable[..., Any], job_id: str, request: Mapping[str, Any]) -> Any:
        """`trace`: Celery's, for an end that is no success."""
        began_at = time.monotonic()
        ended: Mapping[str, Any] | None = None
        try:
            with _postponing(job_id, FINISH):
                with within(FINISH, job_id, request):
                    result = flow.endings.finish(job_id, on_again=lambda: self._end_if_kept(job_id))
                if result is not None:
                    with within("end", job_id, request):
                        ended = self._ended(job_id, result, request)
        except _Kept as kept:
            ended = kept.result
        except (JobFailed, JobCancelled) as error:
            return trace({**request, RAISED: error})
        if ended is None:
            return LEFT
        returned = Returned(ended)
        return trace_ok_t(returned, None, time.monotonic() - began_at, repr(returned))

    def _ended(
        self, job_id: str, result: Mapping[str, Any], request: Mapping[str, Any]
    ) -> Mapping[str, Any] | None:
        """The result with which the task has ended; None where it has not."""
        shown = results.succeeded(job_id, result, request)
        if flow.endings.end(job_id, result, shown=shown):
            return result
        return self._kept(job_id)  # by another finish, or by this one: its reply was lost

    def _end_if_kept(self, job_id: str) -> None:
        result = self._kept(job_id)
        if result is not None:
            flow.endings.end(job_id, result)
            raise _Kept(result)

    def _kept(self, job_id: str) -> Mapping[str, Any] | None:
        """The result that Celery has; what the job is linked to was sent before."""
        known = self.backend.get_task_meta(job_id, cache=False)
        return known["result"] if known["status"] == states.SUCCESS else None

    def finish(self) -> Returned:
        """Within Celery's tracer. Raises: JobFailed; Ignore, where the task is not to be ended by this."""
        job_id = self.request.id
        with within(FINISH, job_id, self.request), _postponing(job_id, FINISH):
            try:
                result = self._outcome(job_id)
            except JobCancelled as error:
                self.backend.mark_as_revoked(job_id, str(error), request=self.request)
                self.send_event("task-revoked", terminated=False, signum=None, expired=False)
                flow.endings.end(job_id, None)
                raise Ignore("cancelled") from None
            if result is not None:
                return Returned(result)
            self._leave_if_kept(job_id)
        raise Ignore("finished elsewhere, or later")

    def _outcome(self, job_id: str) -> dict[str, Any] | None:
        if raised := self.request.get(RAISED):
            raise raised
        return flow.endings.finish(job_id, on_again=lambda: self._leave_if_kept(job_id))

    def _leave_if_kept(self, job_id: str) -> None:
        """What came after a result that Celery has is made up for."""
        result = self._kept(job_id)
        if result is None:
            return
        if self.request.chord:
            self.backend.on_chord_part_return(self.request, states.SUCCESS, result)
        self.send_event("task-succeeded", result=repr(Returned(result)), runtime=0)
        flow.endings.end(job_id, result)
        raise _Kept(result)

    def after_return(
        self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any
    ) -> None:
        if self.request.get(PHASE) != FINISH:
            return
        with within("end", task_id, self.request):
            if status == states.SUCCESS:
                flow.endings.end(task_id, retval.result)
            else:
                flow.endings.end(task_id, None, str(retval))


def _is_alone(request: Mapping[str, Any]) -> bool:
    """Whether nothing but its own result follows from the end of a task."""
    if task_prerun.receivers or task_postrun.receivers or task_success.receivers:
        return False
    return not any(request.get(name) for name in LINKED)


def within(name: str, job_id: str, request: Mapping[str, Any]) -> AbstractContextManager[None]:
    """Lines and spans in it are about this phase of the job."""
    number = request.get(ATTEMPT)
    attempt = {"attempt": attempt_id(job_id, number)} if number else {}
    return built().parts.moment(name, request.get(TRACE), job=job_id, **attempt)


@contextmanager
def _postponing(job_id: str, phase: str) -> Iterator[None]:
    """Within a phase of a recorded job only its own end may end the task; the due list sees to all else."""
    try:
        yield
    except (Ignore, JobFailed, JobCancelled):
        raise
    except Exception as error:
        unforeseen = not isinstance(error, StoreUnavailable)
        warn("phase.postponed", job=job_id, phase=phase, exc_info=unforeseen)
