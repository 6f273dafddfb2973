"""One asyncio process that posts, takes the callbacks and remembers: nothing survives its end.

The practical ceiling: no queue, no server, a semaphore for each account that knows its slots exactly.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import aiohttp
from aiohttp import web

from bench.peers import work
from bench.peers.apis import Outcome


class Peer:
    """`outcomes`: all that is known of the jobs, by their numbers."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http
        slots = [work.SLOTS for _ in work.EMAILS] or [work.CONCURRENCY]
        self._gates = [asyncio.Semaphore(each) for each in slots]
        self._open: dict[str, asyncio.Future[Outcome]] = {}
        self.outcomes: dict[int, Outcome] = {}

    async def callback(self, request: web.Request) -> web.Response:
        task = await request.json()
        found = work.API.outcome(task)
        future = self._open.get(work.API.reference(task))
        if found and future and not future.done():
            future.set_result(found)
        return web.Response(status=204)

    async def generate(self, number: int) -> None:
        async with self._gates[number % len(self._gates)]:
            reference = str(number)
            self._open[reference] = future = asyncio.get_running_loop().create_future()
            body = work.API.order(number, 0, work.CALLBACK_URL, reference)
            async with self._http.post(work.API.url, json=body) as reply:
                reply.raise_for_status()
            self.outcomes[number] = await future
            del self._open[reference]

    async def run(self, batch: work.Batch) -> None:
        """A job that raises is lost, as in any script without retries."""
        with suppress(TimeoutError):
            async with asyncio.timeout(batch.seconds_left):
                await asyncio.gather(*map(self.generate, batch.numbers), return_exceptions=True)
        work.tell(map(self.outcomes.get, batch.numbers))


async def client() -> None:
    connector = aiohttp.TCPConnector(limit=work.CONCURRENCY)
    async with aiohttp.ClientSession(headers=work.API.headers, connector=connector) as http:
        peer = Peer(http)
        app = web.Application()
        app.router.add_post("/callbacks", peer.callback)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", work.CALLBACK_PORT).start()
        for batch in work.batches():  # nothing else is to be done while it waits for a line
            await peer.run(batch)
        await runner.cleanup()


def main() -> None:
    asyncio.run(client())
