"""What a test file leaves behind: the next one of its process would count it, wait for it, or run into it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Mapping
from typing import Any

import redis
import requests

from orchestrator.local.stack import Stack

OWN_ENDS_SECONDS = 30.0  # what ends by itself may do so
LEARNED = ("rest_until", "learned", "elsewhere")  # of an account
ONCE_SET = ("orc:paused", "orc:weights", "orc:collecting", "orc:storage", "orc:uncertain", "orc:notices")


def left_at(stack: Stack) -> dict[str, Any]:
    """What is still there of a stack's work once all that ends by itself has ended; empty: nothing."""
    give_up_at = time.monotonic() + OWN_ENDS_SECONDS
    while found := {**_left_upstream(stack), **_left_in_store(stack)}:
        if time.monotonic() > give_up_at:
            break
        time.sleep(0.1)
    return found


def of_this_process() -> dict[str, Any]:
    """Its environment and its loggers, to be compared with how they were."""
    loggers = (logging.getLogger(name) for name in (None, "orchestrator", "celery"))
    said = {f"logger {each.name}": (each.level, each.disabled, each.propagate) for each in loggers}
    return {**os.environ, **said}


def changed(before: Mapping[str, Any], expected: Iterable[str]) -> dict[str, Any]:
    """What of this process is not as it was, but for what is `expected` to: (before, now) of each."""
    now = of_this_process()
    names = (before.keys() | now.keys()) - {"PYTEST_CURRENT_TEST", *expected}
    return {name: (before.get(name), now.get(name)) for name in names if before.get(name) != now.get(name)}


def _left_upstream(stack: Stack) -> dict[str, Any]:
    told = requests.get(f"{stack.simulator_url}/__tasks__", timeout=30).json()["tasks"]
    generations = [task["prompt"][:60] for task in told if task["ended_at"] is None]
    return {"generations": generations} if generations else {}


def _left_in_store(stack: Stack) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with redis.Redis.from_url(stack.redis_url, decode_responses=True) as client:
        # What else is due there (an account, a batch that is over) is looked at, and nothing comes of it.
        found["due"] = [name for name in client.zrange("orc:due", 0, -1) if name.startswith("job:")]
        found["set"] = [name for name in ONCE_SET if client.exists(name)]
        found["lanes"] = list(client.scan_iter("orc:lane:*", count=1000))
        found["limits"] = list(client.scan_iter("orc:changed:*", count=1000))
        for key in client.scan_iter("orc:account:*", count=1000):
            known = zip(LEARNED, client.hmget(key, LEARNED), strict=True)
            found[key] = {name: value for name, value in known if value not in (None, "0")}
    found["ended parts"] = [each.name for each in stack.poll()]
    return {what: each for what, each in found.items() if each}
