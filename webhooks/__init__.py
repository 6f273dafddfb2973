"""Flask: the callback door, and health. Knows `flow`, and nothing of Redis or Celery."""

from __future__ import annotations

from flask import Flask

from orchestrator.build import build, read_settings
from orchestrator.flow import Flow
from webhooks.callbacks import MAX_BODY_BYTES, callbacks
from webhooks.health import health


def create_app(flow: Flow | None = None) -> Flask:
    """The receiver. `flow` None: built from the environment. Raises: ConfigurationError."""
    app = Flask(__name__, static_folder=None)
    # One byte more than is taken: werkzeug cuts a body that tells no length, and the door must see that.
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES + 1
    app.extensions["flow"] = flow or build(read_settings()).flow
    app.register_blueprint(callbacks)
    app.register_blueprint(health)
    return app
