"""Flask: the callback door, and health. Knows `flow`, and nothing of Redis or Celery."""

from __future__ import annotations

from flask import Flask

from orchestrator.build import build, read_settings
from orchestrator.flow import Flow
from webhooks.callbacks import callbacks
from webhooks.health import health

MAX_BODY_BYTES = 2**20


def create_app(flow: Flow | None = None) -> Flask:
    """The receiver. `flow` None: built from the environment. Raises: ConfigurationError."""
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.extensions["flow"] = flow or build(read_settings()).flow
    app.register_blueprint(callbacks)
    app.register_blueprint(health)
    return app
