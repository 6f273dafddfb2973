"""The parts of a flow that are traced, each as it is but for its spans."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind

from orchestrator.artifacts import Artifacts
from orchestrator.broker import SUBMIT, TRACE, Broker
from orchestrator.errors import StoreUnavailable
from orchestrator.flow import Flow
from orchestrator.models import (
    Answer,
    Artifact,
    Callback,
    Message,
    NewJob,
    Notice,
    Outcome,
    Reply,
    Request,
    attempt_id,
)
from orchestrator.notifier import Notifier
from orchestrator.redis_queues import Sent
from orchestrator.store import Store
from orchestrator.tracing import spans
from orchestrator.tracing.tracer import tracer
from orchestrator.upstream import Upstream


class TracedFlow(Flow):
    def enqueue(self, jobs: Sequence[NewJob], capped: bool = True) -> int:
        """One job: its first span, below the caller's. Many: one span for all, and each a trace of its own

        that links to it: a trace of 100,000 jobs shows nothing, and the sampler could not take some of them.
        """
        first = jobs[0] if jobs else None
        told = spans.ours(jobs=len(jobs), provider=first and first.provider, batch=first and first.batch)
        with spans.new_span("enqueue", None, SpanKind.PRODUCER, told) as span:
            if len(jobs) == 1:
                span.set_attributes(spans.ours(job=jobs[0].id))
                return super().enqueue([_carrying(jobs[0], span)], capped)
            link = [Link(span.get_span_context())]
            return super().enqueue([_carrying(job, _first_span(job, link)) for job in jobs], capped)

    def _hear(self, callback: Callback, text: str = "", source: str = "callbacks") -> str:
        attempt = callback.attempt
        carried = _carried_by(self.store, _job_of(attempt))
        fields = {"attempt": attempt, "provider": callback.provider, "account": callback.account}
        with spans.stage("callback", carried, SpanKind.SERVER, job=_job_of(attempt), **fields) as span:
            word = super()._hear(callback, text, source)
            span.set_attributes(spans.ours(word=word))
            return word

    def poll(self, attempt: str) -> float | None:
        job_id = _job_of(attempt)
        with spans.stage("poll", _carried_by(self.store, job_id), job=job_id, attempt=attempt):
            return super().poll(attempt)

    def cancel(self, job_id: str) -> bool:
        with spans.stage("cancel", _carried_by(self.store, job_id), job=job_id):
            return super().cancel(job_id)

    def _settle(
        self,
        attempt: str,
        provider: str,
        account: str,
        outcome: Outcome,
        *args: Any,
        **more: Any,
    ) -> str:
        with spans.part("settle", **spans.ours(attempt=attempt, provider=provider, account=account)) as span:
            word = super()._settle(attempt, provider, account, outcome, *args, **more)
            span.set_attributes(spans.ours(word=word, outcome=type(outcome).__name__.lower()))
            return word


class TracedBroker(Broker):
    def _made(self, message: Message, phase: str) -> Sent | None:
        carried = _carried(message.options) if phase == SUBMIT else None
        attempt = attempt_id(message.job_id, message.attempt)
        with spans.stage("grant", carried, SpanKind.PRODUCER, job=message.job_id, attempt=attempt):
            return super()._made(message, phase)


class TracedUpstream(Upstream):
    def send(self, request: Request, timeout_seconds: float) -> Reply:
        with spans.call(request.method, request.url) as answered:
            reply = super().send(request, timeout_seconds)
            answered(reply.status)
            return reply

    @contextmanager
    def download(self, url: str, hosts: Sequence[str], base_url: str) -> Iterator[Iterator[bytes]]:
        with spans.call("GET", url) as answered, super().download(url, hosts, base_url) as chunks:
            answered(200)
            yield chunks

    def tell(
        self, url: str, headers: Mapping[str, str], body: bytes, private: bool, timeout_seconds: float
    ) -> tuple[int, str | None]:
        with spans.call("POST", url) as answered:
            told = super().tell(url, headers, body, private, timeout_seconds)
            answered(told[0])
            return told


class TracedArtifacts(Artifacts):
    def put(self, *args: Any, **more: Any) -> Artifact:
        with spans.part("store") as span:
            kept = super().put(*args, **more)
            span.set_attributes(spans.ours(media_type=kept.media_type, bytes=kept.bytes))
            return kept


class TracedNotifier(Notifier):
    def _try(self, notice: Notice) -> Answer:
        job_id = notice.about if notice.type.startswith("job.") else ""
        carried = _carried_by(self.store, job_id) if job_id else None
        with spans.stage("notify", carried, job=job_id, notice=notice.id, type=notice.type) as span:
            answer = super()._try(notice)
            span.set_attributes(spans.ours(delivered=answer.delivered))
            return answer


def _first_span(job: NewJob, links: list[Link]) -> Span:
    """Of one job among many. The sampler decides on each by itself."""
    told = spans.ours(job=job.id, provider=job.provider, batch=job.batch)
    span = tracer().start_span("enqueue", Context(), SpanKind.PRODUCER, told, links)
    span.end()
    return span


def _carrying(job: NewJob, span: Span) -> NewJob:
    traceparent = spans.traceparent_of(span)
    if not traceparent:
        return job
    headers = {**(job.options.get("headers") or {}), TRACE: traceparent}
    return replace(job, options={**job.options, "headers": headers})


def _carried(options: Mapping[str, Any]) -> str | None:
    return (options.get("headers") or {}).get(TRACE)


def _carried_by(store: Store, job_id: str) -> str | None:
    try:
        return _carried(store.options(job_id))
    except StoreUnavailable:  # the step itself is to say so
        return None


def _job_of(attempt: str) -> str:
    return attempt.rpartition(".")[0]
