"""A message is sent again where it may be lost, and not where workers are behind and it still waits."""

from __future__ import annotations

from tests import store_kit
from tests.store_kit import BEGIN_PATIENCE, FINISH_PATIENCE, NOW, collecting, have, names, new, numbered

server, raw, store = store_kit.server, store_kit.raw, store_kit.store
PATIENCE = 15  # for a grant that nobody opened
BEHIND = NOW + PATIENCE


def granted(store, *ids: str, at: float) -> None:
    _, grants = store.enqueue(new(*ids), at)
    assert len(grants) == len(ids)


def submits(store, now: float) -> list[str]:
    return sorted(names(store.claim(now)[0].submits))


def finishes(store, now: float) -> list[str]:
    return sorted(message.job_id for message in store.claim(now)[0].finishes)


def test_grant_that_still_waits_for_its_turn_is_not_sent_again(store):
    have(store, a=9)
    granted(store, *numbered("j", 3), at=NOW)
    assert store.open("j0.1", BEHIND - 1)
    assert submits(store, BEHIND) == []
    assert store.open("j1.1", BEHIND + 20)
    assert submits(store, BEHIND + 20) == []


def test_grant_whose_turn_has_passed_is_sent_again(store):
    have(store, a=9)
    granted(store, "lost", at=NOW)
    granted(store, "next", "waits", at=NOW + PATIENCE + 1)
    assert store.open("next.1", NOW + PATIENCE + 10)
    assert submits(store, NOW + 2 * PATIENCE) == ["lost.1"]


def test_grants_are_sent_again_once_nobody_opens_any(store):
    have(store, a=9)
    granted(store, *numbered("j", 3), at=NOW)
    assert store.open("j0.1", BEHIND)
    assert submits(store, BEHIND) == []
    assert submits(store, BEHIND + PATIENCE) == ["j1.1", "j2.1"]


def test_worker_that_is_not_behind_keeps_nothing_back(store, raw):
    have(store, a=9)
    granted(store, "j", "lost", at=NOW)
    assert store.open("j.1", NOW + 4)
    assert not raw.exists("orc:turn:submit")
    assert submits(store, BEHIND) == ["lost.1"]


def test_finish_that_still_waits_for_its_turn_is_not_sent_again(store):
    have(store, a=9)
    for each in ("j", "waits", "begun"):
        collecting(store, each)
    late = NOW + BEGIN_PATIENCE
    assert store.begin_finish("begun", NOW)
    assert store.begin_finish("j", late)
    assert finishes(store, late) == []
    assert finishes(store, late + BEGIN_PATIENCE + 1) == ["waits"]
    assert "begun" in finishes(store, late + FINISH_PATIENCE)


def test_nothing_of_it_stays_in_the_record_of_a_job_that_has_ended(store, raw):
    have(store, a=1)
    store_kit.ended(store)
    assert not raw.hexists("orc:job:j", "sent")
