"""Metrics of a worker and of the ticker, on a port of their own where `ORCHESTRATOR_METRICS_PORT` says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from celery.signals import beat_init, worker_ready

from workers.wiring import built, metrics_folder


@worker_ready.connect  # type: ignore[untyped-decorator]
def serve_of_worker(**_: Any) -> None:
    _serve(metrics_folder())


@beat_init.connect  # type: ignore[untyped-decorator]
def serve_of_ticker(**_: Any) -> None:
    _serve(metrics_folder(), recorded=True)


def _serve(folder: Path | None, recorded: bool = False) -> None:
    if not built().settings.metrics_address:
        return
    from orchestrator.metrics.serving import serve  # only where it is asked for: it takes time and memory

    serve(built(), folder, recorded)
