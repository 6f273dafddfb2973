"""dramatiq: a ConcurrentRateLimiter for each account, held while the actor posts and polls.

Chosen: more threads than slots; who finds an account full waits in its thread and tries the next one. To let
the limiter raise and dramatiq retry, as its manual shows, leaves slots empty: three quarters with the backoff
it has by default, a quarter with one of 0.25 to 4 s, since what is delayed is looked at once a second.
"""

from __future__ import annotations

import time

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.rate_limits import ConcurrentRateLimiter
from dramatiq.rate_limits.backends import RedisBackend as Limits
from dramatiq.results import ResultFailure, ResultMissing, Results
from dramatiq.results.backends import RedisBackend

from bench.peers import blocking, work
from bench.peers.apis import Outcome


class Ready(dramatiq.Middleware):
    def after_worker_boot(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        blocking.ready()


results = RedisBackend(url=work.POOLED_REDIS_URL)
broker = RedisBroker(url=work.POOLED_REDIS_URL)
broker.add_middleware(Results(backend=results, store_results=True))
broker.add_middleware(Ready())
dramatiq.set_broker(broker)
limits = Limits(url=work.POOLED_REDIS_URL)
limiters = [ConcurrentRateLimiter(limits, email, limit=work.SLOTS) for email in work.EMAILS]
http = blocking.session()


@dramatiq.actor(max_retries=0)
def generate(number: int) -> Outcome:
    if not limiters:  # no cap
        return blocking.generate(http, number)
    turn = 0
    while True:
        with limiters[(number + turn) % len(limiters)].acquire(raise_on_failure=False) as acquired:
            if acquired:
                return blocking.generate(http, number, turn)
        turn += 1
        time.sleep(work.FULL_SECONDS)


def result(message: dramatiq.Message) -> Outcome | None:
    try:
        return message.get_result(backend=results)
    except ResultMissing:
        return None
    except ResultFailure:
        return {"state": "failed", "url": None}


def main() -> None:
    work.serve(generate.send, result)
