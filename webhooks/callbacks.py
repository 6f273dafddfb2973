"""The door for callbacks: anyone may knock. Nothing is read from Redis before the reference is genuine."""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import Any

from flask import Blueprint, Response, current_app, request
from werkzeug.exceptions import RequestEntityTooLarge

from orchestrator.errors import CallbackRefused, Malformed, StoreUnavailable
from orchestrator.events import log, warn
from webhooks.bodies import whole_body

RETRY_SECONDS = 5
MAX_BODY_BYTES = 2**20

callbacks = Blueprint("callbacks", __name__)


@callbacks.post("/callbacks/<provider>/<reference>")
def receive(provider: str, reference: str) -> Response:
    """204 taken (also twice) · 400 unreadable · 401 not genuine · 404 no such provider · 413 · 503 again."""
    flow = current_app.extensions["flow"]
    if provider not in flow.exchange.providers:
        return Response(status=404)
    began_at = time.perf_counter()
    response, verdict = _taken(flow, provider, reference)
    flow.exchange.observer.heard(provider, verdict, time.perf_counter() - began_at)
    return response


def _taken(flow: Any, provider: str, reference: str) -> tuple[Response, str]:
    """The answer to a callback, and what came of it: a word of `Flow.receive`, or why it was not taken."""
    try:
        word = flow.receive(provider, reference, request.headers, partial(whole_body, MAX_BODY_BYTES))
    except RequestEntityTooLarge:
        return Response(status=413), "too large"
    except Malformed as error:
        return _refused(400, provider, error)
    except CallbackRefused as error:
        return _refused(401, provider, error)
    except StoreUnavailable:
        log("callback.postponed", logging.ERROR, provider=provider, why="the store does not answer")
        return Response(status=503, headers={"Retry-After": str(RETRY_SECONDS)}), "postponed"
    return Response(status=204), word


def _refused(status: int, provider: str, error: CallbackRefused) -> tuple[Response, str]:
    warn("callback.refused", provider=provider, kind=type(error).__name__)
    return Response(status=status), type(error).__name__
