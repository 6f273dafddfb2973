"""What stands in Redis, read when it is asked for. The ticker tells it: one process for the whole product."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from orchestrator.errors import StoreUnavailable
from orchestrator.events import warn
from orchestrator.models import State

if TYPE_CHECKING:
    from orchestrator.broker import Broker
    from orchestrator.store import Store
    from orchestrator.store.whole import Whole

# An event that the store counts → what it is called here, and what it is.
EVENTS = {
    "submits": ("submits", "Submits: POSTs, each of which may be paid for."),
    "uncertain": ("submits_uncertain", "Submits of which it was not known whether they arrived."),
    "polls": ("polls", "Polls that were answered."),
    "callbacks": ("callbacks", "Genuine callbacks of attempts that are known."),
    "late": ("late_successes", "Successes that came after their attempt was given up."),
    "surplus": ("surplus_successes", "Successes that nobody waited for any more."),
}
VERDICTS = ("succeeded", "failed", "lost", "busy", "refused")

Rows = Mapping[Any, float]  # the values of labels → the number


class Recorded(Collector):
    """Asks Redis and the broker. Thread-safe."""

    def __init__(
        self, store: Store, broker: Broker, providers: Sequence[str], clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._broker = broker
        self._providers = providers
        self._clock = clock

    def describe(self) -> Iterable[Metric]:
        return ()  # else it is asked once on being registered, when Redis may be away

    def collect(self) -> Iterator[Metric]:
        try:
            whole = self._store.whole.look(self._providers, self._clock())
        except StoreUnavailable as error:
            warn("metrics.unread", of="Redis", error=str(error))
            yield _gauge("redis_up", "1: Redis answers.", 0)
        else:
            yield _gauge("redis_up", "1: Redis answers.", 1)
            yield from families(whole, self._providers)
        try:
            lengths = self._broker.waiting()
        except Exception as error:  # whatever it is, the broker did not tell
            warn("metrics.unread", of="the broker", error=type(error).__name__)
        else:
            rows = {(queue,): length for queue, length in lengths.items()}
            yield _gauges("queue_messages", "Messages that wait in our Celery queues.", ["queue"], rows)


def families(whole: Whole, providers: Sequence[str]) -> Iterator[Metric]:
    """Everything that a look told. Providers that have neither accounts nor jobs are left out."""
    named = sorted(
        {row["provider"] for row in whole.accounts} | {word.partition("/")[0] for word in whole.jobs}
    )
    known = [provider for provider in named if provider in providers]
    yield from _of_jobs(whole, known)
    yield from _of_accounts(whole)
    yield from _of_the_whole(whole)


def _of_jobs(whole: Whole, providers: Sequence[str]) -> Iterator[Metric]:
    yield _gauges(
        "jobs", "Jobs by state; those that ended are counted for ever.", ["provider", "state"],
        {(each, state.value): whole.jobs.get(f"{each}/{state}", 0) for each in providers for state in State},
    )  # fmt: skip
    lanes = {each: whole.lanes.get(each, (0, 0)) for each in providers}
    yield _gauges(
        "waiting_jobs",
        "Jobs in lanes, for want of a slot; one that several providers may serve counts for each.",
        ["provider"],
        {(each,): jobs for each, (_, jobs) in lanes.items()},
    )
    yield _gauges("lanes", "Lanes with jobs.", ["provider"], {(each,): n for each, (n, _) in lanes.items()})
    yield _gauges(
        "provider_paused", "1: a person paused it.", ["provider"],
        {(each,): f"provider:{each}" in whole.paused for each in providers},
    )  # fmt: skip
    yield _gauges(
        "missing_callbacks_ratio", "Share of expected callbacks that did not come lately.", ["provider"],
        {(each,): whole.missing[each] for each in providers if each in whole.missing},
    )  # fmt: skip
    yield _counters(
        "attempts", "Attempts that were settled, by verdict.", ["provider", "verdict"],
        {(each, word): whole.events.get(f"{each}/{word}", 0) for each in providers for word in VERDICTS},
    )  # fmt: skip
    for word, (name, about) in EVENTS.items():
        rows = {(each,): whole.events.get(f"{each}/{word}", 0) for each in providers}
        yield _counters(name, about, ["provider"], rows)


def _of_accounts(whole: Whole) -> Iterator[Metric]:
    labels, rows = ["provider", "account"], {(row["provider"], row["name"]): row for row in whole.accounts}

    def of(field: str, otherwise: str = "0") -> Rows:
        return {account: float(row.get(field, row.get(otherwise, 0))) for account, row in rows.items()}

    def capped(field: str) -> Rows:
        return {account: most for account, most in of(field).items() if most > 0}

    yield _gauges("slots_used", "Slots in use.", labels, of("used"))
    yield _gauges("slots", "Slots that it takes, rests not reckoned with.", labels, of("slots"))
    yield _gauges("slots_limit", "`max_jobs`.", labels, of("max_jobs"))
    yield _gauges(
        "slots_learned", "What it was found to bear, where less than its limit.", labels,
        of("learned", "max_jobs"),
    )  # fmt: skip
    yield _gauges(
        "account_resting", "1: it is given no work, for this reason.", [*labels, "reason"],
        {(*account, row["closed_by"]): 1 for account, row in rows.items() if row["opens_at"] is not None},
    )  # fmt: skip
    yield _gauges("generations_today", "Begun within 24 hours, where capped.", labels,
                  {account: float(rows[account]["today"]) for account in capped("max_per_day")})  # fmt: skip
    yield _gauges("generations_today_limit", "`max_per_day`.", labels, capped("max_per_day"))
    yield _gauges(
        "generations", "Generations that were begun, by what became of them.", [*labels, "state"],
        {
            (*account, state): count
            for account, (spend, _) in whole.spend.items()
            for state, count in asdict(spend).items()
        },
    )  # fmt: skip
    yield _gauges("spend", "What they cost at most, in the account's unit.", labels,
                  {account: cost for account, (_, cost) in whole.spend.items()})  # fmt: skip
    yield _gauges("spend_limit", "`max_spend`, where there is one.", labels, capped("max_spend"))


def _of_the_whole(whole: Whole) -> Iterator[Metric]:
    late = max(0.0, whole.at - whole.first_due_at) if whole.first_due_at is not None else 0.0
    yield _gauge("due_entries", "Entries of the due list.", whole.due)
    yield _gauge("due_lag_seconds", "By how much the first of them is overdue.", late)
    yield _gauge("uncertain_submits", "Open submits that may have arrived or not.", whole.uncertain)
    yield _gauge("dead_letters", "Failed jobs that a person may cure.", whole.dead_letters)
    yield _gauge("uncollected_jobs", "Jobs whose pictures could not be kept so far.", whole.collecting)
    if whole.first_dies_at is not None:
        yield _gauge(
            "first_url_dies_timestamp_seconds", "When the first of their URLs dies, about; unix seconds.",
            whole.first_dies_at,
        )  # fmt: skip
    yield _gauge("storage_fails", "1: nothing is begun, since pictures cannot be kept.", whole.storage_fails)
    yield _gauge("notices_owed", "Notices that wait to be sent.", whole.notices)
    yield _gauge("notices_dead", "Notices that were given up.", whole.dead_notices)
    paused = sum(name.startswith("batch:") for name in whole.paused)
    yield _gauge("batches_paused", "Batches that a person or a cap paused.", paused)
    yield _gauge("redis_memory_bytes", "Memory that Redis uses.", whole.memory_bytes)
    if whole.memory_limit_bytes:
        yield _gauge("redis_memory_limit_bytes", "`maxmemory`.", whole.memory_limit_bytes)


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(f"orchestrator_{name}", about, value=value)


def _gauges(name: str, about: str, labels: Sequence[str], rows: Rows) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"orchestrator_{name}", about, labels=labels)
    for row, value in rows.items():
        family.add_metric(row, value)
    return family


def _counters(name: str, about: str, labels: Sequence[str], rows: Rows) -> CounterMetricFamily:
    family = CounterMetricFamily(f"orchestrator_{name}", about, labels=labels)
    for row, value in rows.items():
        family.add_metric(row, value)
    return family
