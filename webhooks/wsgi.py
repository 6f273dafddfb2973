"""What gunicorn runs: `gunicorn -c python:webhooks.gunicorn_conf`."""

from __future__ import annotations

from webhooks.app import create_app
from webhooks.serving import served

app = served(lambda built: create_app(built.flow))
