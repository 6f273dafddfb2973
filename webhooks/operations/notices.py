"""Notices: what must be told of ends; those that wait, those that were given up."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Blueprint, Response, render_template, request, url_for

from orchestrator.errors import Invalid
from orchestrator.models import Notice
from orchestrator.notices import facts
from orchestrator.outbox import Chosen
from orchestrator.views.notices import notice_view
from orchestrator.views.printing import counted
from webhooks.operations.errands import act, ask, is_sure, orchestrator
from webhooks.operations.paging import ROWS, Page, first_place, fitting, page_of

CHUNK = 200

notices = Blueprint("notices", __name__, url_prefix="/notices")


@notices.get("")
def list_() -> str:
    flow = orchestrator().flow
    are_waiting, host = request.args.get("waiting") == "1", request.args.get("host", "").strip().lower()
    return render_template(
        "notices.html",
        page=_page(not are_waiting, host),
        are_waiting=are_waiting,
        host=host,
        counts=flow.store.notices.counts(),
        view=notice_view,
    )


@notices.get("/<notice_id>")
def show(notice_id: str) -> str:
    store = orchestrator().flow.store.notices
    notice = store.one(notice_id)
    return render_template(
        "notice.html",
        notice=notice,
        view=notice_view(notice),
        next_at=store.due_at(notice),
        rests_until=store.resting_until(notice.host),
        told=facts(notice) if notice.state != "delivered" else None,
    )


@notices.post("/replay")
def replay() -> Response:
    which, outbox = _chosen(), orchestrator().outbox
    verb = lambda: f"{counted(outbox.replay(which), 'notice')} replayed"  # noqa: E731
    return act("replay", _words(which), verb, _back())


@notices.post("/purge")
def purge() -> Response | str:
    which, outbox = _chosen(), orchestrator().outbox
    if not is_sure():
        return ask(f"Forget {_words(which)}? Nobody is ever told then.", "Forget", _back())
    verb = lambda: f"{counted(outbox.purge(which), 'notice')} purged"  # noqa: E731
    return act("purge", _words(which), verb, _back())


def _chosen() -> Chosen:
    """What a form is about. Raises: Invalid."""
    if request.form.get("all") == "yes":
        return Chosen(host=request.form.get("host", "").strip().lower())
    if ids := request.form.getlist("notice"):
        return Chosen(ids=frozenset(ids))
    raise Invalid("nothing was chosen: tick the notices it is about, or choose all that fit")


def _words(which: Chosen) -> str:
    if which.ids:
        return counted(len(which.ids), "dead notice")
    return f"all dead notices to {which.host}" if which.host else "all dead notices"


def _back() -> str:
    return url_for("notices.list_", host=request.form.get("host") or None)


def _page(are_dead: bool, host: str) -> Page:
    """The latest first."""
    store, first = orchestrator().flow.store.notices, first_place()
    if host:
        return fitting(_looked_through(are_dead, host, first), first)
    total = store.counts()[are_dead]
    return page_of(store.known(store.latest(are_dead, ROWS + 1, first)), first, total)


def _looked_through(are_dead: bool, host: str, first: int) -> Iterator[list[tuple[int, Notice, bool]]]:
    store = orchestrator().flow.store.notices
    while ids := store.latest(are_dead, CHUNK, first):
        places = {each: place for place, each in enumerate(ids, first)}
        yield [(places[each.id], each, each.host == host) for each in store.known(ids)]
        first += len(ids)
