"""The whole at one glance, and the way to one job or batch."""

from __future__ import annotations

from flask import Blueprint, Response, current_app, render_template, request, url_for

from orchestrator.models import State
from orchestrator.overview import Overview, Rates, providers, rates
from orchestrator.views.accounts import numbered, rest_of
from webhooks.operations.errands import lead_to, orchestrator

SHOWN = 8  # of each kind of trouble
SEARCHED_CHARACTERS = 300

home = Blueprint("home", __name__)


@home.get("/")
def show() -> str:
    now, before = current_app.extensions["looks"].latest()
    return render_template(
        "home.html",
        look=now,
        rows=_rows(now, before),
        totals={state.value: _total(now, state) for state in State},
        accounts=[{**numbered(row), "rest": rest_of(numbered(row), now.at)} for row in now.accounts],
        **_troubles(),
    )


@home.get("/search")
def search() -> Response:
    """To the job of this id, the batch of this name, or the batches whose names have it in them."""
    wanted = request.args.get("q", "").strip()[:SEARCHED_CHARACTERS]
    store = orchestrator().flow.store
    if not wanted:
        return lead_to(url_for("home.show"))
    if store.jobs([wanted]):
        return lead_to(url_for("jobs.show", job_id=wanted))
    if store.batches.standing(wanted):
        return lead_to(url_for("batches.show", name=wanted))
    return lead_to(url_for("batches.list_", q=wanted))


def _rows(now: Overview, before: Overview | None) -> list[tuple[str, dict[str, int], Rates | None]]:
    """Of each provider: jobs by state, and what happens in a second."""
    return [
        (
            name,
            {state.value: now.counts.get(f"{name}/{state.value}", 0) for state in State},
            rates(name, now, before) if before else None,
        )
        for name in providers(now)
    ]


def _total(now: Overview, state: State) -> int:
    return sum(count for word, count in now.counts.items() if word.endswith(f"/{state.value}"))


def _troubles() -> dict[str, object]:
    """What a person ought to look at."""
    flow = orchestrator().flow
    store = flow.store
    uncertain = store.spend.uncertain()
    dies_at = dict(store.collecting.troubled(SHOWN))
    shares = {name: store.missing_share(name) for name in flow.exchange.providers}
    waiting, dead = store.notices.counts()
    return {
        "uncertain": [attempt for name in uncertain[:SHOWN] if (attempt := store.attempt(name))],
        "uncertain_count": len(uncertain),
        "collecting": [(job, dies_at[job.id]) for job in store.jobs(list(dies_at))],
        "collecting_count": store.collecting.count(),
        "storage": store.collecting.storage(),
        "missing": {name: share for name, share in shares.items() if share >= 0.005},
        "polled": [name for name in shares if flow.watch.polls_instead(name)],
        "dead_count": store.dead.count(),
        "notices_waiting": waiting,
        "notices_dead": dead,
        "parked_count": store.journal.count(parked=True),
    }
