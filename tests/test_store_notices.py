"""Notices in the store: made by the very step that ends a job, and kept until somebody was told."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from orchestrator.errors import NotFound
from orchestrator.models import Answer, Notice, Retention, State
from tests import store_kit
from tests.store_kit import DAY, NOW, PROVIDER, collecting, end, ended, have, late, new, opened

server, raw, store, another = store_kit.server, store_kit.raw, store_kit.store, store_kit.another

HOST = "hooks.example.com"
URL, OTHER_URL = f"https://{HOST}/job?key=s3cret", f"https://{HOST}/batch"
SIGNATURE = '{"task": "tests.record", "args": []}'
CELERY = "@celery"
PATIENCE, AT_ONCE, TO_REST = 30, 4, 5
DELIVERED = Answer("200", delivered=True)
DOWN = Answer("no answer", again_in=5.0, host_down=True)
REFUSED = Answer("404", again_in=5.0)
GONE = Answer("410")


def told(store: Any, notice: Notice, answer: Answer, now: float = NOW, more: bool = False) -> Notice | None:
    return store.notices.told(notice, answer, "shown", now, 1.0, more)


def hosts(store: Any, now: float = NOW) -> dict[str, int]:
    """Hosts that the due list would have told, and by how many senders."""
    return dict(store.claim(now)[0].hosts)


def waiting(store: Any) -> list[Notice]:
    return store.notices.known(store.notices.ids(dead=False))


def dead(store: Any) -> list[Notice]:
    return store.notices.known(store.notices.ids(dead=True))


def many(store: Any, count: int, url: str = URL) -> None:
    """So many notices for one host, made at once."""
    have(store, a=count)
    ids = [f"n{number}" for number in range(count)]
    opened(store, *ids, notify_url=url)
    for each in ids:
        assert store.cancel(each, NOW)


# --- made with the end ---------------------------------------------------------------------------------


def test_a_job_that_succeeds_is_told_with_its_result(store):
    ended(store, notify_url=URL)
    notice = store.notices.take(HOST, NOW)
    assert (notice.type, notice.about, notice.target, notice.host) == ("job.succeeded", "j", URL, HOST)
    assert (notice.state, notice.tries, notice.made_at) == ("waiting", 1, NOW)
    assert notice.facts["result"] == '{"artifacts": []}' and notice.facts["provider"] == PROVIDER


def test_a_job_that_fails_is_told_with_its_reason(store):
    ended(store, state=State.FAILED, notify_url=URL)
    notice = store.notices.take(HOST, NOW)
    assert (notice.type, notice.facts["reason"]) == ("job.failed", "it failed")


@pytest.mark.parametrize("expires", [0.0, NOW + 1])
def test_a_job_that_is_cancelled_or_expires_is_told(store, expires):
    store.accounts.rest(PROVIDER, "a", NOW, NOW + DAY, "paused", "")
    store.enqueue(new("j", notify_url=URL, expires_at=expires, start_at=NOW + 1 if expires else 0.0), NOW)
    if expires:
        store.claim(NOW + 2)
    else:
        store.cancel("j", NOW)
    assert store.notices.take(HOST, NOW + 2).type == "job.cancelled"


def test_nothing_is_kept_for_jobs_that_nobody_is_told_of(store, raw):
    ended(store, batch="b")
    assert not raw.keys("orc:notice*") and not hosts(store)
    assert not raw.hexists("orc:job:j", "notices")


def test_ending_twice_tells_once(store):
    ended(store, notify_url=URL)
    assert not store.end("j", NOW, State.SUCCEEDED, {}, "")
    assert not store.cancel("j", NOW)
    assert len(waiting(store)) == 1


def test_everybody_is_told_once_of_each_job(store):
    store.notices.tell_of("b", {"notify_url": OTHER_URL, "on_each": SIGNATURE}, NOW)
    ended(store, batch="b", notify_url=URL)
    assert sorted((each.type, each.target) for each in waiting(store)) == sorted(
        [
            *(("job.succeeded", target) for target in (URL, OTHER_URL, SIGNATURE)),
            ("batch.completed", OTHER_URL),
        ]
    )
    assert {each.id for each in store.notices.of_job("j")} == {
        each.id for each in waiting(store) if each.type == "job.succeeded"
    }


def test_who_is_named_by_job_and_batch_is_told_once(store):
    store.notices.tell_of("b", {"notify_url": URL}, NOW)
    ended(store, batch="b", notify_url=URL)
    assert [each.type for each in waiting(store)].count("job.succeeded") == 1
    assert len(store.notices.of_job("j")) == 1


def test_a_late_success_is_another_event(store):
    have(store, a=1)
    opened(store, "j", notify_url=URL)
    store_kit.lose(store, "j.1", again_at=None)
    end(store, "j", State.FAILED)
    late(store)
    end(store, "j")
    first, second = store.notices.of_job("j")
    assert (first.type, second.type) == ("job.failed", "job.succeeded") and first.id != second.id


def test_a_job_that_fails_again_after_a_replay_is_told_again(store):
    opened(store, "j", notify_url=URL)
    store_kit.lose(store, "j.1", again_at=None)
    end(store, "j", State.FAILED)
    assert store.dead.replay(["j"], NOW + 1, False).count == 1
    assert store.open("j.2", NOW + 1)
    store.settle("j.2", "failed", NOW + 1, error=store_kit.ERROR)
    end(store, "j", State.FAILED, NOW + 2)
    first, second = store.notices.of_job("j")
    assert first.type == second.type == "job.failed" and first.id != second.id


def test_a_batch_is_told_of_once_it_is_over_and_not_before(store):
    have(store, a=2)
    store.notices.tell_of("b", {"on_complete": SIGNATURE}, NOW)
    for each in ("one", "two"):
        collecting(store, each, batch="b")
    end(store, "one")
    assert not waiting(store)
    end(store, "two", State.FAILED)
    (notice,) = waiting(store)
    assert (notice.type, notice.about, notice.host) == ("batch.completed", "b", CELERY)
    assert [notice.facts[word] for word in ("total", "succeeded", "failed")] == ["2", "1", "1"]


def test_a_batch_that_is_extended_completes_again_under_another_id(store):
    have(store, a=2)
    store.notices.tell_of("b", {"on_complete": OTHER_URL}, NOW)
    ended(store, "one", batch="b")
    ended(store, "two", batch="b")
    ids = {each.facts["total"]: each.id for each in waiting(store)}
    assert ids.keys() == {"1", "2"} and ids["1"] != ids["2"]


def test_many_jobs_that_end_at_once_complete_their_batch_once(store):
    count = 60
    have(store, a=count)
    store.notices.tell_of("b", {"on_complete": OTHER_URL}, NOW)
    ids = [f"j{number}" for number in range(count)]
    opened(store, *ids, batch="b")
    for each in ids:
        store.settle(f"{each}.1", "succeeded", NOW, artifact_urls=store_kit.URLS)
    begin = threading.Barrier(6)

    def end_some(place: int) -> None:
        begin.wait()
        for each in ids[place::6]:
            end(store, each, State.FAILED if place % 2 else State.SUCCEEDED)

    threads = [threading.Thread(target=end_some, args=(place,)) for place in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    (notice,) = waiting(store)
    assert notice.facts["total"] == str(count)


def test_a_batch_that_only_names_who_is_told_does_not_stay_for_ever(store, raw):
    store.notices.tell_of("b", {"on_complete": OTHER_URL}, NOW)
    assert 0 < raw.ttl("orc:batch:b") <= 7 * DAY
    store.enqueue(new("j", batch="b"), NOW)
    assert raw.ttl("orc:batch:b") == -1
    store.notices.tell_of("b", {"on_complete": URL}, NOW)
    assert raw.ttl("orc:batch:b") == -1
    assert store.batch("b")["total"] == 1


# --- sending -------------------------------------------------------------------------------------------


def test_a_notice_is_due_at_once_and_is_taken_by_one(store):
    ended(store, notify_url=URL)
    assert hosts(store) == {HOST: 1}
    notice = store.notices.take(HOST, NOW)
    assert notice and store.notices.take(HOST, NOW) is None
    assert told(store, notice, DELIVERED) is None
    assert store.notices.take(HOST, NOW + DAY) is None and not hosts(store, NOW + DAY)


# Where a sender is killed: after the end, after the claim, after taking it, or after the POST.
@pytest.mark.parametrize("steps", [0, 1, 2])
def test_what_is_cut_off_is_sent_again_under_the_same_id(store, steps):
    ended(store, notify_url=URL)
    (made,) = waiting(store)
    if steps > 0:
        assert hosts(store) == {HOST: 1}
    if steps > 1:
        assert store.notices.take(HOST, NOW).id == made.id
        assert store.notices.take(HOST, NOW + PATIENCE - 1) is None
    later = NOW + PATIENCE
    assert hosts(store, later) == {HOST: 1}
    again = store.notices.take(HOST, later)
    assert (again.id, again.tries) == (made.id, 2 if steps > 1 else 1)


def test_a_sender_that_was_given_up_still_delivers(store):
    ended(store, notify_url=URL)
    slow = store.notices.take(HOST, NOW)
    second = store.notices.take(HOST, NOW + PATIENCE)
    told(store, slow, REFUSED, NOW + PATIENCE + 1)
    assert store.notices.one(slow.id).answer == ""  # the other one knows better
    told(store, slow, DELIVERED, NOW + PATIENCE + 1)
    told(store, second, REFUSED, NOW + PATIENCE + 2)
    assert store.notices.one(slow.id).state == "delivered" and not waiting(store)


def test_the_next_of_a_host_comes_with_what_became_of_the_last(store):
    many(store, 3)
    notice, seen = store.notices.take(HOST, NOW), set()
    while notice:
        seen.add(notice.id)
        notice = told(store, notice, DELIVERED, more=True)
    assert len(seen) == 3 and not waiting(store)


def test_only_a_few_are_on_their_way_to_one_host(store):
    many(store, AT_ONCE + 2)
    assert hosts(store) == {HOST: AT_ONCE}
    taken = [store.notices.take(HOST, NOW) for _ in range(AT_ONCE)]
    assert all(taken) and store.notices.take(HOST, NOW) is None
    assert hosts(store, NOW + 2) == {}
    assert told(store, taken[0], DELIVERED, NOW + 2, more=True)


def test_what_was_left_when_a_turn_was_over_is_due(store):
    many(store, 2)
    hosts(store)
    told(store, store.notices.take(HOST, NOW), DELIVERED, NOW + 1)
    assert hosts(store, NOW + 1) == {HOST: 1}


def test_a_postponed_notice_waits_for_its_time(store):
    ended(store, notify_url=URL)
    told(store, store.notices.take(HOST, NOW), REFUSED)
    assert store.notices.take(HOST, NOW + 4) is None and not hosts(store, NOW + 4)
    assert hosts(store, NOW + 5) == {HOST: 1}
    assert store.notices.take(HOST, NOW + 5).answer == "404"


def test_hosts_do_not_wait_for_each_other(store):
    many(store, TO_REST)
    for _ in range(TO_REST):
        told(store, store.notices.take(HOST, NOW), DOWN)
    have(store, a=10)
    ended(store, notify_url="https://other.example:8443/x")
    assert hosts(store, NOW + 5) == {"other.example:8443": 1}


# --- a host that does not answer ------------------------------------------------------------------------


def test_a_host_that_does_not_answer_rests_and_then_is_tried_by_one(store):
    many(store, 20)
    for _ in range(TO_REST):
        told(store, store.notices.take(HOST, NOW), DOWN)
    rests_until = store.notices.resting_until(HOST)
    assert rests_until == NOW + 15
    assert store.notices.take(HOST, NOW + 14) is None
    assert store.claim(NOW + 14)[0].count == 0  # not even looked at
    assert hosts(store, rests_until) == {HOST: 1}
    probe = store.notices.take(HOST, rests_until)
    assert store.notices.take(HOST, rests_until) is None
    told(store, probe, DOWN, rests_until)
    assert store.notices.resting_until(HOST) == rests_until + 30
    assert sum(each.tries for each in waiting(store)) == TO_REST + 1


def test_a_host_that_answers_again_is_told_all_of_it(store):
    many(store, 20)
    for _ in range(TO_REST):
        told(store, store.notices.take(HOST, NOW), DOWN)
    now = store.notices.resting_until(HOST)
    told(store, store.notices.take(HOST, now), DELIVERED, now)
    assert store.notices.resting_until(HOST) is None
    assert hosts(store, now + 1) == {HOST: AT_ONCE}


def test_failures_on_their_way_when_a_host_begins_to_rest_do_not_prolong_it(store):
    many(store, 20)
    for _ in range(TO_REST - 1):
        told(store, store.notices.take(HOST, NOW), DOWN)
    on_their_way = [store.notices.take(HOST, NOW) for _ in range(AT_ONCE)]
    for each in on_their_way:
        told(store, each, DOWN)
    assert store.notices.resting_until(HOST) == NOW + 15


def test_a_host_that_answers_with_a_refusal_does_not_rest(store):
    many(store, 3 * TO_REST)
    for _ in range(2 * TO_REST):
        told(store, store.notices.take(HOST, NOW), REFUSED)
    assert store.notices.resting_until(HOST) is None


def test_what_waited_a_day_for_a_host_that_never_answered_is_dead_without_being_tried(store, raw):
    many(store, 400)
    now = NOW
    while now < NOW + DAY + 700:
        while (claimed := store.claim(now)[0]).count:
            for host, _ in claimed.hosts:
                if notice := store.notices.take(host, now):
                    told(store, notice, DOWN, now)
        now += 200
    left = dead(store)
    assert len(left) == 400 and {each.answer for each in left} == {"no answer"}
    assert sum(each.tries == 0 for each in left) > 80 and sum(each.tries for each in left) < 320
    assert not waiting(store) and not raw.zcard(f"orc:notices:{HOST}")
    assert store.claim(now + DAY)[0].hosts == ()


# --- dead ones, and what is kept --------------------------------------------------------------------------


def test_a_notice_nobody_wants_is_dead_and_may_be_sent_again_under_its_id(store, raw):
    ended(store, notify_url=URL)
    notice = store.notices.take(HOST, NOW)
    told(store, notice, GONE)
    assert store.notices.counts() == (0, 1) and 29 * DAY < raw.ttl(f"orc:notice:{notice.id}") <= 30 * DAY
    assert not hosts(store, NOW + DAY)
    assert store.notices.replay([notice.id], NOW + DAY) == 1
    assert store.notices.replay([notice.id], NOW + DAY) == 0
    again = store.notices.take(HOST, NOW + DAY)
    assert (again.id, again.tries, again.target, again.facts["result"]) == (
        notice.id, 1, URL, notice.facts["result"],
    )  # fmt: skip
    assert raw.ttl(f"orc:notice:{notice.id}") == -1 and store.notices.counts() == (1, 0)


def test_replaying_wakes_a_host_that_rests(store):
    many(store, TO_REST)
    for _ in range(TO_REST):
        told(store, store.notices.take(HOST, NOW), Answer("no answer", host_down=True))
    assert store.notices.resting_until(HOST)
    assert store.notices.replay(store.notices.ids(dead=True), NOW + 1) == TO_REST
    assert hosts(store, NOW + 1) == {HOST: AT_ONCE}


def test_purged_notices_are_forgotten(store, raw):
    ended(store, notify_url=URL)
    notice = store.notices.take(HOST, NOW)
    told(store, notice, GONE)
    assert store.notices.purge([notice.id, "nobody"]) == 1 and store.notices.purge([]) == 0
    with pytest.raises(NotFound):
        store.notices.one(notice.id)
    assert store.notices.of_job("j") == [] and store.notices.counts() == (0, 0)


def test_a_purge_leaves_alone_what_was_replayed_meanwhile(store):
    ended(store, notify_url=URL)
    notice = store.notices.take(HOST, NOW)
    told(store, notice, GONE)
    store.notices.replay([notice.id], NOW)
    assert store.notices.purge([notice.id]) == 0
    assert store.notices.take(HOST, NOW).target == URL


def test_a_host_is_given_up_although_the_record_of_one_of_its_notices_is_gone(store, raw):
    many(store, 2)
    first, second = (store.notices.take(HOST, NOW).id for _ in range(2))
    raw.delete(f"orc:notice:{first}")
    raw.hset(f"orc:host:{HOST}", mapping={"failures": 9, "failing_since": NOW, "answer": "no answer"})
    store.claim(NOW + 2 * DAY)
    assert [each.id for each in dead(store)] == [second]
    assert not store.notices.ids(dead=False) and not raw.exists(f"orc:notice:{first}")


def test_dead_notices_are_counted_for_thirty_days(store):
    ended(store, notify_url=URL)
    told(store, store.notices.take(HOST, NOW), GONE)
    store.claim(NOW + 29 * DAY)
    assert store.notices.counts() == (0, 1)
    store.claim(NOW + 31 * DAY)
    assert store.notices.counts() == (0, 0)


def test_dead_notices_stay_where_one_looks_who_was_told_to_keep_them_for_less_long(store, another):
    ended(store, notify_url=URL)
    told(store, store.notices.take(HOST, NOW), GONE)
    looks = another(Retention(DAY, DAY))
    assert looks.notices.counts() == (0, 1) and dead(looks)
    with pytest.raises(NotFound, match="delivered ones are kept for 1 days, dead ones for 1 days"):
        looks.notices.one("nobody")
    assert store.notices.counts() == (0, 1)


def test_nothing_is_left_for_ever(store, raw):
    store.notices.tell_of("b", {"notify_url": OTHER_URL, "on_each": SIGNATURE}, NOW)
    ended(store, batch="b", notify_url=URL)
    assert told(store, store.notices.take(HOST, NOW), DOWN) is None
    for host in (HOST, CELERY):
        notice = store.notices.take(host, NOW + 5)
        while notice:
            notice = told(store, notice, DELIVERED, NOW + 5, more=True)
    assert store.notices.counts() == (0, 0)
    for key in raw.keys("orc:*"):
        if any(word in key for word in ("notice", "telling", "host:")):
            assert raw.ttl(key) > 0, key
    for each in store.notices.of_job("j"):
        assert (each.state, each.target, each.shown) == ("delivered", "", "shown")
