"""What gunicorn runs: `gunicorn -c python:webhooks.gunicorn_conf`."""

from __future__ import annotations

from webhooks.app import create_app
from webhooks.gathering import gathered
from webhooks.serving import served

app = served(lambda built: create_app(gathered(built.flow)))
