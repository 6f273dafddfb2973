"""Celery's Redis transport takes one message at a time; here it takes what waits, as far as it has room.

A server that is too old for that (Redis before 7.0) is asked as kombu does. https://redis.io/commands/blmpop
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from queue import Empty
from time import monotonic
from typing import Any

from kombu.transport.redis import Channel
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads
from redis.exceptions import ResponseError

from orchestrator.broker import is_hint
from orchestrator.events import log

POP_MANY, MOST_AT_ONCE = "BLMPOP", 16

Kombus: Any = Channel
ask_for_one, read_one = Kombus._brpop_start, Kombus._brpop_read


def _ask(channel: Any, timeout: float | None = None) -> None:
    channel._asked_for_many = not (channel.global_keyprefix or channel.__dict__.get("_knows_no_many"))
    if not channel._asked_for_many:
        ask_for_one(channel, timeout)
        return
    queues = channel._queue_cycle.consume(len(channel.active_queues))
    if not queues:
        return
    keys = [channel._q_for_pri(queue, step) for step in channel.priority_steps for queue in queues]
    room = channel.qos.can_consume_max_estimate() or MOST_AT_ONCE  # None: it has no end
    channel._in_poll = connection = channel.client.connection
    channel._brpop_sent_at = monotonic()
    wait = timeout or channel.brpop_timeout or 0
    connection.send_command(POP_MANY, wait, len(keys), *keys, "RIGHT", "COUNT", min(room, MOST_AT_ONCE))


def _read(channel: Any, **options: Any) -> bool:
    if not channel._asked_for_many:
        return bool(read_one(channel, **options))
    try:
        try:
            answer = channel.client.parse_response(channel.client.connection, POP_MANY, **options)
        except channel.connection_errors:
            channel.client.connection.disconnect()
            raise
        except ResponseError as error:
            if "unknown command" not in str(error).lower():
                raise
            channel._knows_no_many = True
            answer = None
        if not answer:
            raise Empty
        _deliver(channel, *answer)
        return True
    finally:
        channel._in_poll = None
        channel._flush_brpop_reauth()


def _deliver(channel: Any, key: bytes, items: list[bytes]) -> None:
    queue = bytes_to_str(key).rsplit(channel.sep, 1)[0]  # type: ignore[no-untyped-call]
    channel._queue_cycle.rotate(queue)
    # What nobody sends again comes first: until it is delivered, and so guarded, this process alone has it.
    messages = deque(sorted(_read_messages(items), key=lambda message: is_hint(message["headers"])))
    try:
        while messages:
            channel.connection._deliver(messages.popleft(), queue)
    finally:
        for message in reversed(messages):
            channel._put(queue, message)


def _read_messages(items: list[bytes]) -> Iterator[Any]:
    for item in items:
        try:
            message = loads(bytes_to_str(item))  # type: ignore[no-untyped-call]
            is_hint(message["headers"])
        except (ValueError, TypeError, LookupError) as error:
            log("message.unreadable", logging.ERROR, error=type(error).__name__)
        else:
            yield message


def install() -> None:
    """For this process, which is a worker. Safe to call twice."""
    Kombus._brpop_start, Kombus._brpop_read = _ask, _read
