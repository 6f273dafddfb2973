"""What gunicorn runs: `gunicorn -c python:webhooks.api.gunicorn_conf`."""

from __future__ import annotations

from webhooks.api.app import create_api
from webhooks.serving import served

app = served(create_api)
