"""How the receiver stands on the network: `gunicorn -c python:webhooks.gunicorn_conf`.

`WEB_CONCURRENCY`: worker processes; one unless named, more than cores help nothing. `DRAIN_SECONDS`: after
SIGTERM it serves on for so long, and is not ready; 0 unless named. `FORWARDED_ALLOW_IPS`: the proxies in
front whose word on https is taken; none unless named. `GUNICORN_CMD_ARGS` and the command line win over all
of this.
"""

from __future__ import annotations

from typing import Any

from orchestrator.environment import environment
from webhooks import draining
from webhooks.metrics import on_exit as on_exit
from webhooks.metrics import on_starting as on_starting

wsgi_app = "webhooks.wsgi:app"
workers = int(environment().get("WEB_CONCURRENCY") or 1)
# gevent's: nothing that opens sockets may be imported before a worker has started, so no `preload_app`.
worker_class = "webhooks.worker.Worker"
worker_connections = 4000  # of each worker, slow ones included
logger_class = "webhooks.logs.ReceiverLogger"
loglevel = "warning"
accesslog = None  # "-" for one; it shows no reference

limit_request_line = 4094
limit_request_fields = 64
limit_request_field_size = 8190  # a list of signatures may have 4,096 characters

# Longer than a proxy in front keeps an idle connection: else it sends a callback into one that just closes.
# https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-load-balancer-attributes.html
keepalive = 75
timeout = 30
graceful_timeout = 20  # shorter than the 30 seconds that Kubernetes gives a pod

forwarded_allow_ips = environment().get("FORWARDED_ALLOW_IPS", "")
control_socket_disable = True  # it would be one file per user

drain_seconds = draining.seconds_of(environment().get("DRAIN_SECONDS", ""))


def when_ready(server: Any) -> None:
    draining.drain_first(server, drain_seconds)
