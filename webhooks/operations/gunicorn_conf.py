"""How the operations page stands on the network: as the receiver does, on a port of its own.

`gunicorn -c python:webhooks.operations.gunicorn_conf`. One process: what takes long goes on in it, beside
those who look, and a greenlet is enough for either.
"""

from webhooks.gunicorn_conf import *  # noqa: F403

wsgi_app = "webhooks.operations.wsgi:app"
bind = "127.0.0.1:5556"
workers = 1
