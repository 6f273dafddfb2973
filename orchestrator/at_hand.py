"""Connections that were used a moment ago, for the next command: the pool is a third of what one costs.

They stay the pool's, as connections in use. Only what has just answered is kept at hand: all else is left to
the pool, and to redis-py's own way of trying again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import hiredis
import redis

MOST = 16  # so many of the pool's; the others are left to pipelines and subscriptions
LOST = (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError)


class AtHand:
    """Thread-safe, and safe to fork."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._pool = client.connection_pool
        self._kept: list[Any] = []
        self._pid = os.getpid()

    def ask(self, *command: Any) -> Any:
        """The answer to a command that is safe to repeat. Raises: what redis-py does."""
        (answer,) = self.ask_all([command])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def ask_all(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """What each of these is answered, an error too; all are safe to repeat. Raises: LOST."""
        # In one piece: redis-py would send 6,000 bytes at a time, each of which wakes the server.
        packed = b"".join(map(hiredis.pack_command, commands))
        connection = self._take() or self._pool.get_connection()
        try:
            connection.send_packed_command([packed])
            answers = [_answer(connection) for _ in commands]
        except BaseException as error:
            connection.disconnect()  # an answer may be on its way
            self._pool.release(connection)
            if isinstance(error, LOST):
                return ask_by_pipeline(self._client, commands)
            raise
        self._keep(connection)
        return answers

    def _take(self) -> Any:
        if self._pid != os.getpid():
            self._kept, self._pid = [], os.getpid()
        try:
            connection = self._kept.pop()
        except IndexError:
            return None
        if self._is_fresh(connection):
            return connection
        self._pool.release(connection)
        return None

    def _keep(self, connection: Any) -> None:
        if len(self._kept) < MOST and self._is_fresh(connection):
            self._kept.append(connection)
        else:
            self._pool.release(connection)

    def _is_fresh(self, connection: Any) -> bool:
        """Not due for a health check, and the pool's still: another server may be the master by now."""
        owned: bool = self._pool.owns_connection(connection) and not connection.should_reconnect()
        return owned and time.monotonic() < connection.next_health_check


def ask_by_pipeline(client: Any, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    """What each of these is answered, an error too, in redis-py's own way. Raises: what that does."""
    with client.pipeline(transaction=False) as pipeline:
        for command in commands:
            pipeline.execute_command(*command)
        answers: list[Any] = pipeline.execute(raise_on_error=False)
        return answers


def _answer(connection: Any) -> Any:
    try:
        return connection.read_response()
    except redis.exceptions.ResponseError as error:
        return error
