"""What an account may take: slots, pace, daily cap, rests, and what is learned from refusals."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.errors import QueueFull
from orchestrator.retry import UNTIL_RESUMED
from orchestrator.store import Store
from tests import store_kit
from tests.store_kit import (
    DAY,
    ERROR,
    NOW,
    PROVIDER,
    REPLY_GRACE,
    TIMEOUT,
    URLS,
    account,
    full,
    have,
    late,
    lose,
    names,
    new,
    numbered,
    opened,
    rest,
    row,
    submit,
    succeed,
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


def test_success_grants_its_own_slot_and_the_ticker_what_became_free_elsewhere(store):
    have(store, a=1, b=1)
    store.enqueue(new("1", "2", "3", "4"), NOW)
    for attempt in ("1.1", "2.1"):
        assert store.open(attempt, NOW)
    freed = str(store.attempt("1.1").account)
    for name in ("a", "b"):
        if name != freed:
            store.accounts.change(PROVIDER, name, {"max_jobs": 2})
    assert succeed(store, "1.1") == ["3.1"]
    assert (store.attempt("3.1").account, names(store.fill(PROVIDER, NOW))) == (freed, ["4.1"])


def test_success_of_an_account_that_is_no_more_grants_nothing(store):
    have(store, a=1)
    opened(store, "1")
    store.enqueue(new("2"), NOW)
    have(store, b=0)
    assert succeed(store, "1.1") == []


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


def paced(store: Store, per_second: float, burst: int = 0) -> None:
    store.accounts.configure([account(max_jobs=100, requests_per_second=per_second, burst=burst)])


def test_submits_are_granted_at_the_accounts_pace(store):
    paced(store, 4)
    store.enqueue(new(*(f"j{n}" for n in range(20))), NOW)
    assert used(store) == {"a": 4}  # a second's worth at once
    for seconds in range(1, 5):
        store.claim(NOW + seconds)
        assert used(store) == {"a": 4 + 4 * seconds}


def test_polls_and_submits_share_the_accounts_pace(store):
    paced(store, 2)
    store.enqueue(new("j"), NOW)
    assert store.accounts.take_turn(PROVIDER, "a", NOW) == 0.0
    assert store.accounts.take_turn(PROVIDER, "a", NOW) == pytest.approx(0.5)
    assert store.enqueue(new("k"), NOW)[1] == ()
    assert names(store.claim(NOW + 0.5)[1]) == ["k.1"]
    assert store.accounts.take_turn(PROVIDER, "a", NOW + 0.5) > 0


def test_account_without_a_pace_is_never_waited_for(store):
    paced(store, 0)
    assert [store.accounts.take_turn(PROVIDER, "a", NOW) for _ in range(100)] == [0.0] * 100


def test_account_that_nobody_waits_for_spends_nothing_of_its_pace(store):
    paced(store, 1)
    store.fill(PROVIDER, NOW)
    assert store.accounts.take_turn(PROVIDER, "a", NOW) == 0.0


def test_burst_comes_at_once_and_is_not_saved_up(store):
    paced(store, 1, burst=3)
    store.enqueue(new(*numbered("j", 30)), NOW)
    assert used(store) == {"a": 3}
    store.claim(NOW + 1)
    assert used(store) == {"a": 4}
    store.claim(NOW + 100)  # nothing was asked for meanwhile: no more than the burst
    assert used(store) == {"a": 7}


def test_pace_slower_than_one_a_second_is_kept(store):
    paced(store, 0.25)
    store.enqueue(new(*numbered("j", 9)), NOW)
    assert used(store) == {"a": 1}
    store.claim(NOW + 3.5)
    assert used(store) == {"a": 1}
    store.claim(NOW + 4)
    assert used(store) == {"a": 2}


def test_account_out_of_turns_lets_the_other_take_the_job(store):
    store.accounts.configure([account("a", max_jobs=9, requests_per_second=1), account("b", max_jobs=2)])
    store.enqueue(new(*numbered("j", 9)), NOW)
    assert used(store) == {"a": 1, "b": 2}


def test_pace_that_is_raised_holds_from_now_on(store):
    paced(store, 0.001)
    store.enqueue(new(*numbered("j", 9)), NOW)
    assert used(store) == {"a": 1}
    store.accounts.change(PROVIDER, "a", {"requests_per_second": 1})
    store.fill(PROVIDER, NOW + 1)
    assert used(store) == {"a": 2}


# --- slots: a lease from grant to settlement -----------------------------------------------------------


def test_slots_may_be_changed_while_they_are_used(store):
    have(store, a=3)
    opened(store, *"123")
    store.enqueue(new(*"4567"), NOW)
    store.accounts.change(PROVIDER, "a", {"max_jobs": 1})
    assert succeed(store, "1.1") == [] == succeed(store, "2.1")  # what is open goes on
    assert succeed(store, "3.1") == ["4.1"]
    store.accounts.change(PROVIDER, "a", {"max_jobs": 3})
    assert names(store.fill(PROVIDER, NOW)) == ["5.1", "6.1"]


def test_what_a_person_changed_outlives_a_start_and_goes_back_to_what_the_file_says_then(server, store):
    store.accounts.change(PROVIDER, "a", {"max_jobs": 3, "requests_per_second": 7})
    again = Store(server.url)
    again.accounts.configure([account(max_jobs=2, requests_per_second=5)])
    assert (row(again)["max_jobs"], row(again)["requests_per_second"]) == ("3", "7")
    assert row(again)["changed"] == ["max_jobs", "requests_per_second"]
    again.accounts.change(PROVIDER, "a", {"max_jobs": None})
    assert (row(again)["max_jobs"], row(again)["requests_per_second"]) == ("2", "7")
    assert row(again)["changed"] == ["requests_per_second"]
    again.accounts.configure([account(max_jobs=4, requests_per_second=5)])
    assert row(again)["max_jobs"] == "4"
    again.close()


def test_store_that_is_opened_anew_knows_who_holds_the_slots(server, store):
    """Every process was killed: what is in Redis is all there is."""
    have(store, a=2)
    opened(store, "1")
    store.enqueue(new("2", "3", "4"), NOW)
    again = Store(server.url)
    have(again, a=2)
    assert again.fill(PROVIDER, NOW) == ()
    assert again.accounts.holders(PROVIDER, "a") == ["1.1", "2.1"]
    assert succeed(again, "1.1") == ["3.1"]
    assert again.cancel("2", NOW).grants[0].job_id == "4"
    again.close()


@pytest.mark.parametrize("first", ["succeeded", "lost", "busy", "cancel"])
def test_slot_is_given_back_once_by_whoever_comes_first(first, store):
    opened(store, "1")
    store.enqueue(new("2", "3", "4"), NOW)
    if first == "cancel":
        granted = store.cancel("1", NOW).grants
    else:
        urls = URLS if first == "succeeded" else ()
        granted = store.settle("1.1", first, NOW, artifact_urls=urls, error=ERROR).grants
    assert names(granted) == ["2.1"]
    for verdict in ("lost", "busy", "failed", "refused"):
        assert store.settle("1.1", verdict, NOW, error=ERROR, again_at=NOW).grants == ()
    assert store.cancel("1", NOW) is None
    assert store.accounts.holders(PROVIDER, "a") == ["2.1"]


def test_word_of_an_earlier_attempt_does_not_free_the_slot_of_the_later(store):
    opened(store, "j")
    store.enqueue(new("next"), NOW)
    assert lose(store, "j.1") == ["j.2"]
    assert store.open("j.2", NOW)
    assert store.settle("j.1", "failed", NOW, error=ERROR, again_at=NOW).word == "duplicate"
    assert store.settle("j.1", "succeeded", NOW, artifact_urls=URLS).grants == ()
    assert store.accounts.holders(PROVIDER, "a") == ["j.2"]


# --- daily cap -----------------------------------------------------------------------------------------


def capped(store: Store, most: int, max_jobs: int = 9, **limits: Any) -> None:
    store.accounts.configure([account(max_jobs=max_jobs, max_per_day=most, **limits)])


def test_no_more_generations_than_the_cap_are_begun_within_any_24_hours(store):
    """A day begins with each, however long its grant waited for a worker."""
    capped(store, 3)
    store.enqueue(new(*"1234567"), NOW)
    assert used(store) == {"a": 3}
    for attempt, begun in (("1.1", NOW), ("2.1", NOW + 3600), ("3.1", NOW + 3600)):
        assert store.open(attempt, begun)
        assert succeed(store, attempt, begun) == []
    assert store.claim(NOW + DAY - 1)[1] == ()
    assert names(store.claim(NOW + DAY)[1]) == ["4.1"]  # nothing but the due list tells of it
    assert store.open("4.1", NOW + DAY)
    assert succeed(store, "4.1", NOW + DAY) == []
    assert store.claim(NOW + DAY + 3599)[1] == ()
    assert names(store.claim(NOW + DAY + 3600)[1]) == ["5.1", "6.1"]
    assert row(store, now=NOW + DAY + 3600)["today"] == 3


def test_what_was_granted_without_a_cap_counts_once_it_is_begun(store):
    store.enqueue(new("1"), NOW)
    capped(store, 1)
    assert store.open("1.1", NOW)
    assert store.enqueue(new("2"), NOW)[1] == ()


def test_a_grant_that_is_opened_when_its_lease_and_its_day_are_over_begins_nothing(store):
    """Nobody has taken its slot yet; its place in the day may be another's."""
    capped(store, 1)
    store.enqueue(new("1"), NOW)
    assert store.open("1.1", NOW + DAY) is None
    assert names(store.claim(NOW + DAY)[1]) == ["1.2"]


@pytest.mark.parametrize("comes", ["callback", "reply"])
def test_what_the_provider_took_after_all_counts_for_its_day_again(comes, store):
    capped(store, 2)
    opened(store, "1")
    store.settle("1.1", "failed", NOW, error=ERROR, counts="Unavailable", again_at=NOW + DAY)
    assert row(store)["today"] == 0
    if comes == "callback":
        late(store, "1.1", NOW + 5)
    else:
        submit(store, "1.1", "task-1", NOW + 60, now=NOW + 5)
    assert names(store.enqueue(new("2", "3"), NOW + 5)[1]) == ["2.1"]
    assert store.claim(NOW + DAY - 1)[1] == ()
    assert len(store.claim(NOW + DAY)[1]) == 1  # as it was begun, not as it was told


def test_without_a_cap_nobody_counts_what_was_taken_after_all(store, raw):
    opened(store, "1")
    store.settle("1.1", "busy", NOW, error=ERROR, again_at=NOW + DAY)
    late(store, "1.1")
    assert not raw.exists(f"orc:day:{PROVIDER}/a")


@pytest.mark.parametrize(("verdict", "given_back"), [("busy", True), ("refused", True), ("lost", False)])
def test_what_was_never_begun_does_not_count_for_the_day(verdict, given_back, store):
    capped(store, 1)
    opened(store, "1")
    store.enqueue(new("2"), NOW)
    granted = store.settle("1.1", verdict, NOW, error=ERROR).grants
    assert names(granted) == (["2.1"] if given_back else [])


@pytest.mark.parametrize("begun", [False, True])
def test_cancelled_job_counts_for_the_day_if_it_was_begun(begun, store):
    capped(store, 1)
    store.enqueue(new("1", "2"), NOW)
    if begun:
        assert store.open("1.1", NOW)
    assert names(store.cancel("1", NOW).grants) == ([] if begun else ["2.1"])


def test_job_that_was_not_sent_because_it_was_refused_before_does_not_count_for_the_day(store):
    capped(store, 1)
    opened_with_content(store, "1", "hash")
    moderated(store, "1.1")
    store.enqueue(new("2", "3"), NOW)
    assert store.open("2.1", NOW, "hash").refused
    assert store.settle("2.1", "failed", NOW, error=ERROR, means="moderated").grants[0].job_id == "3"


def test_cap_that_is_raised_holds_at_once(store):
    capped(store, 1)
    store.enqueue(new("1", "2", "3"), NOW)
    store.accounts.change(PROVIDER, "a", {"max_per_day": 2})
    assert names(store.fill(PROVIDER, NOW)) == ["2.1"]
    store.accounts.change(PROVIDER, "a", {"max_per_day": 0})
    assert names(store.fill(PROVIDER, NOW)) == ["3.1"]


def test_job_goes_to_the_account_whose_day_is_not_over(store):
    store.accounts.configure([account("a", max_jobs=9, max_per_day=1), account("b", max_jobs=2)])
    store.enqueue(new(*numbered("j", 9)), NOW)
    assert used(store) == {"a": 1, "b": 2}


def test_all_limits_hold_together(store):
    capped(store, 6, max_jobs=4, requests_per_second=1, burst=3)
    store.enqueue(new(*numbered("j", 20)), NOW)
    assert used(store) == {"a": 3}  # the burst
    store.claim(NOW + 9)
    assert used(store) == {"a": 4}  # the slots
    assert [len(succeed(store, f"j{n}.1", NOW + 9)) for n in range(6)] == [1, 1, 0, 0, 0, 0]  # the day
    store.accounts.rest(PROVIDER, "a", NOW + DAY, NOW + DAY + 50, "Paused", "")
    assert store.claim(NOW + DAY)[1] == ()
    assert len(store.claim(NOW + DAY + 50)[1]) == 3  # the burst


# --- which account -------------------------------------------------------------------------------------


def test_account_of_more_weight_is_given_more(store):
    store.accounts.configure([account("a", max_jobs=20, weight=3), account("b", max_jobs=20)])
    store.enqueue(new(*numbered("j", 20)), NOW)
    assert used(store) == {"a": 15, "b": 5}


def test_load_is_measured_by_what_an_account_bears_now(store):
    """Told that it was too much, `a` has four slots, not twenty."""
    store.accounts.configure([account("a", max_jobs=20), account("b", max_jobs=8)])
    opened(store, *numbered("p", 6), account="a")
    too_many(store, "p0.1")
    for n in range(1, 6):
        succeed(store, f"p{n}.1")
    assert row(store)["slots"] == 4
    store.enqueue(new(*numbered("j", 6)), NOW + 20)  # its rest is over
    assert used(store) == {"a": 2, "b": 4}


# --- 429: full -----------------------------------------------------------------------------------------


def test_slot_that_others_held_is_tried_after_its_time_and_then_one_every_two_seconds(store):
    have(store, a=3)
    opened(store, "1")
    store.enqueue(new(*"2345", start_at=NOW + 1), NOW)
    assert full(store, "1.1", NOW + 20) == []
    assert (row(store)["elsewhere"], row(store)["slots"]) == ("3", 0)
    assert store.claim(NOW + 19)[1] == ()
    assert names(store.claim(NOW + 20)[1]) == ["1.2"]
    assert store.claim(NOW + 21.5)[1] == ()
    assert names(store.claim(NOW + 22)[1]) == ["2.1"]
    assert names(store.claim(NOW + 24)[1]) == ["3.1"]
    assert (row(store)["elsewhere"], row(store)["slots"]) == ("0", 3)
    assert store.claim(NOW + 26)[1] == ()


def test_full_again_when_tried_waits_again(store):
    have(store, a=2)
    opened(store, "1")
    full(store, "1.1", NOW + 20)
    assert names(store.claim(NOW + 20)[1]) == ["1.2"]
    assert store.open("1.2", NOW + 20)
    told = {"error": ERROR, "again_at": NOW + 20, "rest_until": NOW + 45, "means": "full"}
    assert store.settle("1.2", "busy", NOW + 20, **told).grants == ()
    assert store.claim(NOW + 44)[1] == ()
    assert names(store.claim(NOW + 45)[1]) == ["1.3"]


def test_full_account_leaves_its_jobs_to_the_others(store):
    have(store, a=1, b=1)
    opened(store, "j")
    first = store.job("j").account
    assert full(store, "j.1", NOW + 20) == ["j.2"]
    assert {first, store.job("j").account} == {"a", "b"}


def test_resumed_account_forgets_that_it_was_full(store):
    have(store, a=2)
    opened(store, "1", "2")
    full(store, "1.1", NOW + 20)
    full(store, "2.1", NOW + 20)
    assert len(store.accounts.resume(PROVIDER, "a", NOW)) == 2


def test_full_account_that_is_given_jobs_ahead_takes_one_for_each_slot_it_frees(store):
    """Else the job that was just refused is sent again at once, and again, for as long as it is full."""
    have(store, queue_ahead=1, a=2)
    opened(store, "1", "2", "3")
    assert full(store, "3.1", NOW + 20) == []
    assert succeed(store, "1.1") == ["3.2"]


def named(store: Store, *running: str, now: float = NOW) -> None:
    """Two are open, `lost` and `known`; a third is told that the account is full, and who runs on it."""
    have(store, a=3)
    opened(store, "lost", "known", "third")
    submit(store, "known.1", "task-known", NOW + 60)
    told = {"again_at": NOW + 900, "rest_until": now + 20, "means": "full", "error": ERROR}
    listed = {attempt: f"task-{attempt.partition('.')[0]}" for attempt in running}
    store.open("third.1", now)
    store.settle("third.1", "busy", now, listed=listed, **told)


def test_attempt_that_the_provider_names_is_known_to_have_arrived(store):
    named(store, "lost.1", "known.1")
    assert store.attempt("lost.1").upstream_id == "task-lost"
    assert store.attempt("known.1").upstream_id == "task-known"
    assert (
        store.settle("lost.1", "succeeded", NOW, artifact_urls=URLS, upstream_id="other").word == "mismatch"
    )


def test_attempt_keeps_the_first_name_that_the_provider_gave_it(store):
    have(store, a=2)
    opened(store, "1", "2")
    submit(store, "1.1", "task-1", NOW + 60)
    full(store, "2.1", NOW + 20, listed={"1.1": "another"})
    assert store.attempt("1.1").upstream_id == "task-1"


def test_attempt_that_the_provider_no_longer_names_is_looked_at_soon(store):
    opened_at = NOW + 5
    have(store, a=3)
    opened(store, "over", "unsure")
    submit(store, "over.1", "task-over", NOW + 60)
    store.enqueue(new("third"), opened_at)
    store.open("third.1", opened_at)
    told = {"again_at": NOW + 900, "rest_until": NOW + 20, "means": "full", "error": ERROR}
    store.settle("third.1", "busy", opened_at, listed={}, **told)
    assert store.due_at("over") == opened_at + 2
    assert store.due_at("unsure") == NOW + TIMEOUT + REPLY_GRACE  # its submit may still be on its way
    assert store.attempt("over.1").state == "submitted"


def test_attempt_that_was_accepted_after_the_question_may_be_missing_from_the_answer(store):
    named(store, "lost.1")
    assert store.due_at("known") == NOW + 60


def test_attempt_is_not_looked_at_where_the_provider_names_nobody(store):
    opened(store, "known")
    submit(store, "known.1", "task-known", NOW + 60)
    have(store, a=2)
    opened(store, "third")
    full(store, "third.1", NOW + 20)
    assert store.due_at("known") == NOW + 60


def test_slot_that_the_provider_has_not_let_go_yet_is_tried_again_soon(store):
    """It names an attempt that we have closed: a matter of moments."""
    have(store, a=1)
    opened(store, "1")
    store.enqueue(new("2"), NOW)
    assert succeed(store, "1.1") == ["2.1"]
    store.open("2.1", NOW)
    assert full(store, "2.1", NOW + 20, listed={"1.1": "task-1"}) == []
    assert store.claim(NOW + 1.5)[1] == ()
    assert names(store.claim(NOW + 2)[1]) == ["2.2"]


def test_slot_is_not_tried_early_where_the_provider_names_only_what_is_open(store):
    have(store, a=2)
    opened(store, "1", "2")
    assert full(store, "2.1", NOW + 20, listed={"1.1": "task-1"}) == []
    assert store.claim(NOW + 19)[1] == ()
    assert names(store.claim(NOW + 20)[1]) == ["2.2"]


# --- 429: too many -------------------------------------------------------------------------------------


def too_many(store: Store, attempt: str, now: float = NOW) -> None:
    told = {"error": ERROR, "again_at": now + 900, "rest_until": now + 20, "rest_reason": "TooMany"}
    assert store.settle(attempt, "busy", now, means="too many", **told).word == "settled"


def test_account_that_is_told_it_is_too_much_bears_less(store):
    have(store, a=10)
    opened(store, *numbered("j", 10))
    too_many(store, "j0.1")
    assert row(store)["slots"] == 7
    assert store.fill(PROVIDER, NOW + 20) == ()


def test_all_that_was_granted_before_the_cut_is_one_cut(store):
    have(store, a=10)
    opened(store, *numbered("j", 10))
    store.enqueue(new(*numbered("k", 10)), NOW)
    for number in range(5):
        too_many(store, f"j{number}.1", NOW + number / 4)
    assert row(store)["slots"] == 7
    (first, second) = names(store.claim(NOW + 21)[1])
    assert store.open(first, NOW + 21)
    too_many(store, first, NOW + 22)
    assert row(store)["slots"] == 4  # seven were in flight
    assert store.open(second, NOW + 21)
    too_many(store, second, NOW + 23)
    assert row(store)["slots"] == 4


def test_account_is_left_one_slot(store):
    have(store, a=2)
    for number in range(4):
        now = NOW + 100 * number
        (attempt,) = names(store.enqueue(new(f"j{number}"), now)[1])
        too_many(store, attempt, now)
        store.claim(now + 20)
    assert row(store)["slots"] == 1


def test_account_bears_one_more_for_each_round_of_successes_until_its_limit(store):
    have(store, a=10)
    opened(store, *numbered("j", 10))
    too_many(store, "j0.1")
    for number in range(1, 10):
        succeed(store, f"j{number}.1")
    store.claim(NOW + 20)
    later, slots = NOW + 30, []
    store.enqueue(new(*numbered("k", 200)), later)
    for _ in range(5):
        slots.append(row(store)["slots"])
        for attempt in store.accounts.holders(PROVIDER, "a"):
            succeed(store, attempt, later)
    assert slots == [7, 8, 9, 10, 10]
    assert "learned" not in row(store)


def test_account_that_is_not_busy_learns_nothing_from_successes(store):
    have(store, a=10)
    opened(store, *numbered("j", 10))
    too_many(store, "j0.1")
    for number in range(1, 10):
        succeed(store, f"j{number}.1")
    learned = row(store)["learned"]
    store.claim(NOW + 20)
    for number in range(9):
        store.enqueue(new(f"k{number}"), NOW + 30)
        succeed(store, f"k{number}.1", NOW + 30)
    assert row(store)["learned"] == learned


def test_what_was_learned_is_never_above_the_limit(store):
    have(store, a=10)
    opened(store, *numbered("j", 10))
    too_many(store, "j0.1")
    store.accounts.change(PROVIDER, "a", {"max_jobs": 2})
    assert row(store)["slots"] == 2
    store.accounts.change(PROVIDER, "a", {"max_jobs": None})
    assert row(store)["slots"] == 7
    store.accounts.resume(PROVIDER, "a", NOW)
    assert row(store)["slots"] == 10


# --- moderation ----------------------------------------------------------------------------------------


def opened_with_content(store: Store, job_id: str, content: str, **fields: Any) -> None:
    store.enqueue(new(job_id, **fields), NOW)
    assert not store.open(f"{job_id}.1", NOW, content).refused


def moderated(store: Store, attempt: str, now: float = NOW) -> None:
    store.settle(attempt, "failed", now, error=ERROR, counts="Moderated", means="moderated")


def test_what_moderation_refused_is_not_sent_again(store, raw):
    opened_with_content(store, "1", "hash")
    moderated(store, "1.1")
    (key,) = raw.keys("orc:refused:*")
    assert 29 * DAY < raw.ttl(key) <= 30 * DAY
    store.enqueue(new("2"), NOW)
    told = store.open("2.1", NOW, "hash")
    assert told.refused
    assert store.attempt("2.1").state == "granted"
    assert store.stats()[f"{PROVIDER}/submits"] == 1
    assert store.settle("2.1", "failed", NOW, error=ERROR, means="moderated").finish


def test_other_content_and_other_failures_are_not_remembered(store):
    have(store, a=9)
    opened_with_content(store, "1", "hash")
    opened_with_content(store, "2", "fine")
    moderated(store, "1.1")
    lose(store, "2.1", again_at=None)
    opened_with_content(store, "3", "fine")


def test_person_may_have_refused_content_sent_all_the_same(store):
    opened_with_content(store, "1", "hash")
    moderated(store, "1.1")
    opened_with_content(store, "2", "hash", even_if_moderated=True)
    assert store.attempt("2.1").state == "open"


def guarded(store: Store, **limits: Any) -> None:
    store.accounts.configure([account(max_jobs=99, **limits)])


def test_account_rests_where_moderation_refused_too_much_in_an_hour(store):
    guarded(store, max_moderated=3)
    opened(store, *numbered("j", 9))
    for number in range(2):
        moderated(store, f"j{number}.1", NOW)
    assert "rest_until" not in row(store)
    moderated(store, "j2.1", NOW + 1800)
    assert (float(row(store)["rest_until"]), row(store)["rest_reason"]) == (NOW + 1800 + 3600, "Moderated")
    assert store.enqueue(new("next"), NOW + 1801)[1] == ()
    later = NOW + 1800 + 3600
    assert names(store.claim(later)[1]) == ["next.1"]
    moderated(store, "j3.1", later)  # counted anew
    assert "rest_until" not in row(store)


def test_refusals_of_another_hour_do_not_count(store):
    guarded(store, max_moderated=3)
    opened(store, *numbered("j", 9))
    for number in range(6):
        moderated(store, f"j{number}.1", NOW + 1800 * number)
    assert "rest_until" not in row(store)


def test_refusals_are_counted_over_a_short_rest_for_another_reason(store):
    guarded(store, max_moderated=3)
    opened(store, *numbered("j", 9))
    moderated(store, "j0.1")
    moderated(store, "j1.1")
    too_many(store, "j2.1")
    store.claim(NOW + 20)
    moderated(store, "j3.1", NOW + 30)
    assert row(store)["rest_reason"] == "Moderated"


def test_few_refusals_among_many_generations_are_no_reason_to_rest(store):
    guarded(store, max_moderated=2, max_moderated_share=0.5)
    opened(store, *numbered("j", 20))
    for number in range(5):
        succeed(store, f"j{number}.1")
    for number in range(5, 9):
        moderated(store, f"j{number}.1")
        assert "rest_until" not in row(store)
    moderated(store, "j9.1")  # five of ten
    assert row(store)["rest_reason"] == "Moderated"


def test_content_that_was_not_sent_says_nothing_against_the_account(store):
    guarded(store, max_moderated=2)
    opened_with_content(store, "1", "hash")
    moderated(store, "1.1")
    for job_id in "2345":
        store.enqueue(new(job_id), NOW)
        assert store.open(f"{job_id}.1", NOW, "hash").refused
        moderated(store, f"{job_id}.1")
    assert "rest_until" not in row(store)


# --- how much may wait ---------------------------------------------------------------------------------


def test_queue_that_is_full_refuses_all_or_none(store):
    assert store.enqueue(new(*"12345"), NOW, 8)[0] == 5
    with pytest.raises(QueueFull, match="5 jobs wait already, and 4 more would be above the 8 of ORCH"):
        store.enqueue(new(*"6789", batch="b"), NOW, 8)
    assert store.batch("b") == {}
    assert store.counts() == {f"{PROVIDER}/queued": 5}
    assert store.enqueue(new(*"678"), NOW, 8)[0] == 3


def test_more_jobs_than_one_call_takes_are_refused_together(store):
    with pytest.raises(QueueFull):
        store.enqueue(new(*numbered("j", 1203)), NOW, 1202)
    assert store.counts() == {}
    assert store.enqueue(new(*numbered("j", 1203)), NOW, 1203)[0] == 1203


def test_jobs_that_run_do_not_wait(store):
    have(store, a=5)
    opened(store, *"12345")
    assert store.enqueue(new(*"678"), NOW, 3)[0] == 3
    store.settle("1.1", "succeeded", NOW, artifact_urls=URLS)  # and one that waited may begin
    assert names(store.fill(PROVIDER, NOW)) == []
    assert store.open("6.1", NOW)
    assert store.enqueue(new("9"), NOW, 3)[0] == 1


def test_call_that_is_made_again_is_not_refused_because_of_itself(store):
    """Redis went away in the middle of it; the caller cannot know how far it came."""
    jobs = new(*numbered("j", 700))
    store.enqueue(jobs[:500], NOW, 700)
    assert store.enqueue(jobs, NOW, 700)[0] == 200


def test_what_is_known_already_is_no_more_however_many_it_is(store):
    jobs = new(*numbered("j", 1203))
    store.enqueue(jobs, NOW)
    assert store.enqueue(jobs, NOW, 1203)[0] == 0
    assert store.enqueue(jobs, NOW, 1)[0] == 0  # though more wait than may: nothing comes to them
    more = [*jobs, *new("one", "two")]
    with pytest.raises(QueueFull, match="1203 jobs wait already, and 2 more"):
        store.enqueue(more, NOW, 1204)
    assert store.counts() == {f"{PROVIDER}/queued": 1203}
    assert store.enqueue(more, NOW, 1205)[0] == 2
