"""How jobs end: finished, cancelled, expired, late, and dead letters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.errors import JobNotFound
from orchestrator.models import Retention, State, Tries
from orchestrator.retry import UNTIL_RESUMED
from orchestrator.store import Store
from tests import store_kit
from tests.store_kit import (
    BEGIN_PATIENCE,
    DAY,
    DIES_AT,
    ERROR,
    FAILURE,
    FINISH_PATIENCE,
    LATE_URLS,
    NOW,
    PROVIDER,
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
    served,
    submit,
    succeed,
    used,
)

server, raw, store, another = store_kit.server, store_kit.raw, store_kit.store, store_kit.another


UNTAKEN_KEPT = 3600


# --- attempts that nobody took --------------------------------------------------------------------------


def untaken(store: Store, count: int, job_id: str = "j") -> None:
    """The provider is full, so many times; then the next attempt is open."""
    opened(store, job_id)
    for number in range(1, count + 1):
        store.settle(f"{job_id}.{number}", "busy", NOW, error=ERROR, again_at=NOW)
        assert store.open(f"{job_id}.{number + 1}", NOW)


def kept(raw: Any, *attempts: str) -> list[str]:
    """For how long each is known."""
    words = {-2: "not", -1: "for ever"}
    seconds = [raw.ttl(f"orc:attempt:{attempt}") for attempt in attempts]
    return [words.get(each) or ("an hour" if each <= UNTAKEN_KEPT else "a week") for each in seconds]


def test_attempts_that_nobody_took_are_soon_forgotten(store, raw):
    untaken(store, 2)
    submit(store, "j.3", "task-3", NOW + 60)
    store.settle("j.3", "busy", NOW, error=ERROR, again_at=NOW)  # it has a name, so somebody took it
    store.open("j.4", NOW)
    store.settle("j.4", "failed", NOW, error=ERROR, again_at=NOW, counts=FAILURE)
    store.open("j.5", NOW)
    attempts = [f"j.{number}" for number in range(1, 6)]
    assert kept(raw, *attempts) == ["an hour"] * 2 + ["for ever"] * 3
    succeed(store, "j.5")
    end(store, "j")
    assert kept(raw, *attempts) == ["an hour"] * 2 + ["a week"] * 3


def test_job_goes_on_and_ends_although_its_attempts_were_forgotten(store, raw):
    untaken(store, 3)
    store.settle("j.4", "busy", NOW, error=ERROR, again_at=NOW + 9)
    raw.delete(*(f"orc:attempt:j.{number}" for number in range(1, 5)))
    assert store.settle("j.4", "succeeded", NOW, artifact_urls=URLS).word == "unknown"
    assert submit(store, "j.4", "task-4", NOW + 60) == "" and not raw.exists("orc:attempt:j.4")
    assert names(store.claim(NOW + 9)[1]) == ["j.5"]
    assert store.open("j.5", NOW + 9)
    succeed(store, "j.5", NOW + 9)
    begun = store.begin_finish("j", NOW + 9)
    assert [dict(each).get("verdict") for each in begun.attempts] == [None] * 4 + ["succeeded"]
    assert store.end("j", NOW + 9, State.SUCCEEDED, {"artifacts": []}, "", begun.token)
    (found,) = store.attempts_of([store.job("j")])
    assert [attempt.number for attempt in found] == [5]


@pytest.mark.parametrize("has_ended", [False, True])
def test_attempt_that_was_taken_after_all_is_known_for_as_long_as_its_job(has_ended, store, raw):
    untaken(store, 1)
    if has_ended:
        succeed(store, "j.2")
        end(store, "j")
    late(store, "j.1")
    assert kept(raw, "j.1") == ["a week" if has_ended else "for ever"]
    assert raw.hget("orc:attempt:j.1", "fate") == "confirmed"


# --- late successes ------------------------------------------------------------------------------------


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
    lose(store, "j.1", NOW + 10)
    assert late(store) == ["j.1"]
    assert store.claim(NOW + 10)[0].count == 0
    assert names(store.claim(NOW + BEGIN_PATIENCE)[0].finishes) == ["j.1"]


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


def test_lifted_job_is_not_over_until_it_ends_again(store, raw):
    opened(store, "j")
    lose(store, "j.1", again_at=None)
    end(store, "j", State.FAILED)
    late(store)
    assert (raw.ttl("orc:job:j"), raw.ttl("orc:attempt:j.1")) == (-1, -1)
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
    store.collecting.later("j", NOW + 9, "the disk is full", DIES_AT)
    job = store.job("j")
    assert (job.state, job.collect_failures, job.due_at) == (State.COLLECTING, 1, NOW + 9)
    assert store.claim(NOW + 8)[0].count == 0
    assert names(store.claim(NOW + 9)[0].finishes) == ["j.1"]
    assert store.begin_finish("j", NOW + 9)


def test_finish_later_of_a_job_that_is_over_changes_nothing(store):
    ended(store)
    store.collecting.later("j", NOW + 9, "the disk is full", DIES_AT)
    assert (store.job("j").collect_failures, store.job("j").due_at) == (0, None)


def test_end_twice_is_one_end(store, raw):
    collecting(store, batch="b")
    store.begin_finish("j", NOW)
    heard = raw.pubsub(ignore_subscribe_messages=True)
    heard.subscribe("orc:ended:j")
    heard.get_message(timeout=30)
    assert store.end("j", NOW + 5, State.SUCCEEDED, {"artifacts": [1]}, "")
    assert not store.end("j", NOW + 6, State.FAILED, None, "too late")
    job = store.job("j")
    assert (job.state, job.ended_at, job.due_at) == (State.SUCCEEDED, NOW + 5, None)
    assert (job.result, job.reason) == ({"artifacts": [1]}, "")
    assert counts(store, "b") == {"succeeded": 1}
    assert store.batch("b")["ended"] == NOW + 5
    assert store.counts()[f"{PROVIDER}/succeeded"] == 1
    assert raw.xlen("orc:ended-in:b") == 1
    assert heard.get_message(timeout=30)
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


def test_batch_that_was_over_is_not_forgotten_when_it_is_extended(store, raw):
    ended(store, batch="b")
    store.enqueue(new("k", batch="b"), NOW)
    for key in ("batch:b", "jobs-of:b", "ended-in:b"):
        assert raw.ttl(f"orc:{key}") == -1


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


# --- expires -------------------------------------------------------------------------------------------

SOON = NOW + 50


def is_cancelled(store: Store, job_id: str = "j") -> bool:
    job = store.job(job_id)
    return job.state is State.CANCELLED and job.reason == "it expired before it was begun"


def test_job_that_expires_in_its_lane_is_cancelled(store, raw):
    opened(store, "other")
    store.enqueue(new("j", batch="b", expires_at=SOON), NOW)
    assert store.job("j").due_at == store.job("j").expires_at == SOON
    assert store.claim(SOON - 1)[0].count == 0
    claimed, grants = store.claim(SOON)
    assert ([message.job_id for message in claimed.finishes], grants) == (["j"], ())
    assert is_cancelled(store)
    assert counts(store, "b") == {"cancelled": 1}
    assert raw.keys("orc:lane:*") == []
    assert store.begin_finish("j", SOON)
    assert succeed(store, "other.1", SOON) == []


def test_job_that_expires_in_its_lane_is_not_granted_the_slot_that_is_freed_then(store):
    """The due list was not looked at yet."""
    opened(store, "other")
    store.enqueue(new("j", "k", expires_at=SOON), NOW)
    store.enqueue(new("next"), NOW)
    assert succeed(store, "other.1", SOON) == ["next.1"]
    assert len(store.claim(SOON)[0].finishes) == 2
    assert is_cancelled(store, "j") and is_cancelled(store, "k")


def test_job_that_is_granted_in_time_is_not_opened_too_late(store):
    store.enqueue(new("j", expires_at=SOON), NOW)
    store.enqueue(new("next"), NOW)
    assert store.open("j.1", SOON) is None
    claimed, grants = store.claim(SOON)
    assert [message.job_id for message in claimed.finishes] == ["j"]
    assert names(grants) == ["next.1"]
    assert is_cancelled(store)
    assert store.stats().get(f"{PROVIDER}/submits") is None


def test_grant_that_nobody_opened_in_time_is_taken_back(store):
    store.enqueue(new("j", expires_at=NOW + 10), NOW)
    store.enqueue(new("next"), NOW)
    claimed, grants = store.claim(NOW + 15)
    assert (claimed.submits, names(grants)) == ((), ["next.1"])
    assert is_cancelled(store)
    assert store.open("j.1", NOW + 15) is None


def test_attempt_that_was_begun_in_time_goes_on(store):
    opened(store, "j", expires_at=SOON)
    submit(store, "j.1", "task-1", SOON + 10)
    assert store.claim(SOON)[0].count == 0
    assert store.settle("j.1", "succeeded", SOON + 10, artifact_urls=URLS).finish
    assert store.job("j").state is State.COLLECTING


@pytest.mark.parametrize("again_at", [NOW, SOON - 1, SOON + 1])
def test_job_that_failed_and_expires_fails_by_what_it_failed_last(again_at, store):
    opened(store, "j", expires_at=SOON)
    store.enqueue(new("next"), NOW)
    store.settle("j.1", "lost", NOW, error=ERROR, again_at=again_at, counts=FAILURE)
    for message in store.claim(SOON + 1)[0].finishes:
        assert message.job_id == "j"
    job = store.job("j")
    assert (job.state, job.error, job.artifact_urls) == (State.COLLECTING, ERROR, ())
    assert store.open("j.2", SOON + 1) is None
    assert store.accounts.holders(PROVIDER, "a") == ["next.1"]
    end(store, "j", State.FAILED, now=SOON + 1)
    assert store.dead.ids(SOON + 1) == [("j", SOON + 1)]


def test_job_that_failed_and_expires_in_its_lane_leaves_it(store, raw):
    opened(store, "j", expires_at=SOON)
    store.enqueue(new("next"), NOW)
    assert lose(store, "j.1", NOW + 5) == ["next.1"]
    store.open("next.1", NOW)
    store.claim(NOW + 5)
    assert raw.keys("orc:lane:*") != []
    assert [message.job_id for message in store.claim(SOON)[0].finishes] == ["j"]
    assert raw.keys("orc:lane:*") == []
    assert succeed(store, "next.1", SOON) == []


def test_late_success_saves_a_job_that_expired(store):
    opened(store, "j", expires_at=SOON)
    lose(store, "j.1", again_at=SOON)
    store.claim(SOON)
    assert store.job("j").error == ERROR
    assert late(store, now=SOON + 1) == ["j.1"]
    end(store, "j", now=SOON + 200)
    assert store.job("j").state is State.SUCCEEDED


def test_job_that_may_begin_only_after_its_time_is_cancelled(store):
    store.enqueue(new("j", start_at=SOON + 5, expires_at=SOON), NOW)
    assert store.claim(SOON + 5)[1] == ()
    assert is_cancelled(store)


def test_jobs_that_expired_do_not_use_up_the_share_of_the_others_of_their_batch(store):
    opened(store, "other")
    store.enqueue(new(*numbered("x", 20), batch="b", expires_at=SOON), NOW)
    store.enqueue(new(*numbered("y", 20), batch="b"), NOW)
    store.enqueue(new(*numbered("o", 20), batch="o"), NOW)
    store.claim(SOON)
    (first,) = succeed(store, "other.1", SOON)
    order = served(store, first, 10, SOON)
    assert abs(len([each for each in order if each[0] == "y"]) - 5) <= 1, order


def test_step_looks_through_a_bounded_number_of_expired_jobs(store, raw):
    opened(store, "other")
    store.enqueue(new(*numbered("x", 5000), expires_at=SOON), NOW)
    before = raw.info("commandstats")
    succeed(store, "other.1", SOON)
    after = raw.info("commandstats")
    calls = {name: each["calls"] - before.get(name, {"calls": 0})["calls"] for name, each in after.items()}
    assert calls["cmdstat_zpopmin"] <= 1000


# --- how often a job may fail --------------------------------------------------------------------------


def test_failures_are_counted_by_class_and_shown_with_what_the_job_may_have(store):
    store.enqueue(new("j", max_attempts=7), NOW)
    for number, kind in enumerate(["Unavailable", "BadOutput", "Unavailable"], 1):
        assert store.open(f"j.{number}", NOW).tries.most == 7
        store.settle(f"j.{number}", "failed", NOW, error=ERROR, again_at=NOW, counts=kind)
    told = store.open("j.4", NOW).tries
    assert (told.failures, told.most) == ({"Unavailable": 2, "BadOutput": 1}, 7)
    assert store.attempt("j.4").tries == told
    assert store.attempt("j.2").tries.failures == {"Unavailable": 1}  # as it stood then
    store.settle("j.4", "busy", NOW, error=ERROR, again_at=NOW + 5)
    assert store.job("j").failures == 3


# --- dead letters --------------------------------------------------------------------------------------


def dead(store: Store, *ids: str, now: float = NOW, **fields: Any) -> None:
    """Jobs that failed for good."""
    for job_id in ids:
        store.enqueue(new(job_id, **fields), now)
        assert store.open(f"{job_id}.1", now)
        store.settle(f"{job_id}.1", "failed", now, error=ERROR, counts=FAILURE)
        end(store, job_id, State.FAILED, now=now)


def test_failed_jobs_are_dead_letters_and_others_are_not(store, raw):
    for n, job_id in enumerate("123"):
        dead(store, job_id, now=NOW + 10 * n)
    ended(store, "fine")
    opened(store, "gone")
    store.cancel("gone", NOW)
    end_of = [("1", NOW), ("2", NOW + 10), ("3", NOW + 20)]
    assert store.dead.ids(NOW + 30) == end_of
    assert store.dead.ids(NOW + 30, after=NOW + 5) == end_of[1:]
    assert store.dead.ids(NOW + 30, before=NOW + 10) == end_of[:2]
    assert 29 * DAY < raw.ttl("orc:job:1") <= 30 * DAY
    assert 29 * DAY < raw.ttl("orc:attempt:1.1") <= 30 * DAY
    store.claim(NOW + 30 * DAY + 5)
    assert store.dead.ids(NOW + 30 * DAY + 5) == end_of[1:]


def test_dead_letters_stay_where_one_looks_who_was_told_to_keep_them_for_less_long(store, another):
    dead(store, "j")
    looks, later = another(Retention(DAY, DAY)), NOW + 2 * DAY
    assert looks.dead.ids(later) == store.dead.ids(later) == [("j", NOW)]
    assert store.dead.replay(["j"], later, False).count == 1


def test_dead_letter_that_is_replayed_runs_again_as_if_it_had_not_failed(store, raw):
    dead(store, "j", batch="b", expires_at=SOON, max_attempts=2)
    told = store.dead.replay(["j"], NOW + DAY, False)
    assert (told.count, names(told.grants), told.finishes) == (1, ["j.2"], ())
    job = store.job("j")
    assert (job.state, job.failures, job.error, job.reason) == (State.QUEUED, 0, None, "")
    assert (job.ended_at, job.expires_at) == (None, None)
    assert [raw.ttl(f"orc:{key}") for key in ("job:j", "attempt:j.1", "batch:b")] == [-1, -1, -1]
    assert store.dead.ids(NOW + DAY) == []
    assert counts(store, "b") == {"queued": 1}
    assert store.open("j.2", NOW + DAY).tries == Tries({}, 2)
    store.settle("j.2", "succeeded", NOW + DAY, artifact_urls=URLS)
    end(store, "j", now=NOW + DAY)
    assert counts(store, "b") == {"succeeded": 1}
    assert raw.ttl("orc:batch:b") > 0


def test_dead_letter_is_replayed_once(store):
    dead(store, "1", "2")
    have(store, a=9)
    assert store.dead.replay(["1", "1"], NOW, False).count == 1
    again = store.dead.replay(["1", "2", "nobody"], NOW, False)  # the first call was interrupted, say
    assert (again.count, names(again.grants)) == (1, ["2.2"])
    assert used(store) == {"a": 2}


def test_replay_may_fail_again_and_be_replayed_again(store):
    dead(store, "j")
    for number in (2, 3):
        assert names(store.dead.replay(["j"], NOW, False).grants) == [f"j.{number}"]
        store.open(f"j.{number}", NOW)
        store.settle(f"j.{number}", "failed", NOW, error=ERROR, counts=FAILURE)
        end(store, "j", State.FAILED)
        assert store.dead.ids(NOW) == [("j", NOW)]


def test_job_whose_pictures_exist_is_collected_again_and_not_made_again(store):
    collecting(store)
    store.collecting.later("j", NOW, "the disk is full", DIES_AT)
    end(store, "j", State.FAILED)
    told = store.dead.replay(["j"], NOW + 1, False)
    assert (told.count, told.grants, names(told.finishes)) == (1, (), ["j.1"])
    job = store.job("j")
    assert (job.state, job.artifact_urls, job.collect_failures) == (State.COLLECTING, URLS, 0)
    assert store.claim(NOW + 1 + FINISH_PATIENCE)[0].finishes == told.finishes  # the message was lost
    end(store, "j", now=NOW + 2)
    assert (store.job("j").state, store.job("j").attempts) == (State.SUCCEEDED, 1)


def test_dead_letter_that_a_late_success_lifted_is_none_any_more(store):
    dead(store, "j")
    late(store)
    assert store.dead.ids(NOW) == []
    assert store.dead.replay(["j"], NOW, False).count == 0


def test_late_success_of_a_job_that_is_replayed_ends_the_replay(store):
    dead(store, "j")
    store.dead.replay(["j"], NOW, False)
    assert late(store) == ["j.2"]
    assert used(store) == {"a": 0}


@pytest.mark.parametrize("even", [False, True])
def test_what_moderation_refused_is_sent_in_a_replay_only_if_a_person_says_so(even, store):
    store.enqueue(new("j"), NOW)
    store.open("j.1", NOW, "hash")
    store.settle("j.1", "failed", NOW, error=ERROR, counts="Moderated", means="moderated")
    end(store, "j", State.FAILED)
    store.dead.replay(["j"], NOW, even)
    assert store.open("j.2", NOW, "hash").refused is not even


def test_replayed_job_waits_where_it_waited(store):
    """Its account, its batch and its place are what they were."""
    dead(store, "j", batch="b", account="a", priority=4)
    opened(store, "other")
    store.enqueue(new("k", batch="b", account="a", priority=4), NOW)
    store.lanes.pause("batch", "b", NOW)
    assert store.dead.replay(["j"], NOW, False).grants == ()
    assert succeed(store, "other.1") == []
    assert names(store.lanes.resume("batch", "b", NOW)) == ["j.2"]


def test_purged_letters_stay_failed_and_are_forgotten_after_a_week(store, raw):
    dead(store, "1", "2")
    assert store.dead.purge(["1", "nobody"]) == 1
    assert store.dead.ids(NOW) == [("2", NOW)]
    assert 0 < raw.ttl("orc:job:1") <= 7 * DAY
    assert raw.ttl("orc:job:2") > 7 * DAY
    assert store.dead.replay(["1"], NOW, False).count == 0
    assert store.job("1").state is State.FAILED


def test_job_that_was_replayed_meanwhile_is_not_forgotten_by_a_purge(store, raw):
    dead(store, "j")
    store.dead.replay(["j"], NOW, False)
    assert store.dead.purge(["j"]) == 0
    assert raw.ttl("orc:job:j") == -1


def test_batch_is_kept_for_as_long_as_a_dead_letter_of_it(store, raw):
    dead(store, "1", batch="b")
    ended(store, "2", batch="b")
    assert raw.ttl("orc:batch:b") > 29 * DAY


@pytest.mark.parametrize("how", ["replay", "late"])
def test_job_whose_batch_was_forgotten_can_be_ended(how, store, raw):
    dead(store, "j", batch="b")
    raw.delete("orc:batch:b", "orc:jobs-of:b", "orc:ended-in:b", "orc:lanes-of:b")
    if how == "replay":
        store.dead.replay(["j"], NOW, False)
        store.open("j.2", NOW)
        store.settle("j.2", "succeeded", NOW, artifact_urls=URLS)
    else:
        late(store)
    end(store, "j")
    assert store.job("j").state is State.SUCCEEDED
