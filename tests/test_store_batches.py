"""A batch as a whole: filled, over, stopped, cancelled, forgotten; on a real server, in the test's time."""

from __future__ import annotations

from itertools import islice

import pytest

from orchestrator.models import RETENTION, Retention, State
from orchestrator.store import Store
from orchestrator.store.reading import JOBS_PER_CALL
from tests import store_kit
from tests.store_kit import NOW, PROVIDER, collecting, end, ended, have, names, new, numbered

server, raw, store = store_kit.server, store_kit.raw, store_kit.store

LEASE = 600.0
NAMES = ("batch", "jobs-of", "ended-in", "lanes-of", "spend-of", "filling")


def over_at(store: Store, batch: str = "b") -> float | None:
    return store.batches.standing(batch).over_at


def end_next(store: Store, state: State = State.SUCCEEDED, now: float = NOW) -> None:
    """Whoever holds the slot is begun and ends."""
    (attempt,) = store.accounts.holders(PROVIDER, "a")
    assert store.open(attempt, now)
    urls = ("https://pictures.example/1.png",) if state is State.SUCCEEDED else ()
    assert store.settle(attempt, state.value, now, artifact_urls=urls).finish
    end(store, attempt.partition(".")[0], state, now)


def fail(store: Store, times: int) -> None:
    for _ in range(times):
        end_next(store, State.FAILED)


# --- filling ------------------------------------------------------------------------------------------


def test_batch_that_is_being_filled_is_not_over_although_its_jobs_are(store):
    store.batches.begin_filling("b", "p", NOW)
    ended(store, "1", batch="b")
    assert over_at(store) is None and store.batches.standing("b").is_filled
    store.batches.end_filling("b", "p", NOW + 5)
    assert over_at(store) == NOW + 5 and not store.batches.standing("b").is_filled
    store.batches.end_filling("b", "p", NOW + 6)
    assert over_at(store) == NOW + 5


def test_batch_is_over_with_the_last_who_fills_it_or_with_its_last_job(store):
    store.batches.begin_filling("b", "p", NOW)
    store.batches.begin_filling("b", "q", NOW)
    store.enqueue(new("1", batch="b"), NOW)
    store.batches.end_filling("b", "p", NOW)
    end_next(store)
    assert over_at(store) is None
    store.enqueue(new("2", batch="b"), NOW)
    store.batches.end_filling("b", "q", NOW)
    assert over_at(store) is None
    end_next(store, now=NOW + 1)
    assert over_at(store) == NOW + 1


def test_producer_that_is_not_heard_of_any_more_lets_the_batch_be_over(store):
    store.batches.begin_filling("b", "killed", NOW)
    store.batches.begin_filling("b", "alive", NOW + 300)
    ended(store, "1", batch="b")
    store.batches.begin_filling("b", "alive", NOW + 500)
    store.claim(NOW + LEASE)
    assert over_at(store) is None
    store.claim(NOW + 500 + LEASE - 1)
    assert over_at(store) is None
    store.claim(NOW + 500 + LEASE)
    assert over_at(store) == NOW + 500 + LEASE


def test_producer_that_comes_back_under_its_name_takes_its_own_place_again(store):
    store.batches.begin_filling("b", "p", NOW)  # and is killed
    ended(store, "1", batch="b")
    store.batches.begin_filling("b", "p", NOW + 9)
    store.batches.end_filling("b", "p", NOW + 10)
    assert over_at(store) == NOW + 10


def test_filling_without_a_new_job_does_not_end_a_batch_once_more(store):
    ended(store, "1", batch="b")
    store.batches.begin_filling("b", "p", NOW + 9)
    assert not store.batches.standing("b").is_over
    store.batches.end_filling("b", "p", NOW + 10)
    assert over_at(store) == NOW


def test_jobs_that_come_in_several_calls_keep_their_batch_from_being_over(store, monkeypatch):
    """Its first jobs may all have ended before the last ones come."""
    step, seen = store._link.step, []

    def spy(name, *arguments):
        answer = step(name, *arguments)
        if name == "enqueue":
            seen.append(store.batches.standing("b"))
        return answer

    monkeypatch.setattr(store._link, "step", spy)
    jobs = new(*numbered("j", 2 * JOBS_PER_CALL + 1), batch="b")
    store.enqueue(jobs, NOW)
    assert [each.is_filled for each in seen] == [True, True, False]
    # The same call, made again after it was interrupted, ends what the first one began.
    store.batches.begin_filling("b", jobs[0].id, NOW)
    store.enqueue(jobs, NOW)
    assert not store.batches.standing("b").is_filled
    seen.clear()
    store.enqueue(new("one", batch="b"), NOW)
    assert not seen[0].is_filled


def test_extended_batch_goes_on_and_is_over_again(store, raw):
    ended(store, "1", batch="b")
    store.enqueue(new("2", batch="b"), NOW + 1)
    assert over_at(store) is None
    assert {raw.ttl(f"orc:{name}:b") for name in NAMES} <= {-1, -2}
    end_next(store, now=NOW + 2)
    assert over_at(store) == NOW + 2
    assert list(islice(store.ended_in("b", 1), 2)) == ["1", "2"]


def test_replay_lets_a_batch_go_on(store):
    ended(store, "j", State.FAILED, batch="b")
    assert over_at(store) == NOW
    store.dead.replay(["j"], NOW + 2, even_if_moderated=False)
    assert over_at(store) is None


# --- stopped by failures ------------------------------------------------------------------------------


def test_batch_is_paused_in_the_step_that_ends_its_last_admissible_failure(store):
    store.enqueue(new(*"12345", batch="b"), NOW)
    store.batches.limit("b", {"max_failures": 2}, NOW)
    fail(store, 1)
    assert store.lanes.why_paused("b") == ""
    (granted,) = store.accounts.holders(PROVIDER, "a")
    fail(store, 1)
    assert store.lanes.why_paused("b") == "failures"
    # What was granted meanwhile is not begun: it goes back to its lane.
    (granted,) = store.accounts.holders(PROVIDER, "a")
    assert store.open(granted, NOW) is None
    assert store.fill(PROVIDER, NOW) == ()
    assert store.batches.standing("b").counts["queued"] == 3


def test_resumed_batch_may_have_as_many_failures_again(store):
    store.enqueue(new(*"1234567", batch="b"), NOW)
    store.batches.limit("b", {"max_failures": 2}, NOW)
    fail(store, 2)
    (granted,) = store.accounts.holders(PROVIDER, "a")
    store.open(granted, NOW)
    assert names(store.lanes.resume("batch", "b", NOW))
    fail(store, 1)
    assert store.lanes.why_paused("b") == ""
    fail(store, 1)
    assert store.lanes.why_paused("b") == "failures"


def test_what_was_forgiven_is_no_more_than_what_failed(store):
    """Forgiven failures that were replayed do not let others fail instead."""
    store.enqueue(new(*"123456", batch="b"), NOW)
    store.batches.limit("b", {"max_failures": 2}, NOW)
    fail(store, 2)
    store.dead.replay(["1", "2"], NOW, even_if_moderated=False)
    (granted,) = store.accounts.holders(PROVIDER, "a")
    store.open(granted, NOW)
    store.lanes.resume("batch", "b", NOW)
    fail(store, 2)
    assert store.lanes.why_paused("b") == "failures"


@pytest.mark.parametrize(("succeeded", "failed", "why"), [(0, 19, ""), (15, 5, "failures"), (16, 4, "")])
def test_share_of_failures_counts_once_twenty_have_ended(store, succeeded, failed, why):
    store.enqueue(new(*numbered("j", 30), batch="b"), NOW)
    store.batches.limit("b", {"max_failure_share": 0.25}, NOW)
    for _ in range(succeeded):
        end_next(store)
    fail(store, failed)
    assert store.lanes.why_paused("b") == why


def test_batch_that_is_over_is_not_stopped(store):
    store.batches.limit("b", {"max_failures": 1}, NOW)
    ended(store, "1", State.FAILED, batch="b")
    assert (store.lanes.why_paused("b"), over_at(store)) == ("", NOW)


# --- cancel -------------------------------------------------------------------------------------------


def test_cancel_takes_what_is_not_over_and_holds_the_rest_meanwhile(store):
    have(store, a=3)
    ended(store, "done", batch="b")
    collecting(store, "collecting", batch="b")
    store.enqueue(new("open", "granted", "waits", "waits-too", batch="b"), NOW)
    store.enqueue(new("other"), NOW)
    store.open("open.1", NOW)
    store_kit.submit(store, "open.1", "task-1", NOW + 9)
    store.open("granted.1", NOW)
    first = store.batches.cancel("b", NOW, 0, 3)
    assert (first.seen, first.count, first.to_stop) == (3, 1, (("open", PROVIDER, "a", "task-1"),))
    assert store.lanes.why_paused("b") == "cancel"
    assert names(first.grants) == ["other.1"]  # nothing of the batch is begun
    second = store.batches.cancel("b", NOW, 3, 3)
    assert set(second.quiet) | {each.job_id for each in second.finishes} == {"granted", "waits", "waits-too"}
    assert "waits-too" in second.quiet  # no message of it was ever sent
    assert store.batches.cancel("b", NOW, 6, 3).seen == 0
    assert store.batches.cancel("b", NOW, 0, 6).count == 0
    assert store.lanes.why_paused("b") == "cancel"
    store.batches.end_cancel("b", NOW)
    assert store.lanes.why_paused("b") == ""
    end(store, "collecting")
    assert over_at(store) == NOW
    counts = store.batches.standing("b").counts
    assert (counts["cancelled"], counts["succeeded"]) == (4, 2)


def test_cancelled_batch_is_over_although_somebody_was_filling_it(store):
    store.batches.begin_filling("b", "killed", NOW)
    store.enqueue(new("1", "2", batch="b"), NOW)
    store.batches.cancel("b", NOW, 0, 9)
    assert over_at(store) is None
    store.batches.end_cancel("b", NOW + 1)
    assert over_at(store) == NOW + 1 and store.batches.standing("b").is_over
    store.batches.begin_filling("b", "alive", NOW + 2)
    assert not store.batches.standing("b").is_over


def test_celery_is_told_by_the_due_list_where_who_cancelled_was_killed(store, raw):
    store.enqueue(new("1", "2", batch="b"), NOW)
    quiet = store.batches.cancel("b", NOW, 0, 9).quiet
    assert quiet == ("2",)  # of the first, the message to submit it is on its way
    claimed, _ = store.claim(NOW + 60)
    assert {each.job_id for each in claimed.finishes} == {"1", "2"}
    store.revoked(["1", "2"])
    store.revoked(["1", "2"])
    assert raw.zrange("orc:due", 0, -1) == ["batch:b"]
    assert not store.begin_finish("2", NOW + 999)


def test_job_of_a_canvas_is_cancelled_as_the_task_it_is(store):
    store.enqueue(new("1"), NOW)
    store.enqueue(new("part", batch="b", options={"group_id": "g"}), NOW)
    step = store.batches.cancel("b", NOW, 0, 9)
    assert step.quiet == () and [each.job_id for each in step.finishes] == ["part"]


# --- priority -----------------------------------------------------------------------------------------


def test_waiting_jobs_take_their_new_place_and_keep_their_order(store):
    store.enqueue(new("open", *"123", batch="b"), NOW)
    store.enqueue(new("high", batch="b", priority=5), NOW)
    assert store.batches.prioritise(["1", "3", "nobody"], 7) == 2
    assert store.batches.prioritise(["1", "3"], 7) == 2
    assert store_kit.served(store, "open.1", 5) == ["open", "1", "3", "high", "2"]
    assert store.job("1").priority == 7


def test_job_that_is_tried_again_comes_back_at_its_new_place(store):
    store.enqueue(new("1", "2", "3"), NOW)
    store.open("1.1", NOW)
    assert store.batches.prioritise(["1"], 9) == 1
    assert store_kit.lose(store, "1.1") == ["1.2"]


# --- what is kept -------------------------------------------------------------------------------------


def test_nothing_of_a_batch_that_is_over_is_kept_for_ever(store, raw):
    store.lanes.weigh("b", 3, NOW)
    store.batches.limit("b", {"max_spend": 100.0}, NOW)
    store.batches.begin_filling("b", "p", NOW)
    store.enqueue(new("1", "2", batch="b"), NOW)
    store.batches.end_filling("b", "p", NOW)
    end_next(store)
    store.lanes.pause("batch", "b", NOW)
    end_next(store, State.FAILED)
    assert "batch:b" not in store.lanes.paused()
    store.lanes.pause("batch", "b", NOW)  # although it is over
    for job in "12":
        raw.expire(f"orc:job:{job}", 1)
    kept = {key: raw.ttl(key) for key in raw.keys("*:b") + raw.keys("*:b.*")}
    assert set(kept) == {f"orc:{name}:b" for name in NAMES if name != "filling"}
    assert all(0 < seconds <= RETENTION.failed for seconds in kept.values())
    store.claim(NOW + RETENTION.failed + 1)  # by the test's clock; Redis has its own, and keeps them still
    assert "b" in raw.hgetall("orc:weights")
    for key in kept:
        raw.delete(key)
    store.claim(NOW + 2 * RETENTION.failed + 9)
    assert [key for key in raw.keys("orc:*") if raw.type(key) == "string" and ":b" in key] == []
    assert "b" not in raw.hgetall("orc:weights") and "batch:b" not in store.lanes.paused()
    assert list(store.batches.latest()) == [] and "batch:b" not in raw.zrange("orc:due", 0, -1)


def test_what_was_said_of_a_batch_that_never_came_is_forgotten(store, raw):
    store.lanes.weigh("typo", 3, NOW)
    store.batches.limit("typo", {"max_failures": 3}, NOW)
    assert 0 < raw.ttl("orc:batch:typo") <= RETENTION.ended
    raw.delete("orc:batch:typo")
    store.claim(NOW + RETENTION.ended)
    assert raw.hgetall("orc:weights") == {} and raw.zrange("orc:due", 0, -1) == []


def test_what_was_said_of_a_batch_before_its_first_job_is_kept_with_it(store, raw):
    store.batches.limit("b", {"max_failures": 3}, NOW)
    store.enqueue(new("1", batch="b"), NOW)
    assert raw.ttl("orc:batch:b") == -1
    assert store.batches.standing("b").max_failures == 3


@pytest.mark.parametrize(("state", "days"), [(State.SUCCEEDED, 1), (State.FAILED, 2)])
def test_ended_jobs_are_kept_for_as_long_as_the_settings_say(server, raw, state, days):
    raw.flushall()
    short = Store(server.url, Retention(ended=86_400, failed=2 * 86_400))
    have(short, a=1)
    ended(short, "j", state, batch="b")
    for key in ("orc:job:j", "orc:attempt:j.1", "orc:batch:b", "orc:jobs-of:b", "orc:ended-in:b"):
        assert (days - 1) * 86_400 < raw.ttl(key) <= days * 86_400, key
    short.close()


def test_purge_deletes_the_first_jobs_and_with_the_last_the_batch(store, raw):
    for job in "12":
        ended(store, job, batch="b")
    ended(store, "3", State.FAILED, batch="b")
    before = store.spend.by_day(PROVIDER, "a")
    assert store.batches.purge("b", ["2", "3"]) == 0  # not its first
    assert store.batches.purge("b", ["1", "2"]) == 2
    assert store.batches.purge("b", ["1", "2"]) == 0  # the same call, made again
    assert [job.id for job in store.jobs(["1", "2", "3"])] == ["3"]
    assert store.batches.purge("b", ["3"]) == 1
    assert store.batches.standing("b") is None and store.dead.ids(NOW) == []
    assert not [
        key for key in raw.keys("orc:*") if key.startswith(("orc:job:", "orc:attempt:")) or ":b" in key
    ]
    assert store.spend.by_day(PROVIDER, "a") == before
    assert store.counts()[f"{PROVIDER}/succeeded"] == 2  # those that ever did
    assert raw.zrange("orc:due", 0, -1) == []


def test_batch_that_goes_on_is_not_purged(store):
    ended(store, "1", batch="b")
    store.enqueue(new("2", batch="b"), NOW)
    assert store.batches.purge("b", ["1", "2"]) == 0
    end_next(store)
    store.batches.begin_filling("b", "p", NOW)
    assert store.batches.purge("b", ["1", "2"]) == 0
    store.batches.end_filling("b", "p", NOW)
    assert store.batches.purge("b", ["1", "2"]) == 2


def test_batches_are_listed_the_latest_first(store):
    for moment, name in enumerate("abc"):
        store.enqueue(new(name, batch=name), NOW + moment)
    assert [each.name for each in store.batches.latest()] == ["c", "b", "a"]
    store.enqueue(new("more", batch="a"), NOW + 9)
    assert [each.created_at for each in store.batches.latest()] == [NOW + 2, NOW + 1, NOW]
