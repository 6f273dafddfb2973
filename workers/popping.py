"""A worker that is busy takes the hints that wait behind the message it was brought, several at once.

Celery's Redis transport takes one message at a time, which costs more than what most of ours ask for. What is
no hint is left to it, and to its guard: nobody sends that again.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

from kombu.transport.redis import Channel
from kombu.utils.json import dumps, loads
from redis.exceptions import RedisError

from orchestrator.broker import FINISH, FINISH_QUEUE, PHASE, SUBMIT, SUBMIT_QUEUE

MOST_AT_ONCE = 16
BUSY_SECONDS = 0.01  # since the last message; at rest, to look for more would be in vain
HINTS = [dumps({PHASE: phase})[1:-1] for phase in (SUBMIT, FINISH)]  # type: ignore[no-untyped-call]
# Within another header the quotes of these words would be escaped.
TAKE = """
local taken = {}
local function says(text, word) return string.find(text, word, 1, true) end
while #taken < tonumber(ARGV[1]) do
  local next = redis.call('LINDEX', KEYS[1], -1)
  if not next or not (says(next, ARGV[2]) or says(next, ARGV[3])) then break end
  taken[#taken + 1] = redis.call('RPOP', KEYS[1])
end
return taken
"""

Kombus: Any = Channel
read_one = Kombus._brpop_read


def _read(channel: Any, **options: Any) -> Any:
    read = read_one(channel, **options)
    before, channel._read_at = channel.__dict__.get("_read_at", 0.0), monotonic()
    queue = next(reversed(channel._queue_cycle.items), "")  # that which was read; none where none is any more
    if channel._read_at - before < BUSY_SECONDS and queue in (SUBMIT_QUEUE, FINISH_QUEUE):
        for message in _hints(channel, queue):
            channel.connection._deliver(message, queue)
    return read


def _hints(channel: Any, queue: str) -> list[Any]:
    room = channel.qos.can_consume_max_estimate()
    most = MOST_AT_ONCE if room is None else min(room, MOST_AT_ONCE)  # None: it has no end
    try:
        with channel.conn_or_acquire() as client:
            taken = client.register_script(TAKE)([queue], [most, *HINTS]) if most else []
    except RedisError:  # the next message is brought as ever, or its connection is seen to
        return []
    return [loads(text) for text in taken]  # type: ignore[no-untyped-call]


def install() -> None:
    """For this process, which is a worker. Safe to call twice."""
    Kombus._brpop_read = _read
