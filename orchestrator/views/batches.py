"""What the command line shows of batches as a whole."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.table import Table

from orchestrator import pauses
from orchestrator.models import State
from orchestrator.schemas import moment
from orchestrator.store.batches import Standing
from orchestrator.views.printing import ago, console, print_json


def show_batches(found: Iterable[Standing], more: bool, now: float, as_json: bool) -> None:
    """`more`: there are others."""
    if as_json:
        return print_json([batch_view(each) for each in found])
    states = [state.value for state in State]
    table = Table("batch", "total", *states, "cost", "since", "", box=None)
    for each in found:
        numbers = [str(each.counts[word] or "") for word in ("total", *states)]
        table.add_row(each.name, *numbers, f"{each.cost:g}", ago(each.created_at, now), _how(each, now))
    console.print(table)
    if more:
        console.print("there are more: `--limit N` shows so many")


def batch_view(each: Standing) -> dict[str, Any]:
    """As JSON."""
    return {
        "batch": each.name,
        **each.counts,
        "created_at": moment(each.created_at),
        "over_at": moment(each.over_at),
        "is_filled": each.is_filled,
        "paused": each.paused or None,
        "cost": round(each.cost, 6),
        "max_spend": each.max_spend or None,
        "max_failures": each.max_failures or None,
        "max_failure_share": each.max_failure_share or None,
    }


def _how(each: Standing, now: float) -> str:
    if each.over_at is not None and each.is_over:
        return f"over since {ago(each.over_at, now)}"
    told = [pauses.state(each.paused)] if each.paused else []
    return ", ".join([*told, *(["is being filled"] if each.is_filled else [])])
