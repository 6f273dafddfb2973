"""What the command line shows of spend."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from rich.table import Table

from orchestrator.bill import Bill
from orchestrator.models import Spend
from orchestrator.views.printing import amount, console, counted, print_json

COLUMNS = ("committed", "confirmed", "refunded", "at risk", "cost at most")
EPOCH = date(1970, 1, 1)


def show_bill(bill: Bill, first_day: int, as_json: bool) -> None:
    """Day by day from `first_day` on (days since 1970-01-01), and each account in all."""
    if as_json:
        accounts = [
            {
                "provider": line.provider,
                "account": line.account,
                "price": line.price,
                "max_spend": line.max_spend or None,
                "days": [
                    {"day": _day(day), **_view(spend, spend.most * line.price)}
                    for day, spend in line.by_day.items()
                    if day >= first_day
                ],
                "total": _view(line.spend, line.cost),
            }
            for line in bill.lines
        ]
        return print_json({"accounts": accounts, **_totals(bill)})
    table = Table("account", "day", *COLUMNS, title="Generations", title_justify="left")
    table.columns[1].no_wrap = True
    for line in bill.lines:
        name = f"{line.provider}/{line.account}"
        for day, spend in line.by_day.items():
            if day >= first_day:
                table.add_row(name, _day(day), *_cells(spend, spend.most * line.price))
        most = f" of {amount(line.max_spend)}" if line.max_spend else ""
        table.add_row(name, "in all", *_cells(line.spend, line.cost, most), end_section=True)
    console.print(table)
    _print_totals(bill)


def show_batch_bill(batch: str, bill: Bill, as_json: bool) -> None:
    if as_json:
        lines = [
            {"provider": line.provider, "account": line.account, **_view(line.spend, line.cost)}
            for line in bill.lines
        ]
        max_spend = bill.max_spend or None
        return print_json({"batch": batch, "max_spend": max_spend, "accounts": lines, **_totals(bill)})
    table = Table("account", *COLUMNS, title=f"Generations of batch {batch}", title_justify="left")
    for line in bill.lines:
        table.add_row(f"{line.provider}/{line.account}", *_cells(line.spend, line.cost))
    console.print(table)
    _print_totals(bill)


def _totals(bill: Bill) -> dict[str, Any]:
    return {
        "total": _view(bill.spend, bill.cost),
        "delivered": bill.delivered,
        "paid_per_delivered": bill.paid_per_delivered,
    }


def _print_totals(bill: Bill) -> None:
    cap = f", of {amount(bill.max_spend)} that it may cost" if bill.max_spend else ""
    console.print(f"{counted(bill.spend.most, 'generation')} at most, cost {amount(bill.cost)} at most{cap}")
    if bill.paid_per_delivered is not None:
        jobs = counted(bill.delivered or 0, "job")
        console.print(f"{jobs} delivered: {bill.paid_per_delivered:.3g} generations paid for each, at most")


def _view(spend: Spend, cost: float) -> dict[str, Any]:
    """`cost`: at most."""
    return {
        "committed": spend.committed,
        "confirmed": spend.confirmed,
        "refunded": spend.refunded,
        "at_risk": spend.at_risk,
        "cost": round(cost, 6),
    }


def _cells(spend: Spend, cost: float, most: str = "") -> tuple[str, ...]:
    counts = (spend.committed, spend.confirmed, spend.refunded, spend.at_risk)
    return (*map(str, counts), f"{amount(cost)}{most}")


def _day(day: int) -> str:
    return (EPOCH + timedelta(days=day)).isoformat()
