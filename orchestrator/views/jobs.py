"""What the command line shows of jobs, accounts and providers: tables for people, JSON for programs."""

from __future__ import annotations

import json
import time
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestrator.client import Orchestrator
from orchestrator.models import State
from orchestrator.provider import Provider
from orchestrator.providers import registry
from orchestrator.retry import UNTIL_RESUMED
from orchestrator.schemas import moment, shown
from orchestrator.settings import ACCOUNT_NUMBERS

console = Console(markup=False, highlight=False)  # prompts and errors are a stranger's words


def show_job(orchestrator: Orchestrator, job_id: str, as_json: bool) -> None:
    job = orchestrator.job(job_id).record
    view = shown(job)
    attempts = [
        _attempt_view(number, row) for number, row in enumerate(orchestrator.flow.store.attempts(job), 1)
    ]
    if as_json:
        return click.echo(json.dumps({**view, "attempt_records": attempts}, indent=2))
    table = Table(show_header=False, box=None)
    for name, value in view.items():
        if value not in (None, {}, ""):
            table.add_row(Text(name, "bold"), value if isinstance(value, str) else json.dumps(value))
    for attempt in attempts:
        table.add_row(Text(f"attempt {attempt.pop('number')}", "bold"), json.dumps(attempt))
    console.print(table)


def _attempt_view(number: int, row: Any) -> dict[str, Any]:
    opened, closed = row.get("opened"), row.get("closed")
    return {
        "number": number,
        "account": row.get("account"),
        "state": row.get("verdict") or row.get("state"),
        "opened_at": moment(float(opened)) if opened else None,
        "closed_at": moment(float(closed)) if closed else None,
        "error": json.loads(row["error"])["message"] if row.get("error") else None,
    }


def show_all(orchestrator: Orchestrator, as_json: bool) -> None:
    store = orchestrator.flow.store
    counts, stats = store.counts(), store.stats()
    rows = [
        _account_view(row) for provider in registry() for row in store.accounts.rows(provider, time.time())
    ]
    missing = {name: share for name in registry() if (share := round(store.missing_share(name), 3))}
    if as_json:
        return click.echo(
            json.dumps(
                {"jobs": counts, "events": stats, "accounts": rows, "missing_callbacks": missing}, indent=2
            )
        )
    jobs = Table("provider", *(state.value for state in State), title="Jobs", title_justify="left")
    for provider in sorted({word.partition("/")[0] for word in counts}):
        jobs.add_row(provider, *(str(counts.get(f"{provider}/{state.value}", 0)) for state in State))
    accounts = Table("provider", "account", "slots", "rests", title="Accounts", title_justify="left")
    for row in rows:
        accounts.add_row(row["provider"], row["name"], f"{row['used']}/{row['max_jobs']}", row["rest"] or "")
    console.print(jobs, accounts)
    for provider, share in missing.items():
        polled = ": it is polled instead" if orchestrator.flow.watch.polls_instead(provider) else ""
        console.print(f"{provider}: {share:.0%} of the latest callbacks did not come{polled}")


def _account_view(row: dict[str, Any]) -> dict[str, Any]:
    until = float(row.get("rest_until") or 0)
    rest = None
    if until <= time.time():
        pass  # over, or none
    elif until >= UNTIL_RESUMED:
        rest = (
            f"{row.get('rest_reason')}: until `orchestrator resume account {row['provider']}/{row['name']}`"
        )
    else:
        rest = f"{row['rest_reason']}: until {moment(until)}"
    return {**{name: row[name] for name in ("provider", "name", "used", "max_jobs")}, "rest": rest}


def show_providers(as_json: bool) -> None:
    rows = [_provider_view(provider) for provider in registry().values()]
    if as_json:
        return click.echo(json.dumps(rows, indent=2))
    table = Table("provider", "outcome by", "signed", "slots", "timeout", "deadline")
    for view in rows:
        limits = view["limits"]
        table.add_row(
            view["name"],
            view["kind"],
            "yes" if view["signed"] else "no",
            f"{limits['max_jobs']:g}",
            f"{limits['timeout_seconds']:g} s",
            f"{limits['deadline_seconds']:g} s",
        )
    console.print(table)
    for view in rows:
        console.print(f"{view['name']}: {view['docs_url']}", soft_wrap=True)


def _provider_view(provider: Provider) -> dict[str, Any]:
    """`limits`: what an account has that does not say otherwise."""
    limits = {name: default for name, (_, _, _, default) in ACCOUNT_NUMBERS.items()}
    slowest = max(limits["min_poll_seconds"], provider.min_poll_seconds)
    return {
        "name": provider.name,
        "kind": provider.kind,
        "signed": provider.signs,
        "docs_url": provider.docs_url,
        "limits": {**limits, **provider.account_defaults, "min_poll_seconds": slowest},
    }
