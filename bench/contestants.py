"""Who is compared: the peers, the processes of each, and how many jobs a worker of theirs runs at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.stack import REPOSITORY

OURS = "orchestrator"
PYTHON = REPOSITORY / ".venv/peers/bin/python"
READY = "worker is ready"
CELERY = (
    *("celery", "-A", "{module}", "worker", "--pool", "gevent", "--concurrency", "{concurrency}"),
    *("--loglevel", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"),
)
GUNICORN = (
    *("gunicorn", "{module}:receiver", "--bind", "127.0.0.1:{port}", "--workers", "2"),
    *("--worker-class", "gthread", "--threads", "8", "--keep-alive", "75", "--log-level", "warning"),
)
DRAMATIQ = ("dramatiq", "{module}", "--processes", "1", "--threads", "{concurrency}")
HUEY = (
    *("gevent.monkey", "--module", "huey.bin.huey_consumer", "{module}.huey", "--worker-type", "greenlet"),
    *("--workers", "{concurrency}", "--no-periodic", "--quiet"),
)
TASKIQ = (
    *("taskiq", "worker", "{module}:broker", "--workers", "1", "--max-async-tasks", "{concurrency}"),
    *("--log-level", "WARNING"),
)


@dataclass(frozen=True)
class Peer:
    """A program of `bench/peers`, which is its own client, and what else it consists of.

    `processes`: name → the words after `python -m`, with the places {module}, {concurrency} and {port}; the
    worker says READY. `spare`: jobs beyond the slots that a worker runs at once, as a share of the slots;
    they wait in it for a slot. `most`: jobs at once where slots are many.
    """

    module: str
    processes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    spare: float = 1.0
    most: int = 500

    def concurrency(self, slots: int) -> int:
        """Jobs that a worker runs at once."""
        return min(round(slots * (1 + self.spare)), self.most)


PEERS: dict[str, Peer] = {
    "celery-poll": Peer("bench.peers.celery_poll", {"worker": CELERY}),
    "celery-callbacks": Peer(
        "bench.peers.celery_callbacks", {"worker": CELERY, "receiver": GUNICORN}, spare=0.0, most=50
    ),
    "dramatiq": Peer("bench.peers.dramatiq_limiter", {"worker": DRAMATIQ}, most=200),
    "huey": Peer("bench.peers.huey_poll", {"worker": HUEY}, most=200),
    "taskiq": Peer("bench.peers.taskiq_poll", {"worker": TASKIQ}, most=1_000),
    "asyncio": Peer("bench.peers.asyncio_callbacks", most=1_000),
}
