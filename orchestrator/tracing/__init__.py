"""OpenTelemetry: one trace of a job, from its enqueue to its end, over processes and hours.

Imported only where traces are asked for: `build` then takes these parts instead of those they are made of.
A job that is traced carries the `traceparent` of its first span among its Celery headers, and so in its
record; one that is not (nobody asked, or the sampler did not take it) has no spans anywhere.
No span holds a header, a path, a query, a prompt, or what a provider said.
"""

from __future__ import annotations

from orchestrator.tracing.parts import (
    TracedArtifacts,
    TracedBroker,
    TracedFlow,
    TracedNotifier,
    TracedUpstream,
)
from orchestrator.tracing.spans import moment
from orchestrator.tracing.tracer import flush

__all__ = [
    "TracedArtifacts",
    "TracedBroker",
    "TracedFlow",
    "TracedNotifier",
    "TracedUpstream",
    "flush",
    "moment",
]
