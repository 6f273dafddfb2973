"""Who is next: lanes, priorities, weights, tenants, pauses, jobs of several providers."""

from __future__ import annotations

from collections import Counter

from orchestrator.models import Message, State
from orchestrator.retry import UNTIL_RESUMED
from tests import store_kit
from tests.store_kit import (
    NOW,
    PROVIDER,
    URLS,
    ended,
    have,
    names,
    new,
    opened,
    rest,
    served,
    used,
)

server, raw, store = store_kit.server, store_kit.raw, store_kit.store


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
