"""What both peers on Celery share: the app, and how its client asks for a result.

Chosen: one message for each greenlet, acknowledged late, as Celery advises for long tasks; a result backend
that greenlets share (twice the rate); a connection for each greenlet that acknowledges at the same time: with
kombu's ten, the worker's connection breaks under load, and what runs then runs once more.
"""

from __future__ import annotations

from celery import Celery, states

from bench.peers import work
from bench.peers.apis import Outcome

app = Celery("peer", broker=work.REDIS_URL, backend=work.REDIS_URL)
app.conf.update(
    broker_transport_options={"max_connections": 1_000},
    worker_prefetch_multiplier=1,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    result_backend_thread_safe=True,
)


def result(job_id: str) -> Outcome | None:
    meta = app.backend.get_task_meta(job_id)
    if meta["status"] == states.FAILURE:
        return {"state": "failed", "url": None}
    return meta["result"] if meta["status"] == states.SUCCESS else None
