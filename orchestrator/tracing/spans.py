"""The kinds of spans: of a stage of a job, of a part of one, of a call to somebody else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from orchestrator.errors import OrchestratorError
from orchestrator.events import about
from orchestrator.tracing.tracer import tracer

_w3c = TraceContextTextMapPropagator()


@contextmanager
def new_span(
    name: str,
    parent: Context | None = None,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Mapping[str, Any] | None = None,
) -> Iterator[Span]:
    """A span that is active within this. `parent` None: the one that is active. Errors tell their class."""
    with tracer().start_as_current_span(
        name, parent, kind, attributes, record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield span
        except OrchestratorError as error:
            _fail(span, type(error).__name__)
            raise


@contextmanager
def part(name: str, kind: SpanKind = SpanKind.INTERNAL, **attributes: Any) -> Iterator[Span]:
    """A span of what is traced already; none elsewhere."""
    if not trace.get_current_span().is_recording():
        yield INVALID_SPAN
        return
    with new_span(name, None, kind, attributes) as span:
        yield span


@contextmanager
def stage(
    name: str, traceparent: str | None, kind: SpanKind = SpanKind.INTERNAL, **fields: Any
) -> Iterator[Span]:
    """A stage of a job: a span below its first one, where the job is traced."""
    if not traceparent:
        yield INVALID_SPAN
        return
    with new_span(name, _context(traceparent), kind, ours(**fields)) as span:
        yield span


@contextmanager
def moment(name: str, traceparent: str | None, **fields: Any) -> Iterator[None]:
    """A stage that a Celery message asked for."""
    with about(**fields), stage(name, traceparent, SpanKind.CONSUMER, **fields):
        yield


def traceparent_of(span: Span) -> str | None:
    """What a job carries; None where the sampler did not take it."""
    context = span.get_span_context()
    if not context.is_valid or not context.trace_flags.sampled:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def ours(**fields: Any) -> dict[str, Any]:
    """Attributes of these names under our own prefix; what is empty is left out."""
    return {f"orchestrator.{name}": value for name, value in fields.items() if value not in (None, "")}


@contextmanager
def call(method: str, url: str) -> Iterator[Callable[[int], None]]:
    """A request of ours as a client span, without its path: paths of some URLs open what they name."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    where = {"server.address": parts.hostname or "", "server.port": port, "url.scheme": parts.scheme}
    with part(method, SpanKind.CLIENT, **{"http.request.method": method, **where}) as span:

        def answered(status: int) -> None:
            span.set_attribute("http.response.status_code", status)
            if status >= 400:
                _fail(span, str(status))

        yield answered


def _context(traceparent: str) -> Context:
    return _w3c.extract({"traceparent": traceparent}, Context())


def _fail(span: Span, kind: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR))
