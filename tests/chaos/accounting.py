"""Does it all agree? Each line holds what one side says beside what the other does, and what is off. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.models import Spend
from tests.chaos.evidence import Evidence, Generation, Record, Try
from tests.chaos.forgery import FORGED_PICTURE
from tests.chaos.pairing import CLOCK_SECONDS, pair
from tests.chaos.payments import Twice, twice
from tests.chaos.places import PLACES
from tests.chaos.plan import tag

ENDS = ("succeeded", "failed", "cancelled")
CELERY = {"succeeded": "SUCCESS", "failed": "FAILURE", "cancelled": "REVOKED"}
# How a job may fail where the provider cannot be asked whether it took a submit.
NOT_KNOWN = ("NoOutcome", "Held")


@dataclass(frozen=True)
class Line:
    """`off`: job number (-1: of none) and what is wrong, where the two sides do not agree."""

    name: str
    ours: str
    theirs: str
    off: Sequence[tuple[int, str]] = ()


@dataclass(frozen=True)
class Case:
    """What the judges look at."""

    evidence: Evidence
    owners: Mapping[str, Try]  # generation → attempt
    lines: list[Line] = field(default_factory=list)


def account_for(evidence: Evidence) -> list[Line]:
    """Every line, those that agree included."""
    case = Case(evidence, pair(evidence))
    return [line for judge in JUDGES for line in judge(case)]


def _jobs(case: Case) -> list[Line]:
    evidence = case.evidence
    accepted = len(evidence.plan.wishes)
    counts = Counter(record.state for record in evidence.records.values())
    ended = " + ".join(f"{counts[end]} {end}" for end in ENDS)
    lost = [
        (wish.number, f"is still {record.state}" if record else "its record is gone")
        for wish in evidence.plan.wishes
        if (record := evidence.records.get(wish.number)) is None or record.state not in ENDS
    ]
    unsent = [(-1, f"{evidence.unsent} deeds were never heard")] if evidence.unsent else []
    return [
        Line("jobs", f"{accepted} accepted", ended),
        Line("lost", "0", str(len(lost)), lost + unsent),
    ]


def _ends(case: Case) -> list[Line]:
    evidence, off, excused = case.evidence, [], Counter[str]()
    for wish in evidence.plan.wishes:
        record = evidence.records.get(wish.number)
        if record is None or record.state not in ENDS:
            continue
        if record.state == "cancelled" or wish.number in evidence.cancelled:
            told = wish.number in evidence.cancelled
            if (record.state == "cancelled") != told and wish.number not in evidence.perhaps_cancelled:
                off.append((wish.number, f"is {record.state}, cancelled by us: {told}"))
        elif record.state != wish.ends:
            provider = record.tries[-1].provider if record.tries else ""
            if record.error in NOT_KNOWN and provider not in evidence.askable:
                excused[record.error] += 1
            else:
                off.append((wish.number, f"is {record.state}, not {wish.ends}: {record.reason}"))
    shown = ", ".join(f"{count} more failed as {kind}" for kind, count in excused.items()) or "no other"
    return [Line("ends", "as scripted or cancelled", shown, off)]


def _counts(case: Case) -> list[Line]:
    """The counters of the batches, which are what people are shown."""
    off, known = [], Counter[tuple[str, str]]()
    for record in case.evidence.records.values():
        known[record.batch, record.state] += 1
    for batch in {batch for batch, _ in known} - case.evidence.counts.keys():
        off.append((-1, f"batch {batch}: its counters were not looked at"))
    for batch, counts in case.evidence.counts.items():
        for end in (*ENDS, "queued", "submitted", "collecting"):
            if counts.get(end, 0) != known[batch, end]:
                off.append((-1, f"batch {batch}: {counts.get(end, 0):.0f} {end}, not {known[batch, end]}"))
    return [Line("batch counters", "as the records say", f"{len(off)} differ", off)]


def _pictures(case: Case) -> list[Line]:
    off, pictures, expected = [], 0, set()
    for record in _in(case, "succeeded"):
        if not record.artifacts:
            off.append((record.number, "succeeded without a picture"))
        for artifact in record.artifacts:
            pictures += 1
            sidecar = artifact["path"].rpartition(".")[0] + ".json"
            expected |= {artifact["path"], sidecar}
            if sidecar not in case.evidence.files:
                off.append((record.number, f"nothing stands beside {artifact['path']}"))
            if case.evidence.files.get(artifact["path"]) != (artifact["bytes"], artifact["sha256"]):
                off.append((record.number, f"{artifact['path']} is not what was recorded"))
    more = Counter(path.rpartition(".")[2] for path in case.evidence.files.keys() - expected)
    left = ", ".join(f"{count} .{suffix}" for suffix, count in more.items()) or "none"
    return [
        Line("pictures", f"{pictures} recorded", f"{pictures - len(off)} on disk, whole", off),
        Line("files of no result", "-", left),
    ]


def _celery(case: Case) -> list[Line]:
    off = []
    for record in case.evidence.records.values():
        state, result = record.celery
        if CELERY.get(record.state) != state:
            off.append((record.number, f"is {record.state}, its task {state}"))
        elif record.state == "succeeded" and _kept(result) != _kept(record.result):
            off.append((record.number, f"its task returned {result!r}, its record says {record.result!r}"))
    agreeing = len(case.evidence.records) - len(off)
    return [Line("Celery results", f"{len(case.evidence.records)} jobs", f"{agreeing} in agreement", off)]


def _kept(result: Any) -> Any:
    """A result without what differs where a job is finished twice, its worker killed between the two ends."""
    return {**result, "seconds": None} if isinstance(result, Mapping) else result


def _generations(case: Case) -> list[Line]:
    return [_of_provider(case, name) for name in sorted({place.provider for place in PLACES})]


def _of_provider(case: Case, provider: str) -> Line:
    """Every generation is of one attempt, and every attempt that was taken is one generation."""
    evidence, off = case.evidence, []
    theirs = [each for each in evidence.generations if each.provider == provider]
    taken = {each.id: each for record in _all(case) for each in record.tries if each.provider == provider}
    owned = Counter(case.owners[each.id].id for each in theirs if each.id in case.owners)
    for generation in theirs:
        if generation.id not in case.owners:
            off.append((generation.number, f"generation {generation.id} is of none of our attempts"))
    known = {name for name, each in taken.items() if each.upstream_id}
    for name, count in owned.items():
        if count > 1 and provider not in evidence.free:
            off.append((_number(case, name), f"attempt {name} was taken {count} times"))
    for name in known - owned.keys():
        off.append((_number(case, name), f"attempt {name} has an upstream id of no generation"))
    not_told = sum(owned[name] for name in owned.keys() - known)
    ours = f"{len(known)} attempts with an id"
    if not_told:
        ours += f" + {not_told} without"
    return Line(f"accepted by {provider}", ours, f"{len(theirs)} generations", off)


def _paid(case: Case) -> list[Line]:
    found = twice(case.evidence, case.owners)
    off = [each for each in found if not each.excuse]
    asked = [each for each in found if each.provider in case.evidence.askable]
    by_excuse = Counter(each.excuse for each in found if each.excuse)
    names = ", ".join(sorted(case.evidence.askable))
    lines = [
        Line(
            f"paid twice ({names}, can be asked)",
            "0",
            str(len(asked)),
            [(each.number, str(each)) for each in asked if not each.excuse],
        ),
        Line(
            "paid twice (others), unexplained",
            "0",
            str(len(off) - sum(not each.excuse for each in asked)),
            [(each.number, str(each)) for each in off if each not in asked],
        ),
    ]
    return lines + [Line(f"… {excuse}", "-", str(count)) for excuse, count in sorted(by_excuse.items())]


def _ledger(case: Case) -> list[Line]:
    """The books, the attempts' records and the simulator: three ways to count the same."""
    evidence, off = case.evidence, []
    fates: dict[str, Counter[str]] = {}
    for record in _all(case):
        for each in record.tries:
            if each.fate:
                fates.setdefault(f"{each.provider}/{each.account}", Counter())[each.fate] += 1
            elif each.opened_at:
                off.append((record.number, f"attempt {each.id} was begun and is in no book"))
    for place, spend in evidence.spend.items():
        counted = _spend(fates.get(place))
        for name, book in (("days", spend), ("batches", evidence.spend_of_batches.get(place, Spend()))):
            if book != counted:
                off.append((-1, f"{place}: the book by {name} says {book}, the attempts {counted}"))
        if spend.committed:
            off.append((-1, f"{place}: {spend.committed} still committed"))
    off += _fates_that_lie(case)
    total = sum(evidence.spend.values(), start=Spend())
    ours = (
        f"{total.confirmed} confirmed, {total.at_risk} at risk, {total.refunded} refunded, "
        f"{total.committed} committed"
    )
    ends = Counter(_word(each) for each in evidence.generations)
    return [Line("spend", ours, ", ".join(f"{n} {word}" for word, n in sorted(ends.items())), off)]


def _spend(fates: Counter[str] | None) -> Spend:
    return Spend(**fates) if fates else Spend()


def _fates_that_lie(case: Case) -> list[tuple[int, str]]:
    """What a generation came to must be what its attempt is booked as."""
    off, seen = [], set()
    for generation in case.evidence.generations:
        attempt = case.owners.get(generation.id)
        if attempt is None:
            continue
        seen.add(attempt.id)
        free = generation.provider in case.evidence.free
        if attempt.fate not in FATES[_word(generation)] and not free:
            told = f"{generation.id} came to {_word(generation)}, its attempt {attempt.id} is {attempt.fate}"
            off.append((generation.number, told))
    for record in _all(case):
        for each in record.tries:
            if each.fate == "confirmed" and each.id not in seen:
                off.append((record.number, f"{each.id} is confirmed, and nothing was generated"))
    return off


# What a generation came to → what its attempt may be booked as. A picture that nobody told us of is at risk:
# a cancelled job, or a submit of which nothing was known at its deadline.
FATES = {
    "succeeded": ("confirmed", "at_risk"),
    "moderated": ("confirmed", "at_risk"),
    "failed": ("at_risk",),
    "empty": ("at_risk",),
    "deleted": ("at_risk", "confirmed"),
    "running": (),
}


def _word(generation: Generation) -> str:
    if generation.reason.startswith("SAFETY"):
        return "moderated" if generation.provider != "freepik_runway" else "failed"  # it never says why
    return "empty" if generation.empty else generation.status.lower()


def _limits(case: Case) -> list[Line]:
    off, most = [], []
    for place in PLACES:
        limit = place.slots + place.ahead
        mine = [each for each in case.evidence.generations if each.account == place.name]
        held = at_once([(each.created_at, _held_until(each, case.owners.get(each.id))) for each in mine])
        most.append(f"{place.name} {held}/{limit}")
        if held > limit:
            off.append((-1, f"{place.name}: {held} at once, where {limit} are allowed"))
    return [Line("over the limit", "0", str(len(off)), off), Line("at once, at most", ", ".join(most), "")]


def _held_until(generation: Generation, attempt: Try | None) -> float:
    """Until it ended, or until its slot was given up without knowing: a cancel, a deadline."""
    ends = [generation.ended_at or float("inf")]
    if attempt and attempt.closed_at:
        ends.append(attempt.closed_at)
    return min(ends) - CLOCK_SECONDS


def at_once(spans: Sequence[tuple[float, float]]) -> int:
    """The most of these spans that share a moment."""
    moves = sorted([(end, -1) for begin, end in spans if end > begin] + [(a, 1) for a, b in spans if b > a])
    most = now = 0
    for _, step in moves:
        now += step
        most = max(most, now)
    return most


def _forged(case: Case) -> list[Line]:
    evidence = case.evidence
    off = [(-1, text) for text in evidence.forged_accepted]
    for record in _all(case):
        if any(FORGED_PICTURE in url for url in record.urls):
            off.append((record.number, "its picture is a forged one"))
    return [Line("forged accepted", "0", f"{len(off)} of {sum(evidence.forged.values())}", off)]


def _leaks(case: Case) -> list[Line]:
    evidence = case.evidence
    held = [(-1, f"{place}: {', '.join(held)}") for place, held in evidence.slots.items() if held]
    open_tries = [
        (record.number, f"{each.id} is {each.state}")
        for record in _all(case)
        for each in record.tries
        if each.state != "closed"
    ]
    left = [
        *((-1, f"due: {each}") for each in evidence.due_jobs),
        *((-1, f"waits: {each}") for each in evidence.waiting),
        *((-1, f"uncertain: {each}") for each in evidence.uncertain),
        *((-1, f"{place} rests until it is resumed: {why}") for place, why in evidence.rests.items()),
    ]
    return [
        Line("slots leaked", "0", str(sum(map(len, evidence.slots.values()))), held),
        Line("attempts not closed", "0", str(len(open_tries)), open_tries),
        Line("due, waiting, uncertain, resting", "0", str(len(left)), left),
    ]


def _all(case: Case) -> Sequence[Record]:
    return list(case.evidence.records.values())


def _in(case: Case, state: str) -> Sequence[Record]:
    return [record for record in case.evidence.records.values() if record.state == state]


def _number(case: Case, attempt: str) -> int:
    job_id = attempt.rpartition(".")[0]
    return next((record.number for record in _all(case) if record.id == job_id), -1)


def tell(evidence: Evidence, number: int) -> list[str]:
    """All that is known of one job, for whoever has to find out."""
    wish = evidence.plan.wishes[number]
    record = evidence.records.get(number)
    lines = [f"{tag(number)} {wish.id}: {wish.wanted} {' '.join(wish.markers)} must be {wish.ends}"]
    theirs = [each for each in evidence.generations if each.number == number]
    tries = record.tries if record else ()
    zero = min([each.granted_at for each in tries] + [each.created_at for each in theirs], default=0.0)

    def shown(moment: float | None) -> str:
        return f"{moment - zero:.2f}" if moment else "-"

    if record:
        lines.append(f"  record: {record.state}, {record.error} {record.reason}, task {record.celery[0]}")
    for each in tries:
        moments = " ".join(map(shown, (each.granted_at, each.opened_at, each.closed_at)))
        words = f"{each.state} {each.verdict} {each.fate} {each.upstream_id} {each.error}"
        lines.append(f"  ours:   {each.number} {each.account} granted, opened, closed {moments} s: {words}")
    for task in theirs:
        moments = f"{shown(task.created_at)} to {shown(task.ended_at)} s"
        words = f"{task.status} {task.reason} {'empty ' if task.empty else ''}{task.attempt[-2:]}"
        lines.append(f"  theirs: {task.account} {task.id} {moments}: {words}")
    return [*lines, f"  (from {zero:.2f})"]


JUDGES: tuple[Callable[[Case], list[Line]], ...] = (
    _jobs,
    _ends,
    _counts,
    _pictures,
    _celery,
    _generations,
    _paid,
    _ledger,
    _limits,
    _forged,
    _leaks,
)

__all__ = ["Line", "Twice", "account_for", "at_once", "tell"]
