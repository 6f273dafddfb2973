"""Spend: what was begun, what became of it, what it cost at most; per account, day and batch."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import islice

from flask import Blueprint, render_template, request

from orchestrator import bill
from orchestrator.bill import Line
from orchestrator.models import Spend
from webhooks.operations.errands import orchestrator
from webhooks.operations.paging import ROWS, first_place, page_of

DAYS = (7, 30, 90)
EPOCH = date(1970, 1, 1)

spend = Blueprint("spend", __name__, url_prefix="/spend")
Day = tuple[date, list[tuple[Line, Spend, float]], float]


@spend.get("")
def show() -> str:
    flow, first = orchestrator().flow, first_place()
    days = next((each for each in DAYS if request.args.get("days") == str(each)), DAYS[0])
    told, now = bill.of_accounts(flow.store, flow.exchange.providers, flow.clock()), flow.clock()
    by_day = _by_day(told.lines, bill.since(now, days))
    batches = list(islice(flow.store.batches.latest(first), ROWS + 1))
    return render_template(
        "spend.html",
        bill=told,
        days=days,
        choices=DAYS,
        by_day=by_day,
        most=max((cost for _, _, cost in by_day), default=0.0),
        page=page_of(batches, first, flow.store.batches.count()),
    )


def _by_day(lines: tuple[Line, ...], first: int) -> list[Day]:
    """The latest day first; of each the accounts that began something, and its cost at the price of now."""
    found: list[Day] = []
    for day in sorted({day for line in lines for day in line.by_day if day >= first}, reverse=True):
        rows = [
            (line, line.by_day[day], line.by_day[day].most * line.price)
            for line in lines
            if day in line.by_day
        ]
        found.append((EPOCH + timedelta(days=day), rows, sum(cost for _, _, cost in rows)))
    return found
