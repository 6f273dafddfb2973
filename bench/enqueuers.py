"""Those that enqueue, each in a process of its own: `python -m bench.enqueuers NAME JOBS`. Says JSON.

The server and the accounts are in the environment, as a client of the product finds them.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable, Mapping

from celery import Celery

from bench.batch import prompts
from bench.contestants import OURS
from bench.stack import FRAMES, PROMPT_CHARACTERS
from orchestrator import Orchestrator

BATCH = "enqueue"
RSS_UNIT = 1 if sys.platform == "darwin" else 1024


def product(url: str, parameters: Iterable[Mapping[str, str]]) -> None:
    with Orchestrator.from_env() as orchestrator:
        orchestrator.enqueue_many(FRAMES, parameters, batch=BATCH)


def celery(url: str, parameters: Iterable[Mapping[str, str]]) -> None:
    """What a user would write: one call for each."""
    app = Celery("peer", broker=url)

    @app.task
    def generate(each: Mapping[str, str]) -> None:
        raise NotImplementedError

    for each in parameters:
        generate.apply_async((each,))


ENQUEUERS: dict[str, Callable[[str, Iterable[Mapping[str, str]]], None]] = {
    OURS: product,
    "celery": celery,
}


def main(name: str, jobs: int) -> None:
    begun, cpu = time.monotonic(), time.process_time()
    ENQUEUERS[name](os.environ["ORCHESTRATOR_REDIS_URL"], prompts(jobs, characters=PROMPT_CHARACTERS))
    seconds, cpu_seconds = time.monotonic() - begun, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_bytes": peak}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
