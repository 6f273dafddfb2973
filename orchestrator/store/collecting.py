"""Jobs whose pictures are being collected, and had trouble. One that has none leaves no trace here."""

from __future__ import annotations

import json
from collections.abc import Sequence

from orchestrator.store.link import PREFIX, Link

TROUBLED = f"{PREFIX}collecting"
STORAGE = f"{PREFIX}storage"


class Collecting:
    """Thread-safe."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def hold(self, job_id: str, now: float, token: str) -> str:
        """Keep hold of a finish that takes long. Gives its new token; empty: it is another's, or over."""
        return str(self._link.step("hold_finish", job_id, now, token))

    def let_go(self, job_id: str, token: str) -> None:
        """Let another worker take a finish at once: this one is about to end. Safe to call twice."""
        self._link.step("let_go", job_id, token)

    def later(
        self,
        job_id: str,
        due_at: float,
        reason: str,
        dies_at: float,
        *,
        urls: Sequence[str] = (),
        storage_seconds: int = 0,
        token: str = "",
    ) -> None:
        """Let a finish go until later. `dies_at`: when the pictures' URLs do. `urls`: fresh ones.

        `storage_seconds`: nothing is begun for so long, since what came of it could not be kept either.
        `token` of another finish than the one under way: nothing is done.
        """
        fresh = json.dumps(list(urls)) if urls else ""
        self._link.step("finish_later", job_id, due_at, reason, dies_at, fresh, storage_seconds, token)

    def renew(self, job_id: str, urls: Sequence[str], dies_at: float, now: float) -> None:
        """Give a job that is not over, or a dead letter, fresh URLs. What is collected is tried at once."""
        self._link.step("renew_urls", job_id, now, json.dumps(list(urls)), dies_at)

    def troubled(self, most: int | None = None) -> list[tuple[str, float]]:
        """(job, when its pictures' URLs die in unix seconds), the soonest first."""
        last = -1 if most is None else most - 1
        found = self._link.call(lambda: self._link.client.zrange(TROUBLED, 0, last, withscores=True))
        return [(job_id, float(dies_at)) for job_id, dies_at in found]

    def count(self) -> int:
        """How many jobs are collected with trouble."""
        return int(self._link.call(lambda: self._link.client.zcard(TROUBLED)))

    def storage(self) -> str:
        """Why nothing is begun: what the place for pictures said lately; empty where it takes them."""
        return str(self._link.call(lambda: self._link.client.get(STORAGE)) or "")
