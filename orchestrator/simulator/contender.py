"""Another client on the same account, which wants slots as we do and tells nobody."""

from __future__ import annotations

from orchestrator.simulator.api import Api
from orchestrator.simulator.engine import Engine
from orchestrator.simulator.model import Task

AGAIN_SECONDS = 0.05
"""Between two tries for a slot; real seconds, never scaled."""


class Contender:
    """Goes through the gate as everybody does: it has only what is free when it asks."""

    def __init__(self, engine: Engine, api: Api, email: str) -> None:
        self._engine = engine
        self._api = api
        self._email = email
        self._held: list[Task] = []
        self._wanted = 0
        self._seconds = 0.0
        self._tries = False

    def want(self, tasks: int, seconds: float) -> None:
        """Hold up to `tasks` tasks of `seconds` (scaled) from now on; none: what it holds runs out."""
        if tasks < 0:
            raise ValueError("tasks must not be negative")
        self._wanted, self._seconds = tasks, seconds
        if not self._tries:
            self._try()

    def _try(self) -> None:
        self._tries = self._wanted > 0
        self._held = [task for task in self._held if task.ended_at is None]
        while len(self._held) < self._wanted and self._engine.has_room(self._api, self._email):
            self._held.append(self._engine.start_foreign(self._api, self._email, self._seconds))
        if self._tries:
            self._engine.timers.after(AGAIN_SECONDS, self._try)
