"""Where a run shows how it stands."""

from __future__ import annotations

from typing import Protocol


class Display(Protocol):
    def checking(self, records: int) -> None:
        """So many records were read. Called often."""

    def running(self, batch: str, total: int) -> None:
        """So many jobs are enqueued from now on."""

    def look(self) -> None:
        """Called often."""

    def say(self, text: str) -> None:
        """A sentence for a person."""

    def close(self) -> None:
        """Safe to call twice."""
