"""Redis: what is known of jobs, attempts, slots, lanes and due times. One step of the flow is one script.

Keys (all begin with `orc:`; lua/common.lua builds them):

    job:<id>                    hash    the job; its parameters, state, place, error, result
    attempt:<id>.<n>            hash    the n-th try: granted → open → submitted → closed
    accounts:<provider>         set     account names
    account:<provider>/<name>   hash    its limits, next_request, rest_until and why, ahead, busy_seconds
    served:<provider>           number  how much the lane served last had been served
    slots:<provider>/<name>     zset    attempt → end of its lease
    lanes:<target>              zset    lane → jobs served; target: a provider, or one account of it
    lane:<target>|<lane>        zset    job → place (priority first, then age)
    due                         zset    job:<id> or account:<provider>/<name> → when to look at it
    batch:<name>                hash    counts by state
    jobs-of:<batch>             list    job ids in the order they came
    ended-in:<batch>            stream  job ids in the order they ended
    delivery:<provider>:<hash>  string  a signed callback that was taken
    durations:<provider>/<model>  list  seconds of the latest generations
    missing                     hash    provider → share of callbacks that did not come
    places                      number  the last place given in a lane
    counts, stats               hash    jobs by provider and state; events by provider

Every method may raise StoreUnavailable, and then may be called again: the scripts are safe to repeat.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, NoReturn

import redis
from redis.maint_notifications import MaintNotificationsConfig

from orchestrator import records
from orchestrator.errors import JobNotFound, StoreUnavailable
from orchestrator.models import CLAIM_PUSH_SECONDS, Account, Attempt, Job, Message, NewJob, State, attempt_id

PREFIX = "orc:"
STEPS = (
    "enqueue open submitted look_again settle begin_finish finish_later end cancel claim fill take_turn"
).split()
JOBS_PER_CALL = 500
SAMPLE_SIZE = 512  # durations kept per provider and model
KEEP_SECONDS = 7 * 86_400  # ended jobs are kept for so long
DELIVERY_SECONDS = 3600  # how long a callback is remembered, to refuse its replay
CLAIM_LIMIT = 200
WAIT_SLICE_SECONDS = 5.0  # how long one blocking read lasts; the net below a lost wake-up


CANNOT_WRITE = (
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.MasterDownError,
    redis.exceptions.ClusterDownError,
)
CANNOT_WRITE_WORDS = ("MISCONF", "NOREPLICAS", "LOADING", "OOM", "READONLY")


@dataclass(frozen=True)
class Opened:
    """What the opener of an attempt submits."""

    account: str
    parameters: Mapping[str, Any]
    failures: int  # of the job so far


@dataclass(frozen=True)
class Settled:
    """What a settlement led to."""

    word: str  # settled | late | duplicate | unknown | mismatch
    finish: Message | None
    grants: tuple[Message, ...]


@dataclass(frozen=True)
class Claimed:
    """What was due."""

    count: int
    submits: tuple[Message, ...]
    finishes: tuple[Message, ...]
    looks: tuple[tuple[str, float], ...]  # attempt id, when to look at it


@dataclass(frozen=True)
class Cancelled:
    """A job that was cancelled, and what it held."""

    finish: Message
    account: str
    upstream_id: str
    grants: tuple[Message, ...]


class Store:
    """The one place that knows Redis. Thread-safe."""

    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=WAIT_SLICE_SECONDS + 5,
            health_check_interval=30,
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
        )
        self._steps = {name: self._redis.register_script(_source(name)) for name in STEPS}

    def close(self) -> None:
        self._redis.close()

    def ping(self) -> None:
        self._guarded(self._redis.ping)

    # --- transitions -----------------------------------------------------------------------------------

    def enqueue(self, jobs: Sequence[NewJob], now: float) -> tuple[int, tuple[Message, ...]]:
        """Store and line up jobs; one that is known already is left as it is. Gives (added, grants)."""
        added = 0
        grants: list[Message] = []
        for first in range(0, len(jobs), JOBS_PER_CALL):
            arguments = [value for job in jobs[first : first + JOBS_PER_CALL] for value in records.row(job)]
            count, granted = self._step("enqueue", now, *arguments)
            added += count
            grants.extend(records.messages(granted))
        return added, tuple(grants)

    def open(self, attempt: str, now: float) -> Opened | None:
        """What to submit, for the one caller that is to make the POST of this attempt; else None."""
        row = self._step("open", attempt, now)
        return Opened(row[0], json.loads(row[1]), row[2]) if row else None

    def submitted(
        self, attempt: str, upstream_id: str, now: float, due_at: float, timing: str, expects_callback: bool
    ) -> str:
        """Record the upstream id. Gives the attempt's verdict if it is closed already, else ''."""
        return str(self._step("submitted", attempt, upstream_id, now, due_at, timing, int(expects_callback)))

    def look_again(self, attempt: str, now: float, due_at: float, counter: str = "") -> None:
        self._step("look_again", attempt, now, due_at, counter)

    def settle(
        self,
        attempt: str,
        verdict: str,
        now: float,
        *,
        upstream_id: str = "",
        artifact_urls: Sequence[str] = (),
        error: Mapping[str, Any] | None = None,
        again_at: float | None = None,
        counts: bool = False,
        rest_until: float | None = None,
        rest_reason: str = "",
        source: str = "",
        duration: float | None = None,
    ) -> Settled:
        """Close an attempt, once. `again_at` None: the job is finished; else it lines up again then."""
        word, finish, grants = self._step(
            "settle",
            attempt,
            now,
            verdict,
            upstream_id,
            json.dumps(list(artifact_urls)) if artifact_urls else "",
            json.dumps(error) if error else "",
            "finish" if again_at is None else "again",
            again_at or 0,
            int(counts),
            "" if rest_until is None else rest_until,
            rest_reason,
            source,
            "" if duration is None else duration,
            SAMPLE_SIZE,
        )
        return Settled(word, records.message(finish) if finish else None, records.messages(grants))

    def begin_finish(self, job_id: str, now: float) -> bool:
        """True for the one caller that is to finish the job now."""
        return bool(self._step("begin_finish", job_id, now))

    def finish_later(self, job_id: str, due_at: float, reason: str) -> None:
        self._step("finish_later", job_id, due_at, reason)

    def end(
        self, job_id: str, now: float, state: State, result: Mapping[str, Any] | None, reason: str
    ) -> bool:
        """True for the one caller that ended the job."""
        told = json.dumps(result) if result else ""
        return bool(self._step("end", job_id, now, state.value, told, KEEP_SECONDS, reason))

    def cancel(self, job_id: str, now: float, only_granted: str = "") -> Cancelled | None:
        """Cancel a job that is not over; None where it is too late.

        `only_granted`: an attempt id; only where that attempt is the last and was not opened.
        """
        done, *rest = self._step("cancel", job_id, now, KEEP_SECONDS, only_granted)
        if not done:
            return None
        finish, account, upstream_id, grants = rest
        return Cancelled(records.message(finish), account, upstream_id, records.messages(grants))

    def claim(self, now: float, horizon_seconds: float = 0.0) -> tuple[Claimed, tuple[Message, ...]]:
        """What is due, claimed by moving its time ahead. Gives (claimed, grants).

        Looks that become due within `horizon_seconds` are claimed as well, to be made at their time.
        """
        count, submits, finishes, looks, grants = self._step(
            "claim", now, CLAIM_LIMIT, CLAIM_PUSH_SECONDS, horizon_seconds
        )
        pairs = tuple((attempt, float(due_at)) for attempt, due_at in looks)
        return Claimed(count, records.messages(submits), records.messages(finishes), pairs), records.messages(
            grants
        )

    def set_accounts(self, accounts: Iterable[Account]) -> None:
        """Make the providers' accounts exactly these; what Redis knows of their rests is kept."""
        by_provider: dict[str, list[Account]] = {}
        for account in accounts:
            by_provider.setdefault(account.provider, []).append(account)
        with self._redis.pipeline() as pipeline:
            for provider, its_accounts in by_provider.items():
                pipeline.delete(f"{PREFIX}accounts:{provider}")
                pipeline.sadd(f"{PREFIX}accounts:{provider}", *(account.name for account in its_accounts))
                for account in its_accounts:
                    pipeline.hset(_account_key(provider, account.name), mapping=records.limits(account))
            self._guarded(pipeline.execute)

    def resume(self, provider: str, account: str) -> None:
        """End an account's rest."""
        fields = ("rest_until", "rest_reason", "rest_message")
        self._guarded(lambda: self._redis.hdel(_account_key(provider, account), *fields))

    def fill(self, provider: str, now: float) -> tuple[Message, ...]:
        """Grant free slots to who waits."""
        return records.messages(self._step("fill", now, provider))

    def count(self, provider: str, word: str) -> None:
        self._guarded(lambda: self._redis.hincrby(f"{PREFIX}stats", f"{provider}/{word}", 1))

    def set_ahead(self, provider: str, account: str, ahead: int) -> None:
        """How many jobs beyond `max_jobs` the account is given."""
        self._guarded(lambda: self._redis.hset(_account_key(provider, account), "ahead", ahead))

    def take_turn(self, account: Account, now: float) -> float:
        """Take one request from the account's pace: 0, or the seconds until there is one."""
        if not account.requests_per_second:
            return 0.0
        return float(self._step("take_turn", account.provider, account.name, now))

    def is_replay(self, provider: str, delivery_id: str) -> bool:
        """Whether a callback of this id was taken already."""
        return bool(self._guarded(lambda: self._redis.exists(_delivery_key(provider, delivery_id))))

    def remember_delivery(self, provider: str, delivery_id: str) -> None:
        """Safe to call twice. Remembered for longer than any provider's time window."""
        key = _delivery_key(provider, delivery_id)
        self._guarded(lambda: self._redis.set(key, "1", ex=DELIVERY_SECONDS))

    # --- reading ---------------------------------------------------------------------------------------

    def job(self, job_id: str) -> Job:
        """Raises: JobNotFound."""
        row = self._guarded(lambda: self._redis.hgetall(f"{PREFIX}job:{job_id}"))
        if not row:
            raise JobNotFound(f"no job has the id {job_id!r} (records are kept for 7 days after the end)")
        return records.job(job_id, row, self.due_at(job_id))

    def due_at(self, job_id: str) -> float | None:
        """When something of ours looks at the job next; None where nothing does."""
        moment: float | None = self._guarded(lambda: self._redis.zscore(f"{PREFIX}due", f"job:{job_id}"))
        return moment

    def jobs(self, job_ids: Sequence[str]) -> list[Job]:
        """The jobs with these ids that are still known, in the same order."""
        found: list[Job] = []
        for first in range(0, len(job_ids), JOBS_PER_CALL):
            ids = job_ids[first : first + JOBS_PER_CALL]
            with self._redis.pipeline(transaction=False) as pipeline:
                for job_id in ids:
                    pipeline.hgetall(f"{PREFIX}job:{job_id}")
                rows = self._guarded(pipeline.execute)
            found += [records.job(job_id, row, None) for job_id, row in zip(ids, rows, strict=True) if row]
        return found

    def attempt(self, attempt: str) -> Attempt | None:
        row = self._guarded(lambda: self._redis.hgetall(f"{PREFIX}attempt:{attempt}"))
        return records.attempt(attempt, row) if row else None

    def attempts(self, job: Job) -> list[Mapping[str, str]]:
        """The raw records of a job's attempts, first to last."""
        with self._redis.pipeline(transaction=False) as pipeline:
            for number in range(1, job.attempts + 1):
                pipeline.hgetall(f"{PREFIX}attempt:{attempt_id(job.id, number)}")
            rows: list[Mapping[str, str]] = self._guarded(pipeline.execute)
            return rows

    def durations(self, timing: str) -> list[float]:
        """Seconds that the latest generations of a provider and model took."""
        found = self._guarded(lambda: self._redis.lrange(f"{PREFIX}durations:{timing}", 0, -1))
        return [float(each) for each in found]

    def ahead(self, account: Account) -> int:
        """How many jobs beyond `max_jobs` the account is given."""
        key = _account_key(account.provider, account.name)
        learned = self._guarded(lambda: self._redis.hget(key, "ahead"))
        return min(account.queue_ahead, math.ceil(account.max_jobs / 4) if learned is None else int(learned))

    def missing_share(self, provider: str) -> float:
        """Share of expected callbacks that did not come lately, from 0 to 1."""
        return float(self._guarded(lambda: self._redis.hget(f"{PREFIX}missing", provider)) or 0.0)

    def batch(self, name: str) -> dict[str, float]:
        """Counts by state, `total`, and the moments `created`, `started`, `ended`; empty: no such batch."""
        row = self._guarded(lambda: self._redis.hgetall(f"{PREFIX}batch:{name}"))
        return {key: float(value) for key, value in row.items()}

    def jobs_of(self, batch: str) -> list[str]:
        ids: list[str] = self._guarded(lambda: self._redis.lrange(f"{PREFIX}jobs-of:{batch}", 0, -1))
        return ids

    def counts(self) -> dict[str, int]:
        """Jobs by `<provider>/<state>`."""
        row = self._guarded(lambda: self._redis.hgetall(f"{PREFIX}counts"))
        return {key: int(value) for key, value in row.items()}

    def stats(self) -> dict[str, int]:
        """Events by `<provider>/<word>`: submits, callbacks, polls, busy, late, surplus, refused …"""
        row = self._guarded(lambda: self._redis.hgetall(f"{PREFIX}stats"))
        return {key: int(value) for key, value in row.items()}

    def account_rows(self, provider: str) -> list[dict[str, Any]]:
        """Name, max_jobs, used, rest_until, rest_reason, busy_seconds of every account."""
        names = sorted(self._guarded(lambda: self._redis.smembers(f"{PREFIX}accounts:{provider}")))
        with self._redis.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.hgetall(_account_key(provider, name))
                pipeline.zcard(f"{PREFIX}slots:{provider}/{name}")
            replies = self._guarded(pipeline.execute)
        pairs = zip(names, replies[::2], replies[1::2], strict=True)
        return [{"provider": provider, "name": name, **row, "used": used} for name, row, used in pairs]

    def server_facts(self) -> dict[str, Any]:
        """`version`, `eviction` (a policy), `append_only`: what jobs depend on."""
        told = self._guarded(self._redis.info)
        version = told.get("valkey_version") or told.get("redis_version")
        append_only = bool(int(told.get("aof_enabled", 0)))
        return {"version": version, "eviction": told.get("maxmemory_policy"), "append_only": append_only}

    # --- waiting ---------------------------------------------------------------------------------------

    def wait_ended(self, job_id: str, timeout: float | None) -> Job | None:
        """The job once it has ended, pushed by Redis; None after `timeout` seconds."""
        give_up_at = None if timeout is None else time.monotonic() + timeout
        with self._redis.pubsub(ignore_subscribe_messages=True) as pubsub:  # type: ignore[no-untyped-call]
            self._guarded(lambda: pubsub.subscribe(f"{PREFIX}ended:{job_id}"))
            while not (job := self.job(job_id)).ended_at:
                patience = _patience(give_up_at)
                if patience <= 0:
                    return None
                self._guarded(lambda patience=patience: pubsub.get_message(timeout=patience))  # type: ignore[misc]
            return job

    def ended_in(self, batch: str, timeout: float | None) -> Iterator[str]:
        """Ids of the batch's jobs as they end, from the first that ever did. Endless.

        Raises: TimeoutError once `timeout` seconds have passed since the call.
        """
        give_up_at = None if timeout is None else time.monotonic() + timeout
        stream, last = f"{PREFIX}ended-in:{batch}", "0"
        while True:
            patience = _patience(give_up_at)
            if patience <= 0:
                raise TimeoutError(f"batch {batch!r} was not over after {timeout} seconds")
            block = max(1, int(patience * 1000))
            found = self._guarded(
                lambda last=last, block=block: self._redis.xread({stream: last}, count=500, block=block)  # type: ignore[misc]
            )
            for entry, fields in found[0][1] if found else ():
                last = entry
                yield fields["job"]

    # --- inside ----------------------------------------------------------------------------------------

    def _step(self, name: str, *arguments: Any) -> Any:
        return self._guarded(lambda: self._steps[name](args=arguments))

    def _guarded(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError) as error:
            _unavailable(error)
        except redis.exceptions.ResponseError as error:
            # redis-py cuts the word off the messages it has a class for.
            if isinstance(error, CANNOT_WRITE) or str(error).startswith(CANNOT_WRITE_WORDS):
                _unavailable(error)
            raise


def _unavailable(error: Exception) -> NoReturn:
    # The exception's own text may hold the URL with its password.
    raise StoreUnavailable(f"Redis does not answer ({type(error).__name__})") from None


def _source(step: str) -> str:
    folder = resources.files("orchestrator") / "lua"
    return (folder / "common.lua").read_text() + (folder / f"{step}.lua").read_text()


def _patience(give_up_at: float | None) -> float:
    if give_up_at is None:
        return WAIT_SLICE_SECONDS
    return min(WAIT_SLICE_SECONDS, give_up_at - time.monotonic())


def _account_key(provider: str, account: str) -> str:
    return f"{PREFIX}account:{provider}/{account}"


def _delivery_key(provider: str, delivery_id: str) -> str:
    return f"{PREFIX}delivery:{provider}:{hashlib.sha256(delivery_id.encode()).hexdigest()}"
