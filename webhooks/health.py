"""`/healthz`: this process is alive. `/readyz`: Redis and the broker answer it."""

from __future__ import annotations

from flask import Blueprint, Response, current_app

health = Blueprint("health", __name__)


@health.get("/healthz")
def alive() -> Response:
    return Response("ok\n", mimetype="text/plain")


@health.get("/readyz")
def ready() -> Response:
    flow = current_app.extensions["flow"]
    for name, ping in (("redis", flow.store.ping), ("broker", flow.broker.ping)):
        try:
            ping()
        except Exception as error:  # any failure means the same here: not ready
            return Response(f"{name} does not answer ({type(error).__name__})\n", 503, mimetype="text/plain")
    return Response("ready\n", mimetype="text/plain")
