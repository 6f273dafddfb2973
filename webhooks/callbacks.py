"""The door for callbacks: anyone may knock. Nothing is read from Redis before the reference is genuine."""

from __future__ import annotations

import logging

from flask import Blueprint, Response, current_app, request
from werkzeug.exceptions import HTTPException

from orchestrator.errors import BadReference, CallbackRefused, Malformed, StoreUnavailable
from orchestrator.signatures import read_reference

RETRY_SECONDS = 5
MAX_BODY_BYTES = 2**20

callbacks = Blueprint("callbacks", __name__)
logger = logging.getLogger("orchestrator")


@callbacks.post("/callbacks/<provider>/<reference>")
def receive(provider: str, reference: str) -> Response:
    """204 taken (also twice) · 400 unreadable · 401 not genuine · 404 no such provider · 413 · 503 again."""
    flow = current_app.extensions["flow"]
    if provider not in flow.exchange.providers:
        return Response(status=404)
    try:
        read_reference(provider, reference, flow.exchange.keys)  # before a stranger's body is read, too
        raw_body = _body()
    except BadReference as error:
        return _refused(401, provider, error)
    except Malformed as error:
        return _refused(400, provider, error)
    if len(raw_body) > MAX_BODY_BYTES:  # a body that told no length before
        return Response(status=413)
    try:
        word = flow.receive(provider, reference, request.headers, raw_body)
    except Malformed as error:
        return _refused(400, provider, error)
    except CallbackRefused as error:
        return _refused(401, provider, error)
    except StoreUnavailable:
        logger.error("callback.postponed provider=%s: the store does not answer", provider)
        return Response(status=503, headers={"Retry-After": str(RETRY_SECONDS)})
    logger.info("callback.received provider=%s word=%s", provider, word)
    return Response(status=204)


def _body() -> bytes:
    """Raises: Malformed where it breaks off; RequestEntityTooLarge where it says itself that it is."""
    try:
        raw_body = request.get_data(cache=False)
    except HTTPException:
        raise
    except Exception as error:  # gunicorn has its own, as for a chunk that is none
        raise Malformed("the body broke off") from error
    if request.content_length not in (None, len(raw_body)):
        raise Malformed("the body broke off")
    return raw_body


def _refused(status: int, provider: str, error: CallbackRefused) -> Response:
    logger.warning("callback.refused provider=%s kind=%s", provider, type(error).__name__)
    return Response(status=status)
