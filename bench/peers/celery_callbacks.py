"""Celery that posts and leaves; a Flask receiver writes the outcome into Celery's result backend.

Chosen: `retry` with full jitter up to 3 seconds on a full account (up to 30 s spares POSTs and leaves a fifth
of the slots empty); `Ignore` after the POST, so that nothing can overwrite what the callback wrote, however
early it comes; gunicorn's threads, two processes for two cores. The callback is believed without a signature.
"""

from __future__ import annotations

from typing import Any

from celery import states
from celery.exceptions import Ignore
from celery.signals import worker_ready
from celery.utils.time import get_exponential_backoff_interval
from flask import Flask, request

from bench.peers import blocking, work
from bench.peers.celery_app import app, result

LONGEST_RETRY_SECONDS = 3

http = blocking.session()
worker_ready.connect(blocking.ready)
receiver = Flask(__name__)


@app.task(bind=True, max_retries=None)
def generate(self: Any, number: int) -> None:
    retries = self.request.retries
    body = work.API.order(number, retries, work.CALLBACK_URL, self.request.id)
    reply = http.post(work.API.url, json=body, timeout=30)
    if reply.status_code == 429:
        raise self.retry(
            countdown=get_exponential_backoff_interval(
                factor=1, retries=min(retries, 5), maximum=LONGEST_RETRY_SECONDS, full_jitter=True
            )
        )
    reply.raise_for_status()
    raise Ignore()


@receiver.post("/callbacks")
def callback() -> tuple[str, int]:
    task = request.get_json()
    if found := work.API.outcome(task):
        app.backend.store_result(work.API.reference(task), found, states.SUCCESS)
    return "", 204


@receiver.get("/healthz")
def healthz() -> str:
    return "ok"


def main() -> None:
    work.serve(lambda number: generate.delay(number).id, result)
