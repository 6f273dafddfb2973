"""Parts of the product that kill themselves at a chosen point, once: for the tests, loaded by nothing else.

`celery -A tests.crashing worker`, `gunicorn tests.crashing:receiver`, `python -m tests.crashing enqueue …`.
A file in CRASH_FOLDER is a crash to come: its name is the text, such as a job's id, that must occur in the
arguments of a call; its content is the point, such as `before Jobs.open`. It is renamed as it happens.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator import Orchestrator
from orchestrator.artifacts import Artifacts
from orchestrator.broker import Broker
from orchestrator.exchange import Exchange
from orchestrator.intake import new_job
from orchestrator.store import jobs
from orchestrator.store.link import Link
from orchestrator.watch import Watch

METHODS = (
    (Artifacts, "put"),
    (Artifacts, "describe"),
    (Broker, "finish"),
    (Broker, "go_on"),
    (Broker, "poll"),
    (Broker, "submit"),
    (Exchange, "submit"),
    (jobs.Jobs, "begin_finish"),
    (jobs.Jobs, "end"),
    (jobs.Jobs, "open"),
    (jobs.Jobs, "settle"),
    (Link, "step"),
    (Watch, "look"),
    (Watch, "submitted"),
)
HAPPENED = ".happened"
SILENT = "silent"  # a plan of this name: the worker that finds it first consumes nothing any more


def crash_if_asked(folder: Path, point: str, arguments: str) -> None:
    for plan in folder.iterdir():
        if plan.suffix == HAPPENED or plan.name not in arguments:
            continue
        with contextlib.suppress(FileNotFoundError):  # another process was killed by it
            if plan.read_text() == point:
                plan.rename(plan.with_suffix(HAPPENED))
                os.kill(os.getpid(), signal.SIGKILL)


def crashing(folder: Path, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        arguments = repr((args, kwargs))
        crash_if_asked(folder, f"before {name}", arguments)
        result = method(self, *args, **kwargs)
        crash_if_asked(folder, f"after {name}", arguments)
        return result

    return wrapped


if "CRASH_FOLDER" in os.environ:
    for owner, method in METHODS:
        name = f"{owner.__name__}.{method}"
        setattr(owner, method, crashing(Path(os.environ["CRASH_FOLDER"]), name, getattr(owner, method)))


def silence(consumer: Any) -> None:
    """A worker that stays connected and consumes nothing, as after a reconnect that went wrong."""
    asked = Path(os.environ["CRASH_FOLDER"]) / SILENT
    while not asked.exists():
        time.sleep(0.2)
    consumer.call_soon(consumer.task_consumer.cancel)
    asked.unlink()


def silent_when_asked(sender: Any, **_: Any) -> None:
    threading.Thread(target=silence, args=(sender,), daemon=True).start()


def __getattr__(name: str) -> Any:
    if name == "app":
        from celery.signals import worker_ready

        from workers import app, watchdog

        watchdog.LOOK_SECONDS = 0.5
        # On the command line Celery takes `--pool=prefork` for no choice at all.
        app.conf.worker_pool = os.environ.get("WORKER_POOL", app.conf.worker_pool)
        worker_ready.connect(silent_when_asked)
        return app
    if name == "receiver":
        from webhooks.wsgi import app as receiver

        return receiver
    raise AttributeError(name)


def as_client(verb: str, provider: str, *words: str) -> None:
    """What a caller's own process does."""
    with Orchestrator.from_env() as orchestrator:
        flow = orchestrator.flow
        if verb == "enqueue":
            (job_id,) = words
            parameters = {"text_prompt": job_id}
            flow.enqueue([new_job(flow.exchange, job_id, provider, parameters, {"batch": "crashes"}, 0.0)])
        elif verb == "enqueue_many":
            batch, first, last = words[0], int(words[1]), int(words[2])
            prompts = [{"text_prompt": f"{batch} {n}"} for n in range(first, last)]
            orchestrator.enqueue_many(provider, prompts, batch=batch)
        elif verb == "cancel":
            orchestrator.job(words[0]).cancel()


if __name__ == "__main__":
    jobs.JOBS_PER_CALL = 10  # a batch is enqueued in several steps
    as_client(*sys.argv[1:])
