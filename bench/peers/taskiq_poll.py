"""A taskiq task that posts and polls in a loop, asynchronous throughout.

Chosen: the list as its queue, which is the faster of its brokers for Redis (a killed worker loses what it
runs); one process, since one core is enough for all the waiting; aiohttp; uvloop, which its worker takes by
itself where there is one.
"""

from __future__ import annotations

import asyncio

import aiohttp
import uvloop
from taskiq import TaskiqEvents, TaskiqState
from taskiq.exceptions import TaskiqResultTimeoutError
from taskiq.task import AsyncTaskiqTask
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

from bench.peers import work
from bench.peers.apis import Outcome

broker = ListQueueBroker(work.REDIS_URL).with_result_backend(RedisAsyncResultBackend(work.REDIS_URL))


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def open_session(state: TaskiqState) -> None:
    connector = aiohttp.TCPConnector(limit=work.CONCURRENCY)
    state.http = aiohttp.ClientSession(headers=work.API.headers, connector=connector)
    print("worker is ready", flush=True)


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def close_session(state: TaskiqState) -> None:
    await state.http.close()


@broker.task
async def generate(number: int) -> Outcome:
    http: aiohttp.ClientSession = broker.state.http
    task, turn = None, 0
    while task is None:
        async with http.post(work.API.url, json=work.API.order(number, turn)) as reply:
            if reply.status != 429:
                reply.raise_for_status()
                task = await reply.json()
        if task is None:
            turn += 1
            await asyncio.sleep(work.FULL_SECONDS)
    url, pause = work.API.task_url(task), work.SECONDS
    while True:
        await asyncio.sleep(pause)
        async with http.get(url) as reply:
            reply.raise_for_status()
            if found := work.API.outcome(await reply.json()):
                return found
        pause = work.POLL_SECONDS


async def waited(job: AsyncTaskiqTask[Outcome], batch: work.Batch) -> Outcome | None:
    try:
        found = await job.wait_result(check_interval=work.LOOK_SECONDS, timeout=batch.seconds_left)
    except TaskiqResultTimeoutError:
        return None
    return {"state": "failed", "url": None} if found.is_err else found.return_value


async def client() -> None:
    await broker.startup()
    for batch in work.batches():
        jobs = [await generate.kiq(number) for number in batch.numbers]
        work.tell([await waited(job, batch) for job in jobs])
    await broker.shutdown()


def main() -> None:
    uvloop.run(client())
