"""How the whole stands at one moment, and what became of it since another. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.models import Job, State

if TYPE_CHECKING:
    from orchestrator.flow import Flow
    from orchestrator.store import Heard
    from orchestrator.store.lanes import Lane

LATEST = 5
ENDS = tuple(state.value for state in State if state.ended)


@dataclass(frozen=True)
class Overview:
    """One look. `counts`, `events`: as `Store.counts` and `Store.stats`."""

    at: float  # unix seconds
    counts: Mapping[str, int]
    events: Mapping[str, int]
    accounts: tuple[Mapping[str, Any], ...]  # as `Accounts.rows`
    lanes: tuple[Lane, ...]  # those with most jobs first
    paused: tuple[str, ...]  # `provider:<name>`, `batch:<name>`
    failed: tuple[tuple[Job, float], ...]  # the latest, and when
    callbacks: tuple[Heard, ...]  # the latest


@dataclass(frozen=True)
class Rates:
    """What happened in a second, at one provider."""

    ended: float  # jobs
    submits: float  # POSTs
    busy: float  # answers that the provider or the account is busy, 429 in most cases
    callbacks: float
    polls: float


def look(flow: Flow) -> Overview:
    store, now = flow.store, flow.clock()
    accounts = tuple(row for name in flow.exchange.providers for row in store.accounts.rows(name, now))
    pools = [*flow.exchange.providers, *(f"{row['provider']}/{row['name']}" for row in accounts)]
    lanes = {lane.name: lane for pool in pools for lane in store.lanes.waiting_for(pool)}
    failed_at = dict(store.dead.latest(LATEST))
    return Overview(
        at=now,
        counts=store.counts(),
        events=store.stats(),
        accounts=accounts,
        lanes=tuple(sorted(lanes.values(), key=lambda lane: -lane.waiting)),
        paused=tuple(sorted(store.lanes.paused())),
        failed=tuple((job, failed_at[job.id]) for job in store.jobs(list(failed_at))),
        callbacks=tuple(store.journal.recent(LATEST)),
    )


def providers(now: Overview) -> list[str]:
    """Those that have accounts or had jobs."""
    return sorted({row["provider"] for row in now.accounts} | {word.partition("/")[0] for word in now.counts})


def rates(provider: str, now: Overview, before: Overview) -> Rates:
    seconds = max(now.at - before.at, 1e-3)

    def of(kind: Mapping[str, int], since: Mapping[str, int], *words: str) -> float:
        names = [f"{provider}/{word}" for word in words]
        return max(0, sum(kind.get(name, 0) - since.get(name, 0) for name in names)) / seconds

    return Rates(
        ended=of(now.counts, before.counts, *ENDS),
        submits=of(now.events, before.events, "submits"),
        busy=of(now.events, before.events, "busy"),
        callbacks=of(now.events, before.events, "callbacks"),
        polls=of(now.events, before.events, "polls"),
    )
