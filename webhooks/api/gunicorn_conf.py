"""How the API stands on the network: as the receiver does, on a port of its own.

`gunicorn -c python:webhooks.api.gunicorn_conf`. gevent's worker again: who waits for a job, or uploads
slowly, holds a greenlet and no thread; what computes for long gives way now and then (`uploads.breather`).
"""

from orchestrator.environment import environment
from webhooks.gunicorn_conf import *  # noqa: F403

wsgi_app = "webhooks.api.wsgi:app"
bind = "127.0.0.1:8001"
workers = int(environment().get("WEB_CONCURRENCY") or 2)  # to check a large batch takes a core for a while
