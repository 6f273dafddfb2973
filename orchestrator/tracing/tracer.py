"""Whose tracer makes the spans, and where they are sent."""

from __future__ import annotations

import atexit
import threading
from functools import cache

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter

from orchestrator.environment import environment
from orchestrator.events import warn

FLUSH_SECONDS = 3.0  # for which a process that ends waits for a collector that does not answer


def tracer() -> trace.Tracer:
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
