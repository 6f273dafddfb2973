"""A huey task that posts and polls in a loop.

Chosen: greenlets, which huey advises for tasks that wait; results stay where they are when they are read.
"""

from __future__ import annotations

from huey import RedisHuey
from huey.api import Result
from huey.exceptions import TaskException

from bench.peers import blocking, work
from bench.peers.apis import Outcome

huey = RedisHuey("peer", url=work.POOLED_REDIS_URL)
http = blocking.session()
huey.on_startup()(blocking.ready)


@huey.task()
def generate(number: int) -> Outcome:
    return blocking.generate(http, number)


def result(job: Result) -> Outcome | None:
    try:
        return job.get(preserve=True)
    except TaskException:
        return {"state": "failed", "url": None}


def main() -> None:
    work.serve(generate, result)
