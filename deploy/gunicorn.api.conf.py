"""The HTTP API in production: `gunicorn -c deploy/gunicorn.api.conf.py`. Set here what differs for you.

It listens at 127.0.0.1:8001; `--bind` names another. What ends TLS stands before it.
"""

from webhooks.api.gunicorn_conf import *  # noqa: F403
