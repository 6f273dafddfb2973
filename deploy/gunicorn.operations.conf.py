"""The operations page in production: `gunicorn -c deploy/gunicorn.operations.conf.py`. Set here what differs.

It listens at 127.0.0.1:5556 and needs FLOWER_BASIC_AUTH; `--bind` names another address. What ends TLS stands
before it.
"""

from webhooks.operations.gunicorn_conf import *  # noqa: F403
