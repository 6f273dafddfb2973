"""What gunicorn runs: `gunicorn -c python:webhooks.operations.gunicorn_conf`."""

from __future__ import annotations

from webhooks.operations.app import create_operations
from webhooks.serving import served

app = served(create_operations)
