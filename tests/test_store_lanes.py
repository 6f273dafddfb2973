"""Who is next: lanes, priorities, weights, tenants, pauses, jobs of several providers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest

from orchestrator.models import Message, NewJob, State, batch_name
from orchestrator.retry import UNTIL_RESUMED
from orchestrator.store import Store
from tests import store_kit
from tests.store_kit import (
    ERROR,
    LATE_URLS,
    NOW,
    OTHER,
    PROVIDER,
    URLS,
    account,
    counts,
    either,
    end,
    ended,
    have,
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
    assert [each for some in store.batches.ids("big") for each in some] == ids
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


# --- weights, tenants ----------------------------------------------------------------------------------


def shares(order: Sequence[str]) -> Counter[str]:
    """How often each letter was served; the first, which held the slot before, apart."""
    return Counter(each[0] for each in order[1:])


def line_up(store: Store, tenant: str = "", **batches: int) -> None:
    """Batches of so many jobs each, behind one that holds the slot."""
    store.enqueue(new("first"), NOW)
    for letter, how_many in batches.items():
        store.enqueue(new(*numbered(letter, how_many), batch=letter, tenant=tenant), NOW)


def test_batch_of_three_times_the_weight_gets_three_times_as_much(store):
    store.lanes.weigh("x", 3, NOW)
    line_up(store, x=40, y=40)
    assert shares(served(store, "first.1", 41)) == {"x": 30, "y": 10}


def test_weight_may_be_changed_while_they_wait(store):
    line_up(store, x=60, y=60)
    store.lanes.weigh("x", 0.25, NOW)
    order = served(store, "first.1", 41)
    assert shares(order)["x"] in (8, 9)
    store.lanes.weigh("x", 1, NOW)
    assert abs(shares(served(store, f"{order[-1]}.1", 41))["x"] - 20) <= 4


def test_batches_of_a_tenant_share_what_one_would_get(store):
    line_up(store, "studio", x=60, y=60, z=60)
    store.enqueue(new(*numbered("o", 60), batch="o"), NOW)
    told = shares(served(store, "first.1", 61))
    assert abs(told["o"] - 30) <= 2, told
    assert all(abs(told[each] - 10) <= 2 for each in "xyz"), told


def test_tenant_has_a_weight_of_its_own(store):
    store.lanes.weigh("studio/", 3, NOW)
    store.lanes.weigh("studio", 50, NOW)  # of a batch of that name
    line_up(store, "studio", x=60, y=60)
    store.enqueue(new(*numbered("o", 60), batch="o", tenant="other"), NOW)
    told = shares(served(store, "first.1", 41))
    assert abs(told["o"] - 10) <= 2, told


def test_tenants_share_falls_to_the_batch_that_is_left(store):
    line_up(store, "studio", x=4, y=90)
    store.enqueue(new(*numbered("o", 90), batch="o"), NOW)
    order = served(store, "first.1", 61)
    assert abs(shares(order[20:])["o"] - 20) <= 2


def test_batch_of_the_same_name_is_another_for_another_tenant(store):
    store.enqueue(new("first"), NOW)
    store.enqueue(new(*numbered("x", 20), batch="b", tenant="one"), NOW)
    store.enqueue(new(*numbered("y", 20), batch="b", tenant="two"), NOW)
    assert {lane.owner for lane in store.lanes.waiting_for(PROVIDER)} == {"one/b", "two/b"}
    assert shares(served(store, "first.1", 21)) == {"x": 10, "y": 10}


def test_tenant_of_many_small_batches_gets_no_more_than_of_a_large_one(store):
    store.enqueue(new("first"), NOW)
    for number in range(30):
        store.enqueue(new(f"t{number}", batch=f"small-{number}", tenant="studio"), NOW)
    store.enqueue(new(*numbered("o", 30), batch="o"), NOW)
    assert abs(shares(served(store, "first.1", 31))["o"] - 15) <= 2


def test_job_that_comes_back_at_once_does_not_keep_the_others_waiting(store):
    """It fails again and again; the batch beside it has as much right to the slot."""
    store.enqueue(new("y0", batch="y"), NOW)
    store.enqueue(new(*numbered("x", 30), batch="x"), NOW)
    attempts = ["y0.1"]
    for _ in range(20):
        attempts += lose(store, attempts[-1]) if attempts[-1][0] == "y" else succeed(store, attempts[-1])
    assert abs(Counter(each[0] for each in attempts)["x"] - 10) <= 2


def test_priority_is_within_a_batch_and_age_comes_last(store):
    line_up(store, x=9)
    store.enqueue(new(*numbered("u", 9), batch="x", priority=9), NOW)
    store.enqueue(new(*numbered("y", 9), batch="y"), NOW)
    order = served(store, "first.1", 28)[1:]
    assert [each for each in order if each[0] != "y"] == [*numbered("u", 9), *numbered("x", 9)]
    assert [each for each in order if each[0] == "y"] == numbered("y", 9)
    assert Counter(each[0] for each in order[:10])["y"] == 5


@pytest.mark.parametrize("priority", range(1, 10))
def test_each_priority_goes_before_the_one_below(priority, store):
    store.enqueue(new("first"), NOW)
    store.enqueue([*new("low", priority=priority - 1), *new("high", priority=priority)], NOW)
    assert served(store, "first.1", 3) == ["first", "high", "low"]


def test_job_that_failed_keeps_its_place(store):
    store.enqueue(new(*"123"), NOW)
    assert lose(store, "1.1", NOW + 5) == ["2.1"]
    store.claim(NOW + 5)
    assert succeed(store, "2.1") == ["1.2"]


# --- pauses --------------------------------------------------------------------------------------------


def test_paused_provider_is_granted_nothing_until_it_is_resumed(store):
    have(store, a=2)
    opened(store, "1")
    store.lanes.pause("provider", PROVIDER, NOW)
    assert store.enqueue(new("2", "3"), NOW)[1] == ()
    assert store.fill(PROVIDER, NOW) == () == store.claim(NOW + 10)[1]
    assert succeed(store, "1.1") == []
    assert store.lanes.paused() == {f"provider:{PROVIDER}"}
    assert names(store.lanes.resume("provider", PROVIDER, NOW)) == ["2.1", "3.1"]
    assert store.lanes.paused() == set()


def test_what_is_open_goes_on_while_its_provider_is_paused(store):
    opened(store, "1")
    store.lanes.pause("provider", PROVIDER, NOW)
    assert submit(store, "1.1", "task-1", NOW + 5) == ""
    assert store.claim(NOW + 5)[0].looks == (("1.1", NOW + 5),)
    assert store.settle("1.1", "succeeded", NOW + 6, artifact_urls=URLS).finish
    end(store, "1")
    store.enqueue(new("2"), NOW)
    store.lanes.resume("provider", PROVIDER, NOW)
    store.lanes.pause("provider", PROVIDER, NOW)
    assert store.open("2.1", NOW)  # it was granted before


def paused_batch(store: Store, jobs: Sequence[NewJob]) -> None:
    """Of the jobs of a batch the first is open; the batch is paused then."""
    store.enqueue(jobs, NOW)
    store.open(f"{jobs[0].id}.1", NOW)
    store.lanes.pause("batch", jobs[0].batch, NOW)


@pytest.mark.parametrize("tenant", ["", "studio"])
@pytest.mark.parametrize("pinned", ["", "a"])
def test_paused_batch_is_granted_nothing_until_it_is_resumed(tenant, pinned, store):
    fields = {"batch": "b", "tenant": tenant, "account": pinned}
    paused_batch(store, new("1", "2", "3", **fields))
    assert succeed(store, "1.1") == []
    assert store.enqueue(new("4", **fields), NOW)[1] == ()  # and to what joins it
    assert store.fill(PROVIDER, NOW) == () == store.claim(NOW + 10)[1]
    assert names(store.lanes.resume("batch", batch_name("b", tenant), NOW)) == ["2.1"]
    assert served(store, "2.1", 3) == ["2", "3", "4"]


@pytest.mark.parametrize("tenant", ["", "studio"])
def test_paused_batch_leaves_the_slots_to_the_others(tenant, store):
    paused_batch(store, new(*"123", batch="b", tenant=tenant))
    store.enqueue(new(*numbered("o", 6), batch="o", tenant=tenant), NOW)
    store.enqueue(new(*numbered("p", 6), batch="p"), NOW)
    order = served_from(store, "1.1", 13)
    assert shares(order) == {"o": 6, "p": 6}
    assert abs(shares(order[:9])["o"] - 4) <= 1  # a batch that is paused takes nothing of its tenant's share


def served_from(store: Store, first: str, how_many: int) -> list[str]:
    (attempt,) = succeed(store, first)
    return [first.rpartition(".")[0], *served(store, attempt, how_many - 1)]


def test_batch_that_is_resumed_does_not_make_up_for_its_pause(store):
    paused_batch(store, new(*numbered("b", 90), batch="b"))
    store.enqueue(new(*numbered("o", 200), batch="o"), NOW)
    order = served_from(store, "b0.1", 100)
    store.lanes.resume("batch", "b", NOW)
    assert abs(shares(served(store, f"{order[-1]}.1", 21))["b"] - 10) <= 1


def test_batch_is_paused_for_all_its_providers(store):
    store.accounts.configure([account(max_jobs=2), account(provider=OTHER)])
    store.enqueue(either(*numbered("j", 5), batch="b"), NOW)
    assert (used(store), used(store, OTHER)) == ({"a": 2}, {"a": 1})
    store.lanes.pause("batch", "b", NOW)
    for number in range(3):
        assert succeed(store, f"j{number}.1") == []
    assert store.fill(OTHER, NOW) == () == store.fill(PROVIDER, NOW)
    assert sorted(names(store.lanes.resume("batch", "b", NOW))) == ["j3.1", "j4.1"]


def test_job_of_a_paused_batch_that_comes_back_waits(store):
    paused_batch(store, new("1", batch="b"))
    assert lose(store, "1.1", NOW + 5) == []
    assert store.claim(NOW + 5)[1] == ()
    assert names(store.lanes.resume("batch", "b", NOW + 5)) == ["1.2"]


def test_pause_and_resume_twice_are_one(store):
    paused_batch(store, new(*"123", batch="b", tenant="studio"))
    store.lanes.pause("batch", "studio/b", NOW)
    assert store.lanes.waiting_for(PROVIDER) == []
    for _ in range(2):
        assert store.lanes.resume("batch", "studio/b", NOW) == ()
    (lane,) = store.lanes.waiting_for(PROVIDER)
    assert (lane.owner, lane.waiting, lane.share) == ("studio/b", 2, 1)


# --- jobs of several providers -------------------------------------------------------------------------


def both(store: Store, here: int = 1, there: int = 1) -> None:
    """One account at each of two providers, with so many slots."""
    store.accounts.configure([account(max_jobs=here), account("o", OTHER, max_jobs=there)])


def test_job_of_two_providers_runs_at_whichever_has_a_slot(store):
    both(store)
    _, grants = store.enqueue(either("1", "2", "3"), NOW)
    told = {message.provider: message.parameters for message in grants}
    assert sorted(told) == sorted([PROVIDER, OTHER])
    assert "promptText" in told[OTHER] and "text_prompt" in told[PROVIDER]
    there = next(message.job_id for message in grants if message.provider == OTHER)
    settled = store.settle(f"{there}.1", "succeeded", NOW, artifact_urls=URLS)
    assert [(each.job_id, each.provider) for each in settled.grants] == [("3", OTHER)]


def test_job_of_two_providers_stands_in_one_lane_of_both_pools(store, raw):
    both(store)
    store.enqueue(either("1", "2", "3", "4", batch="b"), NOW)
    (lane,) = raw.keys("orc:lane:*")
    assert raw.zrange(lane, 0, -1) == ["3", "4"]
    for pool in (PROVIDER, OTHER):
        assert [f"orc:lane:{each.name}" for each in store.lanes.waiting_for(pool)] == [lane]
    assert store.job("3").lane == lane.removeprefix("orc:lane:")
    assert store.cancel("3", NOW) and store.cancel("4", NOW)
    assert raw.keys("orc:lane*") == ["orc:lanes-of:b"]


def test_counts_by_provider_move_along_with_a_job(store):
    both(store, here=1)
    store.enqueue(new("here"), NOW)
    store.enqueue(either("j", batch="b"), NOW)  # it can be served there only
    assert store.job("j").provider == OTHER
    assert store.job("j").parameters == {"promptText": "j"}
    assert {word: n for word, n in store.counts().items() if n} == {
        f"{PROVIDER}/queued": 1,
        f"{OTHER}/queued": 1,
    }
    store.open("j.1", NOW)
    store.settle("j.1", "succeeded", NOW, artifact_urls=URLS)
    end(store, "j")
    assert store.counts()[f"{OTHER}/succeeded"] == 1
    assert counts(store, "b") == {"succeeded": 1}


@pytest.mark.parametrize(
    "told",
    [
        {"means": "full", "rest_until": NOW + 20},
        {"means": "too many", "rest_until": NOW + 20, "rest_reason": "TooMany"},
        {"rest_until": UNTIL_RESUMED, "rest_reason": "OutOfCredit"},
    ],
)
def test_trouble_with_the_account_of_one_provider_sends_the_job_to_the_other(told, store):
    both(store)
    store.enqueue(either("j"), NOW)
    store.open("j.1", NOW)
    first = store.job("j").provider
    settled = store.settle("j.1", "busy", NOW, error=ERROR, again_at=NOW, **told)
    assert names(settled.grants) == ["j.2"]
    assert {first, settled.grants[0].provider} == {PROVIDER, OTHER}
    assert store.attempt("j.1").provider == first
    assert used(store, first) == dict.fromkeys(used(store, first), 0)


def test_job_of_two_providers_has_one_live_attempt(store):
    both(store, here=2, there=2)
    store.enqueue(either("j"), NOW)
    assert store.fill(PROVIDER, NOW) == () == store.fill(OTHER, NOW)
    held = [*store.accounts.holders(PROVIDER, "a"), *store.accounts.holders(OTHER, "o")]
    assert held == ["j.1"]


def test_paused_provider_leaves_its_jobs_to_the_other(store):
    both(store, there=3)
    store.lanes.pause("provider", PROVIDER, NOW)
    grants = store.enqueue(either(*"1234"), NOW)[1]
    assert [message.provider for message in grants] == [OTHER] * 3
    (message,) = store.lanes.resume("provider", PROVIDER, NOW)
    assert (message.job_id, message.provider) == ("4", PROVIDER)


def test_jobs_of_one_provider_and_of_two_share_its_slots(store):
    both(store, there=1)
    opened(store, "first")
    store.enqueue([*new(*numbered("x", 20), batch="x"), *either(*numbered("e", 21), batch="e")], NOW)
    told = shares(served(store, "first.1", 21))
    assert abs(told["x"] - 10) <= 1, told


def test_job_of_two_providers_can_be_cancelled_at_either(store):
    both(store)
    store.enqueue(either("1", "2"), NOW)
    store.enqueue([*new("here"), *new("there")], NOW)
    for job_id in "12":
        cancelled = store.cancel(job_id, NOW)
        assert cancelled.finish.provider == store.job(job_id).provider
    assert used(store, OTHER) == {"o": 0} and used(store) == {"a": 1}


def other_one(provider: str) -> str:
    return OTHER if provider == PROVIDER else PROVIDER


@pytest.mark.parametrize("second", ["granted", "open"])
def test_late_success_makes_the_job_the_providers_that_made_it(second, store):
    both(store)
    store.enqueue(either("j"), NOW)
    store.open("j.1", NOW)
    first = store.job("j")
    told = {"error": ERROR, "again_at": NOW, "rest_until": UNTIL_RESUMED, "rest_reason": "Broken"}
    store.settle("j.1", "lost", NOW, **told)
    assert store.job("j").provider == other_one(first.provider)
    if second == "open":
        store.open("j.2", NOW)
    store.settle("j.1", "succeeded", NOW, artifact_urls=LATE_URLS)
    if second == "open":
        store.settle("j.2", "failed", NOW, error=ERROR)
    job = store.job("j")
    assert job.artifact_urls == LATE_URLS
    assert (job.provider, job.account, job.parameters) == (first.provider, first.account, first.parameters)
    assert {word: number for word, number in store.counts().items() if number} == {
        f"{first.provider}/collecting": 1
    }


def test_late_success_gives_a_granted_slot_of_the_other_provider_to_the_next(store):
    both(store)
    store.enqueue(either("j"), NOW)
    store.open("j.1", NOW)
    told = {"error": ERROR, "again_at": NOW, "rest_until": UNTIL_RESUMED, "rest_reason": "Broken"}
    store.settle("j.1", "lost", NOW, **told)
    other = store.job("j").provider
    store.enqueue([NewJob("next", other, {})], NOW)
    assert names(store.settle("j.1", "succeeded", NOW, artifact_urls=URLS).grants) == ["next.1"]


def test_providers_may_be_named_in_any_order(store, raw):
    both(store, here=0, there=0)
    (job,) = either("1")
    choices = dict(reversed(job.choices.items()))
    store.enqueue([job, NewJob("2", OTHER, choices[OTHER], choices=choices)], NOW)
    assert len(raw.keys("orc:lane:*")) == 1
