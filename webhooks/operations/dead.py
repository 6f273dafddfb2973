"""Dead letters: failed jobs that a person may cure. Filtered, shown, replayed, given up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flask import Blueprint, Response, render_template, request, url_for

from orchestrator.errors import Invalid
from orchestrator.models import Job
from orchestrator.operations import Filter
from orchestrator.views.printing import counted
from webhooks.operations.errands import act, ask, is_sure, orchestrator
from webhooks.operations.paging import ROWS, Page, first_place, fitting, page_of

AGES = {"1h": 3_600, "12h": 43_200, "1d": 86_400, "7d": 7 * 86_400}
CHUNK = 200
FILTERS = ("provider", "error", "batch", "newer", "older")

dead = Blueprint("dead", __name__, url_prefix="/dead")
Letter = tuple[Job, float]


@dead.get("")
def list_() -> str:
    which = _filter(request.args)
    return render_template(
        "dead.html",
        page=_page(which),
        total=orchestrator().flow.store.dead.count(which.after, which.before),
        chosen={name: request.args.get(name, "") for name in FILTERS},
        ages=list(AGES),
        providers=sorted(orchestrator().flow.exchange.providers),
    )


@dead.post("/replay")
def replay() -> Response | str:
    which, operations = _chosen(), orchestrator().operations
    moderated = request.form.get("moderated") == "yes"
    if not is_sure():
        note = " Those that moderation refused are sent again, too." if moderated else ""
        return ask(
            f"Let {_words(which)} run again? Each may be paid for once more.{note}", "Run again", _back()
        )

    def verb() -> str:
        count = operations.replay(which, moderated)
        left = "" if count else ": nothing that fits can run again, or its parameters are not known"
        return f"{counted(count, 'job')} replayed{left}"

    return act("replay", _words(which), verb, _back())


@dead.post("/purge")
def purge() -> Response | str:
    which, operations = _chosen(), orchestrator().operations
    if not is_sure():
        question = f"Give {_words(which)} up? They stay failed, and cannot be replayed."
        return ask(question, "Give up", _back())
    verb = lambda: f"{counted(operations.purge(which), 'dead letter')} purged"  # noqa: E731
    return act("purge", _words(which), verb, _back())


def _filter(told: Mapping[str, str], jobs: Sequence[str] = ()) -> Filter:
    now = orchestrator().flow.clock()
    newer, older = AGES.get(told.get("newer", "")), AGES.get(told.get("older", ""))
    return Filter(
        provider=told.get("provider", ""),
        error=told.get("error", "").strip(),
        batch=told.get("batch", "").strip(),
        after=now - newer if newer else 0.0,
        before=now - older if older else None,
        jobs=frozenset(jobs),
    )


def _chosen() -> Filter:
    """What a form is about: the letters that were ticked, or all that fit its filter. Raises: Invalid."""
    if request.form.get("all") == "yes":
        return _filter(request.form)
    if jobs := request.form.getlist("job"):
        return Filter(jobs=frozenset(jobs))
    raise Invalid("nothing was chosen: tick the dead letters it is about, or choose all that fit")


def _words(which: Filter) -> str:
    if which.jobs:
        return counted(len(which.jobs), "dead letter")
    told = {"of provider": which.provider, "failed by": which.error, "of batch": which.batch}
    told["newer than"] = request.form.get("newer", "") if which.after else ""
    told["older than"] = request.form.get("older", "") if which.before else ""
    words = " ".join(f"{word} {text}" for word, text in told.items() if text)
    return f"all dead letters {words}".strip() if words else "all dead letters"


def _back() -> str:
    told: dict[str, Any] = {name: request.form[name] for name in FILTERS if request.form.get(name)}
    return url_for("dead.list_", **told)


def _page(which: Filter) -> Page:
    """The latest first. A filter other than of time is looked through a bounded part at a time."""
    store, first = orchestrator().flow.store, first_place()
    if which.provider or which.error or which.batch:
        return fitting(_looked_through(which, first), first)
    found = dict(store.dead.latest(ROWS + 1, first, which.after, which.before))
    letters = [(job, found[job.id]) for job in store.jobs(list(found))]
    total = store.dead.count(which.after, which.before)
    return page_of(letters, first, total)


def _looked_through(which: Filter, first: int) -> Iterator[list[tuple[int, Letter, bool]]]:
    store = orchestrator().flow.store
    while found := store.dead.latest(CHUNK, first, which.after, which.before):
        places = {job_id: place for place, (job_id, _) in enumerate(found, first)}
        moments = dict(found)
        jobs = store.jobs(list(moments))
        yield [(places[job.id], (job, moments[job.id]), which.takes(job)) for job in jobs]
        first += len(found)
