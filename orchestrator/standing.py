"""How a batch stands, and how the whole does: one look at what Redis knows, for displays. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.errors import NotFound
from orchestrator.models import State

if TYPE_CHECKING:
    from orchestrator.insight import Insight

ENDS = tuple(state.value for state in State if state.ended)


@dataclass(frozen=True)
class Standing:
    """How a batch stands at one moment (unix seconds)."""

    batch: str
    at: float
    total: int
    counts: Mapping[str, int]  # jobs by state
    used: int  # slots that its accounts use, for others too
    slots: float  # … and have
    ends_at: float | None  # None: nobody can say
    cost: float  # at most, so far
    max_spend: float  # 0: no cap
    paused: str  # why: a person, spend, failures or cancel; empty: it is not
    is_filled: bool  # somebody goes on enqueuing
    notes: tuple[str, ...]  # what slows it

    @property
    def ended(self) -> int:
        return sum(self.counts.get(word, 0) for word in ENDS)

    @property
    def is_over(self) -> bool:
        return self.ended >= self.total and not self.is_filled

    @property
    def all_succeeded(self) -> bool:
        return self.counts.get(State.SUCCEEDED.value, 0) >= self.total


def standing(insight: Insight, batch: str, total: int = 0) -> Standing:
    """`total`: how many jobs it will have, where it is still being filled. Raises: NotFound."""
    store, known = insight.store, insight.store.batch(batch)
    if not known:
        raise NotFound(f"no batch {batch!r}: nothing of that name is known")
    told = insight.forecast(batch, ())
    return Standing(
        batch=batch,
        at=insight.clock(),
        total=max(total, int(known.get("total", 0))),
        counts={state.value: int(known.get(state.value, 0)) for state in State},
        used=told.used,
        slots=told.slots,
        ends_at=told.ends_at,
        cost=store.spend.cost(batch),
        max_spend=known.get("max_spend", 0.0),
        paused=store.lanes.why_paused(batch),
        is_filled="filling" in known,
        notes=told.notes,
    )


def view(now: Standing) -> dict[str, Any]:
    """As JSON."""
    return {
        "batch": now.batch,
        "total": now.total,
        "ended": now.ended,
        **now.counts,
        "slots_used": now.used,
        "slots": now.slots,
        "ends_at": now.ends_at,
        "cost": round(now.cost, 6),
        "max_spend": now.max_spend or None,
        "paused": now.paused or None,
        "notes": list(now.notes),
    }
