"""Spend as Redis keeps it: how many generations were begun, by what became of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.models import Spend
from orchestrator.store.link import PREFIX, Link


class Ledger:
    """Thread-safe."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def by_day(self, provider: str, account: str) -> dict[int, Spend]:
        """Days since 1970-01-01 (UTC) on which generations were begun → what became of them."""
        return {int(day): spend for day, spend in self._book(f"spend:{provider}/{account}").items()}

    def of_batch(self, batch: str) -> dict[str, Spend]:
        """`<provider>/<account>` → what became of the batch's generations there."""
        return self._book(f"spend-of:{batch}")

    def cost(self, batch: str) -> float:
        """What a batch has cost at most so far, in its accounts' prices."""
        key = f"{PREFIX}spend-of:{batch}"
        return float(self._link.call(lambda: self._link.client.hget(key, "cost")) or 0)

    def cost_at(self, provider: str, account: str) -> float:
        """What an account's generations have cost at most so far, each at its price when it was begun."""
        key = f"{PREFIX}spend:{provider}/{account}"
        return float(self._link.call(lambda: self._link.client.hget(key, "cost")) or 0)

    def uncertain(self) -> list[str]:
        """Attempts of which it is not known now whether the provider took them."""
        return sorted(self._link.call(lambda: self._link.client.smembers(f"{PREFIX}uncertain")))

    def _book(self, key: str) -> dict[str, Spend]:
        row: Mapping[str, str] = self._link.call(lambda: self._link.client.hgetall(PREFIX + key))
        return book_of(row)


def book_of(row: Mapping[str, str]) -> dict[str, Spend]:
    """Page (a day, or an account) → what became of the generations that stand on it."""
    found: dict[str, dict[str, Any]] = {}
    for field, count in row.items():
        page, slash, fate = field.rpartition("/")
        if slash:
            found.setdefault(page, {})[fate] = int(count)
    return {page: Spend(**fates) for page, fates in sorted(found.items())}
