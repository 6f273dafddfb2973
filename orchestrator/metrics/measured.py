"""What only this process knows: how long each thing took that it did, and how it went."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics

from orchestrator.observer import Observer

if TYPE_CHECKING:
    from orchestrator.models import Artifact

# Seconds. A stage lasts from a moment to hours, a call up to its time limit; the rest is a matter of moments.
STAGE = (0.1, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 300, 600, 1800, 3600, 14400)
CALL = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
MOMENT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
AT_THE_PROVIDER = ("succeeded", "failed", "lost")  # verdicts of attempts that it worked on

disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each of ours, which nobody reads


class Measured(Observer):
    """Keeps it, for `registry` to be asked. Thread-safe."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._stage = self._seconds(
            "stage", "Time of a job by stage: wait, upstream, collect, whole.", STAGE, "provider", "stage"
        )
        self._refill = self._seconds("refill", "From the grant of a slot to the submit.", MOMENT, "provider")
        self._http = self._seconds(
            "http", "Answers of providers, by call and class of status.", CALL, "provider", "call", "status"
        )
        self._callback = self._seconds(
            "callback", "Handling of callbacks, by what came of them.", MOMENT, "provider", "verdict"
        )
        self._api = self._seconds(
            "api", "Answers of the HTTP API, by endpoint and class of status.", CALL, "endpoint", "status"
        )
        self._poll_lag = self._seconds("poll_lag", "By how much polls came after their moment.", MOMENT)
        self._tick = self._seconds("tick", "Seeing to what is due.", MOMENT)
        self._errors = self._count("attempt_errors", "Attempts closed with an error.", "provider", "error")
        self._collect_failures = self._count(
            "collect_failures", "Pictures that could not be kept, by error.", "provider", "error"
        )
        self._artifacts = self._count("artifacts", "Artifacts that were kept.", "provider")
        self._artifact_bytes = self._count("artifact_bytes", "Size of what was kept.", "provider")
        self._publish_failures = self._count("publish_failures", "Messages the broker did not take.", "what")

    def opened(self, provider: str, waited: float | None, refilled: float) -> None:
        self._refill.labels(provider).observe(max(0.0, refilled))
        if waited is not None:
            self._stage.labels(provider, "wait").observe(max(0.0, waited))

    def closed(self, provider: str, verdict: str, error: str, seconds: float | None) -> None:
        if error:
            self._errors.labels(provider, error).inc()
        if seconds is not None and verdict in AT_THE_PROVIDER:
            self._stage.labels(provider, "upstream").observe(max(0.0, seconds))

    def called(self, provider: str, call: str, status: int | None, seconds: float) -> None:
        self._http.labels(provider, call, status_class(status)).observe(seconds)

    def heard(self, provider: str, verdict: str, seconds: float) -> None:
        self._callback.labels(provider, verdict).observe(seconds)

    def collected(
        self, provider: str, seconds: float, whole_seconds: float, artifacts: Sequence[Artifact]
    ) -> None:
        self._stage.labels(provider, "collect").observe(max(0.0, seconds))
        self._stage.labels(provider, "whole").observe(max(0.0, whole_seconds))
        self._artifacts.labels(provider).inc(len(artifacts))
        self._artifact_bytes.labels(provider).inc(sum(artifact.bytes or 0 for artifact in artifacts))

    def not_collected(self, provider: str, error: str) -> None:
        self._collect_failures.labels(provider, error).inc()

    def polled(self, late: float) -> None:
        self._poll_lag.observe(max(0.0, late))

    def ticked(self, seconds: float) -> None:
        self._tick.observe(max(0.0, seconds))

    def not_published(self, what: str) -> None:
        self._publish_failures.labels(what).inc()

    def answered(self, endpoint: str, status: int, seconds: float) -> None:
        self._api.labels(endpoint, status_class(status)).observe(seconds)

    def _seconds(self, name: str, about: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(
            f"orchestrator_{name}_seconds", about, labels, buckets=buckets, registry=self.registry
        )

    def _count(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"orchestrator_{name}_total", about, labels, registry=self.registry)


def status_class(status: int | None) -> str:
    """2xx, 3xx, 4xx, 429, 5xx; `none`: there was no answer."""
    if status is None or not 100 <= status < 600:
        return "none"
    return "429" if status == 429 else f"{status // 100}xx"
