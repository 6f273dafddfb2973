"""Everything that may happen to the store, in any order."""

from __future__ import annotations

import itertools
from collections import Counter

import redis
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from orchestrator.models import State
from orchestrator.retry import UNTIL_RESUMED
from orchestrator.store import Store
from tests import store_kit
from tests.store_kit import (
    DEADLINE,
    ERROR,
    FAILURE,
    FINISH_PATIENCE,
    GRANT_LEASE,
    LATE_URLS,
    LEASE,
    NOW,
    PROVIDER,
    URLS,
    counts,
    have,
    names,
    new,
    submit,
    used,
)

server, raw, store = store_kit.server, store_kit.raw, store_kit.store


# --- any schedule --------------------------------------------------------------------------------------

SLOTS = {"a": 1, "b": 2}
MOST_JOBS = 30
LIVE = ("granted", "open", "submitted")
# verdict, seconds until it is tried again (None: given up), counts, rest in seconds, its reason
SETTLEMENTS: list[tuple[str, float | None, bool, float | None, str]] = [
    ("succeeded", None, False, None, ""),
    ("failed", 0, True, None, ""),
    ("failed", 40, True, None, ""),
    ("failed", None, True, None, ""),
    ("lost", 5, True, None, ""),
    ("busy", 0, False, 20, "full"),
    ("busy", 0, False, 15, "TooMany"),
    ("refused", 0, False, UNTIL_RESUMED - NOW, "OutOfCredit"),
]
PICK = st.integers(0, 10_000)


class Schedule(RuleBasedStateMachine):
    """Everything that may happen, in any order: messages come late, twice or never, time leaps."""

    def __init__(self, store: Store, raw: redis.Redis) -> None:
        super().__init__()
        self.store, self.raw = store, raw
        raw.flushall()
        have(store, **SLOTS)
        self.now = NOW
        self.ids: list[str] = []
        self.opened: list[str] = []  # attempts that were ever opened
        self.over: set[str] = set()  # jobs that Celery has been told the end of

    @property
    def attempts(self) -> list[str]:
        return [
            f"{job.id}.{number}" for job in self.store.jobs(self.ids) for number in range(1, job.attempts + 1)
        ]

    @precondition(lambda self: len(self.ids) < MOST_JOBS)
    @rule(
        how_many=st.integers(1, 4),
        batch=st.sampled_from(["", "x", "y"]),
        priority=st.sampled_from([0, 9]),
        account=st.sampled_from(["", "", "a", "b"]),
        wait=st.sampled_from([0, 0, 0, 50]),
    )
    def enqueue(self, how_many, batch, priority, account, wait):
        ids = [f"{len(self.ids) + number}" for number in range(how_many)]
        fields = {"batch": batch, "priority": priority, "account": account, "start_at": self.now + wait}
        assert self.store.enqueue(new(*ids, **fields), self.now)[0] == how_many
        self.ids += ids

    @precondition(lambda self: self.ids)
    @rule(pick=PICK)
    def open(self, pick):
        if attempts := self.attempts:
            attempt = attempts[pick % len(attempts)]
            if self.store.open(attempt, self.now):
                assert attempt not in self.opened
                self.opened.append(attempt)

    @precondition(lambda self: self.ids)
    @rule()
    def open_all(self):
        for attempt in self.attempts:
            if self.store.open(attempt, self.now):
                self.opened.append(attempt)

    @precondition(lambda self: self.opened)
    @rule(pick=PICK)
    def submitted(self, pick):
        submit(self.store, self.opened[pick % len(self.opened)], "task-7", self.now + 60, now=self.now)

    @precondition(lambda self: self.opened)
    @rule(pick=PICK, settlement=st.sampled_from(SETTLEMENTS), stale=st.booleans())
    def settle(self, pick, settlement, stale):
        attempts = [each for each in self.opened if stale or self.store.attempt(each).state != "closed"]
        if not attempts:
            return
        verdict, again, counted, rest_seconds, reason = settlement
        self.store.settle(
            attempts[pick % len(attempts)],
            verdict,
            self.now,
            artifact_urls=URLS if verdict == "succeeded" else (),
            error=None if verdict == "succeeded" else ERROR,
            again_at=None if again is None else self.now + again,
            counts=FAILURE if counted else "",
            rest_until=None if rest_seconds is None else self.now + rest_seconds,
            rest_reason=reason,
        )

    @precondition(lambda self: self.opened)
    @rule(pick=PICK)
    def succeed_late(self, pick):
        verdicts = {each: self.raw.hget(f"orc:attempt:{each}", "verdict") for each in self.opened}
        if given_up := [each for each, verdict in verdicts.items() if verdict not in (None, "succeeded")]:
            self.store.settle(given_up[pick % len(given_up)], "succeeded", self.now, artifact_urls=LATE_URLS)

    @rule(seconds=st.sampled_from([0.5, 5, 20, 60, 800, GRANT_LEASE]), claims=st.booleans())
    def pass_time(self, seconds, claims):
        self.now += seconds
        if claims:
            self.store.claim(self.now)

    @precondition(lambda self: self.ids)
    @rule(pick=PICK)
    def cancel(self, pick):
        self.store.cancel(self.ids[pick % len(self.ids)], self.now)

    @precondition(lambda self: self.ids)
    @rule(pick=PICK, ends=st.sampled_from(["now", "later", "never"]))
    def finish(self, pick, ends):
        unfinished = [job.id for job in self.store.jobs(self.ids) if job.state in ("collecting", "cancelled")]
        if unfinished:
            self._finish(unfinished[pick % len(unfinished)], ends)

    @rule(account=st.sampled_from(sorted(SLOTS)))
    def resume(self, account):
        self.store.accounts.resume(PROVIDER, account, self.now)

    @invariant()
    def books_balance(self):
        jobs = self.store.jobs(self.ids)
        attempts = {each: self.store.attempt(each) for each in self.attempts}
        due = dict(self.raw.zrange("orc:due", 0, -1, withscores=True))
        leases = {name: self.raw.zrange(f"orc:slots:{PROVIDER}/{name}", 0, -1) for name in SLOTS}
        lanes = [self.raw.zrange(key, 0, -1) for key in self.raw.keys("orc:lane:*")]
        waiting = list(itertools.chain(*lanes))

        held = list(itertools.chain(*leases.values()))
        for name, slots in SLOTS.items():
            assert len(leases[name]) <= slots
            assert all(attempts[attempt].account == name for attempt in leases[name])
        assert all(attempts[attempt].state in LIVE for attempt in held)
        assert len(waiting) == len(set(waiting))
        for job in jobs:
            tries = [attempts[f"{job.id}.{number}"] for number in range(1, job.attempts + 1)]
            live = [attempt for attempt in tries if attempt.state in LIVE]
            assert live == tries[-1:] or not live
            waits, is_due = job.id in waiting, f"job:{job.id}" in due
            if live:
                assert job.state == ("queued" if live[0].state == "granted" else "submitted")
                assert live[0].id in held or self._lease_is_over(live[0])
                assert is_due and not waits
            elif job.state is State.QUEUED:
                assert waits != is_due  # its lane, or a backoff
            else:
                assert job.state is not State.SUBMITTED and not waits
                finished = job.state.ended and (job.state is not State.CANCELLED or job.id in self.over)
                assert is_due or finished
        self._slots_are_busy(due, leases)
        self._counts_add_up(jobs)

    def teardown(self):
        """Every message is lost and every worker gone: what is due must bring every job to its end."""
        for name in SLOTS:
            self.store.accounts.resume(PROVIDER, name, self.now)
        for _ in range(50):
            if all(job.state.ended for job in self.store.jobs(self.ids)):
                break
            self.now += 700
            self._drain()
        self.now += FINISH_PATIENCE
        self._drain()
        assert all(job.state.ended for job in self.store.jobs(self.ids))
        assert used(self.store) == dict.fromkeys(SLOTS, 0)
        assert not [member for member in self.raw.zrange("orc:due", 0, -1) if member.startswith("job:")]
        assert not self.raw.keys("orc:lane:*")
        assert not self.raw.keys("orc:lanes:*")
        self.books_balance()

    def _lease_is_over(self, attempt):
        if attempt.state != "granted":
            return self.now >= attempt.deadline_at + LEASE - DEADLINE
        return self.now >= float(self.raw.hget(f"orc:attempt:{attempt.id}", "granted")) + GRANT_LEASE

    def _slots_are_busy(self, due, leases):
        def is_free(name: str) -> bool:
            resting = float(self.raw.hget(f"orc:account:{PROVIDER}/{name}", "rest_until") or 0)
            unclaimed = (
                due.get(f"account:{PROVIDER}/{name}", self.now + 1) <= self.now
            )  # its rest is just over
            return len(leases[name]) < SLOTS[name] and resting <= self.now and not unclaimed

        free = [name for name in SLOTS if is_free(name)]
        targets = [PROVIDER] * bool(free) + [f"{PROVIDER}/{name}" for name in free]
        assert not [key for target in targets for key in self.raw.keys(f"orc:lane:{target}|*")]

    def _counts_add_up(self, jobs):
        by_state = Counter(f"{PROVIDER}/{job.state}" for job in jobs)
        assert {word: number for word, number in self.store.counts().items() if number} == by_state
        for batch in ("x", "y"):
            of_batch = Counter(job.state.value for job in jobs if job.batch == batch)
            assert counts(self.store, batch) == of_batch
            assert self.store.batch(batch).get("total", 0) == of_batch.total()

    def _finish(self, job_id, ends):
        if not self.store.begin_finish(job_id, self.now):
            return
        job = self.store.job(job_id)
        if ends == "later" and job.state is State.COLLECTING:
            self.store.finish_later(job_id, self.now + 9, "the disk is full")
        elif ends == "now":
            state = State.SUCCEEDED if job.artifact_urls else State.FAILED
            assert self.store.end(job_id, self.now, state, None, "") == (job.state is State.COLLECTING)
            self.over.add(job_id)

    def _drain(self):
        claimed, grants = self.store.claim(self.now)
        finishes = [message.job_id for message in claimed.finishes]
        granted = [*names(claimed.submits), *names(grants)]
        live = [attempt for attempt, _ in claimed.looks]
        while granted or live:
            live += [attempt for attempt in granted if self.store.open(attempt, self.now)]
            granted = []
            if live:
                settled = self.store.settle(live.pop(), "succeeded", self.now, artifact_urls=URLS)
                granted = names(settled.grants)
                finishes += [settled.finish.job_id] if settled.finish else []
        for job_id in finishes:
            self._finish(job_id, "now")


def test_no_schedule_overfills_an_account_forgets_a_job_or_leaves_a_slot_idle(store, raw):
    run_state_machine_as_test(
        lambda: Schedule(store, raw),
        settings=settings(max_examples=80, stateful_step_count=50, deadline=None, derandomize=True),
    )
