"""What the command line shows of batches as a whole."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from orchestrator import pauses
from orchestrator.models import State
from orchestrator.schemas import moment
from orchestrator.store.batches import Standing
from orchestrator.views.printing import ago, amount, console, counted, print_json


def show_batches(found: Iterable[Standing], more: bool, now: float, as_json: bool) -> None:
    """`more`: there are others."""
    if as_json:
        return print_json([batch_view(each) for each in found])
    for each in found:
        console.print(_line(each, now), soft_wrap=True)
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


def _line(each: Standing, now: float) -> str:
    states = [f"{each.counts[state.value]} {state.value}" for state in State if each.counts[state.value]]
    jobs = f"{counted(each.counts['total'], 'job')} ({', '.join(states)})"
    cost = f"cost {amount(each.cost)}" + (f" of {amount(each.max_spend)}" if each.max_spend else "")
    how = [f"since {ago(each.created_at, now)}"]
    if each.over_at is not None and each.is_over:
        how = [f"over since {ago(each.over_at, now)}"]
    how += [pauses.state(each.paused)] if each.paused else []
    how += ["is being filled"] if each.is_filled else []
    return f"{each.name}  {jobs}  {cost}  {', '.join(how)}"
