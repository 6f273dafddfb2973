"""What generations cost, and the jobs they brought: read from what Redis knows, changing nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestrator.errors import NotFound
from orchestrator.models import Spend, State

if TYPE_CHECKING:
    from orchestrator.store import Store

DAY_SECONDS = 86_400


@dataclass(frozen=True)
class Line:
    """Generations that were begun, and what they cost at most. A day is told by its days since 1970-01-01."""

    provider: str
    account: str
    price: float  # of one generation, now
    spend: Spend
    cost: float  # at most
    max_spend: float  # 0: no cap
    by_day: Mapping[int, Spend] = field(default_factory=dict)  # UTC; of a batch none are kept


@dataclass(frozen=True)
class Bill:
    """All lines, and what they led to."""

    lines: tuple[Line, ...]
    delivered: int | None  # jobs that succeeded; None: nobody can say whose they are
    cost: float
    max_spend: float  # of the whole; 0: no cap

    @property
    def spend(self) -> Spend:
        return sum((line.spend for line in self.lines), Spend())

    @property
    def paid_per_delivered(self) -> float | None:
        """Generations that were, or may have been, paid for, per job that succeeded."""
        paid = self.spend.confirmed + self.spend.at_risk
        return paid / self.delivered if self.delivered else None


def of_accounts(
    store: Store, providers: Collection[str], now: float, only: tuple[str, str] | None = None
) -> Bill:
    """Every account's, or that of one (provider, account)."""
    lines = []
    for provider in sorted(providers):
        for row in store.accounts.rows(provider, now):
            if only in (None, (provider, row["name"])):
                by_day = store.spend.by_day(provider, row["name"])
                cost = store.spend.cost_at(provider, row["name"])
                price, most = float(row.get("price", 0)), float(row.get("max_spend", 0))
                total = sum(by_day.values(), Spend())
                lines.append(Line(provider, row["name"], price, total, cost, most, by_day))
    counts = store.counts()
    delivered = sum(count for word, count in counts.items() if word.endswith(f"/{State.SUCCEEDED.value}"))
    return Bill(tuple(lines), None if only else delivered, sum(line.cost for line in lines), 0.0)


def of_batch(store: Store, providers: Collection[str], now: float, batch: str) -> Bill:
    """A batch's, account by account. Raises: NotFound."""
    known = store.batch(batch)
    if not known:
        raise NotFound(f"no batch {batch!r}: nothing of that name is known")
    prices = {
        f"{provider}/{row['name']}": float(row.get("price", 0))
        for provider in providers
        for row in store.accounts.rows(provider, now)
    }
    lines = []
    for name, spend in store.spend.of_batch(batch).items():
        provider, _, account = name.partition("/")
        price = prices.get(name, 0.0)
        lines.append(Line(provider, account, price, spend, spend.most * price, 0.0))
    delivered = int(known.get(State.SUCCEEDED.value, 0))
    return Bill(tuple(lines), delivered, store.spend.cost(batch), known.get("max_spend", 0.0))


def since(now: float, days: int) -> int:
    """The first of the latest so many days, today included."""
    return int(now // DAY_SECONDS) - days + 1
