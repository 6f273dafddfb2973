"""A plain Celery task that posts and polls in a loop.

Chosen: the gevent pool, since the task only waits; no chatter of workers; and what `celery_app` says.
"""

from __future__ import annotations

from celery.signals import worker_ready

from bench.peers import blocking, work
from bench.peers.apis import Outcome
from bench.peers.celery_app import app, result

http = blocking.session()
worker_ready.connect(blocking.ready)


@app.task
def generate(number: int) -> Outcome:
    return blocking.generate(http, number)


def main() -> None:
    work.serve(lambda number: generate.delay(number).id, result)
