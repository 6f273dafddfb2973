"""The receiver in production: `gunicorn -c deploy/gunicorn.conf.py`. Set here what differs for you.

It listens at 127.0.0.1:8000, or on every address at `PORT` where that is set; `--bind` names another.
"""

from webhooks.gunicorn_conf import *  # noqa: F403
