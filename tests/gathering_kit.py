"""What stands in for the way to Redis, where it is about who goes together."""

from __future__ import annotations

from typing import Any

from tests.stack_kit import PATIENCE


class Runs:
    """Notes what it was asked for in one go, and answers once it may; a text that begins with `bad` fails.

    `may`: an event, of threads or of greenlets.
    """

    def __init__(self, may: Any) -> None:
        self.asked: list[list[str]] = []
        self.may = may
        self.fails: Exception | None = None

    def __call__(self, some: Any) -> list[Any]:
        self.asked.append(list(some))
        assert self.may.wait(PATIENCE)
        if self.fails:
            raise self.fails
        return [ValueError(each) if each.startswith("bad") else f"{each}!" for each in some]
