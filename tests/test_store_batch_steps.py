"""Batches as a whole, step by step, each interrupted and repeated: filled, stopped, cancelled, purged."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.models import Notice, Retention, State
from orchestrator.store import Store
from tests import store_kit
from tests.store_kit import (
    DAY,
    ERROR,
    FAILURE,
    FINISH_PATIENCE,
    NOW,
    PROVIDER,
    collecting,
    counts,
    end,
    ended,
    have,
    lose,
    names,
    new,
    numbered,
    opened,
    served,
    submit,
    succeed,
    used,
)

server, raw, store = store_kit.server, store_kit.raw, store_kit.store

FILLING_LEASE = 600
URL = "https://hooks.example.com/batch"


def is_over(store: Store, batch: str = "b") -> bool:
    """As the record and as the counts say, which must agree."""
    standing = store.batches.standing(batch)
    assert (standing.over_at is not None) == standing.is_over
    return standing.is_over


def fail(store: Store, *ids: str, now: float = NOW) -> None:
    """Ends jobs whose first attempt is granted or open."""
    for job_id in ids:
        attempt = f"{job_id}.{store.job(job_id).attempts}"
        store.open(attempt, now)
        store.settle(attempt, "failed", now, error=ERROR, counts=FAILURE)
        end(store, job_id, State.FAILED, now)


def finish(store: Store, *ids: str, now: float = NOW) -> None:
    for job_id in ids:
        attempt = f"{job_id}.{store.job(job_id).attempts}"
        store.open(attempt, now)
        succeed(store, attempt, now)
        end(store, job_id, now=now)


# --- filling -------------------------------------------------------------------------------------------


def test_batch_that_is_filled_is_over_with_the_filling(store):
    store.batches.begin_filling("b", "p", NOW)
    ended(store, "j", batch="b")
    assert not is_over(store) and store.batches.standing("b").is_filled
    store.batches.end_filling("b", "p", NOW + 5)
    assert is_over(store) and store.batches.standing("b").over_at == NOW + 5
    assert store.batches.standing("b").ended_at == NOW


def test_batch_whose_jobs_go_on_is_over_with_the_last_of_them(store):
    store.batches.begin_filling("b", "p", NOW)
    opened(store, "j", batch="b")
    store.batches.end_filling("b", "p", NOW)
    assert not is_over(store)
    finish(store, "j", now=NOW + 1)
    assert is_over(store)


def test_filling_that_was_given_up_is_ended_by_its_due_entry(store):
    store.batches.begin_filling("b", "p", NOW)
    ended(store, "j", batch="b")
    store.claim(NOW + FILLING_LEASE - 1)
    assert not is_over(store)
    store.claim(NOW + FILLING_LEASE)
    assert is_over(store)
    assert store.batches.standing("b").over_at == NOW + FILLING_LEASE


def test_filling_that_was_given_up_is_ended_by_the_last_job_where_that_is_first(store, raw):
    """Before the ticker has seen that its lease ran out."""
    store.batches.begin_filling("b", "p", NOW)
    opened(store, "j", batch="b")
    finish(store, "j", now=NOW + FILLING_LEASE)
    assert is_over(store) and store.batches.standing("b").over_at == NOW + FILLING_LEASE
    assert not raw.exists("orc:filling:b")
    store.batches.end_filling("b", "p", NOW + FILLING_LEASE)  # it was only slow
    assert is_over(store) and purge(store) == 1


def test_claim_that_was_interrupted_is_made_again(store, raw):
    """The due entry of a filling stays until the step that ends the filling."""
    store.batches.begin_filling("b", "p", NOW)
    assert raw.zscore("orc:due", "batch:b") == NOW + FILLING_LEASE
    store.claim(NOW + FILLING_LEASE - 1)
    assert raw.zscore("orc:due", "batch:b") == NOW + FILLING_LEASE


def test_who_says_so_again_in_time_goes_on_filling(store):
    store.batches.begin_filling("b", "p", NOW)
    ended(store, "j", batch="b")
    store.batches.begin_filling("b", "p", NOW + FILLING_LEASE - 1)
    store.claim(NOW + FILLING_LEASE)
    assert not is_over(store)
    store.claim(NOW + 2 * FILLING_LEASE - 1)
    assert is_over(store)


@pytest.mark.parametrize("first", ["p", "q"])
def test_batch_that_two_fill_is_over_with_the_second(first, store):
    for producer in ("p", "q"):
        store.batches.begin_filling("b", producer, NOW)
    ended(store, "j", batch="b")
    store.batches.end_filling("b", first, NOW)
    store.batches.end_filling("b", first, NOW)  # safe to call twice
    assert not is_over(store)
    store.batches.end_filling("b", {"p": "q", "q": "p"}[first], NOW)
    assert is_over(store)


@pytest.mark.parametrize("killed", ["p", "q"])
def test_batch_waits_for_the_one_of_two_that_was_killed(killed, store):
    """The due entry is at the end of the lease that is left, whichever of them began last."""
    store.batches.begin_filling("b", "p", NOW)
    store.batches.begin_filling("b", "q", NOW + 100)
    ended(store, "j", batch="b")
    store.batches.end_filling("b", {"p": "q", "q": "p"}[killed], NOW + 200)
    until = {"p": NOW, "q": NOW + 100}[killed] + FILLING_LEASE
    store.claim(until - 1)
    assert not is_over(store)
    store.claim(until)
    assert is_over(store)


def test_lease_that_ran_out_does_not_end_that_of_another(store):
    store.batches.begin_filling("b", "p", NOW)
    ended(store, "j", batch="b")
    store.batches.begin_filling("b", "q", NOW + 500)
    store.claim(NOW + FILLING_LEASE)
    assert not is_over(store)
    store.claim(NOW + 500 + FILLING_LEASE)
    assert is_over(store)


def test_same_producer_twice_is_one(store):
    for moment in (NOW, NOW + 1):
        store.batches.begin_filling("b", "p", moment)
    ended(store, "j", batch="b")
    store.batches.end_filling("b", "p", NOW + 2)
    assert is_over(store)


def test_producer_that_was_killed_takes_its_place_again(store):
    store.batches.begin_filling("b", "p", NOW)
    ended(store, "1", batch="b")
    store.batches.begin_filling("b", "p", NOW + 100)  # it is back
    ended(store, "2", batch="b")
    assert not is_over(store)
    store.batches.end_filling("b", "p", NOW + 200)
    assert is_over(store)


def test_producer_that_comes_back_too_late_extends_the_batch(store):
    store.batches.begin_filling("b", "p", NOW)
    ended(store, "1", batch="b")
    later = NOW + FILLING_LEASE + 1
    store.claim(later)
    assert is_over(store)
    store.batches.begin_filling("b", "p", later)
    store.enqueue(new("2", batch="b"), later)
    assert not is_over(store)
    finish(store, "2", now=later)
    assert store.batches.standing("b").is_over is False
    store.batches.end_filling("b", "p", later)
    assert is_over(store)


def test_end_of_a_filling_that_nobody_began_changes_nothing(store, raw):
    store.batches.end_filling("nobody", "p", NOW)
    assert store.batches.standing("nobody") is None
    opened(store, "j", batch="b")
    before = raw.hgetall("orc:batch:b")
    store.batches.end_filling("b", "p", NOW)
    assert raw.hgetall("orc:batch:b") == before


def test_batch_that_nobody_put_a_job_into_is_over_and_forgotten(store, raw):
    store.batches.begin_filling("b", "p", NOW)
    assert not is_over(store)
    store.batches.end_filling("b", "p", NOW)
    assert is_over(store)
    assert 0 < raw.ttl("orc:batch:b") <= 7 * DAY


def test_many_jobs_enqueued_at_once_are_one_filling(store, monkeypatch):
    """A step takes 500: the batch is not over between two of them, whatever ends there."""
    stages = []
    step = store._link.step

    def spied(name: str, *arguments: Any) -> Any:
        done = step(name, *arguments)
        if name == "enqueue":
            for job in store.jobs(numbered("j", 1200)):
                if not job.state.ended:
                    store.cancel(job.id, NOW)
            standing = store.batches.standing("b")
            stages.append((standing.counts["total"], standing.is_filled, standing.over_at is not None))
        return done

    monkeypatch.setattr(store._link, "step", spied)
    store.notices.tell_of("b", {"on_complete": URL}, NOW)
    assert store.enqueue(new(*numbered("j", 1200), batch="b"), NOW)[0] == 1200
    assert stages == [(500, True, False), (1000, True, False), (1200, False, True)]
    assert [notice.facts["total"] for notice in completed(store)] == ["1200"]


def test_caller_that_was_killed_between_two_calls_comes_back(store, monkeypatch):
    jobs = new(*numbered("j", 700), batch="b")
    step, calls = store._link.step, []

    def dies(name: str, *arguments: Any) -> Any:
        calls.append(name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return step(name, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(store._link, "step", dies)
        with pytest.raises(KeyboardInterrupt):
            store.enqueue(jobs, NOW)
    for job in store.jobs([each.id for each in jobs]):
        store.cancel(job.id, NOW)
    assert not is_over(store)
    assert store.enqueue(jobs, NOW + 1)[0] == 200
    assert not store.batches.standing("b").is_filled
    for job_id in numbered("j", 700)[500:]:
        store.cancel(job_id, NOW + 1)
    assert is_over(store)
    assert store.batches.standing("b").counts["total"] == 700


def test_enqueue_within_a_filling_does_not_end_it(store):
    store.batches.begin_filling("b", "p", NOW)
    store.enqueue(new(*numbered("j", 600), batch="b"), NOW)
    assert store.batches.standing("b").is_filled
    for job_id in numbered("j", 600):
        store.cancel(job_id, NOW)
    assert not is_over(store)
    store.batches.end_filling("b", "p", NOW)
    assert is_over(store)


# --- who is told that it is over -----------------------------------------------------------------------


def completed(store: Store) -> list[Notice]:
    known = store.notices.known(store.notices.ids(dead=False))
    return [each for each in known if each.type == "batch.completed"]


def test_batch_that_is_filled_in_steps_is_told_of_once(store):
    store.notices.tell_of("b", {"on_complete": URL}, NOW)
    store.batches.begin_filling("b", "p", NOW)
    for number in range(3):
        ended(store, f"j{number}", batch="b")
        assert completed(store) == []
    store.batches.end_filling("b", "p", NOW)
    store.batches.end_filling("b", "p", NOW + 1)
    store.claim(NOW + DAY)
    (notice,) = completed(store)
    assert (notice.about, notice.target, notice.facts["total"], notice.facts["succeeded"]) == (
        "b",
        URL,
        "3",
        "3",
    )


def test_filling_that_was_given_up_is_told_of_once(store):
    store.notices.tell_of("b", {"on_complete": URL}, NOW)
    store.batches.begin_filling("b", "p", NOW)
    ended(store, "j", batch="b")
    for moment in (FILLING_LEASE, FILLING_LEASE + 1, DAY):
        store.claim(NOW + moment)
    assert len(completed(store)) == 1


def test_batch_that_is_extended_is_told_of_again(store):
    store.notices.tell_of("b", {"on_complete": URL}, NOW)
    ended(store, "1", batch="b")
    store.enqueue(new("2", batch="b"), NOW + 10)
    assert len(completed(store)) == 1
    finish(store, "2", now=NOW + 20)
    assert sorted(notice.facts["total"] for notice in completed(store)) == ["1", "2"]


def test_batch_that_a_replay_extends_is_told_of_again(store):
    store.notices.tell_of("b", {"on_complete": URL}, NOW)
    store.enqueue(new("j", batch="b"), NOW)
    fail(store, "j")
    store.dead.replay(["j"], NOW + 1, False)
    assert not is_over(store)
    finish(store, "j", now=NOW + 2)
    assert sorted(notice.facts.get("failed", "") for notice in completed(store)) == ["0", "1"]


# --- failures stop it ----------------------------------------------------------------------------------


def waiting_batch(store: Store, how_many: int, slots: int, **limits: float) -> list[str]:
    """Jobs of a batch with limits, more than there are slots."""
    have(store, a=slots)
    store.batches.limit("b", limits, NOW)
    ids = numbered("j", how_many)
    store.enqueue(new(*ids, batch="b"), NOW)
    return ids


def why(store: Store) -> str:
    return store.lanes.why_paused("b")


def test_so_many_failures_stop_a_batch_in_the_step_that_ends_the_last(store):
    waiting_batch(store, 9, 1, max_failures=2)
    fail(store, "j0")
    assert why(store) == ""
    assert used(store) == {"a": 1}
    store.open("j1.1", NOW)
    store.settle("j1.1", "failed", NOW, error=ERROR, counts=FAILURE)
    assert why(store) == ""
    end(store, "j1", State.FAILED)
    assert why(store) == "failures"
    assert "batch:b" in store.lanes.paused()


def test_of_a_stopped_batch_nothing_is_begun_and_what_is_open_goes_on(store):
    ids = waiting_batch(store, 9, 3, max_failures=1)
    store.open("j1.1", NOW)
    fail(store, "j0")
    assert store.open("j2.1", NOW) is None  # it was granted
    assert store.claim(NOW + 1)[1] == ()
    assert succeed(store, "j1.1") == []
    end(store, "j1")
    assert counts(store, "b") == {"failed": 1, "succeeded": 1, "queued": len(ids) - 2}
    assert used(store) == {"a": 1} and store.job("j3").attempts == 1  # granted with the slot of the failure
    assert store.open("j3.1", NOW) is None
    store.claim(NOW + 2)
    assert used(store) == {"a": 0}


def test_slot_of_a_job_that_was_taken_back_is_another_batchs(store):
    waiting_batch(store, 3, 2, max_failures=1)
    store.enqueue(new("other", batch="o"), NOW)
    store.open("j0.1", NOW)
    granted = names(store.settle("j0.1", "failed", NOW, error=ERROR, counts=FAILURE).grants)
    assert granted == ["other.1"]
    end(store, "j0", State.FAILED)
    store.enqueue(new("another", batch="o"), NOW)
    assert store.open("j1.1", NOW) is None
    assert names(store.claim(NOW)[1]) == ["another.1"]


def test_resumed_batch_bears_as_many_failures_again(store):
    waiting_batch(store, 9, 1, max_failures=2)
    fail(store, "j0", "j1")
    assert store.open("j2.1", NOW) is None
    store.claim(NOW)
    assert names(store.lanes.resume("batch", "b", NOW)) == ["j2.2"]
    fail(store, "j2")
    assert why(store) == ""
    fail(store, "j3")
    assert why(store) == "failures"


def test_resume_of_a_batch_that_bears_more_forgives_nothing(store):
    waiting_batch(store, 9, 1, max_failures=2)
    fail(store, "j0")
    store.lanes.pause("batch", "b", NOW)
    store.lanes.resume("batch", "b", NOW)
    fail(store, "j1")
    assert why(store) == "failures"


def test_share_of_failures_counts_from_twenty_ended_jobs(store):
    ids = waiting_batch(store, 40, 1, max_failure_share=0.25)
    fail(store, *ids[:5])
    finish(store, *ids[5:19])
    assert why(store) == ""
    finish(store, ids[19])
    assert why(store) == "failures"


def test_share_below_the_limit_stops_nothing(store):
    ids = waiting_batch(store, 40, 1, max_failure_share=0.25)
    fail(store, *ids[:4])
    finish(store, *ids[4:24])
    assert why(store) == ""


def test_share_is_of_the_jobs_since_the_batch_was_resumed(store):
    ids = waiting_batch(store, 60, 1, max_failure_share=0.5)
    fail(store, *ids[:20])
    assert why(store) == "failures"
    store.open(f"{ids[20]}.1", NOW)
    store.claim(NOW)
    store.lanes.resume("batch", "b", NOW)
    fail(store, *ids[20:39])
    assert why(store) == ""
    finish(store, ids[39])
    assert why(store) == "failures"


def test_cancelled_jobs_are_no_failures(store):
    ids = waiting_batch(store, 40, 1, max_failures=2, max_failure_share=0.2)
    for job_id in ids[:30]:
        store.cancel(job_id, NOW)
    fail(store, ids[30])
    assert why(store) == ""


def test_replay_of_failed_jobs_does_not_bring_the_next_stop_nearer(store):
    waiting_batch(store, 9, 1, max_failures=2)
    fail(store, "j0", "j1")
    store.open("j2.1", NOW)
    store.claim(NOW)
    assert store.dead.replay(["j0", "j1"], NOW, False).grants == ()  # it is paused still
    store.lanes.resume("batch", "b", NOW)
    assert counts(store, "b") == {"queued": 9}
    fail(store, "j0")
    assert why(store) == ""
    fail(store, "j1")
    assert why(store) == "failures"


def test_replay_after_the_batch_was_resumed_forgives_no_more_than_there_is(store):
    waiting_batch(store, 9, 1, max_failures=2)
    fail(store, "j0", "j1")
    store.open("j2.1", NOW)
    store.claim(NOW)
    store.lanes.resume("batch", "b", NOW)
    store.dead.replay(["j0", "j1"], NOW, False)
    fail(store, "j2")
    assert why(store) == ""
    fail(store, "j0")
    assert why(store) == "failures"


def test_last_failure_of_a_batch_leaves_nothing_paused(store):
    """There is nothing to hold, and what is enqueued later would wait for a person."""
    waiting_batch(store, 2, 1, max_failures=2)
    fail(store, "j0", "j1")
    assert is_over(store) and why(store) == "" and store.lanes.paused() == set()


def test_limit_that_is_lifted_stops_nothing(store):
    waiting_batch(store, 9, 1, max_failures=1, max_failure_share=0.1)
    store.batches.limit("b", {"max_failures": None, "max_failure_share": None}, NOW)
    fail(store, "j0")
    assert why(store) == ""
    standing = store.batches.standing("b")
    assert (standing.max_failures, standing.max_failure_share) == (0, 0)


# --- cancel --------------------------------------------------------------------------------------------


def cancel(
    store: Store, now: float = NOW, at_once: int = 2, steps: int = 1000
) -> tuple[list[str], list[str]]:
    """Cancels a batch a few jobs a step, whole or interrupted after so many. Gives (cancelled, granted)."""
    place, cancelled, granted = 0, list[str](), list[str]()
    for _ in range(steps):
        step = store.batches.cancel("b", now, place, at_once)
        granted += names(step.grants)
        if not step.seen:
            return cancelled, granted + names(store.batches.end_cancel("b", now))
        place += step.seen
        cancelled += [*step.quiet, *(message.job_id for message in step.finishes)]
        store.revoked(step.quiet)
    return cancelled, granted


def in_every_state(store: Store) -> None:
    """Jobs of a batch, named by where they are; five slots."""
    have(store, a=5)
    store.enqueue(new("ended", "failed", "collecting", batch="b"), NOW)
    finish(store, "ended")
    fail(store, "failed")
    store.open("collecting.1", NOW)
    succeed(store, "collecting.1")
    store.enqueue(new("backoff", "submitted", "open", "granted", batch="b"), NOW)
    for job_id in ("backoff", "submitted", "open"):
        assert store.open(f"{job_id}.1", NOW)
    submit(store, "submitted.1", "task-7", NOW + 40)
    store.enqueue(new("filler", "filler2"), NOW)
    lose(store, "backoff.1", NOW + 30)
    store.enqueue(new("queued", batch="b"), NOW)
    store.enqueue(new("tomorrow", batch="b", start_at=NOW + DAY), NOW)
    assert used(store) == {"a": 5}


OPEN = ["backoff", "granted", "open", "queued", "submitted", "tomorrow"]


def test_every_job_that_is_not_over_is_cancelled_and_no_other(store):
    in_every_state(store)
    step = store.batches.cancel("b", NOW, 0, 100)
    assert (step.seen, step.count) == (9, len(OPEN))
    assert sorted(step.quiet) == ["queued", "tomorrow"]  # no message of theirs was ever sent
    assert sorted(message.job_id for message in step.finishes) == ["backoff", "granted", "open", "submitted"]
    assert step.to_stop == (("submitted", PROVIDER, "a", "task-7"),)
    assert counts(store, "b") == {"cancelled": len(OPEN), "succeeded": 1, "failed": 1, "collecting": 1}
    assert used(store) == {"a": 2}  # of the others
    assert store.batches.cancel("b", NOW, 9, 100).seen == 0


def test_batch_that_is_cancelled_is_over_once_its_last_pictures_are_kept(store):
    in_every_state(store)
    cancel(store)
    assert not is_over(store) and why(store) == ""
    end(store, "collecting")
    assert is_over(store)
    assert counts(store, "b") == {"cancelled": len(OPEN), "succeeded": 2, "failed": 1}


@pytest.mark.parametrize("steps", range(1, 6))
def test_cancel_that_was_interrupted_is_made_again(steps, store):
    in_every_state(store)
    first, _ = cancel(store, steps=steps)
    assert not is_over(store) and why(store) == "cancel"
    second, _ = cancel(store)
    assert sorted(first + second) == OPEN
    assert cancel(store) == ([], [])
    assert why(store) == ""
    assert [store.open(f"{job_id}.1", NOW) for job_id in OPEN] == [None] * len(OPEN)
    end(store, "collecting")
    assert is_over(store)


def test_what_celery_is_not_told_of_in_time_is_told_by_the_due_list(store):
    """The caller was killed after the step."""
    in_every_state(store)
    store.batches.cancel("b", NOW, 0, 100)
    finishes = {message.job_id for message in store.claim(NOW + FINISH_PATIENCE)[0].finishes}
    assert set(OPEN) <= finishes


def test_cancelled_jobs_that_celery_knows_of_are_not_seen_to_again(store, raw):
    have(store, a=1)
    store.enqueue(new(*numbered("j", 5), batch="b"), NOW)
    step = store.batches.cancel("b", NOW, 0, 100)
    assert sorted(step.quiet) == ["j1", "j2", "j3", "j4"]
    store.revoked(step.quiet)
    store.revoked(step.quiet)  # safe to call twice
    assert [raw.zscore("orc:due", f"job:j{n}") for n in range(5)] == [NOW + FINISH_PATIENCE] + [None] * 4
    assert not store.begin_finish("j1", NOW + DAY)


def test_job_that_goes_on_is_not_taken_for_revoked(store, raw):
    opened(store, "j", batch="b")
    store.revoked(["j", "nobody"])
    assert raw.zscore("orc:due", "job:j") and not raw.exists("orc:job:nobody")
    assert store.job("j").state is State.SUBMITTED


def test_of_a_batch_that_is_being_cancelled_nothing_is_begun_and_others_get_its_slots(store):
    have(store, a=2)
    store.enqueue(new(*numbered("j", 6), batch="b"), NOW)
    store.enqueue(new(*numbered("o", 3), batch="o"), NOW)
    assert store.open("j0.1", NOW)
    step = store.batches.cancel("b", NOW, 0, 1)
    assert names(step.grants) == ["o0.1"]
    assert store.open("j1.1", NOW) is None  # it was granted before
    claimed, grants = store.claim(NOW + 1)
    assert names(grants) == ["o1.1"] and claimed.submits == ()
    assert sorted(cancel(store)[0]) == numbered("j", 6)[1:]
    assert is_over(store) and used(store) == {"a": 2}


def test_jobs_that_come_after_a_cancel_are_begun(store):
    in_every_state(store)
    cancel(store)
    have(store, a=9)
    store.enqueue(new("later", batch="b"), NOW + 1)
    assert store.open("later.1", NOW + 1)


def test_jobs_that_come_during_a_cancel_wait_for_its_end(store):
    """What comes behind the last step, that is; what comes before it is cancelled too."""
    in_every_state(store)
    assert store.batches.cancel("b", NOW, 0, 100).seen == 9
    have(store, a=9)
    assert store.enqueue(new("k", batch="b"), NOW) == (1, ())
    assert names(store.batches.end_cancel("b", NOW)) == ["k.1"]
    assert store.batches.end_cancel("b", NOW) == ()


def test_cancel_of_a_batch_that_is_over_changes_nothing(store, raw):
    ended(store, "j", batch="b")
    before = raw.hgetall("orc:batch:b")
    assert cancel(store) == ([], [])
    assert raw.hgetall("orc:batch:b") == before and store.lanes.paused() == set()


@pytest.mark.parametrize("reason", ["a person", "failures"])
def test_batch_that_was_paused_can_be_cancelled_and_holds_nothing_then(reason, store):
    waiting_batch(store, 5, 1, max_failures=1)
    if reason == "failures":
        fail(store, "j0")
    else:
        store.lanes.pause("batch", "b", NOW)
    assert why(store) == reason
    cancel(store)
    assert is_over(store) and why(store) == "" and store.lanes.paused() == set()
    store.enqueue(new("later", batch="b"), NOW)
    assert store.open("later.1", NOW)


def test_pause_by_a_person_during_a_cancel_outlives_it(store):
    in_every_state(store)
    store.batches.cancel("b", NOW, 0, 100)
    store.lanes.pause("batch", "b", NOW)
    assert store.batches.end_cancel("b", NOW) == ()
    assert why(store) == "a person"


def test_batch_that_is_filled_can_be_cancelled_and_goes_on(store):
    store.batches.begin_filling("b", "p", NOW)
    store.enqueue(new("1", "2", batch="b"), NOW)
    assert sorted(cancel(store)[0]) == ["1", "2"]
    assert is_over(store)
    store.enqueue(new("3", batch="b"), NOW)
    store.batches.begin_filling("b", "p", NOW)  # as a producer does that is still there
    assert store.open("3.1", NOW)
    finish(store, "3")
    assert not is_over(store)
    store.batches.end_filling("b", "p", NOW)
    assert is_over(store)


def test_cancelled_batch_is_told_of_once(store):
    store.notices.tell_of("b", {"on_complete": URL}, NOW)
    store.enqueue(new(*numbered("j", 5), batch="b"), NOW)
    cancel(store)
    cancel(store)
    assert [notice.facts["cancelled"] for notice in completed(store)] == ["5"]


# --- priority ------------------------------------------------------------------------------------------


def test_what_is_put_first_is_served_first_in_its_order_of_age(store):
    opened(store, "first")
    store.enqueue(new(*numbered("x", 2), *numbered("y", 2), *numbered("z", 2), priority=3), NOW)
    assert store.batches.prioritise(["y1", "y0"], 9) == 2
    assert store.batches.prioritise(["x0"], 0) == 1
    assert store.job("y0").priority == 9 and store.job("x0").priority == 0
    assert served(store, "first.1", 7) == ["first", "y0", "y1", "x1", "z0", "z1", "x0"]


def test_job_that_has_its_old_priority_back_has_its_old_place(store):
    opened(store, "first")
    store.enqueue(new("1", "2", "3"), NOW)
    for priority in (9, 9, 0, 0):  # a repeat is harmless
        assert store.batches.prioritise(["3", "2"], priority) == 2
    assert served(store, "first.1", 4) == ["first", "1", "2", "3"]


def test_what_is_enqueued_later_has_its_own_priority(store):
    opened(store, "first", batch="b")
    store.enqueue(new("1", batch="b"), NOW)
    store.batches.prioritise(["1"], 5)
    store.enqueue(new("high", batch="b", priority=7), NOW)
    store.enqueue(new("low", batch="b"), NOW)
    assert served(store, "first.1", 4) == ["first", "high", "1", "low"]


def test_job_that_is_in_no_lane_just_now_takes_its_priority_with_it(store):
    """In backoff, or with an attempt open that may be lost."""
    opened(store, "lost")
    store.enqueue(new("1", "2"), NOW)
    assert lose(store, "lost.1", NOW + 30) == ["1.1"]
    assert store.batches.prioritise(["lost"], 5) == 1
    assert store.batches.prioritise(["1"], 9) == 1
    assert store.open("1.1", NOW)
    store.claim(NOW + 30)
    store.enqueue(new("high", priority=7), NOW + 30)
    assert lose(store, "1.1") == ["1.2"]
    assert store.open("1.2", NOW)
    assert [succeed(store, each)[0] for each in ("1.2",)] == ["high.1"]
    assert succeed(store, "high.1") == ["lost.2"]


def test_jobs_that_are_over_have_no_other_priority(store):
    ended(store, "done")
    collecting(store, "saved")
    assert store.batches.prioritise(["done", "saved", "nobody"], 9) == 0
    assert store.job("done").priority == 0


# --- purge ---------------------------------------------------------------------------------------------


def purge(store: Store, at_once: int = 2) -> int:
    count = 0
    while ids := store.batches.first_ids("b", count=at_once):
        if not (done := store.batches.purge("b", ids)):
            break
        count += done
    return count


def test_batch_that_is_not_over_is_not_purged(store, raw):
    ended(store, "1", batch="b")
    opened(store, "2", batch="b")
    before = sorted(raw.keys("orc:*"))
    assert store.batches.purge("b", ["1"]) == 0
    assert sorted(raw.keys("orc:*")) == before
    assert store.job("1").state is State.SUCCEEDED


def test_batch_that_is_filled_is_not_purged(store):
    store.batches.begin_filling("b", "p", NOW)
    ended(store, "1", batch="b")
    assert store.batches.purge("b", ["1"]) == 0
    store.batches.end_filling("b", "p", NOW)
    store.batches.begin_filling("b", "p", NOW)  # again, although it was over
    assert store.batches.purge("b", ["1"]) == 0


def had_a_life(store: Store) -> int:
    """A batch that is over, with all that there can be known of one. Gives how many jobs."""
    store.batches.limit("b", {"max_failures": 50, "max_spend": 1000.0}, NOW)
    store.lanes.weigh("b", 3.0, NOW)
    store.batches.begin_filling("b", "p", NOW)
    store.enqueue(new("1", "2", "3", batch="b"), NOW)
    fail(store, "1")
    finish(store, "2")
    store.lanes.pause("batch", "b", NOW)
    store.cancel("3", NOW)
    store.begin_finish("3", NOW)
    store.end("3", NOW, State.FAILED, None, "")
    store.lanes.resume("batch", "b", NOW)
    ended(store, "4", batch="b")
    opened(store, "5", batch="b")
    lose(store, "5.1")
    fail(store, "5")
    store.batches.end_filling("b", "p", NOW)
    assert is_over(store)
    return 5


@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_of_a_purged_batch_nothing_is_left(at_once, store, raw):
    ended(store, "other", batch="o")
    before = set(raw.keys("orc:*"))
    jobs = had_a_life(store)
    spent = raw.hgetall(f"orc:spend:{PROVIDER}/a")
    tallied = raw.hgetall("orc:counts")
    assert purge(store, at_once) == jobs
    left = set(raw.keys("orc:*")) - before
    assert not [key for key in left if key.endswith((":b", "|b")) or ":job:" in key or ":attempt:" in key], (
        left
    )
    assert raw.hgetall(f"orc:spend:{PROVIDER}/a") == spent and raw.hgetall("orc:counts") == tallied
    assert not [entry for entry in raw.zrange("orc:due", 0, -1) if entry == "batch:b" or (entry[:4] == "job:"
                and entry != "job:other")]  # fmt: skip
    assert store.dead.ids(NOW) == [] and raw.hgetall("orc:weights") == {} and store.lanes.paused() == set()
    assert [each.name for each in store.batches.latest()] == ["o"]
    assert store.batches.standing("b") is None
    assert store.job("other").state is State.SUCCEEDED


def test_purge_that_was_interrupted_goes_on_where_it_was(store):
    had_a_life(store)
    ids = store.batches.first_ids("b", count=2)
    assert store.batches.purge("b", ids) == 2
    assert store.batches.purge("b", ids) == 0  # said twice: these are the first no more
    assert store.batches.standing("b").is_over
    assert purge(store) == 3
    assert store.batches.purge("b", []) == 0 and store.batches.standing("b") is None


def test_job_of_a_purged_batch_may_come_again(store):
    ended(store, "j", batch="b")
    purge(store)
    store.enqueue(new("j", batch="b"), NOW + 1)
    assert store.batches.standing("b").created_at == NOW + 1
    finish(store, "j", now=NOW + 1)
    assert counts(store, "b") == {"succeeded": 1}


def test_job_that_comes_again_after_a_purge_goes_on_counting_its_attempts(store, raw):
    """What a provider still tells of those it had is not of the new one."""
    again = {"batch": "b", "fingerprint": "f"}
    opened(store, "j", **again)
    lose(store, "j.1")
    fail(store, "j")
    ended(store, "other", batch="b")
    purge(store)
    assert raw.keys("orc:was:*") == ["orc:was:j"] and 6 * DAY < raw.ttl("orc:was:j") <= 7 * DAY
    assert names(store.enqueue(new("j", **again), NOW)[1]) == ["j.3"]
    for old in ("j.1", "j.2"):
        assert store.settle(old, "succeeded", NOW, artifact_urls=("https://x",)).word == "unknown"
    finish(store, "j")
    purge(store)
    assert names(store.enqueue(new("j", "k", **again), NOW)[1]) == ["j.4"]  # beside one that is new
    assert store.job("k").attempts == 0


def test_job_that_had_no_attempt_leaves_nothing_behind(store, raw):
    store.accounts.rest(PROVIDER, "a", NOW, NOW + DAY, "Paused", "")
    store.enqueue(new("j", batch="b", fingerprint="f"), NOW)
    store.cancel("j", NOW)
    purge(store)
    assert not raw.keys("orc:was:*")


def test_late_success_of_a_job_that_was_purged_brings_nothing_back(store, raw):
    opened(store, "j", batch="b")
    lose(store, "j.1", again_at=None)
    end(store, "j", State.FAILED)
    purge(store)
    assert store.settle("j.1", "succeeded", NOW, artifact_urls=("https://x",)).word == "unknown"
    assert not [key for key in raw.keys("orc:*") if key.startswith(("orc:job:", "orc:batch:"))]


# --- how long a batch is known -------------------------------------------------------------------------

BATCH_KEYS = ("batch", "jobs-of", "ended-in", "lanes-of", "spend-of")


def lives(raw: Any, name: str = "b") -> set[int]:
    """Seconds for which the keys of a batch are kept."""
    return {raw.ttl(key) for each in BATCH_KEYS if raw.exists(key := f"orc:{each}:{name}")}


@pytest.mark.parametrize(("failed", "seconds"), [(False, 7 * DAY), (True, 30 * DAY)])
def test_all_that_is_known_of_a_batch_that_is_over_is_forgotten(failed, seconds, store, raw):
    store.enqueue(new("1", "2", batch="b"), NOW)
    finish(store, "1")
    assert lives(raw) == {-1}
    (fail if failed else finish)(store, "2")
    assert len([each for each in BATCH_KEYS if raw.exists(f"orc:{each}:b")]) >= 4
    assert all(seconds - 60 < left <= seconds for left in lives(raw))


def test_batch_is_kept_for_as_long_as_the_settings_say(server, raw, store):
    with_short = Store(server.url, Retention(ended=100, failed=200))
    try:
        ended(with_short, "1", batch="b")
        assert all(0 < left <= 100 for left in lives(raw))
        with_short.enqueue(new("2", batch="b"), NOW)
        assert lives(raw) == {-1}
        fail(with_short, "2")
        assert all(100 < left <= 200 for left in lives(raw))
        assert 100 < raw.ttl("orc:job:2") <= 200 and 0 < raw.ttl("orc:job:1") <= 100
    finally:
        with_short.close()


def test_batch_that_redis_forgot_leaves_the_index_and_the_pauses(store, raw):
    """Its keys expire by themselves; what is said of it elsewhere goes with its due entry."""
    ended(store, "j", batch="b")
    store.lanes.weigh("b", 3.0, NOW)
    due = raw.zscore("orc:due", "batch:b")
    assert due >= NOW + 7 * DAY
    for key in BATCH_KEYS:
        raw.delete(f"orc:{key}:b")
    store.claim(due)
    assert list(store.batches.latest()) == [] and raw.hgetall("orc:weights") == {}
    assert raw.zscore("orc:due", "batch:b") is None and raw.zcard("orc:batches") == 0


def test_batch_that_goes_on_meanwhile_is_not_forgotten(store, raw):
    ended(store, "j", batch="b")
    due = raw.zscore("orc:due", "batch:b")
    store.enqueue(new("k", batch="b"), NOW)
    store.claim(due)
    assert [each.name for each in store.batches.latest()] == ["b"]
    assert raw.zscore("orc:due", "batch:b") is None and lives(raw) == {-1}


def test_what_is_said_of_a_batch_that_never_comes_is_forgotten(store, raw):
    store.batches.limit("b", {"max_failures": 3}, NOW)
    assert 0 < raw.ttl("orc:batch:b") <= 7 * DAY
    store.enqueue(new("j", batch="b"), NOW)
    assert lives(raw) == {-1}


# --- which there are -----------------------------------------------------------------------------------


def test_batches_are_listed_the_latest_first_as_they_stand(store):
    for number in range(1100):
        store.enqueue(new(f"j{number}", batch=f"b{number}"), NOW + number)
    finish(store, "j0")
    found = list(store.batches.latest())
    assert [each.name for each in found] == [f"b{number}" for number in reversed(range(1100))]
    assert [each.is_over for each in found] == [False] * 1099 + [True]
    assert found[0].created_at == NOW + 1099 and found[-1].counts["succeeded"] == 1


def test_batch_that_is_extended_keeps_its_place(store):
    for moment, batch in enumerate("abab"):
        store.enqueue(new(f"j{moment}", batch=batch), NOW + moment)
    assert [(each.name, each.created_at) for each in store.batches.latest()] == [("b", NOW + 1), ("a", NOW)]


def test_ids_of_a_batch_come_in_their_order(store):
    ids = numbered("j", 1200)
    store.enqueue(new(*ids, batch="b"), NOW)
    parts = list(store.batches.ids("b"))
    assert [len(part) for part in parts] == [500, 500, 200] and [
        each for part in parts for each in part
    ] == ids
    assert list(store.batches.ids("nobody")) == []


def test_standing_tells_limits_cost_and_why_it_is_paused(store):
    store.batches.limit("b", {"max_failures": 4, "max_failure_share": 0.5, "max_spend": 9.0}, NOW)
    store.enqueue(new("j", batch="b"), NOW)
    store.lanes.pause("batch", "b", NOW)
    found = store.batches.standing("b")
    assert (found.max_failures, found.max_failure_share, found.max_spend) == (4, 0.5, 9.0)
    assert (found.paused, found.cost, found.counts["queued"], found.counts["total"]) == ("a person", 0, 1, 1)
    assert store.batches.standing("nobody") is None
