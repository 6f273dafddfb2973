"""Jobs and their attempts: every transition is one step."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from orchestrator.errors import JobNotFound, QueueFull
from orchestrator.models import (
    CLAIM_PUSH_SECONDS,
    Attempt,
    Callback,
    Job,
    Message,
    NewJob,
    Shown,
    State,
    Tries,
    attempt_id,
)
from orchestrator.store import records
from orchestrator.store.journal import refuse_replay, told_of
from orchestrator.store.link import PREFIX, WAIT_SLICE_SECONDS, Link

JOBS_PER_CALL = 500
SAMPLE_SIZE = 512  # durations kept per provider and model
REFUSED_SECONDS = 30 * 86_400  # what moderation refused is not sent again for so long
CLAIM_LIMIT = 200
FIRST_END = "0"  # before the first job of a batch that ended
TEXTS = ("paused", "notify_url", "on_each", "on_complete")  # what a batch has beside numbers


@dataclass(frozen=True)
class Opened:
    """What the opener of an attempt submits."""

    account: str
    parameters: Mapping[str, Any]
    tries: Tries
    max_jobs: int  # of the account, as it is now
    refused: bool  # its content was refused by moderation before: it must not be sent
    created_at: float = 0.0  # its job; unix seconds
    granted_at: float = 0.0  # its slot; unix seconds


@dataclass(frozen=True)
class Settled:
    """What a settlement led to."""

    word: str  # settled | late | duplicate | unknown | mismatch
    finish: Message | None
    grants: tuple[Message, ...]
    opened_at: float | None = None  # of an attempt that was begun, and is settled by this; unix seconds


@dataclass(frozen=True)
class Begun:
    """A finish that was begun."""

    job: Job  # without its `due_at`
    token: str  # of the lease; until when it holds, in unix seconds
    again: bool  # it was begun before: what came of that is not known here


@dataclass(frozen=True)
class Claimed:
    """What was due."""

    count: int
    submits: tuple[Message, ...]
    finishes: tuple[Message, ...]
    looks: tuple[tuple[str, float], ...]  # attempt id, when to look at it
    hosts: tuple[tuple[str, int], ...]  # that notices wait for, how many may send them


@dataclass(frozen=True)
class Cancelled:
    """A job that was cancelled, and what it held."""

    finish: Message
    account: str
    upstream_id: str
    grants: tuple[Message, ...]


class Jobs:
    """Thread-safe."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def close(self) -> None:
        self._link.client.close()

    def ping(self) -> None:
        self._link.call(self._link.client.ping)

    # --- transitions -----------------------------------------------------------------------------------

    def enqueue(
        self, jobs: Sequence[NewJob], now: float, max_waiting: int = 0
    ) -> tuple[int, tuple[Message, ...]]:
        """Store and line up jobs; one that is known already is left as it is. Gives (added, grants).

        Those of one batch keep it from being over until the last is stored. Where the caller is killed before
        that, it is the same call made again, or 600 seconds, that ends this.
        `max_waiting`: how many may wait in all, 0 for no cap; two callers at once may exceed it together.
        Raises: QueueFull, with none of them stored.
        """
        added = 0
        grants: list[Message] = []
        batches = {job.batch for job in jobs} if len(jobs) > JOBS_PER_CALL else ()
        filled, producer = (jobs[0].batch, jobs[0].id) if len(batches) == 1 else ("", "")
        for first in range(0, len(jobs), JOBS_PER_CALL):
            arguments = [value for job in jobs[first : first + JOBS_PER_CALL] for value in records.row(job)]
            most = 0 if first else max_waiting  # all or none: it is the first call that asks
            goes_on = "1" if first + JOBS_PER_CALL < len(jobs) else ""
            count, granted = self._link.step(
                "enqueue", now, most, len(jobs), filled, producer, goes_on, *arguments
            )
            if count < 0:
                raise QueueFull(
                    f"{granted} jobs wait already, and {len(jobs)} more would be above {max_waiting}"
                )
            added += count
            grants.extend(records.messages(granted))
        return added, tuple(grants)

    def otherwise(self, jobs: Sequence[NewJob]) -> list[NewJob]:
        """Those of them that are known already, and were something else then."""
        found: list[NewJob] = []
        keyed = [job for job in jobs if job.fingerprint]
        for first in range(0, len(keyed), JOBS_PER_CALL):
            some = keyed[first : first + JOBS_PER_CALL]
            with self._link.client.pipeline(transaction=False) as pipeline:
                for job in some:
                    pipeline.hget(f"{PREFIX}job:{job.id}", "fingerprint")
                known = self._link.call(pipeline.execute)
            found += [job for job, was in zip(some, known, strict=True) if was and was != job.fingerprint]
        return found

    def open(self, attempt: str, now: float, content: str = "", shown: Shown | None = None) -> Opened | None:
        """What to submit, for the one caller that is to make the POST of this attempt; else None.

        `content`: hash of what moderation will judge. `shown`: what Celery says of the task from then on.
        """
        told = (shown.key, shown.text, shown.seconds) if shown else ()
        row = self._link.step("open", attempt, now, content, *told)
        if not row:
            return None
        account, parameters, failures, most, max_jobs, refused, created, granted = row
        return Opened(
            account=account,
            parameters=json.loads(parameters),
            tries=records.tries(failures, most),
            max_jobs=max_jobs,
            refused=bool(refused),
            created_at=float(created),
            granted_at=float(granted),
        )

    def submitted(
        self, attempt: str, upstream_id: str, now: float, due_at: float, timing: str, expects_callback: bool
    ) -> str:
        """Record the upstream id. Gives the attempt's verdict if it is closed already, else ''."""
        return str(
            self._link.step("submitted", attempt, upstream_id, now, due_at, timing, int(expects_callback))
        )

    def adopt(
        self, attempt: str, provider: str, account: str, upstream_id: str, now: float, timing: str
    ) -> bool:
        """Take over a generation whose job is not known: it is polled, and never submitted again."""
        job_id, _, number = attempt.rpartition(".")
        return bool(self._link.step("adopt", job_id, number, provider, account, upstream_id, now, timing))

    def adopt_kept(
        self,
        batch: str,
        result: Mapping[str, Any],
        now: float,
        *,
        custom_id: str = "",
        tenant: str = "",
    ) -> bool:
        """Record a job that is not known, but whose pictures were found. `result`: as the job's would be."""
        told = (result["provider"], result["account"], custom_id, tenant)
        return bool(self._link.step("adopt_kept", result["job_id"], batch, json.dumps(result), now, *told))

    def uncertain(self, attempt: str, now: float, due_at: float) -> None:
        """Record that an open attempt's submit was not answered as it should be: it may have arrived."""
        self._link.step("uncertain", attempt, now, due_at)

    def look_again(self, attempt: str, now: float, due_at: float, counter: str = "") -> None:
        self._link.step("look_again", attempt, now, due_at, counter)

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
        counts: str = "",
        rest_until: float | None = None,
        rest_reason: str = "",
        source: str = "",
        duration: float | None = None,
        means: str = "",
        listed: Mapping[str, str] | None = None,
        callback: Callback | None = None,
    ) -> Settled:
        """Close an attempt, once. `again_at` None: the job is finished; else it lines up again then.

        `counts`: the class of failure it counts as. `means`: what it tells of the account: full, too many or
        moderated. `listed`: what the provider says it runs of ours, attempt → upstream id; where the account
        is full, `rest_until` is when to try whether it still is. `callback`: what told of it; it is noted in
        the journal. Raises: Stale, where that was taken already.
        """
        word, finish, grants, *opened = self._link.step(
            "settle_heard" if callback else "settle",
            attempt,
            now,
            verdict,
            upstream_id,
            json.dumps(list(artifact_urls)) if artifact_urls else "",
            json.dumps(error) if error else "",
            "finish" if again_at is None else "again",
            again_at or 0,
            counts,
            "" if rest_until is None else rest_until,
            rest_reason,
            source,
            "" if duration is None else duration,
            SAMPLE_SIZE,
            means,
            "" if listed is None else json.dumps(listed),
            REFUSED_SECONDS,
            *(told_of(callback) if callback else ()),
        )
        refuse_replay(word)
        opened_at = float(opened[0]) if opened and opened[0] else None
        return Settled(word, records.message(finish) if finish else None, records.messages(grants), opened_at)

    def begin_finish(self, job_id: str, now: float) -> Begun | None:
        """For the one caller that is to finish the job now; else None."""
        found = self._link.step("begin_finish", job_id, now)
        if not found:
            return None
        again, fields = found
        row = dict(zip(fields[::2], fields[1::2], strict=True))
        return Begun(records.job(job_id, row, None), row["finishing"], bool(again))

    def to_stop(self, job_id: str) -> str:
        """The upstream id of a cancelled job's generation that the provider was not asked to stop yet."""
        return str(self._link.call(lambda: self._link.client.hget(f"{PREFIX}job:{job_id}", "to_stop")) or "")

    def stopped(self, job_id: str) -> None:
        """The provider was asked to stop a cancelled job's generation."""
        self._link.call(lambda: self._link.client.hdel(f"{PREFIX}job:{job_id}", "to_stop"))

    def revoked(self, job_ids: Sequence[str]) -> None:
        """Record that Celery has the end of these cancelled jobs."""
        self._link.step("revoked", *job_ids)

    def end(
        self,
        job_id: str,
        now: float,
        state: State,
        result: Mapping[str, Any] | None,
        reason: str,
        token: str = "",
        shown: Shown | None = None,
    ) -> bool:
        """True for the one caller that ended the job. `token`: of its finish, which may be another's now.

        `shown`: what Celery says of the task from then on, and tells whoever waits for it.
        """
        told = json.dumps(result) if result else ""
        says = (shown.key, shown.text, shown.seconds) if shown else ()
        return bool(self._link.step("end", job_id, now, state.value, told, reason, token, *says))

    def cancel(self, job_id: str, now: float) -> Cancelled | None:
        """Cancel a job that is not over; None where it is too late."""
        done, *rest = self._link.step("cancel", job_id, now)
        if not done:
            return None
        finish, account, upstream_id, grants = rest
        return Cancelled(records.message(finish), account, upstream_id, records.messages(grants))

    def claim(self, now: float, horizon_seconds: float = 0.0) -> tuple[Claimed, tuple[Message, ...]]:
        """What is due, claimed by moving its time ahead. Gives (claimed, grants).

        Looks that become due within `horizon_seconds` are claimed as well, to be made at their time.
        """
        count, submits, finishes, looks, grants, hosts = self._link.step(
            "claim", now, CLAIM_LIMIT, CLAIM_PUSH_SECONDS, horizon_seconds
        )
        pairs = tuple((attempt, float(due_at)) for attempt, due_at in looks)
        claimed = Claimed(
            count=count,
            submits=records.messages(submits),
            finishes=records.messages(finishes),
            looks=pairs,
            hosts=tuple((host, senders) for host, senders in hosts),
        )
        return claimed, records.messages(grants)

    def fill(self, provider: str, now: float) -> tuple[Message, ...]:
        """Grant free slots to who waits."""
        return self.fill_all([provider], now)

    def fill_all(self, providers: Iterable[str], now: float) -> tuple[Message, ...]:
        """Grant free slots of several providers to who waits."""
        return records.messages(self._link.step("fill", now, *providers))

    # --- reading ---------------------------------------------------------------------------------------

    def job(self, job_id: str) -> Job:
        """Raises: JobNotFound."""
        row = self._link.call(lambda: self._link.client.hgetall(f"{PREFIX}job:{job_id}"))
        if not row:
            days = self._link.retention.ended / 86_400
            raise JobNotFound(
                f"no job has the id {job_id!r} (records are kept for {days:g} days after the end)"
            )
        return records.job(job_id, row, self.due_at(job_id))

    def options(self, job_id: str) -> Mapping[str, Any]:
        """Celery's options of a job, where it is known."""
        told = self._link.call(lambda: self._link.client.hget(f"{PREFIX}job:{job_id}", "options"))
        return json.loads(told) if told else {}

    def due_at(self, job_id: str) -> float | None:
        """When something of ours looks at the job next; None where nothing does."""
        moment: float | None = self._link.call(
            lambda: self._link.client.zscore(f"{PREFIX}due", f"job:{job_id}")
        )
        return moment

    def jobs(self, job_ids: Sequence[str]) -> list[Job]:
        """The jobs with these ids that are still known, in the same order."""
        found: list[Job] = []
        for first in range(0, len(job_ids), JOBS_PER_CALL):
            ids = job_ids[first : first + JOBS_PER_CALL]
            with self._link.client.pipeline(transaction=False) as pipeline:
                for job_id in ids:
                    pipeline.hgetall(f"{PREFIX}job:{job_id}")
                rows = self._link.call(pipeline.execute)
            found += [records.job(job_id, row, None) for job_id, row in zip(ids, rows, strict=True) if row]
        return found

    def attempt(self, attempt: str) -> Attempt | None:
        row = self._link.call(lambda: self._link.client.hgetall(f"{PREFIX}attempt:{attempt}"))
        return records.attempt(attempt, row) if row else None

    def attempts(self, job: Job) -> list[Mapping[str, str]]:
        """The raw records of a job's attempts, first to last."""
        with self._link.client.pipeline(transaction=False) as pipeline:
            for number in range(1, job.attempts + 1):
                pipeline.hgetall(f"{PREFIX}attempt:{attempt_id(job.id, number)}")
            rows: list[Mapping[str, str]] = self._link.call(pipeline.execute)
            return rows

    def attempts_of(self, jobs: Sequence[Job]) -> list[tuple[Attempt, ...]]:
        """The attempts of each job that are still known, first to last."""
        ids = [[attempt_id(job.id, number) for number in range(1, job.attempts + 1)] for job in jobs]
        with self._link.client.pipeline(transaction=False) as pipeline:
            for attempt in chain.from_iterable(ids):
                pipeline.hgetall(f"{PREFIX}attempt:{attempt}")
            rows = iter(self._link.call(pipeline.execute))
        found = [[(attempt, next(rows)) for attempt in its] for its in ids]
        return [tuple(records.attempt(attempt, row) for attempt, row in its if row) for its in found]

    def durations(self, timing: str) -> list[float]:
        """Seconds that the latest generations of a provider and model took."""
        found = self._link.call(lambda: self._link.client.lrange(f"{PREFIX}durations:{timing}", 0, -1))
        return [float(each) for each in found]

    def missing_share(self, provider: str) -> float:
        """Share of expected callbacks that did not come lately, from 0 to 1."""
        return float(self._link.call(lambda: self._link.client.hget(f"{PREFIX}missing", provider)) or 0.0)

    def batch(self, name: str) -> dict[str, float]:
        """Counts by state, `total`, and the moments `created`, `started`, `ended`; empty: no such batch."""
        row = self._link.call(lambda: self._link.client.hgetall(f"{PREFIX}batch:{name}"))
        return {key: float(value) for key, value in row.items() if key not in TEXTS}

    def counts(self) -> dict[str, int]:
        """Jobs by `<provider>/<state>`."""
        row = self._link.call(lambda: self._link.client.hgetall(f"{PREFIX}counts"))
        return {key: int(value) for key, value in row.items()}

    def stats(self) -> dict[str, int]:
        """Events by `<provider>/<word>`: submits, callbacks, polls, busy, late, surplus, refused …"""
        row = self._link.call(lambda: self._link.client.hgetall(f"{PREFIX}stats"))
        return {key: int(value) for key, value in row.items()}

    # --- waiting ---------------------------------------------------------------------------------------

    def wait_ended(self, job_id: str, timeout: float | None) -> Job | None:
        """The job once it has ended, pushed by Redis; None after `timeout` seconds."""
        give_up_at = None if timeout is None else time.monotonic() + timeout
        with self._link.client.pubsub(ignore_subscribe_messages=True) as pubsub:
            self._link.call(lambda: pubsub.subscribe(f"{PREFIX}ended:{job_id}"))
            while not (job := self.job(job_id)).ended_at:
                patience = _patience(give_up_at)
                if patience <= 0:
                    return None
                self._link.call(lambda patience=patience: pubsub.get_message(timeout=patience))  # type: ignore[misc]
            return job

    def ended_in(self, batch: str, timeout: float | None) -> Iterator[str]:
        """Ids of the batch's jobs as they end, from the first that ever did. Endless; '' while none does.

        Raises: TimeoutError once `timeout` seconds have passed since the call.
        """
        give_up_at = None if timeout is None else time.monotonic() + timeout
        last = FIRST_END
        while True:
            patience = _patience(give_up_at)
            if patience <= 0:
                raise TimeoutError(f"batch {batch!r} was not over after {timeout} seconds")
            ids, last = self.ended_after(batch, last, patience)
            yield from ids
            if not ids and _patience(give_up_at) > 0:
                yield ""

    def ended_after(self, batch: str, last: str, patience: float) -> tuple[list[str], str]:
        """Ids of some of the batch's jobs that ended after `last`, and the next `last`.

        The first is `FIRST_END`. Waits up to `patience` seconds where there is none yet; 0: not at all. A job
        that ended, went on and ended again comes again.
        """
        stream = f"{PREFIX}ended-in:{batch}"
        block = max(1, int(patience * 1000)) if patience > 0 else None
        found = self._link.call(
            lambda: self._link.client.xread({stream: last}, count=JOBS_PER_CALL, block=block)
        )
        entries = found[0][1] if found else []
        return [fields["job"] for _, fields in entries], entries[-1][0] if entries else last


def _patience(give_up_at: float | None) -> float:
    if give_up_at is None:
        return WAIT_SLICE_SECONDS
    return min(WAIT_SLICE_SECONDS, give_up_at - time.monotonic())
