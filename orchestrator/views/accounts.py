"""What the command line shows of accounts: what they take, what lowers it, why they rest."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from orchestrator.retry import UNTIL_RESUMED
from orchestrator.schemas import moment
from orchestrator.views.printing import ago, amount, at, console, print_json

if TYPE_CHECKING:
    from orchestrator.client import Orchestrator

Row = Mapping[str, Any]
MOMENTS = ("rest_since", "rest_until", "cut_at", "probe_at", "next_request", "guard_since")
SPEND_CAP = "spend cap"
TEXTS = ("provider", "name", "rest_reason")


def show_accounts(orchestrator: Orchestrator, as_json: bool) -> None:
    rows, now = account_rows(orchestrator), orchestrator.flow.clock()
    if as_json:
        return print_json([account_view(row, now) for row in rows])
    print_accounts(rows, now)


def account_rows(orchestrator: Orchestrator) -> list[Row]:
    """Every account as Redis knows it, by provider and name; numbers are numbers."""
    accounts, now = orchestrator.flow.store.accounts, orchestrator.flow.clock()
    rows = [row for provider in orchestrator.flow.exchange.providers for row in accounts.rows(provider, now)]
    return [numbered(row) for row in rows]


def numbered(row: Row) -> Row:
    """A row of the store's, whose numbers are texts, with numbers."""
    return {name: value if name in TEXTS else _read(value) for name, value in row.items()}


def account_view(row: Row, now: float) -> dict[str, Any]:
    """An account as JSON: all that is known of it, its moments as ISO 8601; `rest`: a sentence, or None."""
    moments = {name: moment(row[name]) for name in MOMENTS if name in row}
    return {**row, **moments, "rest": rest_of(row, now) or None}


def print_accounts(rows: Sequence[Row], now: float) -> None:
    """A table; columns in which nobody has anything are left out. Below it, who rests and why."""
    columns = {
        "provider": [row["provider"] for row in rows],
        "account": [row["name"] for row in rows],
        "slots": [slots_of(row) for row in rows],
        "pace": [_pace(row) for row in rows],
        "today": [f"{row['today']}/{row['max_per_day']}" if row.get("max_per_day") else "" for row in rows],
        "weight": [f"{row['weight']:g}" if row.get("weight", 1) != 1 else "" for row in rows],
        "changed by hand": [", ".join(f"{name}={row[name]:g}" for name in row["changed"]) for row in rows],
        "rests": [row["rest_reason"] if _rests(row, now) else _spent(row) for row in rows],
    }
    table = Table(title="Accounts", title_justify="left")
    told = {name: cells for name, cells in columns.items() if name in ("provider", "account") or any(cells)}
    for name in told:
        table.add_column(name, overflow="fold")
    for cells in zip(*told.values(), strict=True):
        table.add_row(*cells)
    console.print(table)
    for row in rows:
        if rest := rest_of(row, now):
            console.print(f"{row['provider']}/{row['name']} rests: {rest}", soft_wrap=True)


def slots_of(row: Row) -> str:
    """In use of those it takes now, and what makes that other than `max_jobs`."""
    bears = min(row["max_jobs"], int(row.get("learned", row["max_jobs"])))
    elsewhere = row.get("elsewhere", 0)
    ahead = row["slots"] - (bears - elsewhere)
    why = [
        *([f"bears {bears}"] if bears < row["max_jobs"] else []),
        *([f"{elsewhere} elsewhere"] if elsewhere else []),
        *([f"{ahead} ahead"] if ahead else []),
    ]
    shown = f"{row['used']}/{max(0, row['slots'])}"
    return f"{shown} of {row['max_jobs']}: {', '.join(why)}" if why else shown


def _pace(row: Row) -> str:
    pace, burst = row.get("requests_per_second", 0), row.get("burst", 0)
    if not pace:
        return ""
    return f"{pace:g}/s, {burst} at once" if burst else f"{pace:g}/s"


def _rests(row: Row, now: float) -> bool:
    return float(row.get("rest_until", 0)) > now


def _spent(row: Row) -> str:
    """`spend cap` where that is why it takes no work."""
    return SPEND_CAP if row.get("closed_by") == SPEND_CAP else ""


def rest_of(row: Row, now: float) -> str:
    """Why it takes no work, since when, and what ends that; empty where it takes some."""
    name = f"{row['provider']}/{row['name']}"
    if not _rests(row, now):
        raised = f"`orchestrator accounts set {name} max_spend=AMOUNT`"
        return f"{SPEND_CAP}, until {raised} raises its {amount(row['max_spend'])}" if _spent(row) else ""
    forever = row["rest_until"] >= UNTIL_RESUMED
    until = f"`orchestrator resume account {name}`" if forever else at(row["rest_until"])
    since = f"since {ago(row['rest_since'], now)}, " if "rest_since" in row else ""
    why = row.get("rest_message")
    sentence = f": {why['message']}" if isinstance(why, Mapping) else ""
    return f"{row['rest_reason']}, {since}until {until}{sentence}"


def _read(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value
