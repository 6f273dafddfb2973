"""OpenTelemetry: one trace of a job, from its enqueue to its end, over processes and hours.

Imported only where traces are asked for: `build` then takes these parts instead of those they are made of.
A job that is traced carries the `traceparent` of its first span among its Celery headers, and so in its
record; one that is not (nobody asked, or the sampler did not take it) has no spans anywhere.
No span holds a header, a path, a query, a prompt, or what a provider said.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.trace import INVALID_SPAN, Link, Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from orchestrator.artifacts import Artifacts
from orchestrator.broker import SUBMIT, TRACE, Broker
from orchestrator.environment import environment
from orchestrator.errors import OrchestratorError, StoreUnavailable
from orchestrator.events import about, warn
from orchestrator.flow import Flow
from orchestrator.models import Answer, Artifact, Callback, Message, NewJob, Notice, Outcome, Reply, Request
from orchestrator.notifier import Notifier
from orchestrator.redis_queues import Sent
from orchestrator.store import Store
from orchestrator.upstream import Upstream

FLUSH_SECONDS = 3.0  # for which a process that ends waits for a collector that does not answer
_w3c = TraceContextTextMapPropagator()


# --- the tracer ------------------------------------------------------------------------------------------


def _tracer() -> trace.Tracer:
    """Of the provider that the user's own code has set, else of one of ours, which is nobody else's."""
    provider = trace.get_tracer_provider()
    return _tracer_of(_own_provider() if isinstance(provider, trace.ProxyTracerProvider) else provider)


@cache
def _tracer_of(provider: trace.TracerProvider) -> trace.Tracer:
    return provider.get_tracer("orchestrator")


@cache
def _own_provider() -> trace.TracerProvider:
    """Made with the first span, and so after a fork. Told by the standard variables alone."""
    named = "OTEL_SERVICE_NAME" in environment()
    try:
        provider = TracerProvider(
            resource=Resource.create({} if named else {"service.name": "orchestrator"}),
            shutdown_on_exit=False,  # it would wait for as long as the exporter tries
        )
        provider.add_span_processor(BatchSpanProcessor(_exporter()))
    except Exception as error:  # whatever is wrong with its settings, jobs go on
        warn("tracing.failed", error=f"{type(error).__name__}: {error}")
        return trace.NoOpTracerProvider()
    atexit.register(flush)
    return provider


def _exporter() -> SpanExporter:
    if environment().get("OTEL_TRACES_EXPORTER") == "console":
        return ConsoleSpanExporter()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()


def flush() -> None:
    """Send what was not sent yet, or give it up after a few seconds. Safe to call twice."""
    if _own_provider.cache_info().currsize and isinstance(provider := _own_provider(), TracerProvider):
        sending = threading.Thread(target=provider.force_flush, name="flush-spans", daemon=True)
        sending.start()
        sending.join(FLUSH_SECONDS)


# --- spans -----------------------------------------------------------------------------------------------


@contextmanager
def _span(
    name: str,
    parent: Context | None = None,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Mapping[str, Any] | None = None,
) -> Iterator[Span]:
    """A span that is active within this. `parent` None: the one that is active. Errors tell their class."""
    with _tracer().start_as_current_span(
        name, parent, kind, attributes, record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield span
        except OrchestratorError as error:
            _fail(span, type(error).__name__)
            raise


@contextmanager
def _part(name: str, kind: SpanKind = SpanKind.INTERNAL, **attributes: Any) -> Iterator[Span]:
    """A span of what is traced already; none elsewhere."""
    if not trace.get_current_span().is_recording():
        yield INVALID_SPAN
        return
    with _span(name, None, kind, attributes) as span:
        yield span


@contextmanager
def _stage(
    name: str, traceparent: str | None, kind: SpanKind = SpanKind.INTERNAL, **fields: Any
) -> Iterator[Span]:
    """A stage of a job: a span below its first one, where the job is traced."""
    if not traceparent:
        yield INVALID_SPAN
        return
    with _span(name, _context(traceparent), kind, _ours(**fields)) as span:
        yield span


@contextmanager
def moment(name: str, traceparent: str | None, **fields: Any) -> Iterator[None]:
    """A stage that a Celery message asked for."""
    with about(**fields), _stage(name, traceparent, SpanKind.CONSUMER, **fields):
        yield


def _context(traceparent: str) -> Context:
    return _w3c.extract({"traceparent": traceparent}, Context())


def _traceparent(span: Span) -> str | None:
    """What a job carries; None where the sampler did not take it."""
    context = span.get_span_context()
    if not context.is_valid or not context.trace_flags.sampled:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def _ours(**fields: Any) -> dict[str, Any]:
    return {f"orchestrator.{name}": value for name, value in fields.items() if value not in (None, "")}


def _fail(span: Span, kind: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR))


@contextmanager
def _call(method: str, url: str) -> Iterator[Callable[[int], None]]:
    """A request of ours as a client span, without its path: paths of some URLs open what they name."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    where = {"server.address": parts.hostname or "", "server.port": port, "url.scheme": parts.scheme}
    with _part(method, SpanKind.CLIENT, **{"http.request.method": method, **where}) as span:

        def answered(status: int) -> None:
            span.set_attribute("http.response.status_code", status)
            if status >= 400:
                _fail(span, str(status))

        yield answered


def _carrying(job: NewJob, span: Span) -> NewJob:
    traceparent = _traceparent(span)
    if not traceparent:
        return job
    headers = {**(job.options.get("headers") or {}), TRACE: traceparent}
    return replace(job, options={**job.options, "headers": headers})


def _carried(options: Mapping[str, Any]) -> str | None:
    return (options.get("headers") or {}).get(TRACE)


def _traceparent_of(store: Store, job_id: str) -> str | None:
    try:
        return _carried(store.options(job_id))
    except StoreUnavailable:  # the step itself is to say so
        return None


def _job_of(attempt: str) -> str:
    return attempt.rpartition(".")[0]


# --- the parts -------------------------------------------------------------------------------------------


class TracedFlow(Flow):
    def enqueue(self, jobs: Sequence[NewJob], capped: bool = True) -> int:
        """One job: its first span, below the caller's. Many: one span for all, and each a trace of its own

        that links to it: a trace of 100,000 jobs shows nothing, and the sampler could not take some of them.
        """
        first = jobs[0] if jobs else None
        told = _ours(jobs=len(jobs), provider=first and first.provider, batch=first and first.batch)
        with _span("enqueue", None, SpanKind.PRODUCER, told) as span:
            if len(jobs) == 1:
                span.set_attributes(_ours(job=jobs[0].id))
                return super().enqueue([_carrying(jobs[0], span)], capped)
            link = [Link(span.get_span_context())]
            return super().enqueue([_carrying(job, _first_span(job, link)) for job in jobs], capped)

    def _hear(self, callback: Callback, text: str = "", source: str = "callbacks") -> str:
        attempt = callback.attempt
        carried = _traceparent_of(self.store, _job_of(attempt))
        fields = {"attempt": attempt, "provider": callback.provider, "account": callback.account}
        with _stage("callback", carried, SpanKind.SERVER, job=_job_of(attempt), **fields) as span:
            word = super()._hear(callback, text, source)
            span.set_attributes(_ours(word=word))
            return word

    def poll(self, attempt: str) -> float | None:
        job_id = _job_of(attempt)
        with _stage("poll", _traceparent_of(self.store, job_id), job=job_id, attempt=attempt):
            return super().poll(attempt)

    def cancel(self, job_id: str) -> bool:
        with _stage("cancel", _traceparent_of(self.store, job_id), job=job_id):
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
        with _part("settle", **_ours(attempt=attempt, provider=provider, account=account)) as span:
            word = super()._settle(attempt, provider, account, outcome, *args, **more)
            span.set_attributes(_ours(word=word, outcome=type(outcome).__name__.lower()))
            return word


class TracedBroker(Broker):
    def _made(self, message: Message, phase: str, more: Mapping[str, Any] | None) -> Sent | None:
        carried = _carried(message.options) if phase == SUBMIT else None
        with _stage("grant", carried, SpanKind.PRODUCER, job=message.job_id, attempt=_attempt(message)):
            return super()._made(message, phase, more)


class TracedUpstream(Upstream):
    def send(self, request: Request, timeout_seconds: float) -> Reply:
        with _call(request.method, request.url) as answered:
            reply = super().send(request, timeout_seconds)
            answered(reply.status)
            return reply

    @contextmanager
    def download(self, url: str, hosts: Sequence[str], base_url: str) -> Iterator[Iterator[bytes]]:
        with _call("GET", url) as answered, super().download(url, hosts, base_url) as chunks:
            answered(200)
            yield chunks

    def tell(
        self, url: str, headers: Mapping[str, str], body: bytes, private: bool, timeout_seconds: float
    ) -> tuple[int, str | None]:
        with _call("POST", url) as answered:
            told = super().tell(url, headers, body, private, timeout_seconds)
            answered(told[0])
            return told


class TracedArtifacts(Artifacts):
    def put(self, *args: Any, **more: Any) -> Artifact:
        with _part("store") as span:
            kept = super().put(*args, **more)
            span.set_attributes(_ours(media_type=kept.media_type, bytes=kept.bytes))
            return kept


class TracedNotifier(Notifier):
    def _try(self, notice: Notice) -> Answer:
        job_id = notice.about if notice.type.startswith("job.") else ""
        carried = _traceparent_of(self.store, job_id) if job_id else None
        with _stage("notify", carried, job=job_id, notice=notice.id, type=notice.type) as span:
            answer = super()._try(notice)
            span.set_attributes(_ours(delivered=answer.delivered))
            return answer


def _first_span(job: NewJob, links: list[Link]) -> Span:
    """Of one job among many. The sampler decides on each by itself."""
    told = _ours(job=job.id, provider=job.provider, batch=job.batch)
    span = _tracer().start_span("enqueue", Context(), SpanKind.PRODUCER, told, links)
    span.end()
    return span


def _attempt(message: Message) -> str:
    return f"{message.job_id}.{message.attempt}"
