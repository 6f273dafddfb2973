"""What is left to read after a run: at us, at the simulator, on disk, in Celery. Nothing is judged here."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
import requests
from celery.result import AsyncResult

from orchestrator import Orchestrator
from orchestrator.errors import BadReference
from orchestrator.models import Secret, Spend, batch_name
from orchestrator.signatures import read_reference
from orchestrator.store.link import PREFIX
from tests.chaos.places import PLACES
from tests.chaos.plan import LANES, Plan

TAG = re.compile(r"job-(\d{5})")
NAMES = {(place.provider, place.seen_as): place.name for place in PLACES}
RESTS_UNTIL_RESUMED = 4e9


@dataclass(frozen=True)
class Generation:
    """A task at the simulator. `number`: of the job; `attempt`: as its callback URL says, else ''."""

    id: str
    provider: str
    account: str
    number: int
    attempt: str
    created_at: float
    ended_at: float | None
    status: str
    reason: str
    empty: bool

    @property
    def is_success(self) -> bool:
        """Whether a picture was made, which is paid for."""
        return self.status == "SUCCEEDED" and not self.empty


@dataclass(frozen=True)
class Try:
    """An attempt, as our record of it says. Moments are unix seconds; 0: not reached."""

    id: str
    number: int
    provider: str
    account: str
    state: str
    verdict: str
    fate: str
    upstream_id: str
    granted_at: float
    opened_at: float
    closed_at: float
    error: str = ""


@dataclass(frozen=True)
class Record:
    """A job, as we know it. `celery`: the state of its task, and what it returned."""

    number: int
    id: str
    state: str
    batch: str
    error: str
    reason: str
    tries: tuple[Try, ...]
    artifacts: tuple[Mapping[str, Any], ...]
    urls: tuple[str, ...]
    celery: tuple[str, Any]
    result: Any


@dataclass(frozen=True)
class Evidence:
    """All of it. `records` lacks the jobs that are not known any more."""

    plan: Plan
    records: Mapping[int, Record]
    generations: Sequence[Generation]
    stats: Mapping[str, Any]  # the simulator's tallies, by API
    spend: Mapping[str, Spend]  # <provider>/<account> → what became of the generations, over all days
    spend_of_batches: Mapping[str, Spend]
    counts: Mapping[str, Mapping[str, float]]  # batch → its own counts
    slots: Mapping[str, Sequence[str]]  # <provider>/<account> → attempts that hold one
    rests: Mapping[str, str]  # accounts that only a person lets go on → why
    due_jobs: Sequence[str]
    waiting: Sequence[str]  # in lanes
    uncertain: Sequence[str]
    files: Mapping[str, tuple[int, str]]  # path → bytes, sha256
    askable: frozenset[str]  # providers that can be asked whether they took a submit
    free: frozenset[str]  # … of which a submit costs nothing, so that it is repeated
    holding: frozenset[str]  # accounts where a person decides on an uncertain submit
    cancelled: frozenset[int]
    perhaps_cancelled: frozenset[int]
    forged: Mapping[str, int] = field(default_factory=dict)  # kind and status → count
    forged_accepted: Sequence[str] = ()
    unsent: int = 0
    lost_server_at: Sequence[float] = ()


def read(client: Orchestrator, plan: Plan, simulator: str, keys: Sequence[Secret], **more: Any) -> Evidence:
    """`more`: the fields that only the run itself knows."""
    exchange, store = client.flow.exchange, client.flow.store
    accounts = list(exchange.accounts.values())
    tasks = requests.get(f"{simulator}/__tasks__", timeout=60).json()["tasks"]
    batches = [batch_name(name, tenant) for name, tenant, _ in LANES]
    books = [store.spend.of_batch(batch) for batch in batches]
    rows = [row for name in exchange.providers for row in store.accounts.rows(name, client.flow.clock())]
    return Evidence(
        plan=plan,
        records=_records(client, plan),
        generations=[_generation(task, keys) for task in tasks],
        stats=requests.get(f"{simulator}/__stats__", timeout=60).json()["apis"],
        spend={
            f"{each.provider}/{each.name}": sum(
                store.spend.by_day(each.provider, each.name).values(), start=Spend()
            )
            for each in accounts
        },
        spend_of_batches={
            place: sum((book.get(place, Spend()) for book in books), start=Spend())
            for place in {name for book in books for name in book}
        },
        counts={batch: store.batch(batch) for batch in batches},
        slots={
            f"{each.provider}/{each.name}": store.accounts.holders(each.provider, each.name)
            for each in accounts
        },
        rests={
            f"{row['provider']}/{row['name']}": row["rest_reason"]
            for row in rows
            if float(row.get("rest_until") or 0) > RESTS_UNTIL_RESUMED
        },
        uncertain=store.spend.uncertain(),
        files=_files(client),
        askable=frozenset(each.provider for each in accounts if exchange.can_search(each)),
        free=frozenset(each.provider for each in accounts if exchange.may_repeat(each)),
        holding=frozenset(each.name for each in accounts if each.when_uncertain == "hold"),
        due_jobs=due_jobs(client),
        waiting=_waiting(client),
        **more,
    )


def _records(client: Orchestrator, plan: Plan) -> dict[int, Record]:
    store, app = client.flow.store, client.flow.broker.app
    numbers = {wish.id: wish.number for wish in plan.wishes}
    found = {}
    for job in store.jobs(list(numbers)):
        task = AsyncResult(job.id, app=app)
        tries = tuple(_try(n, row) for n, row in enumerate(store.attempts(job), 1) if row)
        found[numbers[job.id]] = Record(
            number=numbers[job.id],
            id=job.id,
            state=job.state.value,
            batch=job.batch,
            error=str((job.error or {}).get("kind", "")),
            reason=job.reason,
            tries=tries,
            artifacts=tuple((job.result or {}).get("artifacts", ())),
            urls=job.artifact_urls,
            celery=(task.state, task.result),
            result=job.result,
        )
    return found


def _try(number: int, row: Mapping[str, str]) -> Try:
    return Try(
        id=f"{row['job']}.{number}",
        number=number,
        provider=row["provider"],
        account=row["account"],
        state=row["state"],
        verdict=row.get("verdict", ""),
        fate=row.get("fate", ""),
        upstream_id=row.get("upstream_id", ""),
        granted_at=float(row.get("granted", 0)),
        opened_at=float(row.get("opened", 0)),
        closed_at=float(row.get("closed", 0)),
        error=row.get("error", ""),
    )


def _generation(task: Mapping[str, Any], keys: Sequence[Secret]) -> Generation:
    tagged = TAG.search(task["prompt"])
    attempt = ""
    if task["reply_url"]:
        try:
            attempt = read_reference(task["api"], task["reply_url"].rpartition("/")[2], keys).attempt_id
        except BadReference:
            attempt = "?"
    return Generation(
        id=task["id"],
        provider=task["api"],
        account=NAMES.get((task["api"], task["account"]), task["account"]),
        number=int(tagged[1]) if tagged else -1,
        attempt=attempt,
        created_at=task["created_at"],
        ended_at=task["ended_at"],
        status=task["status"],
        reason=task["reason"] or "",
        empty=task["empty"],
    )


def _files(client: Orchestrator) -> dict[str, tuple[int, str]]:
    artifacts = client.flow.exchange.artifacts
    root = Path(artifacts._root) if artifacts else Path("/nowhere")
    found = {}
    for path in root.rglob("*") if root.exists() else ():
        if path.is_file():
            content = path.read_bytes()
            found[str(path)] = (len(content), hashlib.sha256(content).hexdigest())
    return found


def due_jobs(client: Orchestrator) -> list[str]:
    """Jobs that something of ours is still to look at."""
    with redis.Redis.from_url(_url(client), decode_responses=True) as server:
        return [each for each in server.zrange(f"{PREFIX}due", 0, -1) if each.startswith("job:")]


def _waiting(client: Orchestrator) -> list[str]:
    """Jobs in lanes."""
    with redis.Redis.from_url(_url(client), decode_responses=True) as server:
        lanes = list(server.scan_iter(f"{PREFIX}lane:*", count=1000))
        return [job for lane in lanes for job in server.zrange(lane, 0, -1)]


def _url(client: Orchestrator) -> str:
    return str(client._built.settings.redis_url)
