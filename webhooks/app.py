"""The receiver's app: the callback door and health, and nothing else."""

from __future__ import annotations

from flask import Flask, Response
from werkzeug.exceptions import HTTPException

from orchestrator.build import build, read_settings
from orchestrator.flow import Flow
from webhooks.callbacks import MAX_BODY_BYTES, callbacks
from webhooks.hardened import harden
from webhooks.health import health


def create_app(flow: Flow | None = None) -> Flask:
    """The receiver. `flow` None: built from the environment. Raises: ConfigurationError."""
    app = Flask(__name__, static_folder=None)
    harden(app, MAX_BODY_BYTES)
    app.extensions["flow"] = flow or build(read_settings()).flow
    app.register_blueprint(callbacks)
    app.register_blueprint(health)
    app.register_error_handler(HTTPException, _bare)
    return app


def _bare(error: HTTPException) -> Response:
    """A refusal that tells its status alone."""
    allow = [(name, text) for name, text in error.get_headers() if name == "Allow"]
    return Response(status=error.code, headers=allow)
