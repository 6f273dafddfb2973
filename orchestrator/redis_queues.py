"""Messages put into Celery's queues on Redis as kombu puts them there, but many in one round trip.

kombu makes a client, asks for bindings and looks at policies for each message: that costs five times what the
message itself does, and would be most of what a callback costs. What comes of it is the same, byte for byte.
"""

from __future__ import annotations

import json
import uuid
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kombu.exceptions import OperationalError

from orchestrator.at_hand import AtHand, ask_by_pipeline

DURABLE = 2


@dataclass(frozen=True)
class Sent:
    """A task message for a queue. `task`: as Celery's `as_task_v2` makes it; `headers`: beside its own."""

    queue: str
    task: Any
    headers: Mapping[str, Any]


def on_redis(connection: Any) -> bool:
    return bool(connection.transport.driver_type == "redis")


def waiting_in(connection: Any, queue: str) -> int:
    """The messages that no worker has taken. By one channel for all: each has connections of its own."""
    return int(connection.default_channel._size(queue))


def push(connection: Any, messages: Sequence[Sent], again: bool = True) -> None:
    """All of them, each queue's in their order.

    `again`: once more where the connection was lost, so perhaps twice. Raises: OperationalError.
    """
    texts: dict[str, list[str]] = {}
    for each in messages:
        texts.setdefault(each.queue, []).append(_text(each))
    commands = [("LPUSH", queue, *of_queue) for queue, of_queue in texts.items()]
    ask = _ask_at_hand if again else ask_by_pipeline
    try:
        answers = ask(connection.default_channel.client, commands)
    except connection.connection_errors + connection.channel_errors as error:
        raise OperationalError(type(error).__name__) from None
    for answer in answers:
        if isinstance(answer, Exception):
            raise OperationalError(type(answer).__name__)


def _ask_at_hand(client: Any, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    if not hasattr(client, "at_hand"):
        client.at_hand = AtHand(client)  # with kombu's client, and so for as long as that
    answers: list[Any] = client.at_hand.ask_all(commands)
    return answers


def _text(sent: Sent) -> str:
    task = sent.task
    return json.dumps(
        {
            "body": b64encode(json.dumps(task.body).encode()).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {**task.headers, **sent.headers},
            "properties": {
                **task.properties,
                "delivery_mode": DURABLE,
                "delivery_info": {"exchange": "", "routing_key": sent.queue},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": str(uuid.uuid4()),
            },
        }
    )
