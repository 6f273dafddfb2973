"""The steps of the store, each one script, on a real Valkey. `now` is an argument, so time is the test's."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

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

from orchestrator.errors import JobNotFound, StoreUnavailable
from orchestrator.local.processes import free_port
from orchestrator.local.valkey import EmbeddedServer
from orchestrator.models import CLAIM_PUSH_SECONDS, Account, Message, NewJob, Secret, State, Tries
from orchestrator.retry import UNTIL_RESUMED
from orchestrator.store import Store
from orchestrator.store.jobs import CLAIM_LIMIT, SAMPLE_SIZE
from orchestrator.store.link import WAIT_SLICE_SECONDS

PROVIDER = "useapi_frames"
TIMING = f"{PROVIDER}/frames"
NOW = 1_700_000_000.25  # binary fractions only, so that sums are exact
DEADLINE, TIMEOUT = 100.0, 30.0  # of every account here
DAY = 86_400.0
LEASE = DEADLINE + 600
GRANT_LEASE = DAY  # of a grant that is not open yet
FINISH_PATIENCE = 60
REPLY_GRACE = 30
URLS = ("https://pictures.example/1.png",)
LATE_URLS = ("https://pictures.example/late.png",)
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
def store(server: EmbeddedServer, raw: redis.Redis) -> Iterator[Store]:
    """An empty store with one account, `a`, of one slot."""
    raw.flushall()
    made = Store(server.url)
    have(made, a=1)
    yield made
    made.close()


def have(store: Store, queue_ahead: int = 0, **max_jobs: int) -> list[Account]:
    """Makes these the accounts: name → slots."""
    accounts = [
        Account(
            provider=PROVIDER, name=name, token=Secret("x"), max_jobs=slots, base_url="https://x", fields={},
            deadline_seconds=DEADLINE, poll_seconds=10.0, min_poll_seconds=1.0, net_seconds=60.0,
            queue_ahead=queue_ahead, timeout_seconds=TIMEOUT, max_attempts=5,
        )
        for name, slots in max_jobs.items()
    ]  # fmt: skip
    store.accounts.configure(accounts)
    return accounts


def new(*ids: str, **fields: Any) -> list[NewJob]:
    return [NewJob(each, PROVIDER, {"text_prompt": each}, **fields) for each in ids]


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


def used(store: Store) -> dict[str, int]:
    """Slots in use by account."""
    return {row["name"]: row["used"] for row in store.accounts.rows(PROVIDER, NOW)}


def counts(store: Store, batch: str) -> dict[str, float]:
    """A batch's counts by state, those of none left out."""
    return {word: number for word, number in store.batch(batch).items() if word in [*State] and number}


# --- enqueue: grants, lanes, order ---------------------------------------------------------------------


def test_enqueue_grants_every_slot_and_lets_the_rest_wait(store):
    have(store, a=2, b=1)
    added, grants = store.enqueue(new(*"12345"), NOW)
    assert added == 5
    assert names(grants) == ["1.1", "2.1", "3.1"]
    assert used(store) == {"a": 2, "b": 1}
    waiting = store.job("4")
    assert (waiting.state, waiting.attempts, waiting.due_at) == (State.QUEUED, 0, None)
    assert store.counts() == {f"{PROVIDER}/queued": 5}


def test_grant_carries_what_its_celery_message_is_made_of(store):
    options = {"root_id": "r", "chain": [{"task": "x"}]}
    _, grants = store.enqueue(new("j", options=options), NOW)
    assert grants == (Message("j", PROVIDER, {"text_prompt": "j"}, options, 1),)
    assert store.settle("j.1", "succeeded", NOW, artifact_urls=URLS).finish == grants[0]


def test_least_loaded_account_is_granted_first(store):
    have(store, a=4, b=2)
    store.enqueue(new(*"123"), NOW)
    assert used(store) == {"a": 2, "b": 1}
    store.enqueue(new("4"), NOW)  # both are half full
    store.enqueue(new("5"), NOW)
    assert used(store) == {"a": 3, "b": 2} or used(store) == {"a": 4, "b": 1}
    have(store, a=4, b=9)
    store.enqueue(new("6"), NOW)
    assert store.job("6").account == "b"


def test_same_id_twice_is_one_job(store):
    assert store.enqueue(new("j"), NOW)[0] == 1
    assert store.enqueue(new("j", "k", "k"), NOW + 1) == (1, ())
    assert store.job("j").created_at == NOW
    assert store.counts() == {f"{PROVIDER}/queued": 2}


def test_job_that_ended_is_not_started_again_by_its_id(store):
    ended(store)
    assert store.enqueue(new("j"), NOW) == (0, ())
    assert store.job("j").state is State.SUCCEEDED


def test_more_jobs_than_one_call_takes_are_all_stored_in_order(store):
    ids = [str(number) for number in range(1203)]
    added, grants = store.enqueue(new(*ids, batch="big"), NOW)
    assert (added, names(grants)) == (1203, ["0.1"])
    assert store.jobs_of("big") == ids
    assert [job.id for job in store.jobs([*ids, "nobody"])] == ids


def served(store: Store, first: str, how_many: int) -> list[str]:
    """Job ids in the order one slot serves them, beginning with the attempt that holds it."""
    order = [first]
    while len(order) < how_many:
        (attempt,) = names(store.settle(order[-1], "succeeded", NOW, artifact_urls=URLS).grants)
        order.append(attempt)
    return [attempt.rpartition(".")[0] for attempt in order]


def test_two_batches_share_a_slot_evenly(store):
    store.enqueue(new(*(f"x{n}" for n in range(9)), batch="x"), NOW)
    store.enqueue(new(*(f"y{n}" for n in range(9)), batch="y"), NOW)
    order = served(store, "x0.1", 18)
    assert sorted(order) == sorted(set(order))
    for through in range(1, 19):
        shares = Counter(each[0] for each in order[:through])
        assert abs(shares["x"] - shares["y"]) <= 2, order


def test_ten_jobs_do_not_wait_behind_a_thousand(store):
    store.enqueue(new(*(f"x{n}" for n in range(1000)), batch="big"), NOW)
    served(store, "x0.1", 101)  # the big batch has had its hundred
    store.enqueue(new(*(f"y{n}" for n in range(10)), batch="small"), NOW)
    order = served(store, "x100.1", 23)
    assert {f"y{n}" for n in range(10)} <= set(order)
    assert Counter(each[0] for each in order[1:11]) == {"x": 5, "y": 5}  # and are not served first, either


def test_ten_jobs_do_not_wait_behind_a_thousand_pinned_ones(store):
    store.enqueue(new(*(f"x{n}" for n in range(1000)), batch="big", account="a"), NOW)
    store.enqueue(new(*(f"y{n}" for n in range(10)), batch="small"), NOW)
    assert {f"y{n}" for n in range(10)} <= set(served(store, "x0.1", 23))


def test_new_batch_does_not_starve_the_old_because_a_resting_account_has_returned(store):
    have(store, a=1, b=1)
    opened(store, "ill", account="b")
    rest(store, "ill.1", "OutOfCredit", UNTIL_RESUMED)
    store.enqueue(new(*(f"p{n}" for n in range(5)), batch="pinned", account="b"), NOW)
    store.enqueue(new(*(f"x{n}" for n in range(300)), batch="old"), NOW)
    served(store, "x0.1", 101)
    store.accounts.resume(PROVIDER, "b", NOW)
    store.fill(PROVIDER, NOW)
    store.enqueue(new(*(f"n{n}" for n in range(90)), batch="new"), NOW)
    shares = Counter(each[0] for each in served(store, "x100.1", 41)[1:])
    assert shares["x"] >= 15 and shares["n"] >= 15, shares


def test_priority_goes_before_age_within_a_lane(store):
    store.enqueue(new("first"), NOW)
    store.enqueue([*new("low"), *new("five", "five-too", priority=5), *new("nine", priority=9)], NOW)
    assert served(store, "first.1", 5) == ["first", "nine", "five", "five-too", "low"]


def test_pinned_job_runs_on_its_account_only(store):
    have(store, a=1, b=1)
    _, grants = store.enqueue(new("1", "2", account="b"), NOW)
    assert names(grants) == ["1.1"]
    assert used(store) == {"a": 0, "b": 1}
    store.enqueue(new("3"), NOW)
    assert store.job("3").account == "a"
    assert store.settle("3.1", "succeeded", NOW, artifact_urls=URLS).grants == ()
    assert names(store.settle("1.1", "succeeded", NOW, artifact_urls=URLS).grants) == ["2.1"]
    assert store.job("2").account == "b"


def test_job_that_starts_later_waits_in_the_due_list(store):
    assert store.enqueue(new("j", start_at=NOW + 50), NOW) == (1, ())
    assert store.job("j").due_at == NOW + 50
    assert store.claim(NOW + 49)[0].count == 0
    claimed, grants = store.claim(NOW + 50)
    assert (claimed.count, claimed.submits, names(grants)) == (1, (), ["j.1"])


def test_job_whose_time_has_come_joins_its_lane_where_no_slot_is_free(store):
    opened(store, "first")
    store.enqueue(new("j", start_at=NOW + 5), NOW)
    assert store.claim(NOW + 5)[1] == ()
    assert store.job("j").due_at is None
    assert names(store.settle("first.1", "succeeded", NOW + 5, artifact_urls=URLS).grants) == ["j.1"]


# --- open, submitted -----------------------------------------------------------------------------------


def test_attempt_is_opened_by_one_of_many_callers(store):
    store.enqueue(new("j"), NOW)
    answers: list[Any] = []
    start = threading.Barrier(8)

    def open_it() -> None:
        start.wait()
        answers.append(store.open("j.1", NOW))

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (told,) = [answer for answer in answers if answer]
    assert (told.account, told.parameters, told.tries) == ("a", {"text_prompt": "j"}, Tries())
    attempt = store.attempt("j.1")
    assert (attempt.state, attempt.opened_at, attempt.deadline_at) == ("open", NOW, NOW + DEADLINE)
    assert store.job("j").state is State.SUBMITTED
    assert store.job("j").due_at == NOW + TIMEOUT + REPLY_GRACE
    assert store.stats()[f"{PROVIDER}/submits"] == 1


def test_stale_attempt_cannot_be_opened(store):
    opened(store, "j")
    assert lose(store, "j.1") == ["j.2"]
    assert store.open("j.1", NOW) is None
    assert store.open("j.3", NOW) is None
    assert store.open("j.2", NOW).tries.failures == {FAILURE: 1}


@pytest.mark.parametrize("attempt", ["j.1", "nobody.1"])
def test_attempt_that_was_never_granted_cannot_be_opened(attempt, store):
    store.enqueue(new("first", "j"), NOW)
    assert store.open(attempt, NOW) is None


def test_submitted_records_the_upstream_id_and_the_time_of_the_next_look(store):
    opened(store, "j")
    assert submit(store, "j.1", "task-7", NOW + 40) == ""
    attempt = store.attempt("j.1")
    assert (attempt.state, attempt.upstream_id) == ("submitted", "task-7")
    assert store.job("j").due_at == NOW + 40


def test_submitted_twice_keeps_the_first_word(store):
    opened(store, "j")
    submit(store, "j.1", "task-7", NOW + 40)
    assert submit(store, "j.1", "task-8", NOW + 90) == ""
    assert store.attempt("j.1").upstream_id == "task-7"
    assert store.job("j").due_at == NOW + 40


def test_submit_reply_after_the_callback_moves_nothing_back(store):
    collecting(store)
    assert submit(store, "j.1", "task-7", NOW + 40) == "succeeded"
    assert store.attempt("j.1").state == "closed"
    assert store.attempt("j.1").upstream_id == "task-7"
    assert store.job("j").state is State.COLLECTING
    assert store.job("j").due_at == NOW + FINISH_PATIENCE


def test_submit_reply_after_a_cancel_tells_of_the_cancel(store):
    opened(store, "j")
    store.cancel("j", NOW)
    assert submit(store, "j.1", "task-7", NOW + 40) == "cancelled"


def test_submitted_of_an_attempt_nobody_knows_leaves_nothing_behind(store, raw):
    before = raw.keys()
    assert submit(store, "nobody.1", "task-7", NOW + 40) == ""
    assert raw.keys() == before
    assert store.attempt("nobody.1") is None


def test_look_again_moves_the_due_time_of_a_live_attempt_only(store):
    opened(store, "j")
    store.look_again("j.1", NOW + 1, NOW + 7, "polls")
    assert store.job("j").due_at == NOW + 7
    assert store.attempt("j.1").polls == 1
    store.settle("j.1", "succeeded", NOW, artifact_urls=URLS)
    store.look_again("j.1", NOW + 2, NOW + 9, "polls")
    assert store.job("j").due_at == NOW + FINISH_PATIENCE
    assert store.attempt("j.1").polls == 1


# --- settle --------------------------------------------------------------------------------------------


def test_success_frees_the_slot_and_grants_it_to_the_next_in_one_step(store):
    store.enqueue(new("1", "2"), NOW)
    store.open("1.1", NOW)
    settled = store.settle("1.1", "succeeded", NOW, artifact_urls=URLS, upstream_id="task-7")
    assert settled.word == "settled"
    assert names([settled.finish]) == ["1.1"]
    assert names(settled.grants) == ["2.1"]
    assert used(store) == {"a": 1}
    job = store.job("1")
    assert (job.state, job.artifact_urls, job.due_at) == (State.COLLECTING, URLS, NOW + FINISH_PATIENCE)
    assert store.attempt("1.1").upstream_id == "task-7"


def test_first_word_wins_and_the_rest_fall_through(store):
    have(store, a=2)
    store.enqueue(new("1", "2", "3", "4"), NOW)
    store.open("1.1", NOW)
    assert names(store.settle("1.1", "succeeded", NOW, artifact_urls=URLS).grants) == ["3.1"]
    for verdict in ("succeeded", "failed", "lost", "succeeded"):
        again = store.settle("1.1", verdict, NOW, artifact_urls=LATE_URLS, error=ERROR, counts=FAILURE)
        assert (again.word, again.finish, again.grants) == ("duplicate", None, ())
    assert used(store) == {"a": 2}
    assert store.job("1").artifact_urls == URLS
    assert store.job("1").failures == 0


def test_word_of_an_attempt_nobody_knows_changes_nothing(store, raw):
    before = raw.keys()
    settled = store.settle("nobody.1", "succeeded", NOW, artifact_urls=URLS, source="callbacks")
    assert (settled.word, settled.finish, settled.grants) == ("unknown", None, ())
    assert raw.keys() == before


@pytest.mark.parametrize("over", [False, True])
def test_word_of_another_generation_does_not_speak_for_this_one(over, store):
    opened(store, "j")
    submit(store, "j.1", "task-7", NOW + 40)
    if over:
        lose(store, "j.1", again_at=None)
    before = store.job("j")
    settled = store.settle("j.1", "succeeded", NOW, artifact_urls=URLS, upstream_id="task-8")
    assert (settled.word, settled.finish, settled.grants) == ("mismatch", None, ())
    assert store.job("j") == before
    assert store.attempt("j.1").upstream_id == "task-7"


def test_busy_goes_back_to_the_front_of_its_lane_and_does_not_count(store):
    store.enqueue(new("1", "2", "3"), NOW)
    store.open("1.1", NOW)
    assert rest(store, "1.1", "TooMany", NOW + 20) == []
    assert store.job("1").failures == 0
    assert used(store) == {"a": 0}
    assert names(store.accounts.resume(PROVIDER, "a", NOW)) == ["1.2"]


def test_failure_counts_and_waits_for_its_time(store):
    opened(store, "j")
    assert lose(store, "j.1", NOW + 8) == []
    job = store.job("j")
    assert (job.state, job.failures, job.due_at, job.error) == (State.QUEUED, 1, NOW + 8, ERROR)
    assert store.claim(NOW + 7)[0].count == 0
    _, grants = store.claim(NOW + 8)
    assert names(grants) == ["j.2"]
    assert store.attempt("j.2").tries.failures == {FAILURE: 1}


def test_giving_up_is_finished_like_a_success_but_without_urls(store):
    opened(store, "j")
    settled = store.settle("j.1", "failed", NOW, error=ERROR, counts=FAILURE)
    assert names([settled.finish]) == ["j.1"]
    job = store.job("j")
    assert (job.state, job.artifact_urls, job.error) == (State.COLLECTING, (), ERROR)


def test_success_after_a_failure_tells_nothing_of_it(store):
    opened(store, "j")
    lose(store, "j.1")
    store.open("j.2", NOW)
    store.settle("j.2", "succeeded", NOW, artifact_urls=URLS)
    assert store.job("j").error is None


def test_events_are_counted_by_verdict_and_by_source(store):
    opened(store, "j")
    store.settle("j.1", "succeeded", NOW, artifact_urls=URLS, source="callbacks")
    store.settle("j.1", "succeeded", NOW, artifact_urls=URLS, source="polls")
    store.count(PROVIDER, "callbacks")
    told = {word.partition("/")[2]: number for word, number in store.stats().items()}
    assert told == {"submits": 1, "succeeded": 1, "callbacks": 2, "polls": 1}


def test_delivery_is_remembered_for_its_provider(store, raw):
    assert not store.is_replay(PROVIDER, "d-1")
    store.remember_delivery(PROVIDER, "d-1")
    store.remember_delivery(PROVIDER, "d-1")
    assert store.is_replay(PROVIDER, "d-1")
    assert not store.is_replay("runway", "d-1")
    (key,) = raw.keys("orc:delivery:*")
    assert 0 < raw.ttl(key) <= 3600


# --- what is learned -----------------------------------------------------------------------------------


def test_durations_are_learned_from_callbacks_and_from_what_polls_saw(store):
    have(store, a=9)
    opened(store, "1", "2", "3", "4")
    for each in "123":
        submit(store, f"{each}.1", f"task-{each}", NOW + 40)
    store.settle("1.1", "succeeded", NOW + 12, artifact_urls=URLS, source="callbacks")
    store.settle("2.1", "succeeded", NOW + 20, artifact_urls=URLS, source="polls", duration=17.5)
    lose(store, "3.1", again_at=None, source="callbacks")  # tells nothing of how long a success takes
    store.settle("4.1", "succeeded", NOW + 9, artifact_urls=URLS, source="callbacks")  # submitted unseen
    assert store.durations(TIMING) == [17.5, 12.0]
    assert store.durations("nobody/") == []


def test_only_the_latest_durations_are_kept(store):
    for number in range(SAMPLE_SIZE + 5):
        opened(store, str(number))
        submit(store, f"{number}.1", "task-7", NOW + 40)
        told = {"artifact_urls": URLS, "source": "polls", "duration": float(number)}
        store.settle(f"{number}.1", "succeeded", NOW, **told)
    assert store.durations(TIMING) == [float(n) for n in range(SAMPLE_SIZE + 4, 4, -1)]


def test_share_of_missing_callbacks_rises_with_polls_and_falls_with_callbacks(store):
    have(store, a=99)
    shares = [store.missing_share(PROVIDER)]
    for number, source in enumerate(["polls"] * 20 + ["callbacks"] * 20):
        opened(store, str(number))
        submit(store, f"{number}.1", "task-7", NOW + 40)
        store.settle(f"{number}.1", "succeeded", NOW, artifact_urls=URLS, source=source)
        shares.append(store.missing_share(PROVIDER))
    assert shares[:21] == sorted(shares[:21]) and shares[20:] == sorted(shares[20:], reverse=True)
    assert (shares[0], shares[20] > 0.8, shares[40] < 0.2) == (0.0, True, True)


def test_callbacks_that_nobody_asked_for_are_not_missed(store):
    opened(store, "j")
    submit(store, "j.1", "task-7", NOW + 40, expects=False)
    store.settle("j.1", "succeeded", NOW, artifact_urls=URLS, source="polls")
    assert store.missing_share(PROVIDER) == 0.0


def test_account_may_be_given_jobs_ahead_of_its_slots(store):
    (account,) = have(store, queue_ahead=9, a=8)
    assert store.accounts.ahead(account) == 2  # a quarter, until more is known
    _, grants = store.enqueue(new(*(str(number) for number in range(20))), NOW)
    assert len(grants) == 10
    store.accounts.set_ahead(PROVIDER, "a", 4)
    assert len(store.fill(PROVIDER, NOW)) == 2
    store.accounts.configure([account])  # a process that starts does not forget what was learned
    assert store.accounts.ahead(account) == 4
    assert used(store) == {"a": 12}


# --- accounts at rest ----------------------------------------------------------------------------------


def test_account_rests_until_its_time_and_then_works_again(store):
    opened(store, "1")
    store.enqueue(new("2"), NOW)
    assert rest(store, "1.1", "TooMany", NOW + 20) == []
    (row,) = store.accounts.rows(PROVIDER, NOW)
    assert (float(row["rest_until"]), row["rest_reason"]) == (NOW + 20, "TooMany")
    assert store.enqueue(new("3"), NOW + 10)[1] == ()
    assert store.claim(NOW + 19)[1] == ()
    claimed, grants = store.claim(NOW + 20)
    assert (claimed.count, names(grants)) == (1, ["1.2"])
    assert store.claim(NOW + 21)[0].count == 0


def test_account_rests_until_it_is_resumed(store):
    opened(store, "j")
    assert rest(store, "j.1", "OutOfCredit", UNTIL_RESUMED) == []
    assert store.claim(NOW + 300 * DAY)[1] == ()
    assert names(store.accounts.resume(PROVIDER, "a", NOW)) == ["j.2"]
    (row,) = store.accounts.rows(PROVIDER, NOW)
    assert "rest_until" not in row


def test_full_account_takes_one_for_each_slot_it_frees(store):
    have(store, a=2)
    opened(store, "1", "2")
    store.enqueue(new("3"), NOW)
    assert full(store, "2.1", NOW + 20) == []
    assert names(store.settle("1.1", "succeeded", NOW + 1, artifact_urls=URLS).grants) == ["2.2"]
    (row,) = store.accounts.rows(PROVIDER, NOW)
    assert "rest_until" not in row
    assert (row["elsewhere"], row["slots"]) == ("1", 1)


@pytest.mark.parametrize("reason", ["TooMany", "OutOfCredit"])
def test_other_rests_do_not_end_with_a_freed_slot(reason, store):
    have(store, a=2)
    opened(store, "1", "2")
    rest(store, "2.1", reason, NOW + 20)
    assert store.settle("1.1", "succeeded", NOW + 1, artifact_urls=URLS).grants == ()


def test_jobs_of_a_resting_account_go_to_the_other(store):
    have(store, a=1, b=1)
    opened(store, "j")
    resting = store.job("j").account
    assert rest(store, "j.1", "Unauthorized", UNTIL_RESUMED) == ["j.2"]
    assert {resting, store.job("j").account} == {"a", "b"}
    assert used(store)[resting] == 0


def test_pinned_job_waits_for_its_resting_account(store):
    have(store, a=1, b=1)
    opened(store, "j", account="a")
    assert rest(store, "j.1", "TooMany", NOW + 20) == []
    assert names(store.claim(NOW + 20)[1]) == ["j.2"]
    assert store.job("j").account == "a"


@pytest.mark.parametrize("reason", ["full", "TooMany"])
def test_short_rest_does_not_end_a_longer_one(reason, store):
    """Two submits at once: one is told that there is no credit left, the other that it is too much."""
    have(store, a=3)
    opened(store, "1", "2", "3")
    rest(store, "1.1", "OutOfCredit", UNTIL_RESUMED)
    rest(store, "2.1", reason, NOW + 20)
    (row,) = store.accounts.rows(PROVIDER, NOW)
    assert (float(row["rest_until"]), row["rest_reason"]) == (UNTIL_RESUMED, "OutOfCredit")
    assert store.settle("3.1", "succeeded", NOW + 1, artifact_urls=URLS).grants == ()


def test_accounts_may_be_told_anew_without_waking_who_rests(store):
    opened(store, "j")
    rest(store, "j.1", "OutOfCredit", UNTIL_RESUMED)
    have(store, a=5)
    assert store.fill(PROVIDER, NOW) == ()
    assert names(store.accounts.resume(PROVIDER, "a", NOW)) == ["j.2"]


def test_account_that_is_gone_is_granted_nothing(store):
    have(store, b=1)
    store.enqueue(new("1", "2"), NOW)
    assert used(store) == {"b": 1}
    assert store.job("1").account == "b"


# --- late successes ------------------------------------------------------------------------------------


def late(store: Store, attempt: str = "j.1", now: float = NOW) -> list[str]:
    """A success for an attempt that was lost; gives whom it lets finish."""
    settled = store.settle(attempt, "succeeded", now, artifact_urls=LATE_URLS)
    assert settled.word == "late"
    assert store.settle(attempt, "succeeded", now, artifact_urls=LATE_URLS).word == "duplicate"
    assert store.stats()[f"{PROVIDER}/late"] == 1
    return names([settled.finish]) if settled.finish else []


def test_late_success_takes_a_job_out_of_its_lane(store):
    opened(store, "j")
    lose(store, "j.1", rest_until=NOW + 20, rest_reason="TooMany")
    assert late(store) == ["j.1"]
    assert store.job("j").artifact_urls == LATE_URLS
    assert store.claim(NOW + 20)[1] == ()
    end(store, "j")


def test_late_success_takes_back_a_grant_and_gives_the_slot_to_the_next(store):
    opened(store, "j")
    assert lose(store, "j.1") == ["j.2"]
    store.enqueue(new("next"), NOW)
    settled = store.settle("j.1", "succeeded", NOW, artifact_urls=LATE_URLS)
    assert (settled.word, names([settled.finish]), names(settled.grants)) == ("late", ["j.2"], ["next.1"])
    assert store.open("j.2", NOW) is None
    assert used(store) == {"a": 1}


def test_late_success_ends_a_backoff(store):
    opened(store, "j")
    lose(store, "j.1", NOW + 30)
    assert late(store) == ["j.1"]
    assert store.claim(NOW + 30)[0].count == 0
    assert names(store.claim(NOW + FINISH_PATIENCE)[0].finishes) == ["j.1"]


def test_late_success_lifts_a_failed_job(store):
    opened(store, "j", batch="b")
    lose(store, "j.1", again_at=None)
    end(store, "j", State.FAILED)
    assert counts(store, "b") == {"failed": 1}
    assert late(store) == ["j.1"]
    assert counts(store, "b") == {"collecting": 1}
    end(store, "j")
    assert counts(store, "b") == {"succeeded": 1}
    assert store.job("j").result == {"artifacts": []}


def test_lifted_job_is_not_over_until_it_ends_again(store):
    opened(store, "j")
    lose(store, "j.1", again_at=None)
    end(store, "j", State.FAILED)
    late(store)
    assert store.wait_ended("j", timeout=0.01) is None
    end(store, "j")
    job = store.wait_ended("j", timeout=1)
    assert (job.state, job.reason, job.error) == (State.SUCCEEDED, "", None)


def test_late_success_waits_for_an_attempt_that_is_open_and_saves_the_job_if_that_fails(store):
    opened(store, "j")
    lose(store, "j.1")
    store.open("j.2", NOW)
    assert late(store) == []
    assert store.job("j").state is State.SUBMITTED
    settled = store.settle("j.2", "failed", NOW, error=ERROR, again_at=NOW, counts=FAILURE)
    assert names([settled.finish]) == ["j.2"]
    assert settled.grants == ()
    assert store.job("j").artifact_urls == LATE_URLS


def test_job_saved_by_a_late_success_is_of_the_account_that_made_it(store):
    have(store, a=1, b=1)
    opened(store, "j")
    made_by = store.job("j").account
    assert rest(store, "j.1", "Unauthorized", UNTIL_RESUMED) == ["j.2"]
    store.open("j.2", NOW)
    late(store)
    assert store.settle("j.2", "failed", NOW, error=ERROR, counts=FAILURE).finish
    assert store.job("j").account == made_by


def test_late_success_beside_a_success_is_left_aside(store):
    opened(store, "j")
    lose(store, "j.1")
    store.open("j.2", NOW)
    late(store)
    assert store.settle("j.2", "succeeded", NOW, artifact_urls=URLS).finish
    assert store.job("j").artifact_urls == URLS


def test_late_success_does_not_bring_a_cancelled_job_back(store):
    opened(store, "j")
    store.cancel("j", NOW)
    assert late(store) == []
    assert store.job("j").state is State.CANCELLED
    assert used(store) == {"a": 0}


@pytest.mark.parametrize("begun", [False, True])
def test_late_success_saves_a_job_that_is_about_to_fail(begun, store):
    """It was given up, and its failure is on the way to Celery, or on the way back from there."""
    opened(store, "j")
    lose(store, "j.1", again_at=None)
    if begun:
        assert store.begin_finish("j", NOW)
    late(store)
    if begun:
        store.end("j", NOW, State.FAILED, None, "no outcome until the deadline")
    claimed, _ = store.claim(NOW + FINISH_PATIENCE)
    assert names(claimed.finishes) == ["j.1"]
    assert store.job("j").state is State.COLLECTING
    assert store.job("j").artifact_urls == LATE_URLS


# --- pace ----------------------------------------------------------------------------------------------


def paced(store: Store, per_second: float) -> Account:
    account = Account(
        PROVIDER, "a", Secret("x"), 100, "https://x", {}, DEADLINE, 10.0, 60.0, TIMEOUT, 5,
        requests_per_second=per_second,
    )  # fmt: skip
    store.accounts.configure([account])
    return account


def test_submits_are_granted_at_the_accounts_pace(store):
    paced(store, 4)
    store.enqueue(new(*(f"j{n}" for n in range(20))), NOW)
    assert used(store) == {"a": 4}  # a second's worth at once
    for seconds in range(1, 5):
        store.claim(NOW + seconds)
        assert used(store) == {"a": 4 + 4 * seconds}


def test_polls_and_submits_share_the_accounts_pace(store):
    account = paced(store, 2)
    store.enqueue(new("j"), NOW)
    assert store.accounts.take_turn(PROVIDER, account.name, NOW) == 0.0
    assert store.accounts.take_turn(PROVIDER, account.name, NOW) == pytest.approx(0.5)
    assert store.enqueue(new("k"), NOW)[1] == ()
    assert names(store.claim(NOW + 0.5)[1]) == ["k.1"]
    assert store.accounts.take_turn(PROVIDER, account.name, NOW + 0.5) > 0


def test_account_without_a_pace_is_never_waited_for(store):
    account = paced(store, 0)
    assert [store.accounts.take_turn(PROVIDER, account.name, NOW) for _ in range(100)] == [0.0] * 100


def test_account_that_nobody_waits_for_spends_nothing_of_its_pace(store):
    account = paced(store, 1)
    store.fill(PROVIDER, NOW)
    assert store.accounts.take_turn(PROVIDER, account.name, NOW) == 0.0


# --- claim ---------------------------------------------------------------------------------------------


def test_grant_that_nobody_opens_is_sent_again_with_growing_patience(store):
    store.enqueue(new("j"), NOW)
    now = NOW + 15
    assert store.claim(now - 1)[0].count == 0
    waits = []
    for _ in range(8):
        claimed, grants = store.claim(now)
        assert (claimed.count, names(claimed.submits), grants) == (1, ["j.1"], ())
        due_at = store.job("j").due_at
        waits.append(due_at - now)
        now = due_at
    assert waits == [30, 60, 120, 240, 480, 600, 600, 600]
    assert store.open("j.1", now)


@pytest.mark.parametrize("upstream_id", ["", "task-7"])
def test_live_attempt_is_looked_at_when_it_is_due_and_again_where_that_came_to_nothing(upstream_id, store):
    opened(store, "j")
    if upstream_id:
        submit(store, "j.1", upstream_id, NOW + TIMEOUT + REPLY_GRACE)
    for now in (NOW + TIMEOUT + REPLY_GRACE, NOW + TIMEOUT + REPLY_GRACE + CLAIM_PUSH_SECONDS):
        assert store.claim(now - 1)[0].count == 0
        claimed, grants = store.claim(now)
        assert (claimed.count, claimed.looks, claimed.submits, grants) == (1, (("j.1", now),), (), ())
        assert store.claim(now)[0].count == 0  # another ticker


def test_finish_that_never_returned_is_sent_again(store):
    collecting(store)
    for round in (1, 2, 3):
        claimed, _ = store.claim(NOW + round * FINISH_PATIENCE)
        assert names(claimed.finishes) == ["j.1"]


def test_claim_gives_everything_that_is_due_in_portions(store):
    ids = [f"{number:03}" for number in range(CLAIM_LIMIT + 50)]
    have(store, a=1000)
    store.enqueue(new(*ids, start_at=NOW + 5), NOW)
    portions = [store.claim(NOW + 5) for _ in range(3)]
    assert [claimed.count for claimed, _ in portions] == [CLAIM_LIMIT, 50, 0]
    assert sorted(names([*portions[0][1], *portions[1][1]])) == [f"{each}.1" for each in ids]


def test_look_that_becomes_due_soon_is_claimed_with_its_moment_and_nothing_else_is(store):
    have(store, a=3)
    opened(store, "later", "soon")
    submit(store, "soon.1", "task-7", NOW + 2)
    submit(store, "later.1", "task-8", NOW + 4)
    collecting(store, "j")
    store.begin_finish("j", NOW)
    store.finish_later("j", NOW + 1, "the disk is full")
    store.enqueue(new("not-before", start_at=NOW + 1), NOW)
    claimed, grants = store.claim(NOW, 3.0)
    assert (claimed.count, claimed.looks, claimed.finishes, grants) == (1, (("soon.1", NOW + 2),), (), ())
    assert store.due_at("soon") == NOW + CLAIM_PUSH_SECONDS
    assert store.claim(NOW, 3.0)[0].count == 0


def test_due_entry_of_a_job_that_is_over_or_forgotten_is_dropped(store, raw):
    ended(store)
    raw.zadd("orc:due", {"job:j": NOW, "job:nobody": NOW})
    claimed, _ = store.claim(NOW)
    assert (claimed.submits, claimed.finishes, claimed.looks) == ((), (), ())
    assert not raw.zcard("orc:due")


# --- finishing and ending ------------------------------------------------------------------------------


def test_finishing_is_for_one_at_a_time_and_for_another_after_its_patience(store):
    collecting(store)
    assert store.begin_finish("j", NOW + 1)
    assert not store.begin_finish("j", NOW + 1)
    assert not store.begin_finish("j", NOW + FINISH_PATIENCE)
    assert store.begin_finish("j", NOW + 1 + FINISH_PATIENCE)


def test_only_a_job_whose_outcome_is_known_is_finished(store):
    store.enqueue(new("j", "waits"), NOW)
    for job_id in ("j", "waits", "nobody"):
        assert not store.begin_finish(job_id, NOW)
    store.open("j.1", NOW)
    assert not store.begin_finish("j", NOW)
    store.settle("j.1", "succeeded", NOW, artifact_urls=URLS)
    end(store, "j")
    assert not store.begin_finish("j", NOW + 1000)


def test_cancelled_job_is_finished_too(store):
    opened(store, "j")
    store.cancel("j", NOW)
    assert store.begin_finish("j", NOW)
    assert not store.end("j", NOW, State.FAILED, None, "")
    assert store.job("j").state is State.CANCELLED
    assert store.claim(NOW + DAY)[0].count == 0


def test_cancelled_job_is_finished_once(store):
    """Celery counts a chord's part each time it is told of its end."""
    opened(store, "j")
    store.cancel("j", NOW)
    assert store.begin_finish("j", NOW)
    store.end("j", NOW, State.FAILED, None, "")
    assert not store.begin_finish("j", NOW + 1)


def test_finish_later_lets_go_until_its_time(store):
    collecting(store)
    store.begin_finish("j", NOW)
    store.finish_later("j", NOW + 9, "the disk is full")
    job = store.job("j")
    assert (job.state, job.collect_failures, job.due_at) == (State.COLLECTING, 1, NOW + 9)
    assert store.claim(NOW + 8)[0].count == 0
    assert names(store.claim(NOW + 9)[0].finishes) == ["j.1"]
    assert store.begin_finish("j", NOW + 9)


def test_finish_later_of_a_job_that_is_over_changes_nothing(store):
    ended(store)
    store.finish_later("j", NOW + 9, "the disk is full")
    assert (store.job("j").collect_failures, store.job("j").due_at) == (0, None)


def test_end_twice_is_one_end(store, raw):
    collecting(store, batch="b")
    store.begin_finish("j", NOW)
    heard = raw.pubsub(ignore_subscribe_messages=True)
    heard.subscribe("orc:ended:j")
    heard.get_message(timeout=1)
    assert store.end("j", NOW + 5, State.SUCCEEDED, {"artifacts": [1]}, "")
    assert not store.end("j", NOW + 6, State.FAILED, None, "too late")
    job = store.job("j")
    assert (job.state, job.ended_at, job.due_at) == (State.SUCCEEDED, NOW + 5, None)
    assert (job.result, job.reason) == ({"artifacts": [1]}, "")
    assert counts(store, "b") == {"succeeded": 1}
    assert store.batch("b")["ended"] == NOW + 5
    assert store.counts()[f"{PROVIDER}/succeeded"] == 1
    assert raw.xlen("orc:ended-in:b") == 1
    assert heard.get_message(timeout=1)
    assert heard.get_message(timeout=0.01) is None
    heard.close()


def test_failed_job_says_why(store):
    opened(store, "j")
    lose(store, "j.1", again_at=None)
    end(store, "j", State.FAILED)
    job = store.job("j")
    assert (job.state, job.reason, job.result) == (State.FAILED, "it failed", None)


def test_end_of_a_job_that_is_not_over_forgets_nothing(store):
    """A finish message that came twice, and the second time Redis did not answer."""
    opened(store, "j")
    assert not store.end("j", NOW, State.FAILED, None, "Redis does not answer")
    assert store.job("j").state is State.SUBMITTED
    assert store.job("j").due_at is not None


def test_ended_jobs_are_forgotten_after_a_week(store, raw):
    ended(store, batch="b")
    for key in ("job:j", "attempt:j.1", "batch:b", "jobs-of:b", "ended-in:b"):
        assert 0 < raw.ttl(f"orc:{key}") <= 7 * DAY


def test_batch_is_not_forgotten_while_a_job_of_it_goes_on(store, raw):
    store.enqueue(new("later", batch="b", start_at=NOW + 8 * DAY), NOW)
    ended(store, batch="b")
    for key in ("batch:b", "jobs-of:b"):
        assert raw.ttl(f"orc:{key}") == -1


# --- cancel --------------------------------------------------------------------------------------------


def granted(store: Store) -> None:
    store.enqueue(new("j", batch="b"), NOW)


def in_its_lane(store: Store) -> None:
    opened(store, "other")
    granted(store)


def not_before_tomorrow(store: Store) -> None:
    store.enqueue(new("j", batch="b", start_at=NOW + DAY), NOW)


def open_upstream(store: Store) -> None:
    opened(store, "j", batch="b")


def submitted_upstream(store: Store) -> None:
    open_upstream(store)
    submit(store, "j.1", "task-7", NOW + 40)


def in_backoff(store: Store) -> None:
    open_upstream(store)
    lose(store, "j.1", NOW + 30)


@pytest.mark.parametrize(
    ("reach", "upstream_id", "frees"),
    [
        (in_its_lane, "", False),
        (not_before_tomorrow, "", False),
        (granted, "", True),
        (open_upstream, "", True),
        (submitted_upstream, "task-7", True),
        (in_backoff, "", False),
    ],
)
def test_job_can_be_cancelled_wherever_it_is(reach: Callable[[Store], None], upstream_id, frees, store):
    reach(store)
    if frees:
        store.enqueue(new("next"), NOW)
    before = used(store)
    cancelled = store.cancel("j", NOW + 1)
    assert cancelled.finish.job_id == "j"
    assert cancelled.upstream_id == upstream_id
    assert cancelled.account == store.job("j").account
    assert names(cancelled.grants) == (["next.1"] if frees else [])
    assert used(store) == before
    assert counts(store, "b") == {"cancelled": 1}
    job = store.job("j")
    assert (job.state, job.ended_at) == (State.CANCELLED, NOW + 1)
    assert store.cancel("j", NOW + 2) is None
    assert store.open("j.1", NOW + 2) is None
    claimed, _ = store.claim(NOW + 1 + FINISH_PATIENCE)
    assert "j" in [message.job_id for message in claimed.finishes]
    assert store.begin_finish("j", NOW + 2 + FINISH_PATIENCE)
    have(store, a=9)
    assert store.fill(PROVIDER, NOW + DAY) == ()


@pytest.mark.parametrize("reach", [collecting, ended])
def test_job_whose_outcome_is_known_cannot_be_cancelled(reach, store):
    reach(store)
    before = store.job("j").state
    assert store.cancel("j", NOW) is None
    assert store.job("j").state is before


def test_job_nobody_knows_cannot_be_cancelled(store):
    assert store.cancel("nobody", NOW) is None
    with pytest.raises(JobNotFound, match="nobody"):
        store.job("nobody")


# --- batches, leases -----------------------------------------------------------------------------------


def test_counts_of_a_batch_add_up_at_every_step(store):
    have(store, a=4)
    steps: list[Callable[[], Any]] = [
        lambda: store.enqueue(new(*"123456", batch="b"), NOW),
        lambda: [store.open(f"{each}.1", NOW) for each in "1234"],
        lambda: store.settle("1.1", "succeeded", NOW, artifact_urls=URLS),
        lambda: lose(store, "2.1", NOW + 50),
        lambda: lose(store, "3.1", again_at=None),
        lambda: store.cancel("4", NOW),
        lambda: end(store, "1"),
        lambda: end(store, "3", State.FAILED),
        lambda: late(store, "3.1"),
    ]
    for step in steps:
        step()
        assert sum(counts(store, "b").values()) == store.batch("b")["total"] == 6
    assert counts(store, "b") == {"queued": 3, "collecting": 1, "succeeded": 1, "cancelled": 1}
    assert store.batch("b")["created"] == store.batch("b")["started"] == NOW
    assert store.batch("nobody") == {}


def test_lease_that_expired_frees_its_slot(store):
    opened(store, "1")
    store.enqueue(new("2"), NOW)
    assert store.fill(PROVIDER, NOW + LEASE - 1) == ()
    assert names(store.fill(PROVIDER, NOW + LEASE)) == ["2.1"]
    assert used(store) == {"a": 1}
    assert store.settle("1.1", "succeeded", NOW + LEASE, artifact_urls=URLS).grants == ()
    assert used(store) == {"a": 1}


def test_grant_whose_lease_expired_does_not_overfill_the_account(store):
    """The workers were away for two days; both messages are still in the queue when they return."""
    store.enqueue(new("1"), NOW)
    store.enqueue(new("2"), NOW + 2 * DAY)
    both = [store.open("1.1", NOW + 2 * DAY), store.open("2.1", NOW + 2 * DAY)]
    assert len([each for each in both if each]) == 1
    assert used(store) == {"a": 1}


def test_grant_whose_lease_expired_is_granted_again_where_a_slot_is_free(store):
    """Nothing else goes on: the due list alone must bring it back."""
    store.enqueue(new("j"), NOW)
    store.fill(PROVIDER, NOW + 2 * DAY)
    if store.open("j.1", NOW + 2 * DAY) is None:
        assert names(store.claim(NOW + 2 * DAY)[1]) == ["j.2"]


def test_grant_whose_lease_expired_does_not_hide_the_end_of_a_rest(store):
    have(store, a=2)
    store.enqueue(new("1", "2", "3"), NOW)
    store.open("1.1", NOW)
    store.cancel("3", NOW)
    later = NOW + 2 * DAY
    store.enqueue(new("4"), later)
    told = {"error": ERROR, "again_at": later, "rest_until": later + 50, "rest_reason": "TooMany"}
    store.settle("1.1", "busy", later, **told)
    assert store.open("2.1", later) is None
    assert store.claim(later)[1] == ()
    assert names(store.claim(later + 50)[1]) == ["1.2"]


def test_busy_seconds_of_an_account_add_up(store):
    opened(store, "j")
    store.settle("j.1", "succeeded", NOW + 12.5, artifact_urls=URLS)
    (row,) = store.accounts.rows(PROVIDER, NOW)
    assert float(row["busy_seconds"]) == 12.5


# --- a server that is gone -----------------------------------------------------------------------------


def test_store_says_that_the_server_is_gone_and_goes_on_when_it_is_back(tmp_path: Path):
    with EmbeddedServer.start(tmp_path / "own") as own:
        store = Store(own.url)
        have(store, a=1)
        store.enqueue(new("1", "2"), NOW)
        own.kill()
        while not own.poll():
            time.sleep(0.01)
        for call in (
            lambda: store.enqueue(new("3"), NOW),
            lambda: store.open("1.1", NOW),
            lambda: store.job("1"),
            lambda: store.attempt("1.1"),
            lambda: store.wait_ended("1", 1),
            lambda: next(store.ended_in("b", 1)),
            store.ping,
        ):
            with pytest.raises(StoreUnavailable) as caught:
                call()
            assert own.url not in str(caught.value)
            assert caught.value.__cause__ is None
        own.restart()
        store.ping()
        assert store.open("1.1", NOW)
        assert names(store.settle("1.1", "succeeded", NOW, artifact_urls=URLS).grants) == ["2.1"]
        store.close()


@pytest.fixture
def without_memory(store: Store, raw: redis.Redis) -> Iterator[None]:
    raw.config_set("maxmemory", "1")
    yield
    raw.config_set("maxmemory", "0")


@pytest.fixture
def read_only(store: Store, raw: redis.Redis) -> Iterator[None]:
    raw.replicaof("127.0.0.1", str(free_port()))
    yield
    raw.replicaof("NO", "ONE")


@pytest.mark.parametrize("trouble", ["without_memory", "read_only"])
def test_server_that_cannot_write_is_unavailable(trouble, store, request):
    request.getfixturevalue(trouble)
    with pytest.raises(StoreUnavailable):
        store.enqueue(new("j"), NOW)


# --- waiting -------------------------------------------------------------------------------------------


def after(seconds: float, call: Callable[[], Any]) -> threading.Timer:
    timer = threading.Timer(seconds, call)
    timer.start()
    return timer


def test_wait_for_a_job_ends_the_moment_it_ends(store):
    collecting(store)
    store.begin_finish("j", NOW)
    timer = after(0.2, lambda: store.end("j", NOW, State.SUCCEEDED, {"artifacts": []}, ""))
    began = time.monotonic()
    assert store.wait_ended("j", timeout=30).state is State.SUCCEEDED
    assert 0.1 < time.monotonic() - began < WAIT_SLICE_SECONDS / 2
    timer.join()


def test_wait_for_a_job_gives_up_after_its_time(store):
    collecting(store)
    assert store.wait_ended("j", timeout=0.05) is None
    assert store.wait_ended("j", timeout=0) is None


def test_wait_for_a_job_that_is_over_returns_at_once(store):
    ended(store)
    assert store.wait_ended("j", timeout=0).id == "j"
    with pytest.raises(JobNotFound):
        store.wait_ended("nobody", timeout=0)


def test_jobs_of_a_batch_are_told_as_they_end_those_that_ended_before_first(store):
    have(store, a=3)
    ended(store, "1", batch="b")
    ended(store, "2", batch="b")
    collecting(store, "3", batch="b")
    ended(store, "other", batch="c")
    seen = store.ended_in("b", timeout=1.0)
    assert [next(seen), next(seen)] == ["1", "2"]
    timer = after(0.1, lambda: end(store, "3"))
    began = time.monotonic()
    assert next(seen) == "3"
    assert time.monotonic() - began < 0.9
    timer.join()
    with pytest.raises(TimeoutError, match="'b'"):
        next(seen)


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
