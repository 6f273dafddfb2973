"""The Flask app: its doors, and what all of its answers have in common."""

from __future__ import annotations

from flask import Flask, Response
from werkzeug.exceptions import HTTPException

from orchestrator.build import build, read_settings
from orchestrator.flow import Flow
from webhooks.callbacks import MAX_BODY_BYTES, callbacks
from webhooks.headers import HEADERS
from webhooks.health import health


def create_app(flow: Flow | None = None) -> Flask:
    """The receiver. `flow` None: built from the environment. Raises: ConfigurationError."""
    app = Flask(__name__, static_folder=None)
    # One byte more than is taken: werkzeug cuts a body that tells no length, and the door must see that.
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES + 1
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.url_map.merge_slashes = False  # it answers with a redirect, which repeats the path
    app.extensions["flow"] = flow or build(read_settings()).flow
    app.register_blueprint(callbacks)
    app.register_blueprint(health)
    app.register_error_handler(HTTPException, _bare)
    app.after_request(_hardened)
    return app


def _bare(error: HTTPException) -> Response:
    """A refusal that tells its status alone."""
    allow = [(name, text) for name, text in error.get_headers() if name == "Allow"]
    return Response(status=error.code, headers=allow)


def _hardened(response: Response) -> Response:
    response.headers.update(HEADERS)
    if not response.content_length:
        del response.headers["Content-Type"]
    return response
