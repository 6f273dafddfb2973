"""The contract of one provider API, and the state each of them has: accounts, tasks, a tally.

An API file reads requests into orders, renders snapshots in the provider's words and maps refusals to the
provider's error bodies. When things happen is the engine's business.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar

from orchestrator.simulator.model import Account, Refused, Snapshot, Task
from orchestrator.simulator.tally import Tally
from orchestrator.simulator.web import Response, Route


class Api(ABC):
    """One provider's API. `reset` must be called before use; the engine does."""

    name: ClassVar[str]
    default_email: ClassVar[str] = "demo@example.com"
    queues_overflow: bool = False
    """Whether what is beyond an account's limit is accepted, and waits, instead of being refused."""

    accounts: dict[str, Account]
    tasks: dict[str, Task]
    tally: Tally

    def reset(self, accounts: Mapping[str, int]) -> None:
        """Forget everything but the given accounts and their limits. Safe to call twice."""
        self.accounts = {email: Account(email, most) for email, most in accounts.items()}
        self.tasks = {}
        self.tally = Tally()

    @abstractmethod
    def routes(self) -> Iterable[Route]:
        """What it serves; a view may raise Refused, which `refusal` then answers."""

    @abstractmethod
    def render(self, snapshot: Snapshot) -> dict[str, object]:
        """A task as this API shows it, in an answer and in a callback."""

    @abstractmethod
    def refusal(self, refused: Refused) -> Response:
        """This API's error answer."""

    def callback_body(self, snapshot: Snapshot) -> bytes:
        """The raw body of a callback; by default the task itself."""
        return json.dumps(self.render(snapshot)).encode()

    def progress_callbacks(self, most: int) -> int:
        """How many callbacks come before the final one, where `most` are asked for."""
        return most

    def callback_headers(self, snapshot: Snapshot, body: bytes, delivery_id: str) -> dict[str, str]:
        """The headers of a callback; the place to sign `body` where the provider does.

        `delivery_id` stays the same when the delivery is tried again.
        """
        return {"Content-Type": "application/json"}

    @contextmanager
    def posting(self) -> Iterator[None]:
        """Count what happens inside as one create request."""
        self.tally.posts += 1
        try:
            yield
        except Refused as refused:
            self.tally.count_refused(refused.kind, refused.account.email if refused.account else None)
            raise
