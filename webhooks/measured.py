"""How long the requests of an app took, and how they were answered."""

from __future__ import annotations

import time

from flask import Flask, Response, g, request

from orchestrator.observer import Observer


def measure(app: Flask, observer: Observer) -> None:
    """Tell an observer of each request: its endpoint, which is ours, and never its path."""

    @app.before_request
    def begin() -> None:
        g.began_at = time.perf_counter()

    @app.after_request
    def end(response: Response) -> Response:
        seconds = time.perf_counter() - g.get("began_at", time.perf_counter())
        observer.answered(request.endpoint or "none", response.status_code, seconds)
        return response
