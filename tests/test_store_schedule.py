"""Everything that may happen to the store, in any order."""

from __future__ import annotations

from collections import Counter
from itertools import chain, product

import pytest
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

from orchestrator.errors import QueueFull
from orchestrator.models import RETENTION, NewJob, State, batch_name
from orchestrator.retry import UNTIL_RESUMED
from orchestrator.store import Store, records
from tests import store_kit
from tests.store_kit import (
    DAY,
    DEADLINE,
    DIES_AT,
    ERROR,
    FAILURE,
    FINISH_PATIENCE,
    GRANT_LEASE,
    LATE_URLS,
    LEASE,
    NOW,
    OTHER,
    PROVIDER,
    URLS,
    account,
    counts,
    names,
    submit,
)

pytestmark = pytest.mark.long

server, raw = store_kit.server, store_kit.raw

PER_SECOND, BURST = 0.25, 2
PER_DAY = 5
ACCOUNTS = {
    each.name: each
    for each in (
        account("a", max_jobs=1, max_moderated=3),
        account("b", max_jobs=2, weight=2, requests_per_second=PER_SECOND, burst=BURST),
        account("o", OTHER, max_jobs=2, max_per_day=PER_DAY),
    )
}
PROVIDERS = (PROVIDER, OTHER)
OWN_BATCHES, TENANTS = ("x", "y", "z"), ["", "t", "u"]
BATCHES = [batch_name(*pair) for pair in product(OWN_BATCHES, TENANTS)]
MOST_JOBS = 30
LIVE = ("granted", "open", "submitted")
# verdict, seconds until it is tried again (None: never), class it counts as, rest in seconds, what it means
BATCH_KEYS = ("batch", "jobs-of", "ended-in", "lanes-of", "spend-of", "filling")
SETTLEMENTS: list[tuple[str, float | None, str, float | None, str]] = [
    ("succeeded", None, "", None, ""),
    ("succeeded", None, "", None, ""),
    ("failed", 0, FAILURE, None, ""),
    ("failed", 40, FAILURE, None, ""),
    ("failed", None, FAILURE, None, ""),
    ("failed", None, "Moderated", None, "moderated"),
    ("lost", 5, "NoOutcome", None, ""),
    ("busy", 0, "", 20, "full"),
    ("busy", 0, "", 20, "full"),
    ("busy", 0, "", 15, "too many"),
    ("refused", 0, "", UNTIL_RESUMED - NOW, ""),
]
# Whom a job waits for: providers of which any will do, or one account.
WANTED = [(PROVIDER,), (PROVIDER,), (OTHER,), PROVIDERS, PROVIDERS, "a", "b", "o"]
PAUSABLE = [*product(["provider"], PROVIDERS), *product(["batch"], BATCHES)]
ACTIONS = (
    "cancel cancel replay replay purge pause resume resume pause_account resume_account resume_account "
    "change change weigh poll_at_a_pace crash cancel_batch prioritise begin_filling end_filling limit limit "
    "forget"
).split()
OPEN = (State.QUEUED, State.SUBMITTED)
FILLING_LEASE = 600.0
UNTAKEN_KEPT = 3600  # seconds
PICK = st.integers(0, 10_000)


class Schedule(RuleBasedStateMachine):
    """Messages come late, twice or never; time leaps; limits change; processes die; people interfere."""

    def __init__(self, url: str, raw: redis.Redis) -> None:
        super().__init__()
        self.url, self.raw = url, raw
        raw.flushall()
        self.store = Store(url)
        self.store.accounts.configure(ACCOUNTS.values())
        self.now = NOW
        self.ids: list[str] = []
        self.wanted: dict[str, tuple[str, ...] | str] = {}  # job → whom it waits for
        self.insists: set[str] = set()  # jobs that are sent even if moderated
        self.contents: dict[str, str] = {}  # opened attempts → what moderation judges
        self.refused: set[tuple[str, str]] = set()  # provider, content
        self.begun: list[tuple[float, str]] = []  # generations of the account that has a daily cap
        self.given_back: set[str] = set()  # attempts that the provider did not take, it said
        self.turns: list[float] = []  # requests of the account that has a pace
        self.weights: dict[str, float] = {}
        self.paused: set[tuple[str, str]] = set()
        self.purged: set[str] = set()
        self.over: set[str] = set()  # jobs that Celery has been told the end of
        self.leases: dict[tuple[str, str], float] = {}  # who fills a batch → how long that is believed
        self.limited, self.is_behind = True, False

    @precondition(lambda self: len(self.ids) < MOST_JOBS)
    @rule(
        how_many=st.integers(1, 6),
        wanted=st.sampled_from(WANTED),
        batch=st.sampled_from(["", *OWN_BATCHES]),
        tenant=st.sampled_from(TENANTS),
        priority=st.sampled_from([0, 9]),
        wait=st.sampled_from([0, 0, 0, 50]),
        expires=st.sampled_from([None, None, None, 30, 900]),
        insists=st.booleans(),
        most_waiting=st.sampled_from([0, 0, 6]),
    )
    def enqueue(self, how_many, wanted, batch, tenant, priority, wait, expires, insists, most_waiting):
        ids = [f"{len(self.ids) + number}" for number in range(how_many)]
        pinned = "" if isinstance(wanted, tuple) else wanted
        providers = wanted if isinstance(wanted, tuple) else (ACCOUNTS[wanted].provider,)
        jobs = [
            NewJob(
                each, providers[0], {"for": providers[0]}, batch=batch_name(batch, tenant), tenant=tenant,
                priority=priority, account=pinned, start_at=self.now + wait, even_if_moderated=insists,
                expires_at=self.now + expires if expires else 0.0,
                choices={name: {"for": name} for name in providers} if len(providers) > 1 else {},
            )
            for each in ids
        ]  # fmt: skip
        waiting = sum(job.state is State.QUEUED for job in self.store.jobs(self.ids))
        if most_waiting and waiting + how_many > most_waiting:
            with pytest.raises(QueueFull):
                self.store.enqueue(jobs, self.now, most_waiting)
            return
        self.ids += ids
        self.wanted |= dict.fromkeys(ids, wanted)
        self.insists |= set(ids) if insists else set()
        added, grants = self.store.enqueue(jobs, self.now, most_waiting)
        assert added == how_many
        self.told(grants)

    # --- what workers and providers do ---

    @precondition(lambda self: self.ids)
    @rule(pick=PICK)
    def take_messages(self, pick):
        """Of all messages that were ever sent, one (however late) or every one is taken."""
        attempts = self.attempts()
        for attempt in attempts if pick % 2 else attempts[pick % len(attempts) :][:1] if attempts else ():
            self.open_it(attempt)

    @precondition(lambda self: self.contents)
    @rule(pick=PICK)
    def submitted(self, pick):
        for attempt in list(self.contents)[-(pick % 5) - 1 :]:
            submit(self.store, attempt, f"task-{attempt}", self.now + 60, now=self.now)

    @precondition(lambda self: self.contents)
    @rule(
        told=st.lists(st.tuples(PICK, st.sampled_from(SETTLEMENTS)), min_size=1, max_size=6),
        stale=st.integers(0, 6).map(lambda dice: dice == 0),
        listed=st.none() | st.lists(PICK, max_size=3),
    )
    def settle(self, told, stale, listed):
        for pick, settlement in told:
            opened = list(self.contents)
            live = {each for each, record in self.records().items() if record.state != "closed"}
            attempts = [each for each in opened if stale or each in live]
            if attempts:
                attempt = attempts[pick % len(attempts)]
                running = None if listed is None else {opened[each % len(opened)] for each in listed}
                self.settle_it(attempt, settlement, running and running - {attempt})

    @precondition(lambda self: self.contents)
    @rule(pick=PICK)
    def succeed_late(self, pick):
        verdicts = {each: self.raw.hget(f"orc:attempt:{each}", "verdict") for each in self.contents}
        if given_up := [each for each, verdict in verdicts.items() if verdict not in (None, "succeeded")]:
            attempt = given_up[pick % len(given_up)]
            self.told(self.store.settle(attempt, "succeeded", self.now, artifact_urls=LATE_URLS).grants)

    @precondition(lambda self: self.contents)
    @rule(
        picks=st.lists(PICK, min_size=1, max_size=6), ends=st.sampled_from(["now", "now", "later", "never"])
    )
    def finish(self, picks, ends):
        for pick in picks:
            jobs = self.store.jobs(self.ids)
            if unfinished := [job.id for job in jobs if job.state in ("collecting", "cancelled")]:
                self.finish_it(unfinished[pick % len(unfinished)], ends, kept=pick % 3 > 0)

    @rule(
        seconds=st.sampled_from([0.5, 2, 5, 20, 60, 800, 7 * 3600, GRANT_LEASE]),
        tick=st.sampled_from(["", "now", "now", "horizon"]),
    )
    def pass_time(self, seconds, tick):
        self.now += seconds
        self.is_behind = not tick
        if tick:
            self.tick(3.0 if tick == "horizon" else 0.0)

    def tick(self, horizon_seconds=0.0):
        """What the ticker does; its messages are lost. Gives what it claimed."""
        granted = [each for provider in PROVIDERS for each in self.told(self.store.fill(provider, self.now))]
        claimed, grants = self.store.claim(self.now, horizon_seconds)
        return claimed, granted + self.told(grants)

    # --- what people do ---

    @precondition(lambda self: self.ids)
    @rule(action=st.sampled_from(ACTIONS), pick=PICK, other=PICK)
    def interfere(self, action, pick, other):
        getattr(self, action)(pick, other)

    def poll_at_a_pace(self, *_):
        if not self.store.accounts.take_turn(PROVIDER, "b", self.now):
            self.turns.append(self.now)
            self.is_paced()

    def cancel(self, pick, _):
        if cancelled := self.store.cancel(self.ids[pick % len(self.ids)], self.now):
            self.told(cancelled.grants)

    def replay(self, pick, even):
        if not (dead := [job_id for job_id, _ in self.store.dead.ids(self.now)]):
            return
        ids = dead[pick % len(dead) :]
        told = self.store.dead.replay([*ids, *ids, self.ids[pick % len(self.ids)]], self.now, bool(even % 2))
        replayed = set(dead) - {job_id for job_id, _ in self.store.dead.ids(self.now)}
        assert told.count == len(replayed)
        assert set(ids) <= replayed
        self.insists |= replayed if even % 2 else set()
        self.told(told.grants)

    def purge(self, pick, _):
        if dead := [job_id for job_id, _ in self.store.dead.ids(self.now)]:
            assert self.store.dead.purge([dead[pick % len(dead)]]) == 1
            self.purged.add(dead[pick % len(dead)])

    def pause(self, pick, _):
        kind_and_name = PAUSABLE[pick % len(PAUSABLE)]
        self.store.lanes.pause(*kind_and_name, self.now)
        self.paused.add(kind_and_name)

    def resume(self, pick, _):
        if self.paused:
            kind_and_name = sorted(self.paused)[pick % len(self.paused)]
            self.paused.remove(kind_and_name)
            self.told(self.store.lanes.resume(*kind_and_name, self.now))

    def pause_account(self, pick, _):
        each = list(ACCOUNTS.values())[pick % len(ACCOUNTS)]
        self.store.accounts.rest(each.provider, each.name, self.now, UNTIL_RESUMED, "Paused", "by a person")

    def resume_account(self, pick, _):
        each = list(ACCOUNTS.values())[pick % len(ACCOUNTS)]
        self.told(self.store.accounts.resume(each.provider, each.name, self.now))

    def change(self, pick, slots):
        each = list(ACCOUNTS.values())[pick % len(ACCOUNTS)]
        self.store.accounts.change(each.provider, each.name, {"max_jobs": slots % 5 or None})
        self.told(self.store.fill(each.provider, self.now))

    def cancel_batch(self, pick, other):
        """Whole, or interrupted at some moment."""
        batch, place = BATCHES[pick % len(BATCHES)], 0
        for step_number in range(other % 40):
            step = self.store.batches.cancel(batch, self.now, place, 2)
            place += step.seen
            self.told(step.grants)
            if step_number == other % 40 - 1:
                return
            self.store.revoked(step.quiet)
            self.over |= set(step.quiet)
            if not step.seen:
                left = [
                    job.id for job in self.store.jobs(self.ids) if job.batch == batch and job.state in OPEN
                ]
                assert not left
                if self.store.lanes.why_paused(batch) == "cancel":
                    self.paused.discard(("batch", batch))
                self.leases = {each: until for each, until in self.leases.items() if each[0] != batch}
                return self.told(self.store.batches.end_cancel(batch, self.now))

    def prioritise(self, pick, priority):
        open_ids = {job.id for job in self.store.jobs(self.ids) if job.state in OPEN}
        ids = [job_id for part in self.store.batches.ids(BATCHES[pick % len(BATCHES)]) for job_id in part]
        if ids:
            assert self.store.batches.prioritise(ids, priority % 10) == len(open_ids & set(ids))

    def begin_filling(self, pick, other):
        batch, producer = BATCHES[pick % len(BATCHES)], "pq"[other % 2]
        self.store.batches.begin_filling(batch, producer, self.now)
        self.leases[batch, producer] = self.now + FILLING_LEASE

    def end_filling(self, pick, _):
        if self.leases:
            batch, producer = sorted(self.leases)[pick % len(self.leases)]
            del self.leases[batch, producer]
            self.store.batches.end_filling(batch, producer, self.now)

    def limit(self, pick, other):
        most = [None, 1, 2][other % 3]
        self.store.batches.limit(BATCHES[pick % len(BATCHES)], {"max_failures": most}, self.now)

    def weigh(self, pick, other):
        owner, weight = ["", "x", "y", "t/", "u/"][pick % 5], [0.5, 1, 3][other % 3]
        self.store.lanes.weigh(owner, weight, self.now)
        self.weights[owner] = weight

    def forget(self, *_):
        """An hour passes for the attempts that nobody took."""
        for attempt in self.attempts():
            if self.raw.ttl(f"orc:attempt:{attempt}") in range(UNTAKEN_KEPT + 1):
                assert attempt in self.given_back
                self.raw.delete(f"orc:attempt:{attempt}")

    def crash(self, *_):
        """What is in Redis is all there is. A process that starts configures the accounts."""
        self.store.close()
        self.store = Store(self.url)
        self.store.accounts.configure(ACCOUNTS.values())

    # --- what must hold ---

    def told(self, grants):
        """What was granted in the step that has just been made may have been granted."""
        given = []
        for message in grants:
            attempt, job = f"{message.job_id}.{message.attempt}", self.store.job(message.job_id)
            record = self.store.attempt(attempt)
            assert (record.state, record.granted_at) == ("granted", self.now)
            assert message.provider == record.provider == job.provider == message.parameters["for"]
            assert record.provider == ACCOUNTS[record.account].provider
            wanted = self.wanted[job.id]
            assert record.provider in wanted if isinstance(wanted, tuple) else record.account == wanted
            assert not self.paused & {("provider", record.provider), ("batch", job.batch)}
            assert job.expires_at is None or job.expires_at > self.now
            given.append(record.account)
        self.turns += [self.now] * given.count("b")
        self.is_paced()
        for row in self.rows():
            if row["name"] in given:
                assert row["used"] <= row["slots"]
                assert float(row.get("rest_until", 0)) <= self.now
        if self.limited and "o" in given:
            holders = self.store.accounts.holders(OTHER, "o")
            granted = [each for each in holders if self.store.attempt(each).state == "granted"]
            assert self.begun_today() + len(granted) <= PER_DAY
        return names(grants)

    def is_paced(self):
        turns = self.turns[-40:] if self.limited else []
        for place, moment in enumerate(turns):
            assert len(turns) - place <= BURST + PER_SECOND * (turns[-1] - moment) + 1e-6

    def begun_today(self):
        recent = [attempt for moment, attempt in self.begun if moment > self.now - DAY]
        return sum(attempt not in self.given_back for attempt in recent)

    @invariant()
    def books_balance(self):
        jobs = self.store.jobs(self.ids)
        attempts = self.records()
        due = dict(self.raw.zrange("orc:due", 0, -1, withscores=True))
        leases = {
            name: self.raw.zrange(f"orc:slots:{each.provider}/{name}", 0, -1, withscores=True)
            for name, each in ACCOUNTS.items()
        }
        lanes = {
            key.removeprefix("orc:lane:"): self.raw.zrange(key, 0, -1) for key in self.raw.keys("orc:lane:*")
        }
        lane_of = {job_id: lane for lane, members in lanes.items() for job_id in members}
        held = {attempt: name for name, members in leases.items() for attempt, _ in members}
        assert len(held) == sum(map(len, leases.values()))
        assert len(lane_of) == sum(map(len, lanes.values()))
        for attempt, name in held.items():
            assert attempts[attempt].state in LIVE
            assert attempts[attempt].account == name
        for job in jobs:
            ids = [f"{job.id}.{number}" for number in range(1, job.attempts + 1)]
            tries = [attempts[attempt] for attempt in ids if attempt in attempts]
            live = [attempt for attempt in tries if attempt.state in LIVE]
            assert live == tries[-1:] or not live
            waits, is_due = job.id in lane_of, f"job:{job.id}" in due
            if live:
                assert job.state == ("queued" if live[0].state == "granted" else "submitted")
                assert (job.provider, job.account) == (live[0].provider, live[0].account)
                assert live[0].id in held or self.lease_is_over(live[0])
                assert is_due and not waits
            elif waits:
                assert (job.state, lane_of[job.id]) == (State.QUEUED, job.lane)
                assert due.get(f"job:{job.id}") == job.expires_at
            elif job.state is State.QUEUED:
                assert is_due  # it may begin later
            else:
                assert job.state is not State.SUBMITTED
                finished = job.state.ended and (job.state is not State.CANCELLED or job.id in self.over)
                assert is_due != finished
            if job.artifact_urls:
                assert ACCOUNTS[job.account].provider == job.provider
        self.pauses_have_a_reason()
        self.indexes_agree(lanes)
        self.lanes_are_in_order(lanes, jobs)
        self.batches_are_over_or_not(jobs, due)
        self.counts_add_up(jobs)
        self.letters_are_kept(jobs)
        if not self.is_behind and not any(moment <= self.now for moment in due.values()):
            self.slots_are_busy(lanes)

    def pauses_have_a_reason(self):
        """A batch is paused by a person, its failures or a cancel, until it is resumed or over."""
        paused = {tuple(each.split(":", 1)) for each in self.store.lanes.paused()}
        for kind, name in self.paused - paused:
            assert kind == "batch" and self.raw.hexists(f"orc:batch:{name}", "over")
        for kind, name in paused - self.paused:
            assert kind == "batch" and self.store.lanes.why_paused(name) in ("failures", "cancel")
        self.paused = paused

    def lanes_are_in_order(self, lanes, jobs):
        priorities = {job.id: job.priority for job in jobs}
        for members in lanes.values():
            assert members == sorted(members, key=lambda job_id: (-priorities[job_id], int(job_id)))

    def batches_are_over_or_not(self, jobs, due):
        """Over: nobody fills it, all jobs have ended, and nothing of it is kept for ever.

        Whoever fills it and is not heard of is seen to when his lease ends.
        """
        for batch in {job.batch for job in jobs} - {""}:
            all_ended = all(job.state.ended for job in jobs if job.batch == batch)
            fills = max((until for (name, _), until in self.leases.items() if name == batch), default=0)
            over, filling = self.raw.hmget(f"orc:batch:{batch}", "over", "filling")
            assert all_ended or not over
            assert bool(filling) or fills <= self.now
            assert not filling or due[f"batch:{batch}"] == float(filling)
            if all_ended and not filling:
                assert over
            endless = [name for name in BATCH_KEYS if self.raw.ttl(f"orc:{name}:{batch}") == -1]
            assert bool(endless) != (over is not None and not filling), (batch, endless)

    def indexes_agree(self, lanes):
        indexed: dict[str, set[str]] = {}
        for lane, members in lanes.items():
            target, _, owner = lane.partition("|")
            assert members
            if ("batch", owner) not in self.paused:
                for pool in target.split("+"):
                    indexed.setdefault(pool, set()).add(lane)
        pools = {key.removeprefix("orc:lanes:") for key in self.raw.keys("orc:lanes:*")}
        found = {pool: self.store.lanes.waiting_for(pool) for pool in pools}
        assert {pool: {lane.name for lane in those} for pool, those in found.items()} == indexed
        for pool in found.values():
            assert all(lane.waiting == len(lanes[lane.name]) for lane in pool)
            shares = [(lane.owner.partition("/")[0] + "/", lane.share) for lane in pool if "/" in lane.owner]
            for tenant in dict(shares):
                together = sum(share for each, share in shares if each == tenant)
                assert together == pytest.approx(self.weights.get(tenant, 1))

    def slots_are_busy(self, lanes):
        pools = {key.removeprefix("orc:lanes:") for key in self.raw.keys("orc:lanes:*")}
        for row in self.rows():
            provider, name = row["provider"], row["name"]
            if ("provider", provider) in self.paused or float(row.get("rest_until", 0)) > self.now:
                continue
            if row["used"] >= row["slots"] or row["turn_in"] or self.day_is_over(row):
                continue
            assert not pools & {provider, f"{provider}/{name}"}, name

    def counts_add_up(self, jobs):
        by_state = Counter(f"{job.provider}/{job.state}" for job in jobs)
        assert {word: number for word, number in self.store.counts().items() if number} == by_state
        for batch in BATCHES:
            of_batch = Counter(job.state.value for job in jobs if job.batch == batch)
            assert counts(self.store, batch) == of_batch
            assert self.store.batch(batch).get("total", 0) == of_batch.total()

    def letters_are_kept(self, jobs):
        failed = {job.id: job.ended_at for job in jobs if job.state is State.FAILED}
        letters = set(self.raw.zrange("orc:dead", 0, -1))
        self.purged &= failed.keys()  # a late success may have lifted it, and it may fail once more
        assert letters <= failed.keys() - self.purged
        recent = {job_id for job_id, moment in failed.items() if moment > self.now - RETENTION.failed}
        assert recent - self.purged <= letters

    def teardown(self):
        """Every message is lost and every worker gone: what is due must bring every job to its end."""
        for kind_and_name in list(self.paused):
            self.paused.remove(kind_and_name)
            self.told(self.store.lanes.resume(*kind_and_name, self.now))
        for name, each in ACCOUNTS.items():
            unlimited = {"requests_per_second": 0, "max_per_day": 0, "max_moderated": 0}
            self.store.accounts.change(each.provider, name, unlimited)
        self.limited = False
        for name, each in ACCOUNTS.items():
            self.store.accounts.resume(each.provider, name, self.now)
        for _ in range(60):
            if all(job.state.ended for job in self.store.jobs(self.ids)):
                break
            self.now += 700
            self.drain()
        self.now += FINISH_PATIENCE
        self.drain()
        assert all(job.state.ended for job in self.store.jobs(self.ids))
        assert all(
            self.raw.hexists(f"orc:batch:{job.batch}", "over")
            for job in self.store.jobs(self.ids)
            if job.batch
        )
        assert [row["used"] for row in self.rows()] == [0, 0, 0]
        assert not [member for member in self.raw.zrange("orc:due", 0, -1) if member.startswith("job:")]
        assert not list(
            chain(*(self.raw.keys(f"orc:{each}:*") for each in ("lane", "lanes", "tenants", "turns")))
        )
        self.books_balance()
        self.store.close()

    # --- helpers ---

    def attempts(self):
        return [
            f"{job.id}.{number}" for job in self.store.jobs(self.ids) for number in range(1, job.attempts + 1)
        ]

    def hashes(self, keys):
        with self.raw.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.hgetall(key)
            return pipeline.execute()

    def records(self):
        ids = self.attempts()
        rows = self.hashes(f"orc:attempt:{attempt}" for attempt in ids)
        return {each: records.attempt(each, row) for each, row in zip(ids, rows, strict=True) if row}

    def rows(self):
        return list(chain(*(self.store.accounts.rows(provider, self.now) for provider in PROVIDERS)))

    def open_it(self, attempt):
        """Whether it is now to be submitted."""
        job_id = attempt.partition(".")[0]
        job, record = self.store.job(job_id), self.store.attempt(attempt)
        content = f"content-{int(job_id) % 4}"
        opened = self.store.open(attempt, self.now, content)
        if opened is None:
            return False
        assert record.state == "granted"
        assert attempt not in self.contents
        assert job.expires_at is None or job.expires_at > self.now
        assert opened.refused == ((record.provider, content) in self.refused and job_id not in self.insists)
        if opened.refused:
            self.settle_it(attempt, ("failed", None, "Moderated", None, "moderated"), None)
            return False
        self.contents[attempt] = content
        if record.account == "o":
            self.begun.append((self.now, attempt))
            assert not self.limited or self.begun_today() <= PER_DAY
        return True

    def settle_it(self, attempt, settlement, running):
        verdict, again, counted, rest_seconds, means = settlement
        settled = self.store.settle(
            attempt,
            verdict,
            self.now,
            artifact_urls=URLS if verdict == "succeeded" else (),
            error=None if verdict == "succeeded" else ERROR,
            again_at=None if again is None else self.now + again,
            counts=counted,
            rest_until=None if rest_seconds is None else self.now + rest_seconds,
            rest_reason=means or "OutOfCredit",
            means=means,
            listed=None if running is None else {each: f"task-{each}" for each in running},
        )
        if self.raw.hget(f"orc:attempt:{attempt}", "fate") == "refunded":
            self.given_back.add(attempt)
        if settled.word == "settled" and means == "moderated" and attempt in self.contents:
            self.refused.add((self.store.attempt(attempt).provider, self.contents[attempt]))
        self.told(settled.grants)
        return settled

    def finish_it(self, job_id, ends, kept=True):
        if not self.store.begin_finish(job_id, self.now):
            return
        job = self.store.job(job_id)
        if ends == "later" and job.state is State.COLLECTING:
            self.store.collecting.later(job_id, self.now + 9, "the disk is full", DIES_AT)
        elif ends == "now":
            state = State.SUCCEEDED if job.artifact_urls and kept else State.FAILED
            if self.store.end(job_id, self.now, state, None, ""):
                assert self.store.job(job_id).state is state
            elif job.state is State.CANCELLED:
                self.over.add(job_id)

    def day_is_over(self, row):
        return 0 < float(row["max_per_day"]) <= row["today"]

    def lease_is_over(self, attempt):
        if attempt.state != "granted":
            return self.now >= attempt.deadline_at + LEASE - DEADLINE
        return self.now >= attempt.granted_at + GRANT_LEASE

    def drain(self):
        claimed, granted = self.tick()
        finishes = [message.job_id for message in claimed.finishes]
        granted += names(claimed.submits)
        live = [attempt for attempt, _ in claimed.looks]
        while granted or live:
            live += [attempt for attempt in granted if self.open_it(attempt)]
            granted = []
            if live:
                settled = self.settle_it(live.pop(), SETTLEMENTS[0], None)
                granted = names(settled.grants)
                finishes += [settled.finish.job_id] if settled.finish else []
        for job_id in finishes:
            self.finish_it(job_id, "now")


def test_no_schedule_overfills_an_account_forgets_a_job_or_leaves_a_slot_idle(server, raw):
    run_state_machine_as_test(
        lambda: Schedule(server.url, raw),
        settings=settings(max_examples=40, stateful_step_count=60, deadline=None, derandomize=True),
    )
