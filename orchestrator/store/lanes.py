"""Lanes as Redis knows them: who waits, in which order, with which weight, and who is held back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.models import Message
from orchestrator.store import records
from orchestrator.store.link import PREFIX, Link


@dataclass(frozen=True)
class Lane:
    """The jobs of one owner that wait for slots of one pool."""

    name: str  # `<target>|<owner>`
    served: float  # how much it was served; the least is next
    waiting: int  # jobs
    share: float  # weight, divided by the lanes of its tenant

    @property
    def target(self) -> str:
        """A provider, several joined by `+`, or `<provider>/<account>`."""
        return self.name.partition("|")[0]

    @property
    def owner(self) -> str:
        """A batch, or `<tenant>/<batch>`."""
        return self.name.partition("|")[2]


class Lanes:
    """Thread-safe."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def weigh(self, owner: str, weight: float, now: float) -> None:
        """Give a batch, or a tenant (`<tenant>/`), so many times the share of one of weight 1."""
        self._link.step("weigh", owner, weight, now)

    def pause(self, kind: str, name: str, now: float) -> None:
        """Grant nothing to a `batch`, or of a `provider`, until it is resumed."""
        self._link.step("pause", kind, name, now, 1)

    def resume(self, kind: str, name: str, now: float) -> tuple[Message, ...]:
        """Let it go on. Gives the grants."""
        return records.messages(self._link.step("pause", kind, name, now, 0))

    def paused(self) -> set[str]:
        """What is paused: `provider:<name>`, `batch:<name>`."""
        found: set[str] = self._link.call(lambda: self._link.client.smembers(f"{PREFIX}paused"))
        return found

    def weights(self) -> dict[str, float]:
        """Batch, or `<tenant>/` → its weight, where that is not 1."""
        found = self._link.call(lambda: self._link.client.hgetall(f"{PREFIX}weights"))
        return {owner: float(weight) for owner, weight in found.items()}

    def why_paused(self, batch: str) -> str:
        """`a person`, `spend`, `failures` or `cancel`; empty where it is not paused."""
        return str(self._link.call(lambda: self._link.client.hget(f"{PREFIX}batch:{batch}", "paused")) or "")

    def waiting_for(self, pool: str) -> list[Lane]:
        """The lanes that a pool of slots serves, next first; paused ones are not among them.

        `pool`: a provider, or `<provider>/<account>` for what is pinned to it.
        """
        client: Any = self._link.client
        scored = self._link.call(lambda: client.zrange(f"{PREFIX}lanes:{pool}", 0, -1, withscores=True))
        if not scored:
            return []
        with client.pipeline(transaction=False) as pipeline:
            pipeline.hgetall(f"{PREFIX}weights")
            pipeline.hgetall(f"{PREFIX}tenants:{pool}")
            for name, _ in scored:
                pipeline.zcard(f"{PREFIX}lane:{name}")
            weights, tenants, *waiting = self._link.call(pipeline.execute)
        lanes = []
        for (name, served), count in zip(scored, waiting, strict=True):
            owner = name.partition("|")[2]
            tenant, slash, _ = owner.partition("/")
            weight = float(weights.get(tenant + slash if slash else owner, 1))
            share = weight / int(tenants.get(tenant, 1)) if slash else weight
            lanes.append(Lane(name, float(served), int(count), share))
        return lanes

    def of(self, batch: str) -> list[str]:
        """Every lane that jobs of a batch waited in."""
        return sorted(self._link.call(lambda: self._link.client.smembers(f"{PREFIX}lanes-of:{batch}")))

    def rank(self, lane: str, job_id: str) -> int | None:
        """How many of its lane are before a job; None where it is not in it."""
        place: int | None = self._link.call(lambda: self._link.client.zrank(f"{PREFIX}lane:{lane}", job_id))
        return place
