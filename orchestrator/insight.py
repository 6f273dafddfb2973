"""Why a job waits, and when a batch will end: read from what Redis knows, changing nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator import forecast, pauses
from orchestrator.errors import NotFound
from orchestrator.models import Attempt, Job, State, attempt_id
from orchestrator.retry import UNTIL_RESUMED
from orchestrator.schemas import moment
from orchestrator.timeline import Moment, timeline

if TYPE_CHECKING:
    from orchestrator.store import Store
    from orchestrator.store.lanes import Lane

ENOUGH_JOBS = 10  # of a batch, before its own slot-seconds are believed


@dataclass(frozen=True)
class Explanation:
    """The one gate that holds a job. Moments are unix seconds."""

    # ended collecting provider uncertain message start backoff storage paused accounts rest slots pace next
    gate: str
    text: str
    since: float
    opens_at: float | None = None  # about; None: nobody can say
    before: int | None = None  # about how many jobs are served before it


@dataclass(frozen=True)
class Forecast:
    """When a batch will end. Moments are unix seconds."""

    batch: str
    remaining: int
    slots: float  # that serve it now, those of other batches included
    used: int  # of them
    slot_seconds: float | None  # measured, per job; None: nothing has ended yet
    ends_at: float | None
    with_more: dict[int, float]  # more accounts like these → when it would end
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Estimate:
    """Of jobs that are not enqueued yet."""

    slots: float  # that would serve them now, those of others included
    seconds: float | None  # until the last has ended; None: nothing is measured, or nobody takes work
    cost: float  # of one generation each, at the dearest account
    notes: tuple[str, ...]  # what is left out, and which caps hold them up


@dataclass(frozen=True)
class Insight:
    """Thread-safe."""

    store: Store
    clock: Callable[[], float]  # unix seconds

    def explain(self, job_id: str) -> Explanation:
        """What a job waits for. Raises: JobNotFound."""
        job = self.store.job(job_id)
        attempt = self.store.attempt(attempt_id(job.id, job.attempts)) if job.attempts else None
        if job.state.ended:
            return Explanation("ended", f"it is over: {job.state.value}", job.ended_at or job.created_at)
        if job.state is State.COLLECTING:
            return Explanation("collecting", _collecting(job), _since(job, attempt), job.due_at)
        if job.state is State.SUBMITTED and attempt:
            return _at_the_provider(job, attempt)
        if attempt and attempt.state == "granted":
            text = f"it has a slot of {attempt.account}, and the message to submit it is on its way"
            return Explanation("message", text, attempt.granted_at, job.due_at, 0)
        rank = self.store.lanes.rank(job.lane, job.id)
        if rank is None:
            return _not_in_line(job, attempt)
        return self._in_line(job, _since(job, attempt), rank)

    def timeline(self, job_id: str) -> list[Moment]:
        """What happened to a job, in order; last, where it is not over, what it waits for.

        Raises: JobNotFound.
        """
        job, now = self.store.job(job_id), self.clock()
        heard = self.store.journal.of_job(job_id, job.created_at)
        found = timeline(job, self.store.attempts(job), heard, self.store.notices.of_job(job_id))
        if job.state.ended:
            return found
        waits = self.explain(job_id)
        until = f", about until {moment(waits.opens_at)}" if waits.opens_at else ""
        more = {"gate": waits.gate, "since": moment(waits.since), "until": moment(waits.opens_at)}
        return [*found, Moment(now, "job.waits", f"{waits.text}{until}", None, more)]

    def forecast(self, batch: str, more: Sequence[int] = (1, 2, 4)) -> Forecast:
        """When a batch will end from measured slot-seconds, and with so many more accounts.

        Raises: NotFound.
        """
        counts = self.store.batch(batch)
        if not counts:
            raise NotFound(f"no batch {batch!r}: nothing of that name is known")
        now = self.clock()
        ended = sum(counts.get(state.value, 0) for state in State if state.ended)
        remaining = int(counts.get("total", 0) - ended)  # a batch may have a cap before it has jobs
        pools = sorted({pool for lane in self.store.lanes.of(batch) for pool in _pools(lane)})
        rows = [row for pool in pools for row in self._rows(pool)]
        seconds = self._slot_seconds(counts, rows)
        paused = self.store.lanes.paused()
        able = _able(rows, paused)
        slots, used = sum(_takes(row, seconds) for row in able), sum(row["used"] for row in able)
        why = self.store.lanes.why_paused(batch) if f"batch:{batch}" in paused else None
        notes = _notes(rows, paused, why)
        if (caps := _daily_caps(able)) and caps.left < remaining:
            notes += (f"the daily caps admit {caps.left} more now: the rest takes longer than this says",)
        if seconds is None or not remaining or why is not None:
            return Forecast(batch, remaining, slots, used, seconds, None, {}, notes)
        lanes = self._lanes(pools)
        mine = remaining * seconds
        share = sum(lane.share for lane in lanes if _is_of(lane, batch)) or 1.0
        others = [(lane.waiting * seconds, lane.share) for lane in lanes if not _is_of(lane, batch)]
        of_one = slots / len(able) if able else 0.0

        def ends(accounts: int) -> float | None:
            lasts = forecast.seconds_to_end(mine, share, others, slots + accounts * of_one)
            return None if lasts is None else now + lasts + seconds / 2

        with_more = {count: moment for count in more if (moment := ends(count)) is not None}
        return Forecast(batch, remaining, slots, used, seconds, ends(0), with_more, notes)

    def estimate(self, pools: Sequence[str], jobs: int) -> Estimate:
        """How long so many jobs more would take that any of these providers may serve, and what they cost."""
        rows = [row for pool in pools for row in self._rows(pool)]
        seconds, paused = self._slot_seconds({}, rows), self.store.lanes.paused()
        able = _able(rows, paused)
        slots = sum(_takes(row, seconds) for row in able)
        others = [(lane.waiting * (seconds or 0.0), lane.share) for lane in self._lanes(pools)]
        lasts = forecast.seconds_to_end(jobs * seconds, 1.0, others, slots) if seconds else None
        price = max((float(row.get("price", 0)) for row in rows), default=0.0)
        lasts = None if lasts is None else lasts + (seconds or 0.0) / 2
        notes = _notes(rows, paused, None)
        if (caps := _daily_caps(able)) and caps.left < jobs:
            lasts = None if lasts is None else max(lasts, caps.seconds(jobs))
            notes += (f"the daily caps admit {caps.left} more now, and {caps.a_day} a day",)
        if (paid_for := self._paid_for(able)) is not None and paid_for < jobs:
            notes += (f"max_spend of the accounts pays for {paid_for} more, and must be raised for the rest",)
        return Estimate(slots, lasts, jobs * price, notes)

    def _in_line(self, job: Job, since: float, rank: int) -> Explanation:
        now, paused = self.clock(), self.store.lanes.paused()
        pools = _pools(job.lane)
        if storage := self.store.collecting.storage():
            text = f"nothing is begun while pictures cannot be kept (`orchestrator collecting`): {storage}"
            return Explanation("storage", text, since, None, rank)
        if f"batch:{job.batch}" in paused:
            why = self.store.lanes.why_paused(job.batch)
            text = f"its batch {pauses.state(why)}: {pauses.cure(job.batch, why)}"
            return Explanation("paused", text, since, None, rank)
        providers = {pool.partition("/")[0] for pool in pools}
        held = [each for each in sorted(providers) if f"provider:{each}" in paused]
        if len(held) == len(providers):
            text = f"{' and '.join(held)} is paused: `orchestrator resume provider {held[0]}`"
            return Explanation("paused", text, since, None, rank)
        pools = [pool for pool in pools if pool.partition("/")[0] not in held]
        rows = [row for pool in pools for row in self._rows(pool)]
        lanes = self._lanes(pools)
        before = forecast.served_before(
            job.lane, rank, [(lane.name, lane.served, lane.waiting, lane.share) for lane in lanes]
        )
        if not rows:
            text = f"no account serves {job.target}: is it in the accounts file of the workers?"
            return Explanation("accounts", text, since, None, before)
        able = [row for row in rows if row["opens_at"] is None]
        if not able:
            text, opens_at = _first_to_wake(rows)
            return Explanation("rest", text, since, opens_at, before)
        free = [row for row in able if row["used"] < row["slots"]]
        seconds = self._slot_seconds({}, rows)
        if not free:
            rate = sum(_takes(row, seconds) for row in able) / seconds if seconds else 0.0
            opens_at = now + (before + 1) / rate if rate > 0 else _next_probe(able)
            return Explanation("slots", _in_use(able), since, opens_at, before)
        turn_in = min(row["turn_in"] for row in free)
        if turn_in > 0:
            text = (
                f"the pace of {free[0]['name']} ({float(free[0]['requests_per_second']):g} requests a second)"
            )
            return Explanation("pace", text, since, now + turn_in, before)
        return Explanation("next", "a slot is free: the ticker grants it within a second", since, now, before)

    def _rows(self, pool: str) -> list[dict[str, Any]]:
        provider, _, account = pool.partition("/")
        rows = self.store.accounts.rows(provider, self.clock())
        return [{**row, "slots": max(0, row["slots"])} for row in rows if account in ("", row["name"])]

    def _lanes(self, pools: Sequence[str]) -> list[Lane]:
        """Who waits for any of these pools; a lane that several serve stands there once."""
        found = {lane.name: lane for pool in pools for lane in self.store.lanes.waiting_for(pool)}
        return list(found.values())

    def _paid_for(self, rows: Sequence[dict[str, Any]]) -> int | None:
        """How many generations more the `max_spend` of these accounts admits; None: one of them has none."""
        limits = [(row, float(row.get("max_spend") or 0), float(row.get("price") or 0)) for row in rows]
        if not rows or not all(most and price for _, most, price in limits):
            return None
        spent = self.store.spend.cost_at
        return forecast.paid_for(
            [(most - spent(row["provider"], row["name"]), price) for row, most, price in limits]
        )

    def _slot_seconds(self, batch: dict[str, float], rows: Sequence[dict[str, Any]]) -> float | None:
        """Seconds of a slot that one ended job took, its failed attempts included."""
        ended = batch.get("succeeded", 0) + batch.get("failed", 0)
        if ended >= ENOUGH_JOBS and batch.get("busy_seconds"):
            return batch["busy_seconds"] / ended
        counts = self.store.counts()
        providers = {row["provider"] for row in rows}
        ended = sum(counts.get(f"{each}/{word}", 0) for each in providers for word in ("succeeded", "failed"))
        busy = sum(float(row.get("busy_seconds", 0)) for row in rows)
        return busy / ended if ended and busy else None


def _pools(lane: str) -> list[str]:
    return lane.partition("|")[0].split("+")


def _is_of(lane: Lane, batch: str) -> bool:
    return lane.owner == batch


def _since(job: Job, attempt: Attempt | None) -> float:
    return attempt.closed_at if attempt and attempt.closed_at else job.created_at


def _first_to_wake(rows: Sequence[dict[str, Any]]) -> tuple[str, float | None]:
    """Of accounts that all rest: a sentence, and when the first takes work again; None: once resumed."""
    first = min(rows, key=lambda row: row["opens_at"])
    text = _resting(first, len(rows))
    if first["opens_at"] < UNTIL_RESUMED:
        return text, first["opens_at"]
    if first["closed_by"] == "spend cap":
        return f"{text}: `orchestrator accounts set {first['provider']}/{first['name']} max_spend=…`", None
    return f"{text}: `orchestrator resume account {first['provider']}/{first['name']}`", None


def _able(rows: Sequence[dict[str, Any]], paused: set[str]) -> list[dict[str, Any]]:
    """Those that take work now."""
    return [row for row in rows if row["opens_at"] is None and f"provider:{row['provider']}" not in paused]


def _daily_caps(rows: Sequence[dict[str, Any]]) -> forecast.DailyCaps | None:
    return forecast.daily_caps([(int(row.get("max_per_day") or 0), row["today"]) for row in rows])


def _takes(row: dict[str, Any], seconds: float | None) -> float:
    """How many slots of an account can be in use: no more than its pace fills."""
    pace = float(row.get("requests_per_second") or 0)
    return min(row["slots"], pace * seconds) if pace and seconds else float(row["slots"])


def _resting(row: dict[str, Any], accounts: int) -> str:
    whose = (
        f"{row['name']} rests"
        if accounts == 1
        else f"all {accounts} accounts rest, {row['name']} the shortest"
    )
    return f"{whose} ({row['closed_by']})"


def _in_use(rows: Sequence[dict[str, Any]]) -> str:
    slots, elsewhere = sum(row["slots"] for row in rows), sum(int(row.get("elsewhere") or 0) for row in rows)
    others = f"; {elsewhere} more are held by others at the provider" if elsewhere else ""
    return f"all {slots} slots that it may have are in use{others}"


def _next_probe(rows: Sequence[dict[str, Any]]) -> float | None:
    """When it is tried whether others still hold what they held."""
    moments = [float(row["probe_at"]) for row in rows if int(row.get("elsewhere") or 0)]
    return min(moments, default=None)


def _collecting(job: Job) -> str:
    if not job.collect_failures:
        return "its pictures are fetched and kept"
    tried = "once" if job.collect_failures == 1 else f"{job.collect_failures} times"
    until = f"; they can be fetched until {moment(job.artifacts_die_at)}" if job.artifacts_die_at else ""
    return f"its pictures were not kept, tried {tried} in vain: {job.collect_error}{until}"


def _at_the_provider(job: Job, attempt: Attempt) -> Explanation:
    opened, looks = attempt.opened_at, job.due_at
    if not attempt.upstream_id:
        text = f"its submit to {attempt.account} is under way, or is not repeated until it is known"
        return Explanation("uncertain", text, opened, min(looks or attempt.deadline_at, attempt.deadline_at))
    text = f"{attempt.account} of {job.provider} works on it; without an outcome it is lost at its deadline"
    return Explanation("provider", text, opened, attempt.deadline_at)


def _not_in_line(job: Job, attempt: Attempt | None) -> Explanation:
    if attempt is None:
        return Explanation("start", "it was enqueued for later", job.created_at, job.due_at)
    text = f"it waits after failure {job.failures}, {(job.error or {}).get('kind', 'unknown')}"
    return Explanation("backoff", text, _since(job, attempt), job.due_at)


def _notes(rows: Sequence[dict[str, Any]], paused: set[str], why_batch_is: str | None) -> tuple[str, ...]:
    notes = [f"{row['name']} is left out: {_resting(row, 1)}" for row in rows if row["opens_at"]]
    if why_batch_is is not None:
        notes.append(f"the batch {pauses.state(why_batch_is)}")
    notes += [
        f"{each} is paused"
        for each in sorted({row["provider"] for row in rows})
        if f"provider:{each}" in paused
    ]
    return tuple(notes)
