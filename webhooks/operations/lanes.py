"""Lanes: who waits for slots, in which order, with which weight; and who is held back."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, Response, render_template, request, url_for

from orchestrator import pauses
from orchestrator.store.lanes import Lane
from webhooks.operations.errands import act, orchestrator
from webhooks.operations.numbers import Numbers
from webhooks.operations.paging import ROWS, Page, first_place, page_of

SHOWN = 20  # lanes of each pool, where no pool is asked for
HELD_SHOWN = 50

lanes = Blueprint("lanes", __name__, url_prefix="/lanes")


@dataclass(frozen=True)
class Pool:
    """Whose slots they wait for: a provider, or one account of it."""

    name: str
    waiting: int  # jobs
    shares: float
    page: Page  # of lanes, next first


@lanes.get("")
def list_() -> str:
    wanted, store = request.args.get("pool", ""), orchestrator().flow.store
    found = {name: its for name in _pools() if wanted in ("", name) if (its := store.lanes.waiting_for(name))}
    held = sorted(store.lanes.paused())
    return render_template(
        "lanes.html",
        pools=[_pool(name, its, bool(wanted)) for name, its in found.items()],
        wanted=wanted,
        weights=store.lanes.weights(),
        held=[_held(each) for each in held[:HELD_SHOWN]],
        held_more=max(0, len(held) - HELD_SHOWN),
    )


@lanes.post("/weigh")
def weigh() -> Response:
    """Of a batch, or of a tenant's batches together."""
    kind = "tenant" if request.form.get("kind") == "tenant" else "batch"
    name, numbers = request.form.get("name", "").strip(), Numbers(request.form)
    operations = orchestrator().operations

    def verb() -> str:
        weight = numbers.any("weight") or 0.0
        operations.weigh(kind, name, weight)
        return f"{kind} {name} has weight {weight:g}"

    return act("weigh", name, verb, url_for("lanes.list_"))


def _pools() -> list[str]:
    flow = orchestrator().flow
    names = [(provider, flow.store.accounts.names(provider)) for provider in flow.exchange.providers]
    return [pool for provider, its in names for pool in (provider, *(f"{provider}/{each}" for each in its))]


def _pool(name: str, its: list[Lane], whole: bool) -> Pool:
    first = first_place() if whole else 0
    size = ROWS if whole else SHOWN
    page = page_of(its[first : first + size + 1], first, len(its), size)
    return Pool(name, sum(lane.waiting for lane in its), sum(lane.share for lane in its), page)


def _held(each: str) -> tuple[str, str, str]:
    """Kind and name of what is paused, and why, in words."""
    kind, _, name = each.partition(":")
    why = orchestrator().flow.store.lanes.why_paused(name) if kind == "batch" else ""
    return kind, name, pauses.state(why)
