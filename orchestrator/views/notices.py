"""What the command line shows of notices: to whom, but never what opens their URL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.models import Notice
from orchestrator.notices import facts, shown_target
from orchestrator.schemas import moment
from orchestrator.views.printing import ago, console, counted, grid_of, in_about, print_json

if TYPE_CHECKING:
    from orchestrator.client import Orchestrator


def show_notices(
    orchestrator: Orchestrator, found: Sequence[Notice], limit: int | None, as_json: bool
) -> None:
    """The first `limit` of them, and how many there are."""
    told, now = found[:limit], orchestrator.flow.clock()
    if as_json:
        return print_json({"count": len(found), "notices": [notice_view(each) for each in told]})
    for each in told:
        console.print(
            f"{each.id}  {each.state}  {each.type}  {ago(each.made_at, now)}  {each.about}", soft_wrap=True
        )
        console.print(f"    {_fate(each)}", soft_wrap=True)
    left_out = f", the oldest {len(told)} are shown" if len(told) < len(found) else ""
    console.print(f"{counted(len(found), 'notice')}{left_out}")


def show_notice(orchestrator: Orchestrator, notice: Notice, as_json: bool) -> None:
    store, now = orchestrator.flow.store.notices, orchestrator.flow.clock()
    next_at, rests_until = store.due_at(notice), store.resting_until(notice.host)
    told = facts(notice) if notice.state != "delivered" else None
    view = {**notice_view(notice), "next_at": moment(next_at), "told": told}
    if as_json:
        return print_json({**view, "host_rests_until": moment(rests_until)})
    if next_at:
        view["next_at"] = in_about(max(next_at, rests_until or 0.0), now)
    console.print(grid_of(view))
    if rests_until and next_at:
        console.print(f"{notice.host} does not answer: it is tried again {in_about(rests_until, now)}")


def notice_view(notice: Notice) -> dict[str, Any]:
    return {
        "id": notice.id,
        "type": notice.type,
        "about": notice.about,
        "to": _to(notice),
        "state": notice.state,
        "tries": notice.tries,
        "answer": notice.answer or None,
        "made_at": moment(notice.made_at),
        "ended_at": moment(notice.ended_at),
    }


def fate_of(notice: Notice) -> str:
    """One line of a job's."""
    return f"{notice.type}: {notice.state}: {_fate(notice)}"


def _fate(notice: Notice) -> str:
    tries = "1 try" if notice.tries == 1 else f"{notice.tries} tries"
    heard = f", the last answered by: {notice.answer}" if notice.answer else ""
    return f"{_to(notice)}  {tries}{heard}"


def _to(notice: Notice) -> str:
    return notice.shown or shown_target(notice.target)
