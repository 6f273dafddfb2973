"""What the command line shows of providers."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from orchestrator.accounts_file import ACCOUNT_NUMBERS
from orchestrator.provider import Provider
from orchestrator.providers import registry
from orchestrator.views.printing import console, print_json


def show_providers(as_json: bool) -> None:
    rows = [_provider_view(provider) for provider in registry().values()]
    if as_json:
        return print_json(rows)
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
