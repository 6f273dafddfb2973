"""A plain Celery task that posts and polls in a loop.

Chosen: the gevent pool, since the task only waits; one message for each greenlet, acknowledged late, as
Celery advises for long tasks; a result backend that greenlets share (twice the rate); no chatter of workers.
"""

from __future__ import annotations

from celery import Celery
from celery.signals import worker_ready

from bench.peers import blocking, work
from bench.peers.apis import Outcome

app = Celery("peer", broker=work.REDIS_URL, backend=work.REDIS_URL)
app.conf.update(
    worker_prefetch_multiplier=1,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    result_backend_thread_safe=True,
)
http = blocking.session()
worker_ready.connect(blocking.ready)


@app.task
def generate(number: int) -> Outcome:
    return blocking.generate(http, number)


def result(job_id: str) -> Outcome | None:
    meta = app.backend.get_task_meta(job_id)
    if meta["status"] == "FAILURE":
        return {"state": "failed", "url": None}
    return meta["result"] if meta["status"] == "SUCCESS" else None


def main() -> None:
    work.serve(lambda number: generate.delay(number).id, result)
