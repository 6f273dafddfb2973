"""What an account may take: slots, pace, daily cap, rests, and what is learned from refusals."""

from __future__ import annotations

import pytest

from orchestrator.models import Account, Secret
from orchestrator.retry import UNTIL_RESUMED
from orchestrator.store import Store
from tests import store_kit
from tests.store_kit import (
    DAY,
    DEADLINE,
    NOW,
    PROVIDER,
    TIMEOUT,
    URLS,
    full,
    have,
    names,
    new,
    opened,
    rest,
    used,
)

server, raw, store = store_kit.server, store_kit.raw, store_kit.store


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
