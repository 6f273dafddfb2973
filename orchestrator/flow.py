"""The story of a job: enqueue, submit, receive, poll, settle, cancel, tick; how it ends tells `endings`.

It is handed its collaborators, its clock and its dice, and knows none of the libraries behind them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from orchestrator.endings import Endings
from orchestrator.errors import (
    BadReference,
    Conflict,
    Malformed,
    ProviderError,
    StoreUnavailable,
    Unavailable,
    Uncertain,
)
from orchestrator.events import log
from orchestrator.models import (
    Account,
    Callback,
    Failed,
    Message,
    NewJob,
    Outcome,
    Pending,
    Report,
    Shown,
    Succeeded,
    Tries,
    attempt_id,
)
from orchestrator.notices import NotifyRules
from orchestrator.settlement import refused_before, settlement
from orchestrator.watch import SEARCH_SECONDS

if TYPE_CHECKING:
    from orchestrator.broker import Broker
    from orchestrator.exchange import Exchange
    from orchestrator.observer import Observer
    from orchestrator.store import Heard, Opened, Store
    from orchestrator.watch import Watch

POLLS_PER_MESSAGE = 50
SUBMIT_WITHIN_SECONDS = 10.0  # of being opened: later, the attempt may have been searched for and given up
INSIST_SECONDS, INSIST_EVERY_SECONDS = 600.0, 1.0
CONFLICTS_SHOWN = 5
MAX_ATTEMPTS = 5  # where the account, which would say, is not known here


@dataclass(frozen=True)
class Flow:
    """The verbs. Every one is safe to call twice, from any number of processes."""

    store: Store
    broker: Broker
    exchange: Exchange
    watch: Watch
    clock: Callable[[], float]  # unix seconds
    dice: Callable[[], float]  # uniform in [0, 1)
    max_waiting: int = 0  # jobs that may wait; 0: no cap
    notify_rules: NotifyRules = field(default_factory=NotifyRules)
    sleep: Callable[[float], object] = time.sleep

    def enqueue(self, jobs: Sequence[NewJob], capped: bool = True) -> int:
        """Store jobs and let them run as soon as there is a slot. Gives how many were new.

        `capped` off: for what goes on with something begun, which a full queue must not stop.
        Raises: Invalid, QueueFull or Conflict, with none of them stored.
        """
        for url in {job.notify_url for job in jobs if job.notify_url}:
            self.notify_rules.check("notify_url", url)
        if others := self.store.otherwise(jobs):
            raise Conflict(_conflict(others))
        most = self.max_waiting if capped else 0
        submit, clock = self.broker.submit, self.clock
        added, _ = self.store.enqueue(jobs, clock(), most, clock=clock, tell=submit)
        if added:
            log("job.enqueued", jobs=added, batch=jobs[0].batch or None, job=_only(jobs))
        return added

    def submit(
        self,
        provider: str,
        job_id: str,
        number: int,
        parameters: Mapping[str, Any],
        shown: Shown | None = None,
        alone_at: str = "",
    ) -> None:
        """Open the granted attempt and make its POST. `shown` is what Celery says of it from then on.

        `alone_at`: the worker, where nothing but its result follows from the end of the task.
        """
        attempt = attempt_id(job_id, number)
        opened_at = self.clock()
        on_behalf = alone_at if self.exchange.artifacts is None else ""
        content = self.exchange.content(provider, parameters)
        opened = self.store.open(attempt, opened_at, content, shown, on_behalf)
        if opened is None:
            return
        if opened.refused:
            self._settle(attempt, provider, opened.account, refused_before(), opened.tries)
            return
        log("attempt.opened", attempt=attempt, provider=provider, account=opened.account)
        waited = opened_at - opened.created_at if number == 1 else None
        self.observer.opened(provider, waited, self.clock() - opened.granted_at)
        if self.clock() - opened_at > SUBMIT_WITHIN_SECONDS:
            late = Failed(Unavailable("the worker stood still before the submit"))
            self._insist(partial(self._settle, attempt, provider, opened.account, late, opened.tries))
            return
        self._insist(self._post(attempt, provider, opened))

    def _post(self, attempt: str, provider: str, opened: Opened) -> Callable[[], object]:
        """Make the POST. Gives what tells the store what came of it."""
        settle = partial(self._settle, attempt, provider, opened.account, tries=opened.tries)
        try:
            account = replace(self.exchange.account(provider, opened.account), max_jobs=opened.max_jobs)
            submission = self.exchange.submit(account, attempt, opened.parameters)
        except Uncertain as uncertain:
            told = uncertain.http_status or uncertain  # a provider's own words may repeat the prompt
            log("attempt.uncertain", attempt=attempt, account=opened.account, error=told)
            now = self.clock()
            wait = max(uncertain.wait_seconds or 0.0, SEARCH_SECONDS[0])
            return partial(self.store.uncertain, attempt, now, now + wait)
        except ProviderError as error:
            return partial(settle, outcome=Failed(error))
        if isinstance(submission.outcome, Pending):
            timing = self.exchange.timing(provider, opened.parameters)
            return partial(self._submitted, attempt, account, timing, submission.upstream_id)
        return partial(settle, outcome=submission.outcome, upstream_id=submission.upstream_id)

    def _submitted(self, attempt: str, account: Account, timing: str, upstream_id: str) -> None:
        verdict = self.watch.submitted(attempt, account, timing, upstream_id)
        log("attempt.submitted", attempt=attempt, account=account.name, upstream_id=upstream_id)
        if verdict == "cancelled":
            self.exchange.cancel(account, upstream_id)

    def _insist(self, tell: Callable[[], object]) -> None:
        """Tell Redis what nobody else knows, and what may be paid for; again while it does not answer.

        Raises: StoreUnavailable, where it does not for 600 s.
        """
        give_up_at = self.clock() + INSIST_SECONDS
        while True:
            try:
                tell()
                return
            except StoreUnavailable:
                if self.clock() >= give_up_at:
                    raise
                self.sleep(INSIST_EVERY_SECONDS)

    def receive(
        self, provider: str, text: str, headers: Mapping[str, str], read_body: Callable[[], bytes]
    ) -> str:
        """Take a callback. Gives what it led to: pending, settled, late, duplicate or unknown.

        `text`: its reference as it came; a stranger's body is not read. Raises: KeyError for an unknown
        provider; CallbackRefused; StoreUnavailable; what `read_body` does.
        """
        translator = self.exchange.providers[provider]
        reference = self.exchange.read_reference(translator, text)
        raw_body = read_body()
        now = self.clock()
        self.exchange.verify_callback(translator, reference, headers, raw_body, now)
        delivery = translator.delivery_id(headers) or ""
        return self._hear(
            Callback(provider, reference.account, reference.attempt_id, raw_body, now, delivery), text
        )

    def hear_again(self, entry: Heard) -> str:
        """Take a callback of the journal once more, as if it came now. Gives what it led to.

        Raises: CallbackRefused where it still cannot be read.
        """
        return self._hear(entry.again(self.clock()), source="")

    def _hear(self, callback: Callback, text: str = "", source: str = "callbacks") -> str:
        """`source` empty: it came long ago, so that nothing is learned from when it did."""
        try:
            report = self.exchange.read_callback(callback, text)
        except Malformed:
            self.store.journal.note(callback, "unreadable")
            raise
        has_ended = not isinstance(report.outcome, Pending)  # of which `attempt.closed` tells
        word = self._ended(callback, report, source) if has_ended else self._progress(callback, report)
        log(
            "callback.received",
            logging.DEBUG if has_ended or word in ("pending", "duplicate") else logging.INFO,
            provider=callback.provider,
            word=word,
            attempt=callback.attempt,
            account=callback.account,
        )
        if word == "mismatch":
            raise BadReference("the body tells of another generation")
        return word

    def _ended(self, callback: Callback, report: Report, source: str) -> str:
        failed = isinstance(report.outcome, Failed)
        record = self.store.attempt(callback.attempt) if failed else None
        return self._settle(
            callback.attempt, callback.provider, callback.account, report.outcome,
            record.tries if record else Tries(), report.upstream_id, source, callback=callback,
        )  # fmt: skip

    def _progress(self, callback: Callback, report: Report) -> str:
        """A callback before the final one. It may bring the upstream id, if it says itself whose it is."""
        hear = self.store.journal.hear
        progress = hear(callback, report.upstream_id, report.reference is not None)
        if progress.word == "nameless":
            if account := self.exchange.accounts.get((callback.provider, progress.account)):
                self.watch.submitted(callback.attempt, account, progress.timing, report.upstream_id)
            progress = hear(callback, report.upstream_id, False)
        return progress.word

    def poll(self, attempt: str) -> float | None:
        """Ask the provider about an attempt that is due. No trouble in asking is a failure of the job.

        Gives when it is due again (unix seconds); None where it is over.
        """
        known = self.store.attempt(attempt)
        if known is None or known.state not in ("open", "submitted"):
            return None
        outcome = self.watch.look(known)
        if not isinstance(outcome, Pending):
            seconds = self.watch.duration(known) if isinstance(outcome, Succeeded) else None
            word = self._settle(
                attempt, known.provider, known.account, outcome, known.tries,
                source="polls", duration=seconds,
            )  # fmt: skip
            if word != "pending":
                return None
        return self.store.due_at(known.job_id)

    def refresh(self, job_id: str) -> tuple[str, ...]:
        """Ask the provider for fresh URLs of a job's pictures; what is not kept yet is collected by them.

        Generates nothing. Raises: NotFound, ProviderError, CollectFailed.
        """
        urls = self.endings.custody.refresh(job_id)
        replayed = self.store.dead.replay([job_id], self.clock(), False)  # where it is a dead letter
        self.broker.finish(replayed.finishes)
        return urls

    @property
    def observer(self) -> Observer:
        return self.exchange.observer

    @cached_property
    def endings(self) -> Endings:
        return Endings(self.store, self.broker, self.exchange, self.clock, self.dice)

    def cancel(self, job_id: str) -> bool:
        """Cancel a job that is not over: here, for Celery, and at the provider where it can."""
        cancelled = self.store.cancel(job_id, self.clock())
        if cancelled is None:
            return False
        log("job.cancelled", job=job_id, attempt=_last(cancelled.finish))
        self.broker.submit(cancelled.grants)
        self.endings.stop(job_id, cancelled.finish.provider, cancelled.account, cancelled.upstream_id)
        self.broker.finish([cancelled.finish])
        return True

    def remind(self, horizon_seconds: float = 0.0, anyway: bool = False) -> bool:
        """Grant what is free, and ask for a tick where anything is due, now or so soon, or `anyway`.

        Gives whether it asked.
        """
        now = self.clock()
        self._fill(now)
        asks = self.store.is_due(now + horizon_seconds) or anyway
        if asks:
            self.broker.tick()
        return asks

    def tick(self, horizon_seconds: float = 0.0) -> int:
        """See to everything that is due, and to polls due so soon. Gives how much that was."""
        total, began_at = 0, self.clock()
        self._fill(began_at)
        while True:
            now = self.clock()
            claimed, grants = self.store.claim(now, horizon_seconds)
            self.broker.go_on([*claimed.submits, *grants], claimed.finishes)
            for first in range(0, len(claimed.looks), POLLS_PER_MESSAGE):
                self.broker.poll(claimed.looks[first : first + POLLS_PER_MESSAGE], now + horizon_seconds)
            for host, senders in claimed.hosts:
                for _ in range(senders):
                    self.broker.notify(host)
            total += claimed.count
            if not claimed.count:
                self.observer.ticked(self.clock() - began_at)
                return total

    def _fill(self, now: float) -> None:
        """Whatever kept a free slot from being granted, it is granted now."""
        self.broker.submit(self.store.fill_all(self.exchange.providers, now))

    def _settle(
        self,
        attempt: str,
        provider: str,
        account: str,
        outcome: Outcome,
        tries: Tries,
        upstream_id: str = "",
        source: str = "",
        duration: float | None = None,
        callback: Callback | None = None,
    ) -> str:
        """Apply a final outcome, once; the first wins.

        Gives settled, late, duplicate or unknown; pending where it does not hold any more.
        """
        known = self.exchange.accounts.get((provider, account))
        budget = known.max_attempts if known else MAX_ATTEMPTS
        now = self.clock()
        verdict, follows = settlement(outcome, tries, budget, now, self.dice)
        failed = outcome if isinstance(outcome, Failed) else None
        settled = self.store.settle(
            attempt, verdict, now, **follows,
            listed=self.exchange.running(provider, failed.error) if failed else None,
            nameless=failed is not None and failed.nameless,
            upstream_id=upstream_id, source=source, duration=duration, callback=callback,
        )  # fmt: skip
        if settled.word == "pending":
            return settled.word
        kind, again_at = follows.get("error", {}).get("kind"), follows.get("again_at")
        if settled.word == "settled":
            seconds = now - settled.opened_at if settled.opened_at else None
            self.observer.closed(provider, verdict, kind or "", seconds)
        log(
            "attempt.closed",
            logging.DEBUG if settled.word == "duplicate" else logging.INFO,
            attempt=attempt,
            verdict=verdict,
            word=settled.word,
            by=source or ("callbacks" if callback else "submit"),
            provider=provider,
            account=account,
            error=kind,
            again_in=round(again_at - now, 1) if again_at else None,
        )
        finish, worker = settled.finish, settled.on_behalf
        self.broker.go_on(settled.grants, [finish] if finish and not worker else [])
        if finish and worker:
            self.endings.end_on_behalf(worker, finish, settled.created_at, account, follows["artifact_urls"])
        return settled.word


def _conflict(jobs: Sequence[NewJob]) -> str:
    named = ", ".join(repr(job.custom_id or job.id) for job in jobs[:CONFLICTS_SHOWN])
    more = f" and {len(jobs) - CONFLICTS_SHOWN} more" if len(jobs) > CONFLICTS_SHOWN else ""
    return (
        f"{named}{more} asked for something else before: give what is new a custom_id (or key) of its own, "
        f"or a batch of its own"
    )


def _only(jobs: Sequence[NewJob]) -> str | None:
    return jobs[0].id if len(jobs) == 1 else None


def _last(message: Message) -> str | None:
    return attempt_id(message.job_id, message.attempt) if message.attempt else None
