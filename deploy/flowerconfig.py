"""Flower in production: `celery -A workers flower --conf=deploy/flowerconfig.py`. It needs a login.

Its pages show what was asked for, and can revoke tasks and stop workers. /metrics and /healthcheck it answers
without the login, with numbers alone: https://flower.readthedocs.io/en/latest/prometheus-integration.html
"""

import re

from orchestrator.errors import masked, without_queries
from orchestrator.local.stack import FLOWER_COLUMNS
from orchestrator.settings import environment

PASSWORD_CHARACTERS = 12
LOGIN = re.compile(rf"[^:,]+:[^,]{{{PASSWORD_CHARACTERS},}}")

logins = environment().get("FLOWER_BASIC_AUTH", "").split(",")
if not all(LOGIN.fullmatch(login) for login in logins):
    raise SystemExit(
        "Flower is not started: FLOWER_BASIC_AUTH must be user:password, or several with commas between, "
        f"each password of {PASSWORD_CHARACTERS} characters or more. "
        "For example: export FLOWER_BASIC_AUTH=orchestrator:$(openssl rand -hex 16)"
    )

basic_auth = logins
tasks_columns = environment().get("FLOWER_TASKS_COLUMNS", FLOWER_COLUMNS)
persistent = False  # its file would be a pickle of every task


def format_task(task):
    """What a page shows of a task, without e-mail addresses and queries of URLs: of your own tasks, too."""
    for name in ("args", "kwargs", "result", "exception", "traceback"):
        if getattr(task, name, None):
            setattr(task, name, masked(without_queries(str(getattr(task, name)))))
    return task
