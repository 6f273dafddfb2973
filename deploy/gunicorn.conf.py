"""The receiver in production: `gunicorn -c deploy/gunicorn.conf.py`. Change here what differs for you."""

from webhooks.gunicorn_conf import *  # noqa: F403

bind = "0.0.0.0:8000"
