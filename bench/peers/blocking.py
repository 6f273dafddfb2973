"""One job as a function that returns when it is over: post, and ask until there is an outcome."""

from __future__ import annotations

import time

import requests
from requests.adapters import HTTPAdapter

from bench.peers import work
from bench.peers.apis import Outcome


def session() -> requests.Session:
    """One for all threads of a process, with a connection for each: saves half the cost of a call."""
    http = requests.Session()
    http.mount("http://", HTTPAdapter(pool_maxsize=work.CONCURRENCY))
    http.headers.update(work.API.headers)
    return http


def ready(**_: object) -> None:
    """Whoever starts the worker waits for these words."""
    print("worker is ready", flush=True)


def generate(http: requests.Session, number: int, turn: int = 0) -> Outcome:
    """Waits in here for a slot, too. Raises: `requests.RequestException`. Twice pays twice."""
    reply = http.post(work.API.url, json=work.API.order(number, turn), timeout=30)
    while reply.status_code == 429:
        turn += 1
        time.sleep(work.FULL_SECONDS)
        reply = http.post(work.API.url, json=work.API.order(number, turn), timeout=30)
    reply.raise_for_status()
    url, pause = work.API.task_url(reply.json()), work.SECONDS
    while True:
        time.sleep(pause)
        reply = http.get(url, timeout=30)
        reply.raise_for_status()
        if found := work.API.outcome(reply.json()):
            return found
        pause = work.POLL_SECONDS
