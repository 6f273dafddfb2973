"""Looks at the whole, shared by all who look: one a second at most. What happened between two gives rates."""

from __future__ import annotations

from collections import deque

from orchestrator.flow import Flow
from orchestrator.overview import Overview, look

FRESH_SECONDS = 1.0
KEPT_SECONDS = 60.0
LEAST_SECONDS = 2.0  # between two looks, for a rate


class Looks:
    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._looks: deque[Overview] = deque()

    def latest(self) -> tuple[Overview, Overview | None]:
        """How the whole stands, and how it stood up to a minute before; None: nobody looked then."""
        now = self._flow.clock()
        if not self._looks or now - self._looks[-1].at >= FRESH_SECONDS:
            self._looks.append(look(self._flow))
        while now - self._looks[0].at > KEPT_SECONDS:
            self._looks.popleft()
        latest, oldest = self._looks[-1], self._looks[0]
        return latest, oldest if latest.at - oldest.at >= LEAST_SECONDS else None
