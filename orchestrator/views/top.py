"""The whole at one look: accounts, who waits, rates, the latest errors and callbacks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from orchestrator.models import Job, State
from orchestrator.operations import failure_of
from orchestrator.overview import Overview, look, providers, rates
from orchestrator.schemas import moment
from orchestrator.views.accounts import account_view, numbered, rest_of, slots_of
from orchestrator.views.printing import ago, at

if TYPE_CHECKING:
    from orchestrator.flow import Flow

LANES_SHOWN = 10
BAR_CELLS = 10
NAME_CELLS = 20  # of a batch beside other things
SPEEDS = ("jobs ended", "POSTs", "busy (429)", "callbacks", "polls")
STATES = (State.QUEUED, State.SUBMITTED, State.COLLECTING, State.SUCCEEDED, State.FAILED, State.CANCELLED)


def show_top(flow: Flow, console: Console, every: float) -> None:
    """Until it is interrupted; looks each `every` seconds."""
    before = look(flow)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(every)
            now = look(flow)
            live.update(picture(now, before, console.width), refresh=True)
            before = now


def print_top(console: Console, now: Overview, before: Overview) -> None:
    console.print(picture(now, before, console.width))


def view(now: Overview, before: Overview) -> dict[str, Any]:
    """As JSON."""
    return {
        "at": moment(now.at),
        "providers": {name: _provider_view(name, now, before) for name in providers(now)},
        "accounts": [account_view(numbered(row), now.at) for row in now.accounts],
        "lanes": [
            {"batch": lane.owner, "waits_for": lane.target, "waiting": lane.waiting, "share": lane.share}
            for lane in now.lanes
        ],
        "paused": list(now.paused),
        "errors": [_failed_view(job, failed_at) for job, failed_at in now.failed],
        "callbacks": [
            {
                "at": moment(heard.at),
                "provider": heard.provider,
                "account": heard.account,
                "attempt": heard.attempt,
                "word": heard.word,
            }
            for heard in now.callbacks
        ],
    }


def _provider_view(name: str, now: Overview, before: Overview) -> dict[str, Any]:
    told = asdict(rates(name, now, before))
    return {
        "jobs": {state.value: now.counts.get(f"{name}/{state.value}", 0) for state in STATES},
        "per_second": {word: round(rate, 3) for word, rate in told.items()},
    }


def _failed_view(job: Job, failed_at: float) -> dict[str, Any]:
    return {
        "job": job.id,
        "batch": job.batch or None,
        "custom_id": job.custom_id or None,
        "at": moment(failed_at),
        "error": failure_of(job),
        "message": job.reason or None,
    }


def picture(now: Overview, before: Overview, width: int) -> Group:
    parts: list[RenderableType] = [Text(at(now.at), "dim"), _providers(now, before, width), _accounts(now)]
    parts += [_note(told) for row in now.accounts if (told := _rests(row, now))]
    if now.lanes:
        parts.append(_lanes(now))
    parts += [_note(f"{name.replace(':', ' ')} is paused") for name in now.paused]
    if now.failed:
        parts.append(_failed(now))
    if now.callbacks:
        parts.append(_callbacks(now))
    return Group(*parts)


def _note(text: str) -> Padding:
    return Padding(Text(text, "yellow"), (0, 0, 0, 2))


def _table(title: str, *columns: str, numbers: Sequence[str] = ()) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for name in columns:
        table.add_column(
            name, header_style="dim", no_wrap=True, justify="right" if name in numbers else "left"
        )
    return table


def _providers(now: Overview, before: Overview, width: int) -> Table:
    words = [state.value for state in STATES]
    table = _table("Jobs", "provider", *words, numbers=words)
    speeds = _table("Per second", "provider", *SPEEDS, numbers=SPEEDS)
    for name in providers(now):
        table.add_row(name, *(f"{now.counts.get(f'{name}/{state.value}', 0):,}" for state in STATES))
        each = rates(name, now, before)
        figures = (each.ended, each.submits, each.busy, each.callbacks, each.polls)
        speeds.add_row(name, *(f"{figure:.1f}" if figure else "·" for figure in figures))
    both = Table.grid(padding=(0, 4, 0, 0))
    if width >= 150:
        both.add_row(table, speeds)
    else:
        both.add_row(table)
        both.add_row(speeds)
    return both


def _accounts(now: Overview) -> Table:
    table = _table("Accounts", "provider", "account", "slots", "")
    for row in now.accounts:
        full = round(BAR_CELLS * row["used"] / max(1, row["slots"], row["used"]))
        bar = Text("█" * full, "cyan") + Text("░" * (BAR_CELLS - full), "dim")
        table.add_row(row["provider"], row["name"], bar, slots_of(numbered(row)))
    return table


def _rests(row: Any, now: Overview) -> str:
    told = rest_of(numbered(row), now.at)
    return f"{row['provider']}/{row['name']} rests: {told}" if told else ""


def _lanes(now: Overview) -> Table:
    table = _table("Waiting", "batch", "for", "jobs", "share", numbers=("jobs", "share"))
    shares = sum(lane.share for lane in now.lanes)
    for lane in now.lanes[:LANES_SHOWN]:
        table.add_row(lane.owner or "(none)", lane.target, f"{lane.waiting:,}", f"{lane.share / shares:.0%}")
    if more := now.lanes[LANES_SHOWN:]:
        table.add_row(f"… {len(more)} more", "", f"{sum(lane.waiting for lane in more):,}", "")
    return table


def _failed(now: Overview) -> Table:
    table = _table("Latest failures", "failed", "batch", "job", "error")
    table.columns[1].max_width = NAME_CELLS
    table.expand, table.columns[-1].ratio, table.columns[-1].overflow = True, 1, "ellipsis"
    for job, failed_at in _latest_first(now.failed):
        name = job.custom_id or job.id[:8]
        table.add_row(ago(failed_at, now.at), job.batch or "·", name, job.reason or failure_of(job))
    return table


def _latest_first(failed: Sequence[tuple[Job, float]]) -> list[tuple[Job, float]]:
    return sorted(failed, key=lambda each: -each[1])


def _callbacks(now: Overview) -> Table:
    table = _table("Latest callbacks", "heard", "provider", "account", "led to")
    for heard in now.callbacks:
        table.add_row(ago(heard.at, now.at), heard.provider, heard.account, heard.word)
    return table
