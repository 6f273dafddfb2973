"""What the tests of the store share: a real Valkey, jobs on their way, and what there is to see of them.

`now` is an argument of every step, so time is the test's. A test module takes the fixtures by name:
`server, raw, store = store_kit.server, store_kit.raw, store_kit.store`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from typing import Any

import pytest
import redis
from celery import Celery

from orchestrator.broker import make_app
from orchestrator.local.valkey import EmbeddedServer
from orchestrator.models import Account, Message, NewJob, Retention, Secret, State, batch_name
from orchestrator.store import Store

PROVIDER, OTHER = "useapi_frames", "runway"
TIMING = f"{PROVIDER}/frames"
NOW = 1_700_000_000.25  # binary fractions only, so that sums are exact
DEADLINE, TIMEOUT = 100.0, 30.0  # of every account here
DAY = 86_400.0
LEASE = DEADLINE + 600
GRANT_LEASE = DAY  # of a grant that is not open yet
BEGIN_PATIENCE, FINISH_PATIENCE = 15, 60
REPLY_GRACE = 30
URLS = ("https://pictures.example/1.png",)
DIES_AT = NOW + DAY  # when the URLs do
LATE_URLS = ("https://pictures.example/late.png",)
MESSAGE = Message("job-1", PROVIDER, {"text_prompt": "näh"}, {"headers": {"job_trace": "00-1"}}, 2)
FAILURE = "Unavailable"
ERROR = {"kind": "Unavailable", "message": "no", "http_status": 503}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with EmbeddedServer.start(tmp_path_factory.mktemp("valkey")) as started:
        yield started


@pytest.fixture(scope="module")
def raw(server: EmbeddedServer) -> Iterator[redis.Redis]:
    """The server behind the store's back: to empty it, and to see what is in there."""
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        yield client


@pytest.fixture
def app(server: EmbeddedServer, raw: redis.Redis) -> Iterator[Celery]:
    """Our Celery app on an empty server."""
    raw.flushall()
    made = make_app(server.url, server.url)
    yield made
    made.close()


@pytest.fixture
def store(server: EmbeddedServer, raw: redis.Redis) -> Iterator[Store]:
    """An empty store with one account, `a`, of one slot."""
    raw.flushall()
    made = Store(server.url)
    have(made, a=1)
    yield made
    made.close()


@pytest.fixture
def another(server: EmbeddedServer, store: Store) -> Iterator[Callable[[Retention], Store]]:
    """Opens the same store as a process that was told to keep for so long."""
    with ExitStack() as opened:
        yield lambda retention: opened.enter_context(closing(Store(server.url, retention)))


def account(name: str = "a", provider: str = PROVIDER, max_jobs: int = 1, **limits: Any) -> Account:
    return Account(
        provider=provider, name=name, token=Secret("x"), max_jobs=max_jobs, base_url="https://x", fields={},
        deadline_seconds=DEADLINE, poll_seconds=10.0, net_seconds=60.0, timeout_seconds=TIMEOUT,
        max_attempts=5, **limits,
    )  # fmt: skip


def have(store: Store, queue_ahead: int = 0, **max_jobs: int) -> list[Account]:
    """Makes these the accounts: name → slots."""
    accounts = [account(name, max_jobs=slots, queue_ahead=queue_ahead) for name, slots in max_jobs.items()]
    store.accounts.configure(accounts)
    return accounts


def new(*ids: str, batch: str = "", tenant: str = "", **fields: Any) -> list[NewJob]:
    """`batch`: as its tenant calls it."""
    name = batch_name(batch, tenant)
    return [
        NewJob(each, PROVIDER, {"text_prompt": each}, batch=name, tenant=tenant, **fields) for each in ids
    ]


def either(*ids: str, **fields: Any) -> list[NewJob]:
    """Jobs that either provider may serve."""
    return [
        NewJob(each, PROVIDER, {"text_prompt": each}, choices=choices, **fields)
        for each in ids
        for choices in [{PROVIDER: {"text_prompt": each}, OTHER: {"promptText": each}}]
    ]


def numbered(letter: str, how_many: int) -> list[str]:
    return [f"{letter}{number}" for number in range(how_many)]


def names(messages: Sequence[Message]) -> list[str]:
    """Attempt ids of messages."""
    return [f"{message.job_id}.{message.attempt}" for message in messages]


def opened(store: Store, *ids: str, **fields: Any) -> None:
    """Jobs whose first attempt is open."""
    store.enqueue(new(*ids, **fields), NOW)
    for each in ids:
        assert store.open(f"{each}.1", NOW)


def submit(
    store: Store, attempt: str, upstream_id: str, due_at: float, *, now: float = NOW, expects: bool = True
) -> str:
    """Records the reply to a submit; gives the verdict of an attempt that is closed already."""
    return store.submitted(attempt, upstream_id, now, due_at, TIMING, expects)


def collecting(store: Store, job_id: str = "j", **fields: Any) -> None:
    opened(store, job_id, **fields)
    assert store.settle(f"{job_id}.1", "succeeded", NOW, artifact_urls=URLS).finish


def ended(store: Store, job_id: str = "j", state: State = State.SUCCEEDED, **fields: Any) -> None:
    collecting(store, job_id, **fields)
    end(store, job_id, state)


def end(store: Store, job_id: str, state: State = State.SUCCEEDED, now: float = NOW) -> None:
    assert store.begin_finish(job_id, now)
    result = {"artifacts": []} if state is State.SUCCEEDED else None
    assert store.end(job_id, now, state, result, "" if result else "it failed")


def lose(store: Store, attempt: str, again_at: float | None = NOW, **told: Any) -> list[str]:
    """Closes an attempt as lost; gives what was granted by that."""
    settled = store.settle(attempt, "lost", NOW, error=ERROR, again_at=again_at, counts=FAILURE, **told)
    assert settled.word == "settled"
    return names(settled.grants)


def rest(store: Store, attempt: str, reason: str, until: float) -> list[str]:
    """Closes an attempt because its account needs rest; gives what was granted by that."""
    told = {"error": ERROR, "again_at": NOW, "rest_until": until, "rest_reason": reason}
    return names(store.settle(attempt, "busy", NOW, **told).grants)


def full(store: Store, attempt: str, probe_at: float, **told: Any) -> list[str]:
    """Closes an attempt because its account is full; gives what was granted by that."""
    told |= {"error": ERROR, "again_at": NOW, "rest_until": probe_at, "means": "full"}
    return names(store.settle(attempt, "busy", NOW, **told).grants)


def used(store: Store, provider: str = PROVIDER) -> dict[str, int]:
    """Slots in use by account."""
    return {row["name"]: row["used"] for row in store.accounts.rows(provider, NOW)}


def row(store: Store, name: str = "a", now: float = NOW) -> dict[str, Any]:
    """How an account stands."""
    (found,) = [each for each in store.accounts.rows(PROVIDER, now) if each["name"] == name]
    return found


def succeed(store: Store, attempt: str, now: float = NOW) -> list[str]:
    """Closes an attempt with a picture; gives what was granted by that."""
    return names(store.settle(attempt, "succeeded", now, artifact_urls=URLS).grants)


def served(store: Store, first: str, how_many: int, now: float = NOW) -> list[str]:
    """Job ids in the order one slot serves them, beginning with the attempt that holds it."""
    order = [first]
    while len(order) < how_many:
        order += (granted := succeed(store, order[-1], now))
        assert len(granted) == 1, granted
    return [attempt.rpartition(".")[0] for attempt in order]


def counts(store: Store, batch: str) -> dict[str, float]:
    """A batch's counts by state, those of none left out."""
    return {word: number for word, number in store.batch(batch).items() if word in [*State] and number}


def late(store: Store, attempt: str = "j.1", now: float = NOW) -> list[str]:
    """A success for an attempt that was lost; gives whom it lets finish."""
    settled = store.settle(attempt, "succeeded", now, artifact_urls=LATE_URLS)
    assert settled.word == "late"
    assert store.settle(attempt, "succeeded", now, artifact_urls=LATE_URLS).word == "duplicate"
    assert store.stats()[f"{PROVIDER}/late"] == 1
    return names([settled.finish]) if settled.finish else []
