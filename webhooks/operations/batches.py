"""Batches: how they stand, and what may be done to one as a whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice

from flask import Blueprint, Response, render_template, request, url_for

from orchestrator import bill
from orchestrator.models import Job, State
from orchestrator.operations import failure_of
from orchestrator.store.batches import Standing
from orchestrator.views.printing import amount, counted
from webhooks.operations.errands import act, ask, is_sure, orchestrator
from webhooks.operations.numbers import Numbers
from webhooks.operations.paging import ROWS, first_place, fitting, page_of

ENDS_READ = 1_000  # of a batch, for its rate and its failures
LATELY_SECONDS = 300.0  # that a rate is measured over

batches = Blueprint("batches", __name__, url_prefix="/batches")


@batches.get("")
def list_() -> str:
    store, first = orchestrator().flow.store.batches, first_place()
    wanted, is_open = request.args.get("q", "").strip(), request.args.get("open") == "1"
    found = store.latest(first)
    if wanted or is_open:
        chosen = (
            [(place, each, wanted.casefold() in each.name.casefold() and not (is_open and each.is_over))]
            for place, each in enumerate(found, first)
        )
        page = fitting(chosen, first)
    else:
        page = page_of(list(islice(found, ROWS + 1)), first, store.count())
    return render_template("batches.html", page=page, wanted=wanted, is_open=is_open)


@batches.get("/<path:name>")
def show(name: str) -> str:
    client, first = orchestrator(), first_place()
    store, found = client.flow.store, _standing(name)
    ends = store.batches.latest_ends(name, ENDS_READ)
    jobs = store.jobs(store.batches.first_ids(name, first, ROWS + 1))
    providers = client.flow.exchange.providers
    return render_template(
        "batch.html",
        batch=found,
        rate=_per_minute([at for _, at in ends], client.flow.clock()),
        forecast=client.insight.forecast(name, ()),
        bill=bill.of_batch(store, providers, client.flow.clock(), name),
        failures=_failures(ends) if found.counts[State.FAILED.value] else [],
        ends_read=len(ends) if len(ends) == ENDS_READ else 0,
        page=page_of(jobs, first, found.counts["total"]),
    )


def _standing(name: str) -> Standing:
    """Raises: NotFound."""
    return orchestrator().batches.standing(name)


def _per_minute(moments: Sequence[float], now: float) -> float | None:
    """Jobs that ended in a minute, lately; None where none did. `moments`: the latest first."""
    lately = [moment for moment in moments if moment > now - LATELY_SECONDS]
    if not lately:
        return None
    began = lately[-1] if len(lately) == ENDS_READ or len(lately) == len(moments) else now - LATELY_SECONDS
    return 60 * len(lately) / max(now - began, 1.0)


def _failures(ends: Sequence[tuple[str, float]]) -> list[tuple[str, int, Job]]:
    """Class of failure, how many jobs it ended, and the latest of them; most first."""
    jobs = orchestrator().flow.store.jobs(list(dict.fromkeys(job_id for job_id, _ in ends)))
    failed = [job for job in jobs if job.state is State.FAILED]
    latest = {failure_of(job): job for job in reversed(failed)}
    return [(kind, count, latest[kind]) for kind, count in Counter(map(failure_of, failed)).most_common()]


@batches.post("/<path:name>/pause")
def pause(name: str) -> Response:
    operations = orchestrator().operations

    def verb() -> str:
        operations.pause("batch", name)
        return f"batch {name} is paused; what is open goes on"

    return act("pause", name, verb, _page(name))


@batches.post("/<path:name>/resume")
def resume(name: str) -> Response:
    operations = orchestrator().operations

    def verb() -> str:
        held = operations.spent(name)
        operations.resume("batch", name)
        if held and held[1]:
            cost, most = map(amount, held)
            return (
                f"batch {name} takes work again; it has cost {cost} of the {most} that it may, and is paused "
                "again before it would cost more: raise its spend cap"
            )
        return f"batch {name} takes work again"

    return act("resume", name, verb, _page(name))


@batches.post("/<path:name>/cancel")
def cancel(name: str) -> Response | str:
    found, verbs = _standing(name), orchestrator().batches
    if not is_sure():
        question = (
            f"Cancel the {counted(found.left, 'job')} of batch {name} that are not over, at the provider too "
            "where it can? Pictures that are being collected are paid for, and still kept."
        )
        return ask(question, "Cancel the batch", _page(name))
    verb: Callable[[], str] = lambda: f"{counted(verbs.cancel(name), 'job')} of batch {name} cancelled"  # noqa: E731
    return act("cancel", name, verb, _page(name))


@batches.post("/<path:name>/prioritise")
def prioritise(name: str) -> Response:
    numbers, verbs = Numbers(request.form), orchestrator().batches

    def verb() -> str:
        priority = numbers.whole("priority")
        count = verbs.prioritise(name, priority if priority is not None else -1)
        return f"{counted(count, 'job')} of batch {name} have priority {priority}"

    return act("prioritise", name, verb, _page(name))


@batches.post("/<path:name>/limit")
def limit(name: str) -> Response:
    """Spend and failures that stop it; an empty field lifts a limit."""
    numbers, client = Numbers(request.form), orchestrator()
    found = _standing(name)

    def is_changed(field: str) -> bool:
        """By this person: what another set since the page was shown, stays."""
        return request.form.get(field, "") != request.form.get(f"was_{field}", "")

    new_most, new_share, new_cap = map(is_changed, ("max_failures", "max_failure_share", "max_spend"))

    def verb() -> str:
        most = numbers.whole("max_failures") if new_most else found.max_failures or None
        share = numbers.any("max_failure_share") if new_share else found.max_failure_share or None
        cap = numbers.any("max_spend") if new_cap else found.max_spend or None
        if new_cap:
            client.operations.cap(name, cap)
        if new_most or new_share:
            client.batches.limit(name, most, share)
        told = [f"{most} failures"] if most else []
        told += [f"a share of {share:g} that failed"] if share else []
        told += [f"a cost of {amount(cap)}"] if cap else []
        note = "; it is paused until you resume it" if client.operations.spent(name) else ""
        return f"batch {name} is stopped by {' or '.join(told) or 'nothing'}{note}"

    return act("limit", name, verb, _page(name))


@batches.post("/<path:name>/weigh")
def weigh(name: str) -> Response:
    numbers, operations = Numbers(request.form), orchestrator().operations

    def verb() -> str:
        weight = numbers.any("weight") or 0.0
        operations.weigh("batch", name, weight)
        return f"batch {name} has weight {weight:g}"

    return act("weigh", name, verb, _page(name))


@batches.post("/<path:name>/retry")
def retry(name: str) -> Response | str:
    found, verbs = _standing(name), orchestrator().batches
    if not is_sure():
        failed = counted(found.counts[State.FAILED.value], "failed job")
        question = (
            f"Let {failed} of batch {name} run again? Each may be paid for once more; what moderation "
            "refused is not sent."
        )
        return ask(question, "Run them again", _page(name))
    verb: Callable[[], str] = lambda: f"{counted(verbs.retry_failed(name), 'job')} of batch {name} run again"  # noqa: E731
    return act("retry", name, verb, _page(name))


@batches.post("/<path:name>/purge")
def purge(name: str) -> Response | str:
    found, client = _standing(name), orchestrator()
    pictures = request.form.get("pictures") == "yes"
    if not is_sure():
        rest = "The pictures that were kept go with it." if pictures else "Pictures that were kept stay."
        jobs = counted(found.counts["total"], "job")
        question = f"Delete all that is known of the {jobs} of batch {name}, for good? {rest}"
        return ask(question, "Delete it", _page(name))

    def verb() -> str:
        done = client.batches.purge(name, pictures)
        removed = f", {counted(done.pictures, 'picture')} removed" if pictures else ""
        return f"{counted(done.jobs, 'job')} of batch {name} deleted{removed}"

    then = url_for("batches.list_") if found.is_over else _page(name)
    return act("purge", name, verb, then)


def _page(name: str) -> str:
    return url_for("batches.show", name=name)
