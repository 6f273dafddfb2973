"""`/healthz`: this process is alive. `/readyz`: Redis and the broker answer it, and it does not end."""

from __future__ import annotations

import time

from flask import Blueprint, Response, current_app

from webhooks import draining

KEPT_SECONDS = 1.0  # anyone may ask, and each answer costs a connection to the broker

health = Blueprint("health", __name__)


@health.get("/healthz")
def alive() -> Response:
    return Response("ok\n", mimetype="text/plain")


@health.get("/readyz")
def ready() -> Response:
    if draining.begun():
        return Response("ending\n", 503, mimetype="text/plain")
    kept: dict[str, tuple[float, str]] = current_app.extensions.setdefault("readiness", {})
    until, fault = kept.get("answer", (0.0, "not asked yet\n"))
    if until < time.monotonic():
        kept["answer"] = (float("inf"), fault)  # one asks; whoever comes meanwhile is told what was so before
        fault = _fault()
        kept["answer"] = (time.monotonic() + KEPT_SECONDS, fault)
    return Response(fault or "ready\n", 503 if fault else 200, mimetype="text/plain")


def _fault() -> str:
    flow = current_app.extensions["flow"]
    for name, ping in (("redis", flow.store.ping), ("broker", flow.broker.ping)):
        try:
            ping()
        except Exception as error:  # any failure means the same here: not ready
            return f"{name} does not answer ({type(error).__name__})\n"
    return ""
