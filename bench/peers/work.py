"""What every peer is told by its environment, and how its client talks with whoever measures it."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from bench.peers.apis import Api, Frames, Generic, Outcome

REDIS_URL = os.environ["PEER_REDIS_URL"]
CALLBACK_PORT = int(os.environ["PEER_CALLBACK_PORT"])
CALLBACK_URL = f"http://127.0.0.1:{CALLBACK_PORT}/callbacks"
CONCURRENCY = int(os.environ["PEER_CONCURRENCY"])  # jobs that a worker runs at once
SECONDS = float(os.environ["PEER_SECONDS"])  # that a generation usually takes
EMAILS = [email for email in os.environ["PEER_EMAILS"].split(",") if email]  # none: one account, no cap
SLOTS = int(os.environ["PEER_SLOTS"])  # of each account

# redis-py gives a pool 100 connections at most, which is too few where each job at work has one of its own.
POOLED_REDIS_URL = f"{REDIS_URL}?max_connections={CONCURRENCY + 100}"

# Who polls asks first when the generation should be over. Seldomer saves little, and leaves slots empty.
POLL_SECONDS = SECONDS / 10
FULL_SECONDS = SECONDS / 8  # between two tries at full accounts, of those that wait in a loop
LOOK_SECONDS = 0.02  # between two looks of a client after a result

_PLACE = (os.environ["PEER_SIMULATOR"], os.environ["PEER_TOKEN"])
API: Api = Frames(*_PLACE, EMAILS, SLOTS) if EMAILS else Generic(*_PLACE)


@dataclass(frozen=True)
class Batch:
    """What a client is to enqueue: the jobs with these numbers, to be waited for until a monotonic moment."""

    numbers: range
    until: float

    @property
    def seconds_left(self) -> float:
        return max(0.0, self.until - time.monotonic())


def batches() -> Iterator[Batch]:
    """Says that the client is ready, then gives what it is told to do, one after the other."""
    print("ready", flush=True)
    for line in sys.stdin:
        told = json.loads(line)
        yield Batch(range(told["first"], told["first"] + told["jobs"]), time.monotonic() + told["patience"])


def tell(outcomes: Iterable[Outcome | None]) -> None:
    """Says how a batch has ended; None: a job came to no end."""
    states = [each["state"] for each in outcomes if each]
    print(json.dumps({state: states.count(state) for state in ("succeeded", "failed")}), flush=True)


def serve(enqueue: Callable[[int], Any], result: Callable[[Any], Outcome | None]) -> None:
    """The life of a client that blocks: enqueue all, then wait for one result after the other.

    That costs least: a job that has ended meanwhile takes one look. `enqueue` gives what `result` takes.
    """
    for batch in batches():
        jobs = [enqueue(number) for number in batch.numbers]
        tell([_waited(result, job, batch) for job in jobs])


def _waited(result: Callable[[Any], Outcome | None], job: Any, batch: Batch) -> Outcome | None:
    while (found := result(job)) is None and batch.seconds_left:
        time.sleep(LOOK_SECONDS)
    return found
