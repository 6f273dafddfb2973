"""What a person tells the running product: limits, pauses, weights, dead letters."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.accounts_file import ACCOUNT_NUMBERS, number_fault
from orchestrator.errors import Invalid, NotFound
from orchestrator.events import log
from orchestrator.models import Job, State
from orchestrator.retry import UNTIL_RESUMED
from orchestrator.schemas import JobOptions, check

if TYPE_CHECKING:
    from orchestrator.broker import Broker
    from orchestrator.store import Store

KINDS = ("account", "provider", "batch")
PAUSED = "paused"  # why an account rests that a person paused
LIMITS = (
    "max_jobs requests_per_second burst max_per_day weight deadline_seconds max_moderated "
    "max_moderated_share price max_spend"
).split()
WEIGHTS = (0.01, 1000.0)
DEAD_PER_CALL = 100


@dataclass(frozen=True)
class Filter:
    """Which dead letters; what is empty leaves none out."""

    provider: str = ""
    error: str = ""  # class of the failure, such as Moderated
    batch: str = ""
    after: float = 0.0  # failed after; unix seconds
    before: float | None = None  # failed before; unix seconds
    jobs: Collection[str] = ()  # ids

    def takes(self, job: Job) -> bool:
        """Whether a failed job is one of them, its moment apart."""
        return (
            self.provider in ("", job.provider)
            and self.batch in ("", job.batch)
            and (not self.jobs or job.id in self.jobs)
            and (not self.error or self.error.casefold() == failure_of(job).casefold())
        )


def failure_of(job: Job) -> str:
    """The class of failure that ended a job."""
    return str(job.error["kind"]) if job.error else "CollectFailed"


@dataclass(frozen=True)
class Operations:
    """Every verb is safe to call twice, while everything runs. Names that are not known raise NotFound."""

    store: Store
    broker: Broker
    clock: Callable[[], float]  # unix seconds
    providers: Collection[str]

    def account(self, name: str) -> tuple[str, str]:
        """(provider, account) of `<provider>/<account>`, or of an account's name that is the only one."""
        provider, slash, account = name.rpartition("/")
        known = [(each, found) for each in self.providers for found in self.store.accounts.names(each)]
        found = [pair for pair in known if pair[1] == account and (not slash or pair[0] == provider)]
        if len(found) == 1:
            return found[0]
        names = ", ".join("/".join(pair) for pair in (found or known)) or "none"
        trouble = f"several accounts are named {name!r}: say" if found else f"no account {name!r}; known are:"
        raise NotFound(f"{trouble} {names}")

    def set_limits(self, account: str, limits: Mapping[str, float | None]) -> None:
        """Change an account's limits. It lasts over restarts; None: as its accounts file says.

        Raises: Invalid with every fault.
        """
        faults = [fault for name, value in limits.items() if (fault := _limit_fault(name, value))]
        if faults:
            raise Invalid("; ".join(faults))
        provider, name = self.account(account)
        typed = {
            limit: None if value is None else ACCOUNT_NUMBERS[limit][0](value)
            for limit, value in limits.items()
        }
        self.store.accounts.change(provider, name, typed)
        self.broker.submit(self.store.fill(provider, self.clock()))
        told = " ".join(f"{limit}={value}" for limit, value in typed.items())
        log("account.changed", provider=provider, account=name, limits=told)

    def pause(self, kind: str, name: str) -> None:
        """Begin nothing more at an account or a provider, or of a batch; what is open goes on."""
        if kind == "account":
            provider, account = self.account(name)
            self.store.accounts.rest(
                provider, account, self.clock(), UNTIL_RESUMED, PAUSED, "paused by a person"
            )
        else:
            self.store.lanes.pause(kind, self._known(kind, name), self.clock())
        log(f"{kind}.paused", name=name)

    def resume(self, kind: str, name: str) -> None:
        """Let it go on. An account's rest ends, and what was learned to its disadvantage is forgotten."""
        if kind == "account":
            grants = self.store.accounts.resume(*self.account(name), self.clock())
        else:
            grants = self.store.lanes.resume(kind, self._known(kind, name), self.clock())
        self.broker.submit(grants)
        log(f"{kind}.resumed", name=name)

    def in_flight(self, kind: str, name: str) -> int:
        """How much is still open: attempts; of a batch, jobs that are neither waiting nor over."""
        if kind == "batch":
            about_to = sum(job.state is State.QUEUED for job in self.holders(kind, name))
            counts = self.store.batch(name)
            return int(about_to + counts.get("submitted", 0) + counts.get("collecting", 0))
        provider, account = self._pool(kind, name)
        rows = self.store.accounts.rows(provider, self.clock())
        return sum(row["used"] for row in rows if account in ("", row["name"]))

    def holders(self, kind: str, name: str) -> list[Job]:
        """The jobs that hold slots, those included whose message to submit is on its way."""
        if kind == "batch":
            targets = [lane.partition("|")[0] for lane in self.store.lanes.of(self._known(kind, name))]
            served_by = {pool.partition("/")[0] for target in targets for pool in target.split("+")}
            return [job for job in self._holding([(each, "") for each in served_by]) if job.batch == name]
        return self._holding([self._pool(kind, name)])

    def _pool(self, kind: str, name: str) -> tuple[str, str]:
        return self.account(name) if kind == "account" else (self._known(kind, name), "")

    def _holding(self, pools: Sequence[tuple[str, str]]) -> list[Job]:
        """The jobs that hold slots of these accounts; an account of '': all of the provider's."""
        accounts = self.store.accounts
        pairs = [(pool, each) for pool, one in pools for each in ([one] if one else accounts.names(pool))]
        attempts = [attempt for pair in pairs for attempt in accounts.holders(*pair)]
        return self.store.jobs([attempt.rpartition(".")[0] for attempt in attempts])

    def weigh(self, kind: str, name: str, weight: float) -> None:
        """Give a `batch` or a `tenant` so many times the share of one of weight 1. Raises: Invalid."""
        check_weight(weight)
        check(JobOptions, {kind: name}, "weight")
        self.store.lanes.weigh(f"{name}/" if kind == "tenant" else name, weight, self.clock())

    def cap(self, batch: str, most: float | None) -> None:
        """Pause a batch before the generation that would make it cost more; None: no more. Raises: Invalid.

        It holds for jobs that are enqueued later as well. A batch that is paused for it stays so until it is
        resumed.
        """
        check_cap(most)
        if not batch:
            raise Invalid("which batch? Jobs without one have no cap of their own")
        tenant, _, name = batch.rpartition("/")
        check(JobOptions, {"batch": name, "tenant": tenant}, "max_spend")
        self.store.batches.limit(batch, {"max_spend": most}, self.clock())
        log("batch.capped", name=batch, max_spend=most)

    def spent(self, batch: str) -> tuple[float, float] | None:
        """What a batch that its spend cap holds has cost at most, and the cap; None where no cap holds it."""
        if self.store.lanes.why_paused(batch) != "spend":
            return None
        return self.store.spend.cost(batch), self.store.batch(batch).get("max_spend", 0.0)

    def dead(self, which: Filter) -> Iterator[tuple[Job, float]]:
        """The dead letters and when each failed (unix seconds), oldest first."""
        ids = self.store.dead.ids(self.clock(), which.after, which.before)
        if which.jobs:
            ids = [pair for pair in ids if pair[0] in which.jobs]
        for first in range(0, len(ids), DEAD_PER_CALL):
            chunk = dict(ids[first : first + DEAD_PER_CALL])
            for job in self.store.jobs(list(chunk)):
                if which.takes(job):
                    yield job, chunk[job.id]

    def replay(self, which: Filter, even_if_moderated: bool = False) -> int:
        """Let dead letters run again, each once, under their ids. Gives how many.

        Interrupted, those not yet replayed are still dead letters. One whose pictures were made, but not
        kept, is only collected again; one whose parameters are not known, since it was recovered, is left.
        """
        replayed = 0
        for ids in self._chunks(which, lambda job: bool(job.parameters or job.artifact_urls)):
            done = self.store.dead.replay(ids, self.clock(), even_if_moderated)
            self.broker.submit(done.grants)
            self.broker.finish(done.finishes)
            replayed += done.count
        return replayed

    def purge(self, which: Filter) -> int:
        """Give dead letters up: they stay failed, and their records expire. Gives how many there were."""
        return sum(self.store.dead.purge(ids) for ids in self._chunks(which))

    def _chunks(
        self, which: Filter, takes: Callable[[Job], bool] = lambda job: True
    ) -> Iterator[Sequence[str]]:
        ids = [job.id for job, _ in self.dead(which) if takes(job)]
        for first in range(0, len(ids), DEAD_PER_CALL):
            yield ids[first : first + DEAD_PER_CALL]

    def _known(self, kind: str, name: str) -> str:
        if kind == "provider" and name not in self.providers:
            raise NotFound(f"no provider {name!r}; known are: {', '.join(sorted(self.providers))}")
        # A pause outlives the record of a batch that is over.
        if (
            kind == "batch"
            and not self.store.batch(name)
            and f"batch:{name}" not in self.store.lanes.paused()
        ):
            raise NotFound(f"no batch {name!r}: nothing of that name is known")
        return name


def check_weight(weight: float) -> None:
    """Raises: Invalid."""
    low, high = WEIGHTS
    if not low <= weight <= high:
        raise Invalid(f"weight is {weight!r}; it must be from {low:g} to {high:g}")


def check_cap(most: float | None) -> None:
    """Raises: Invalid."""
    highest = ACCOUNT_NUMBERS["max_spend"][2]
    if most is not None and not 0 < most <= highest:
        raise Invalid(f"max_spend is {most!r}; it must be above 0, and {highest:,.0f} at most")


def _limit_fault(name: str, value: float | None) -> str:
    if name not in LIMITS:
        return f"{name!r} is no limit that can be changed; known are {', '.join(LIMITS)}"
    return "" if value is None else number_fault(name, value)
