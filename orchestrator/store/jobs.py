"""Jobs and their attempts: every transition is one step."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

from orchestrator.errors import QueueFull
from orchestrator.models import CLAIM_PUSH_SECONDS, Callback, Message, NewJob, Shown, State
from orchestrator.store import records
from orchestrator.store.ahead import in_turn
from orchestrator.store.answers import Begun, Cancelled, Claimed, Opened, Settled
from orchestrator.store.journal import told_of, word_of
from orchestrator.store.link import PREFIX, Link
from orchestrator.store.reading import JOBS_PER_CALL

SAMPLE_SIZE = 512  # durations kept per provider and model
REFUSED_SECONDS = 30 * 86_400  # what moderation refused is not sent again for so long
CLAIM_LIMIT = 200


class Jobs:
    """Thread-safe."""

    _link: Link

    def enqueue(
        self,
        jobs: Sequence[NewJob],
        now: float,
        max_waiting: int = 0,
        *,
        clock: Callable[[], float] | None = None,
        tell: Callable[[tuple[Message, ...]], object] = lambda grants: None,
    ) -> tuple[int, tuple[Message, ...]]:
        """Store and line up jobs; one that is known already is left as it is. Gives (added, grants).

        Many are stored piece by piece: `tell` is handed what a piece lets run as soon as it is stored, and
        `clock` says when the later ones come, for `now` is that of the first.

        Those of one batch keep it from being over until the last is stored. Where the caller is killed before
        that, it is the same call made again, or 600 seconds, that ends this.
        `max_waiting`: how many may wait in all, 0 for no cap. What is known already does not count.
        Two callers at once may exceed it together.
        Raises: QueueFull, with none of them stored.
        """
        # All or none: the first step asks for all of them.
        to_come = self._count_new(jobs[JOBS_PER_CALL:]) if max_waiting else 0
        batches = {job.batch for job in jobs} if len(jobs) > JOBS_PER_CALL else ()
        filled, producer = (jobs[0].batch, jobs[0].id) if len(batches) == 1 else ("", "")

        def calls() -> Iterator[tuple[Any, ...]]:
            for first in range(0, len(jobs), JOBS_PER_CALL):
                most = 0 if first else max_waiting
                goes_on = "1" if first + JOBS_PER_CALL < len(jobs) else ""
                rows = chain.from_iterable(map(records.row, jobs[first : first + JOBS_PER_CALL]))
                moment = clock() if clock and first else now
                yield moment, most, to_come, filled, producer, goes_on, *rows

        added = 0
        grants: list[Message] = []
        for count, granted in in_turn(partial(self._link.step, "enqueue"), calls()):
            if count < 0:
                waiting, more = granted
                raise QueueFull(
                    f"{waiting} jobs wait already, and {more} more would be above the {max_waiting} of "
                    f"ORCHESTRATOR_MAX_WAITING: enqueue the same again once fewer wait, or fewer at once, or "
                    f"raise it where jobs are enqueued"
                )
            added += count
            messages = records.messages(granted)
            tell(messages)
            grants.extend(messages)
        return added, tuple(grants)

    def _count_new(self, jobs: Sequence[NewJob]) -> int:
        """How many of these are not known yet."""
        with self._link.client.pipeline(transaction=False) as pipeline:
            for first in range(0, len(jobs), JOBS_PER_CALL):
                pipeline.exists(*(f"{PREFIX}job:{job.id}" for job in jobs[first : first + JOBS_PER_CALL]))
            return len(jobs) - int(sum(self._link.call(pipeline.execute)))

    def open(
        self, attempt: str, now: float, content: str = "", shown: Shown | None = None, on_behalf: str = ""
    ) -> Opened | None:
        """What to submit, for the one call that is to make the POST of this attempt; else None.

        `content`: hash of what moderation will judge. `shown`: what Celery says of the task from then on.
        `on_behalf`: the worker for which whoever settles the attempt may end the job.
        """
        told = (shown.key, shown.text, shown.seconds) if shown else ()
        row = self._link.step("open", attempt, now, content, secrets.token_hex(8), on_behalf, *told)
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
        nameless: bool = False,
        callback: Callback | None = None,
    ) -> Settled:
        """Close an attempt, once. `again_at` None: the job is finished; else it lines up again then.

        `counts`: the class of failure it counts as. `means`: what it tells of the account: full, too many or
        moderated. `listed`: what the provider says it runs of ours, attempt → upstream id; where the account
        is full, `rest_until` is when to try whether it still is. `nameless`: it holds only while no upstream
        id is known. `callback`: what told of it; it is noted in the journal. Raises: Stale, where its
        delivery was taken already with something else in it.
        """
        word, finish, grants, *more = self._link.step(
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
            "1" if nameless else "",
            *(told_of(callback) if callback else ()),
        )
        opened, on_behalf, created = more or ("", "", "")
        return Settled(
            word=word_of(word),
            finish=records.message(finish) if finish else None,
            grants=records.messages(grants),
            opened_at=float(opened) if opened else None,
            on_behalf=on_behalf,
            created_at=float(created or 0),
        )

    def begin_finish(self, job_id: str, now: float) -> Begun | None:
        """For the one caller that is to finish the job now; else None."""
        found = self._link.step("begin_finish", job_id, now)
        if not found:
            return None
        again, job, attempts = found
        row = records.fields(job)
        return Begun(
            job=records.job(job_id, row, None),
            attempts=tuple(map(records.fields, attempts)),
            token=row["finishing"],
            again=bool(again),
        )

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

    def is_due(self, moment: float) -> bool:
        """Whether anything must be looked at by then."""
        return bool(self._link.call(lambda: self._link.client.zcount(f"{PREFIX}due", "-inf", moment)))

    def fill(self, provider: str, now: float) -> tuple[Message, ...]:
        """Grant free slots to who waits."""
        return self.fill_all([provider], now)

    def fill_all(self, providers: Iterable[str], now: float) -> tuple[Message, ...]:
        """Grant free slots of several providers to who waits."""
        return records.messages(self._link.step("fill", now, *providers))
