"""From a file of requests to a file of outcomes: check, enqueue, write. Interrupted, it can go on."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike, fspath
from typing import TYPE_CHECKING

from orchestrator.batches import Terms
from orchestrator.errors import BadFile, Invalid
from orchestrator.files.checking import Asked, Faults, check
from orchestrator.files.display import Display
from orchestrator.files.formats import STANDARD
from orchestrator.files.outcomes import Outcomes, StandardOutput, Tally
from orchestrator.files.reading import records
from orchestrator.files.running import AT_ONCE, Running, keep_latest, take_up
from orchestrator.files.source import Source, declared
from orchestrator.files.spool import Spool
from orchestrator.models import State
from orchestrator.schemas import JobOptions
from orchestrator.schemas import check as check_schema
from orchestrator.views.quiet import Quiet

if TYPE_CHECKING:
    from orchestrator.client import Orchestrator


@dataclass(frozen=True)
class Plan:
    """What a file asks for."""

    batch: str
    jobs: int
    written: int  # of them have their outcome already, and are not run
    cost: float  # of one generation of each of the others, at the dearest account
    slots: float  # that would serve them now
    seconds: float | None  # about; None: nothing was measured yet, or nobody takes work
    notes: tuple[str, ...]  # a sentence each: what holds it up, or makes it cheaper


@dataclass(frozen=True)
class Summary:
    """What became of a file. `unfinished`: of which no end is written."""

    batch: str
    out: str
    accepted: int
    succeeded: int
    failed: int
    cancelled: int
    unfinished: int
    cost: float  # at most
    seconds: float  # of this run
    paused: str  # why the batch is; empty: it is not

    @property
    def counts(self) -> dict[str, int]:
        """Outcomes by state."""
        return {"succeeded": self.succeeded, "failed": self.failed, "cancelled": self.cancelled}

    @property
    def is_sound(self) -> bool:
        """Whether there is exactly one outcome of each job that was accepted."""
        return bool(self.unfinished) or self.accepted == sum(self.counts.values())

    @property
    def all_succeeded(self) -> bool:
        return self.is_sound and self.accepted == self.succeeded


def check_file(
    orchestrator: Orchestrator,
    source: Source,
    display: Display | None = None,
    *,
    out: str | PathLike[str] = STANDARD,
    terms: Terms = Terms(),  # noqa: B008  frozen
    retry_failed: bool = False,
) -> Plan:
    """Read and check everything, and say what `run` would take with the same arguments. It begins nothing,
    and writes nothing but the faults. Safe to call twice.

    Raises: BadFile with the faults; Invalid where nobody could agree to the terms.
    """
    path = fspath(out)
    orchestrator.batches.check_terms(terms)
    _refuse_to_overwrite(source, path)
    outcomes = _outcomes(path)
    with _checked(orchestrator, source, display or Quiet()) as (spool, faults):
        take_up(spool, outcomes, faults)
        ended, total = spool.total - spool.open, spool.total
        again = sum(map(len, spool.failed_ids(AT_ONCE))) if retry_failed else 0
    batch, written = source.full_name, ended - again
    told = orchestrator.insight.estimate(source.providers, total - written)
    notes = told.notes + _notes(orchestrator, batch, terms, ended, told.cost)
    return Plan(batch, total, written, told.cost, told.slots, told.seconds, notes)


def run(
    orchestrator: Orchestrator,
    source: Source,
    out: str | PathLike[str],
    *,
    terms: Terms = Terms(),  # noqa: B008  frozen
    retry_failed: bool = False,
    wait_while_paused: bool = False,
    display: Display | None = None,
) -> Summary:
    """Generate what a file asks for; write one outcome of each to `out`, as they end.

    Safe to call again with the same arguments, whatever ended it before: it goes on where it was. `out`: `-`
    is standard output. `terms`: of the batch. `retry_failed`: what failed before runs again, and its new
    outcome takes the place of the old. It returns early where the batch is paused and
    nothing is in flight, unless it is to wait.
    Raises: BadFile with the faults, or Invalid where nobody could agree to the terms, before anything is
    enqueued; StoreUnavailable once Redis is away for 300 s.
    """
    shown, began = display or Quiet(), time.monotonic()
    path = fspath(out)
    orchestrator.batches.check_terms(terms)
    _refuse_to_overwrite(source, path)
    with (
        _outcomes(path) as outcomes,
        _checked(orchestrator, source, shown) as (spool, faults),
    ):
        take_up(spool, outcomes, faults)
        outcomes.cut_torn()
        keep_latest(spool, outcomes)
        one = Running(
            orchestrator.flow, orchestrator.operations, spool, outcomes, source.full_name, wait_while_paused,
            shown.look, shown.say,
        )  # fmt: skip
        one.refuse_changes(faults)
        orchestrator.batches.agree(one.batch, source.tenant, terms)
        shown.running(one.batch, spool.total)
        one.take_all_that_ended()  # first: what has expired since must not be made again
        one.reopen(retry_failed)
        with orchestrator.filling(one.batch, producer="" if path == STANDARD else path):
            one.fill()
        one.wait()
        keep_latest(spool, outcomes)
        tally = outcomes.tally()
        if not spool.open:
            outcomes.finish()
        return _summary(one, tally, time.monotonic() - began)


@contextlib.contextmanager
def _checked(orchestrator: Orchestrator, source: Source, display: Display) -> Iterator[tuple[Spool, Faults]]:
    """The jobs of a file, none of them with a fault. Raises: BadFile."""
    exchange = orchestrator.flow.exchange
    types = declared(exchange, source.providers)
    asked = Asked(
        source.providers,
        source.parameters,
        {**source.options, "batch": source.name, "tenant": source.tenant},
    )
    try:
        check_schema(JobOptions, asked.options, "batch, or what is said of all its jobs")
    except Invalid as error:
        raise BadFile(str(error)) from None
    kind = source.kind
    with Spool() as spool, contextlib.closing(Faults(source.errors)) as faults:
        texts = types if kind.name == "csv" else None
        found = records(source.path, kind)
        check(exchange, asked, found, texts, spool, faults, orchestrator.flow.clock(), display.checking)
        if faults.count:
            raise faults.bad_file(source.path, f"of {faults.records} records cannot be sent")
        if not spool.total:
            raise BadFile(f"{source.path}: there is nothing in it: each record is one job")
        yield spool, faults


def _outcomes(path: str) -> Outcomes | StandardOutput:
    return StandardOutput() if path == STANDARD else Outcomes(path)


def _notes(orchestrator: Orchestrator, batch: str, terms: Terms, ended: int, cost: float) -> tuple[str, ...]:
    """Of the batch itself. `ended`: jobs whose end is written; `cost`: of what is left."""
    from orchestrator.views.printing import amount, counted  # brings rich: not for who uploads

    store, notes = orchestrator.flow.store, []
    known = store.batch(batch)
    if (enqueued := int(known.get("total", 0))) > ended:
        had = counted(enqueued, "job")
        notes.append(f"the batch has {had} already: those of this file are counted here, but not made again")
    most = terms.max_spend or known.get("max_spend", 0.0)
    left = max(0.0, most - store.spend.cost(batch))
    if most and left < cost:
        notes.append(f"its spend cap of {amount(most)} admits {amount(left)} more: then the batch is paused")
    return tuple(notes)


def _summary(one: Running, tally: Tally, seconds: float) -> Summary:
    return Summary(
        batch=one.batch, out=one.outcomes.written_to, accepted=one.spool.total,
        **{state.value: tally.counts[state.value] for state in State if state.ended},
        unfinished=one.spool.open, cost=round(tally.cost, 6), seconds=round(seconds, 3), paused=one.paused,
    )  # fmt: skip


def _refuse_to_overwrite(source: Source, out: str = STANDARD) -> None:
    """Raises: BadFile where what is written would take the place of something else."""
    errors = fspath(source.errors or "")
    clashes = (
        (out, source.path, "the outcomes would overwrite the requests: name another --out"),
        (errors, source.path, "the faults would overwrite the requests: name another --errors"),
        (errors, out, "the faults would overwrite the outcomes: name another --errors"),
    )
    for path, other, why in clashes:
        if path not in ("", STANDARD) and _is_same(path, other):
            raise BadFile(f"{path}: {why}")


def _is_same(one: str, other: str) -> bool:
    """Whether they are one file, by whichever names; it need not be there yet."""
    try:
        return os.path.realpath(one) == os.path.realpath(other) or os.path.samefile(one, other)
    except OSError:
        return False
