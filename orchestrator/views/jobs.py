"""What the command line shows of jobs and batches."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from orchestrator import pauses, timeline
from orchestrator.models import State
from orchestrator.schemas import moment, shown
from orchestrator.views.accounts import account_rows, account_view, print_accounts
from orchestrator.views.collecting import print_gate
from orchestrator.views.notices import fate_of, notice_view
from orchestrator.views.printing import ago, at, console, counted, grid_of, in_about, print_json

if TYPE_CHECKING:
    from orchestrator.client import Orchestrator


def show_status(orchestrator: Orchestrator, as_json: bool) -> None:
    store, now = orchestrator.flow.store, orchestrator.flow.clock()
    counts, accounts = store.counts(), account_rows(orchestrator)
    providers = orchestrator.flow.exchange.providers
    missing = {name: share for name in providers if (share := round(store.missing_share(name), 3))}
    paused = sorted(store.lanes.paused())
    batches = [each.removeprefix("batch:") for each in paused if each.startswith("batch:")]
    why = {name: store.lanes.why_paused(name) for name in batches}
    uncertain = len(store.spend.uncertain())
    troubled, storage = store.collecting.count(), store.collecting.storage()
    waiting, dead = store.notices.counts()
    if as_json:
        return print_json(
            {
                "jobs": counts,
                "events": store.stats(),
                "accounts": [account_view(row, now) for row in accounts],
                "paused": paused,
                "batches_at_spend_cap": [name for name in batches if why[name] == pauses.SPEND],
                "batches_paused_by": why,
                "uncertain": uncertain,
                "not_kept": troubled,
                "storage": storage or None,
                "missing_callbacks": missing,
                "notices": {"waiting": waiting, "dead": dead},
            }
        )
    jobs = Table("provider", *(state.value for state in State), title="Jobs", title_justify="left")
    for provider in sorted({word.partition("/")[0] for word in counts}):
        jobs.add_row(provider, *(str(counts.get(f"{provider}/{state.value}", 0)) for state in State))
    console.print(jobs)
    print_accounts(accounts, now)
    for kind, _, name in (each.partition(":") for each in paused):
        if kind == "batch":
            told = f"{pauses.state(why[name])}: {pauses.cure(name, why[name])}"
        else:
            told = f"is paused: `orchestrator resume {kind} {name}`"
        console.print(f"{kind} {name} {told}", soft_wrap=True)
    if uncertain:
        told = f"of {counted(uncertain, 'submit')} it is not known whether the provider took it"
        console.print(f"{told}: `orchestrator status --uncertain`")
    if troubled:
        told = f"the pictures of {counted(troubled, 'job')} could not be kept so far"
        console.print(f"{told}: `orchestrator collecting`")
    print_gate(storage)
    if waiting or dead:
        console.print(
            f"{counted(waiting, 'notice')} to be delivered, {dead} dead: `orchestrator notices list`"
        )
    for provider, share in missing.items():
        polled = ": it is polled instead" if orchestrator.flow.watch.polls_instead(provider) else ""
        console.print(f"{provider}: {share:.0%} of the latest callbacks did not come{polled}")


def show_uncertain(orchestrator: Orchestrator, as_json: bool) -> None:
    """The submits of which it is not known now whether the provider took them, the oldest first."""
    store, accounts, now = (
        orchestrator.flow.store,
        orchestrator.flow.exchange.accounts,
        orchestrator.flow.clock(),
    )
    found = [attempt for name in store.spend.uncertain() if (attempt := store.attempt(name))]
    found.sort(key=lambda attempt: attempt.uncertain_since)
    rows = [
        {
            "job": attempt.job_id,
            "attempt": attempt.number,
            "provider": attempt.provider,
            "account": attempt.account,
            "since": moment(attempt.uncertain_since),
            "until": moment(attempt.deadline_at),
            "then": account.when_uncertain.value if account else None,
        }
        for attempt in found
        for account in [accounts.get((attempt.provider, attempt.account))]
    ]
    if as_json:
        return print_json(rows)
    for attempt, row in zip(found, rows, strict=True):
        since, until = ago(attempt.uncertain_since, now), in_about(attempt.deadline_at, now)
        where = f"{row['provider']}/{row['account']}"
        console.print(
            f"{row['job']}  attempt {row['attempt']}  {where}  uncertain since {since}", soft_wrap=True
        )
        console.print(f"    {row['then'] or 'settled'} at {until}, unless it is known before", soft_wrap=True)
    console.print(f"{counted(len(rows), 'uncertain submit')}")


def show_job(orchestrator: Orchestrator, job_id: str, as_json: bool, **more: Any) -> None:
    """`more`: what else is known of it."""
    job = orchestrator.job(job_id).record
    view = {**shown(job), **more}
    rows = enumerate(orchestrator.flow.store.attempts(job), 1)
    attempts = [_attempt_view(number, row) for number, row in rows if row]
    notices = orchestrator.flow.store.notices.of_job(job_id)
    moments = orchestrator.insight.timeline(job_id)
    granted = attempts and attempts[-1]["state"] == "granted"
    if job.state is State.QUEUED and not granted and "+" in job.target:
        view["waits_for"] = job.target.split("+")
    if as_json:
        told_of = [notice_view(notice) for notice in notices]
        past = [timeline.shown(each) for each in moments]
        return print_json({**view, "attempt_records": attempts, "notices": told_of, "timeline": past})
    table = grid_of(view)
    for attempt in attempts:
        number, since = attempt.pop("number"), attempt.pop("uncertain_since")
        told = f"uncertain since {since}: " if since else ""
        table.add_row(Text(f"attempt {number}", "bold"), told + json.dumps(attempt))
    for notice in notices:
        table.add_row(Text("notice", "bold"), Text(fate_of(notice)))
    console.print(table)
    console.print(_timeline(moments, job.created_at))


def show_explanation(orchestrator: Orchestrator, job_id: str, as_json: bool) -> None:
    told, now = orchestrator.insight.explain(job_id), orchestrator.flow.clock()
    if as_json:
        moments = {"since": moment(told.since), "opens_at": moment(told.opens_at)}
        return print_json({**asdict(told), **moments})
    table = _grid()
    table.add_row(Text(told.gate, "bold"), told.text)
    table.add_row("since", ago(told.since, now))
    if told.opens_at is not None:
        table.add_row("opens", in_about(told.opens_at, now))
    if told.before is not None:
        table.add_row("before it", f"about {counted(told.before, 'job')}")
    console.print(table)


def show_forecast(orchestrator: Orchestrator, batch: str, more: list[int], as_json: bool) -> None:
    told, now = orchestrator.insight.forecast(batch, more), orchestrator.flow.clock()
    if as_json:
        with_more = {count: moment(ends_at) for count, ends_at in told.with_more.items()}
        return print_json({**asdict(told), "ends_at": moment(told.ends_at), "with_more": with_more})
    table = _grid()
    table.add_row(Text(batch, "bold"), f"{counted(told.remaining, 'job')} not over yet")
    table.add_row("slots", f"{told.slots:.4g}, shared with whoever else waits for them")
    measured = f"{told.slot_seconds:.3g} s of a slot, measured" if told.slot_seconds else "not measured yet"
    table.add_row("a job", measured)
    if told.remaining:
        table.add_row("ends", "nobody can say" if told.ends_at is None else in_about(told.ends_at, now))
    for count, ends_at in told.with_more.items():
        table.add_row(f"with {counted(count, 'account')} more", in_about(ends_at, now))
    console.print(table)
    for note in told.notes:
        console.print(note, soft_wrap=True)


def _attempt_view(number: int, row: Any) -> dict[str, Any]:
    opened, closed = row.get("opened"), row.get("closed")
    since = None if closed or row.get("upstream_id") else row.get("uncertain_since")
    return {
        "number": number,
        "account": row.get("account"),
        "state": row.get("verdict") or row.get("state"),
        "cost": row.get("fate"),
        "uncertain_since": moment(float(since)) if since else None,
        "opened_at": moment(float(opened)) if opened else None,
        "closed_at": moment(float(closed)) if closed else None,
        "error": json.loads(row["error"])["message"] if row.get("error") else None,
    }


def _timeline(moments: Sequence[timeline.Moment], began_at: float) -> Table:
    table = Table(
        "at (UTC)", "after", "event", "attempt", "", title="Timeline", title_justify="left", box=None
    )
    for each in moments:
        number = str(each.attempt) if each.attempt else ""
        after = f"{each.at - began_at:.1f} s"
        table.add_row(at(each.at), after, each.event, number, Text(each.text))
    return table


def _grid() -> Table:
    return Table(show_header=False, box=None)
