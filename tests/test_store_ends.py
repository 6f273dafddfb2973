"""How jobs end: finished, cancelled, expired, late, and dead letters."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator.errors import JobNotFound
from orchestrator.models import State
from orchestrator.retry import UNTIL_RESUMED
from orchestrator.store import Store
from tests import store_kit
from tests.store_kit import (
    DAY,
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
    opened,
    rest,
    submit,
    used,
)

server, raw, store = store_kit.server, store_kit.raw, store_kit.store


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
