"""The steps of the store, each one script, on a real Valkey: an attempt from grant to settlement."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from orchestrator.errors import JobNotFound, StoreUnavailable
from orchestrator.local.processes import free_port
from orchestrator.local.valkey import EmbeddedServer
from orchestrator.models import CLAIM_PUSH_SECONDS, Callback, State, Tries
from orchestrator.store import Store
from orchestrator.store.jobs import CLAIM_LIMIT, SAMPLE_SIZE
from orchestrator.store.link import WAIT_SLICE_SECONDS
from tests import store_kit
from tests.store_kit import (
    BEGIN_PATIENCE,
    DAY,
    DEADLINE,
    DIES_AT,
    ERROR,
    FAILURE,
    FINISH_PATIENCE,
    LATE_URLS,
    LEASE,
    NOW,
    PROVIDER,
    REPLY_GRACE,
    TIMEOUT,
    TIMING,
    URLS,
    collecting,
    counts,
    end,
    ended,
    have,
    late,
    lose,
    names,
    new,
    numbered,
    opened,
    rest,
    submit,
    used,
)

server, raw, store = store_kit.server, store_kit.raw, store_kit.store


# --- open, submitted -----------------------------------------------------------------------------------


def test_of_many_jobs_those_that_may_run_are_told_piece_by_piece_each_at_its_moment(store, raw):
    """Workers begin while the rest is stored, and the due list does not send what was not sent yet."""
    have(store, a=1_200)
    moments, told = itertools.count(1), []
    added, grants = store.enqueue(
        new(*numbered("j", 1_200)), NOW, clock=lambda: NOW + 30 * next(moments), tell=told.append
    )
    assert (added, [len(some) for some in told]) == (1_200, [500, 500, 200])
    assert names(grants) == [name for some in told for name in names(some)]
    assert [float(raw.hget(f"orc:attempt:{names(some)[0]}", "granted")) - NOW for some in told] == [0, 30, 60]


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


def test_attempt_is_opened_once_more_for_the_call_whose_answer_was_lost(store):
    store.enqueue(new("j"), NOW)
    asked = ("open", "j.1", NOW, "", "token-1", "")
    first = store._link.step(*asked)
    assert first and store._link.step(*asked) == first
    assert not store._link.step("open", "j.1", NOW, "", "token-2", "")
    assert store.open("j.1", NOW) is None
    submit(store, "j.1", "task-1", NOW + 10)
    assert not store._link.step(*asked)


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
    assert store.job("j").due_at == NOW + BEGIN_PATIENCE


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
    assert store.job("j").due_at == NOW + BEGIN_PATIENCE
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
    assert (job.state, job.artifact_urls, job.due_at) == (State.COLLECTING, URLS, NOW + BEGIN_PATIENCE)
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
    store.journal.hear(Callback(PROVIDER, "a", "j.1", b"{}", NOW), "up-1", False)
    told = {word.partition("/")[2]: number for word, number in store.stats().items()}
    assert told == {"submits": 1, "succeeded": 1, "callbacks": 2, "polls": 1}


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
    store.collecting.later("j", NOW + 1, "the disk is full", DIES_AT)
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


def test_seconds_after_the_lease_are_not_busy(store):
    opened(store, "j")
    assert used(store) == {"a": 1}
    store.fill(PROVIDER, NOW + LEASE)
    store.enqueue(new("k"), NOW + LEASE)
    store.settle("j.1", "succeeded", NOW + LEASE + 5, artifact_urls=URLS)
    store.settle("k.1", "succeeded", NOW + LEASE + 5, artifact_urls=URLS)
    (row,) = store.accounts.rows(PROVIDER, NOW)
    assert float(row["busy_seconds"]) == 5


# --- a server that is gone -----------------------------------------------------------------------------


def test_store_says_that_the_server_is_gone_and_goes_on_when_it_is_back(tmp_path: Path):
    with EmbeddedServer.start(tmp_path / "own") as own:
        store = Store(own.url)
        have(store, a=1)
        store.enqueue(new("1", "2"), NOW)
        with redis.Redis.from_url(own.url) as client:
            client.waitaof(1, 0, 5_000)  # a server that is killed may lose what it has not written yet
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
    assert 0.1 < time.monotonic() - began < WAIT_SLICE_SECONDS
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
    seen = store.ended_in("b", timeout=30)
    assert [next(seen), next(seen)] == ["1", "2"]
    timer = after(0.1, lambda: end(store, "3"))
    began = time.monotonic()
    assert next(seen) == "3"
    assert time.monotonic() - began < WAIT_SLICE_SECONDS
    timer.join()
    with pytest.raises(TimeoutError, match="'b'"):
        list(store.ended_in("b", timeout=0.2))
