"""Who answers `/metrics`: a port of its own, which is not the port that anybody else calls."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app, start_http_server

from orchestrator.events import log
from orchestrator.metrics.measured import Measured
from orchestrator.metrics.place import tell_not_served
from orchestrator.metrics.recorded import Recorded
from orchestrator.metrics.shared import Shared

if TYPE_CHECKING:
    from orchestrator.build import Built


def registry_of(built: Built, folder: Path | None = None, recorded: bool = False) -> CollectorRegistry:
    """What this process tells.

    `folder`: where it and its siblings write, whose sum it tells. `recorded`: and what stands in Redis.
    """
    flow, observer = built.flow, built.flow.observer
    registry = observer.registry if isinstance(observer, Measured) else CollectorRegistry()
    if folder:
        registry = CollectorRegistry()
        Shared(registry, folder)
    else:
        ProcessCollector(registry=registry)
    if recorded:
        registry.register(Recorded(flow.store, flow.broker, sorted(flow.exchange.providers), flow.clock))
    return registry


def wsgi_app(built: Built, folder: Path) -> Any:
    """For a server that several processes are."""
    return make_wsgi_app(registry_of(built, folder))


def serve(built: Built, folder: Path | None = None, recorded: bool = False) -> None:
    """Answers in a thread, until this process ends. A port that is taken stops nothing but this."""
    if not (address := built.settings.metrics_address):
        return
    host, port = address
    try:
        start_http_server(port, host, registry_of(built, folder, recorded))
    except OSError as error:
        tell_not_served(address, error)
    else:
        log("metrics.served", address=f"{host}:{port}")
