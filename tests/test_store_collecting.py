"""Pictures that could not be kept: listed by when they are lost, held by one, and nothing begun meanwhile."""

from __future__ import annotations

import pytest

from orchestrator.models import Shown, State
from tests import store_kit
from tests.store_kit import (
    DIES_AT,
    FINISH_PATIENCE,
    LATE_URLS,
    NOW,
    PROVIDER,
    URLS,
    collecting,
    end,
    have,
    names,
    new,
)

server, raw, store = store_kit.server, store_kit.raw, store_kit.store
FULL = "no space is left"


def postponed(store, job_id: str = "j", dies_at: float = DIES_AT, **told) -> None:
    collecting(store, job_id)
    assert store.begin_finish(job_id, NOW)
    store.collecting.later(job_id, NOW + 9, FULL, dies_at, **told)


def test_what_has_no_trouble_leaves_no_trace(store, raw):
    collecting(store)
    end(store, "j")
    assert store.collecting.troubled() == [] and store.collecting.storage() == ""
    assert not raw.exists("orc:collecting", "orc:storage")


def test_the_first_to_be_lost_comes_first(store):
    have(store, a=3)
    for job_id, dies_at in (("later", DIES_AT + 9), ("soon", DIES_AT - 9), ("between", DIES_AT)):
        postponed(store, job_id, dies_at)
    assert [job_id for job_id, _ in store.collecting.troubled()] == ["soon", "between", "later"]
    assert store.collecting.troubled(1) == [("soon", DIES_AT - 9)]
    assert store.collecting.count() == 3
    job = store.job("soon")
    assert (job.collect_error, job.artifacts_die_at, job.collect_failures) == (FULL, DIES_AT - 9, 1)


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED])
def test_an_end_takes_it_off_the_list(store, state):
    postponed(store)
    end(store, "j", state, NOW + 9)
    assert store.collecting.troubled() == []


def test_a_dead_letter_that_is_replayed_is_collected_and_its_time_reckoned_anew(store):
    postponed(store)
    end(store, "j", State.FAILED, NOW + 9)
    assert names(store.dead.replay(["j"], NOW + 10, False).finishes) == ["j.1"]
    job = store.job("j")
    assert (job.artifact_urls, job.artifacts_die_at, job.collect_failures) == (URLS, None, 0)


# --- nothing is begun meanwhile ------------------------------------------------------------------------


def test_nothing_is_granted_while_storage_fails(store, raw):
    postponed(store, storage_seconds=120)
    assert store.collecting.storage() == FULL
    assert 60 < raw.ttl("orc:storage") <= 120
    assert store.enqueue(new("x"), NOW) == (1, ())
    assert store.fill(PROVIDER, NOW) == ()
    assert store.lanes.rank("useapi_frames|", "x") == 0
    raw.delete("orc:storage")  # as its time does
    assert names(store.fill(PROVIDER, NOW)) == ["x.1"]


def test_trouble_in_fetching_stops_nothing(store):
    postponed(store)
    assert names(store.enqueue(new("x"), NOW)[1]) == ["x.1"]


def test_what_was_kept_at_last_opens_the_gate(store):
    have(store, a=2)
    for job_id in ("first", "second"):
        collecting(store, job_id)
    for job_id in ("first", "second"):
        assert store.begin_finish(job_id, NOW)
        store.collecting.later(job_id, NOW + 9, FULL, DIES_AT, storage_seconds=120)
    end(store, "first", State.FAILED, NOW + 9)
    assert store.collecting.storage() == FULL  # it was given up: nothing was kept
    end(store, "second", State.SUCCEEDED, NOW + 9)
    assert store.collecting.storage() == ""
    assert names(store.enqueue(new("x"), NOW)[1]) == ["x.1"]


# --- held by one ---------------------------------------------------------------------------------------


def test_a_finish_that_takes_long_is_not_begun_beside_itself(store):
    collecting(store)
    token = store.begin_finish("j", NOW).token
    for minute in range(1, 10):
        now = NOW + minute * (FINISH_PATIENCE - 10)
        token = store.collecting.hold("j", now, token)
        assert store.claim(now + FINISH_PATIENCE - 1)[0].count == 0
        assert not store.begin_finish("j", now + FINISH_PATIENCE - 1)
    assert names(store.claim(now + FINISH_PATIENCE)[0].finishes) == ["j.1"]
    assert store.begin_finish("j", now + FINISH_PATIENCE)


def test_end_tells_celery_and_whoever_waits_only_where_it_ends_the_job(store, raw):
    collecting(store, "j")
    lost = store.begin_finish("j", NOW).token
    token = store.begin_finish("j", NOW + FINISH_PATIENCE).token
    with raw.pubsub(ignore_subscribe_messages=True) as told:
        told.subscribe("result-of-j")
        for held, text in ((lost, "stale"), (token, "done"), (token, "once more")):
            store.end("j", NOW + 99, State.SUCCEEDED, {}, "", held, Shown("result-of-j", text, 60))
        heard = [each["data"] for _ in range(4) if (each := told.get_message(timeout=1))]
    assert (raw.get("result-of-j"), heard) == ("done", ["done"])
    assert 0 < raw.ttl("result-of-j") <= 60


def test_a_finish_that_another_has_by_now_is_neither_held_nor_let_go_nor_postponed_nor_ended(store):
    collecting(store)
    lost = store.begin_finish("j", NOW).token
    token = store.begin_finish("j", NOW + FINISH_PATIENCE).token
    before = store.job("j")
    assert store.collecting.hold("j", NOW + 99, lost) == ""
    store.collecting.let_go("j", lost)
    store.collecting.later("j", NOW + 99, FULL, DIES_AT, storage_seconds=120, token=lost)
    assert not store.end("j", NOW + 99, State.SUCCEEDED, {"artifacts": []}, "", lost)
    assert store.job("j") == before and store.collecting.storage() == ""
    assert not store.begin_finish("j", NOW + 99)
    assert store.end("j", NOW + 99, State.SUCCEEDED, {"artifacts": []}, "", token)


@pytest.mark.parametrize("let_go", [True, False])
def test_a_finish_that_nobody_has_taken_over_is_ended_by_who_began_it(store, let_go):
    collecting(store)
    token = store.begin_finish("j", NOW).token
    if let_go:
        store.collecting.let_go("j", token)
    assert store.end("j", NOW + 9 * FINISH_PATIENCE, State.SUCCEEDED, {"artifacts": []}, "", token)


def test_what_nobody_holds_is_not_held(store):
    postponed(store)
    assert store.collecting.hold("j", NOW + 5, "1") == ""
    assert store.job("j").due_at == NOW + 9 and store.begin_finish("j", NOW + 9)
    end_now(store)
    assert store.collecting.hold("j", NOW + 10, "1") == ""
    assert store.job("j").due_at is None
    assert store.collecting.hold("nobody", NOW, "1") == ""
    assert store.due_at("nobody") is None


def end_now(store) -> None:
    store.end("j", NOW + 9, State.SUCCEEDED, {"artifacts": []}, "")


# --- fresh URLs ----------------------------------------------------------------------------------------


def test_fresh_urls_take_the_place_of_those_that_died(store):
    postponed(store, urls=LATE_URLS, dies_at=DIES_AT + 7)
    job = store.job("j")
    assert (job.artifact_urls, job.artifacts_die_at) == (LATE_URLS, DIES_AT + 7)


def test_a_job_that_is_given_fresh_urls_is_collected_at_once(store):
    postponed(store)
    store.collecting.renew("j", LATE_URLS, DIES_AT + 7, NOW + 1)
    assert store.job("j").artifact_urls == LATE_URLS
    assert store.collecting.troubled() == [("j", DIES_AT + 7)]
    assert names(store.claim(NOW + 1)[0].finishes) == ["j.1"]


def test_fresh_urls_do_not_disturb_who_collects(store):
    collecting(store)
    assert store.begin_finish("j", NOW)
    store.collecting.renew("j", LATE_URLS, DIES_AT, NOW)
    assert store.job("j").due_at == NOW + FINISH_PATIENCE and store.collecting.troubled() == []


def test_a_dead_letter_keeps_its_fresh_urls_for_the_replay(store):
    postponed(store)
    end(store, "j", State.FAILED, NOW + 9)
    store.collecting.renew("j", LATE_URLS, DIES_AT, NOW + 10)
    assert store.job("j").state is State.FAILED and store.due_at("j") is None
    store.dead.replay(["j"], NOW + 10, False)
    assert store.job("j").artifact_urls == LATE_URLS


@pytest.mark.parametrize("reach", [store_kit.ended, store_kit.opened])
def test_fresh_urls_of_what_is_not_collected_change_nothing(store, reach):
    reach(store, "j")
    before = store.job("j")
    store.collecting.renew("j", LATE_URLS, DIES_AT, NOW)
    assert store.job("j") == before


def test_when_a_late_success_was_told_is_known(store):
    store_kit.opened(store, "j")
    store_kit.lose(store, "j.1", again_at=NOW + 500)
    store_kit.late(store, now=NOW + 300)
    (attempt,) = store.attempts(store.job("j"))
    assert (float(attempt["closed"]), float(attempt["told"])) == (NOW, NOW + 300)
