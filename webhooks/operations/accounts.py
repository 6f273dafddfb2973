"""Accounts and providers: what they take, why they rest; pause, resume, drain, limits."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, abort, render_template, request, url_for

from orchestrator.accounts_file import ACCOUNT_NUMBERS
from orchestrator.errors import NotFound
from orchestrator.operations import LIMITS
from orchestrator.views.accounts import Row, account_rows, rest_of, slots_of
from orchestrator.views.printing import counted
from webhooks.operations.errands import act, orchestrator

accounts = Blueprint("accounts", __name__, url_prefix="/accounts")
VERBS = ("pause", "resume", "drain")


@accounts.get("")
def list_() -> str:
    client = orchestrator()
    paused, rows = client.flow.store.lanes.paused(), account_rows(client)
    by_provider = {
        name: [_shown(row) for row in rows if row["provider"] == name] for name in _providers(rows)
    }
    return render_template(
        "accounts.html",
        by_provider=by_provider,
        paused=[name for name in by_provider if f"provider:{name}" in paused],
    )


@accounts.get("/<provider>/<name>")
def show(provider: str, name: str) -> str:
    client, row = orchestrator(), _row(provider, name)
    account = _shown(row)
    holders = client.operations.holders("account", account["full"])
    return render_template("account.html", account=account, holders=holders, limits=_limits(row))


@accounts.post("/<provider>/<name>/limits")
def set_limits(provider: str, name: str) -> Response:
    """Those that are other than what the form was made with; an empty one is as the accounts file says."""
    full, operations = f"{provider}/{name}", orchestrator().operations
    told = {limit: request.form.get(limit, "").strip() for limit in LIMITS if limit in request.form}
    changes = {
        limit: _number(text) for limit, text in told.items() if text != request.form.get(f"was_{limit}", "")
    }

    def verb() -> str:
        operations.set_limits(full, changes)
        words = [f"{limit} {'as the accounts file says' if value is None else f'is {value:g}'}"
                 for limit, value in changes.items()]  # fmt: skip
        return f"{full}: {', '.join(words) or 'nothing was changed'}"

    return act("limits", full, verb, url_for("accounts.show", provider=provider, name=name))


@accounts.post("/<provider>/<name>/<verb>")
def tell(provider: str, name: str, verb: str) -> Response:
    full = f"{provider}/{name}"
    page = url_for("accounts.show", provider=provider, name=name)
    then = page if verb == "drain" else url_for("accounts.list_")
    return _tell("account", full, verb, then)


@accounts.post("/<provider>/<verb>")
def tell_provider(provider: str, verb: str) -> Response:
    return _tell("provider", provider, verb, url_for("accounts.list_"))


def _tell(kind: str, name: str, word: str, then: str) -> Response:
    if word not in VERBS:
        abort(404)
    operations = orchestrator().operations

    def verb() -> str:
        if word == "resume":
            operations.resume(kind, name)
            return f"{kind} {name} takes work again"
        operations.pause(kind, name)
        left = operations.in_flight(kind, name)
        if word == "pause":
            return f"{kind} {name} is paused; {left} in flight go on"
        if not left:
            return f"{kind} {name} is drained: nothing is in flight"
        return f"{kind} {name} is paused, and drained once the {counted(left, 'attempt')} in flight ended"

    return act(word, name, verb, then)


def _providers(rows: list[Row]) -> list[str]:
    return sorted({str(row["provider"]) for row in rows})


def _row(provider: str, name: str) -> Row:
    """Raises: NotFound."""
    for row in account_rows(orchestrator()):
        if (row["provider"], row["name"]) == (provider, name):
            return row
    raise NotFound(f"no account {provider}/{name}: the accounts file of the workers names none like it")


def _shown(row: Row) -> dict[str, Any]:
    """An account as the templates read it."""
    client = orchestrator()
    now = client.flow.clock()
    slots = max(0, row["slots"])
    return {
        **row,
        "full": f"{row['provider']}/{row['name']}",
        "slots": slots,
        "most": max(row["max_jobs"], slots, row["used"]),
        "told": slots_of(row).partition(": ")[2],
        "rest": rest_of(row, now),
        "is_paused": row.get("rest_reason") == "paused" and row.get("rest_until", 0) > now,
        "cost": client.flow.store.spend.cost_at(row["provider"], row["name"]),
    }


def _limits(row: Row) -> list[dict[str, Any]]:
    """The form: each limit, what it is now, and what it may be."""
    return [
        {
            "name": name,
            "value": f"{row[name]:g}" if name in row else "",
            "is_changed": name in row["changed"],
            "lowest": f"{ACCOUNT_NUMBERS[name][1]:g}",
            "highest": f"{ACCOUNT_NUMBERS[name][2]:,.10g}",
        }
        for name in LIMITS
    ]


def _number(text: str) -> Any:
    """None for no text; what is no number stays text, for `Operations` to refuse."""
    try:
        return float(text) if text else None
    except ValueError:
        return text
