"""Most of our messages are hints, which the store sends again: nobody need guard them at the broker, too.

Celery's Redis transport writes down each message that it takes, until it is acknowledged: two transactions.
Here it does so only for what is no hint, such as a job that a stranger's `send_task` brings. A hint that was
taken by a worker that died is sent again by the due list. RabbitMQ keeps its own acknowledgements.
"""

from __future__ import annotations

from typing import Any

from kombu.transport import redis, virtual

from orchestrator.broker import is_hint

Channel: Any = redis.Channel
Guarding: Any = redis.QoS
Plain: Any = virtual.QoS
restore: Any = virtual.Channel._restore


class HintQoS(Guarding):  # type: ignore[misc]
    """What a channel has taken: hints in its memory alone."""

    def append(self, message: Any, delivery_tag: str) -> None:
        if is_hint(message.headers):
            Plain.append(self, message, delivery_tag)
        else:
            super().append(message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        (Plain if self._hint(delivery_tag) else Guarding).ack(self, delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        hint = self._hint(delivery_tag)
        if hint is None:
            super().reject(delivery_tag, requeue)
            return
        if requeue:
            restore(self.channel, hint)
        Plain.ack(self, delivery_tag)

    def restore_unacked(self, client: Any = None) -> None:
        """At a warm shutdown, for another worker."""
        for tag in list(self._delivered):
            if hint := self._hint(tag):
                restore(self.channel, hint)
                self._delivered.pop(tag)
        super().restore_unacked(client)

    def _hint(self, delivery_tag: str) -> Any:
        message = self._delivered.get(delivery_tag)
        return message if message is not None and is_hint(message.headers) else None


def _create_client(channel: Any, asynchronous: bool = False, made: Any = Channel._create_client) -> Any:
    """kombu makes a client for each command: that costs more than the command. One is as thread-safe."""
    if asynchronous:  # those kombu keeps itself
        return made(channel, asynchronous)
    kept = channel.__dict__.get("_kept_client")
    if kept is None or kept.connection_pool is not channel.pool:
        kept = channel._kept_client = made(channel)
    return kept


def install() -> None:
    """For this process, which is a worker. Safe to call twice."""
    Channel.QoS = HintQoS
    Channel._create_client = _create_client
