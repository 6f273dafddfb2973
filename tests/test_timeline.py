"""What is told of a job's past: from records of the real store, with the test's own clock."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.insight import Insight
from orchestrator.models import Answer, Callback, State
from orchestrator.store import Store
from orchestrator.timeline import Moment, shown
from tests import store_kit
from tests.store_kit import ERROR, FAILURE, NOW, PROVIDER, TIMING, URLS, new

server, raw, store = store_kit.server, store_kit.raw, store_kit.store


def told(store: Store, at: float, job_id: str = "j") -> list[Moment]:
    return Insight(store, lambda: at).timeline(job_id)


def events(found: list[Moment]) -> list[tuple[float, str]]:
    return [(each.at - NOW, each.event) for each in found]


def begin(store: Store, number: int = 1, at: float = NOW, upstream_id: str = "u@example.com-1") -> str:
    """The attempt is opened, and taken a second later."""
    attempt = f"j.{number}"
    assert store.open(attempt, at)
    store.submitted(attempt, upstream_id, at + 1, at + 60, TIMING, True)
    return attempt


def enqueue(store: Store, **fields: Any) -> None:
    store.enqueue(new("j", **fields), NOW)


def test_a_job_that_goes_well(store: Store) -> None:
    enqueue(store)
    attempt = begin(store, at=NOW + 1)
    store.look_again(attempt, NOW + 5, NOW + 9, "polls")
    store.journal.note(Callback(PROVIDER, "a", "another.1", b"{}", NOW + 6), "pending")
    store.journal.note(Callback(PROVIDER, "a", attempt, b'{"prompt": "a secret"}', NOW + 6), "pending")
    callback = Callback(PROVIDER, "a", attempt, b"{}", NOW + 7.25)
    store.settle(attempt, "succeeded", NOW + 7, artifact_urls=URLS, source="callbacks", callback=callback)
    assert told(store, NOW + 8)[-1].more["gate"] == "collecting"
    store.begin_finish("j", NOW + 8)
    store.end("j", NOW + 9, State.SUCCEEDED, {"artifacts": []}, "")
    found = told(store, NOW + 100)
    assert events(found) == [
        (0, "job.enqueued"),
        (0, "attempt.granted"),
        (1, "attempt.opened"),
        (2, "attempt.submitted"),
        (5, "attempt.polled"),
        (6, "callback.received"),
        (7, "attempt.closed"),
        (7.25, "callback.received"),
        (9, "job.ended"),
    ]
    assert [each.attempt for each in found] == [None, *[1] * 7, None]
    assert {each.more["account"] for each in found if each.event.startswith("attempt.")} == {"a"}
    text = str([shown(each) for each in found])
    assert "@" not in text and "secret" not in text
    assert found[3].more["upstream_id"] == "<e-mail>"


def test_a_job_that_is_tried_again_says_until_when_it_waits(store: Store) -> None:
    enqueue(store)
    attempt = begin(store)
    store.settle(attempt, "failed", NOW + 3, error=ERROR, again_at=NOW + 13, counts=FAILURE)
    *_, closed, waits = told(store, NOW + 4)
    assert (closed.event, closed.text, closed.more["error"]) == (
        "attempt.closed",
        "failed: Unavailable: no",
        FAILURE,
    )
    assert (waits.event, waits.more["gate"], waits.at) == ("job.waits", "backoff", NOW + 4)
    assert shown(waits)["until"] == "2023-11-14T22:13:33.250+00:00"
    store.claim(NOW + 13)
    begin(store, 2, NOW + 14, "u-2")
    assert [each.attempt for each in told(store, NOW + 20) if each.event == "attempt.opened"] == [1, 2]
    assert told(store, NOW + 20)[-1].more["gate"] == "provider"


def test_a_late_success_is_told_beside_what_it_was_given_up_for(store: Store) -> None:
    enqueue(store)
    attempt = begin(store)
    store.settle(attempt, "lost", NOW + 100, error=ERROR)
    store.begin_finish("j", NOW + 100)
    store.end("j", NOW + 101, State.FAILED, None, "Unavailable: no (after 1 attempt)")
    dead = told(store, NOW + 102)
    assert dead[-1].event == "job.ended" and dead[-1].text == "failed: Unavailable: no (after 1 attempt)"
    assert [each.text for each in dead if each.event == "attempt.closed"] == ["lost: Unavailable: no"]
    assert store.settle(attempt, "succeeded", NOW + 200, artifact_urls=URLS).word == "late"
    late = told(store, NOW + 201)
    assert events(late)[-3:] == [(100, "attempt.closed"), (200, "attempt.late"), (201, "job.waits")]
    assert late[-3].text == "given up: Unavailable: no" and "verdict" not in late[-3].more


def test_a_job_that_is_cancelled(store: Store) -> None:
    enqueue(store)
    begin(store)
    assert store.cancel("j", NOW + 5)
    found = told(store, NOW + 9)
    assert [(each.event, each.text) for each in found[-2:]] == [
        ("attempt.closed", "cancelled"),
        ("job.ended", "cancelled"),
    ]
    assert found[-1].at == NOW + 5


def test_a_submit_that_nobody_answered(store: Store) -> None:
    enqueue(store)
    assert store.open("j.1", NOW + 1)
    store.uncertain("j.1", NOW + 2, NOW + 4)
    assert events(told(store, NOW + 3))[-2:] == [(2, "attempt.uncertain"), (3, "job.waits")]
    assert told(store, NOW + 3)[-1].more["gate"] == "uncertain"


def test_who_was_told_of_its_end(store: Store) -> None:
    enqueue(store, notify_url="https://example.com/hooks/a-secret-path")
    attempt = begin(store)
    store.settle(attempt, "succeeded", NOW + 3, artifact_urls=URLS)
    store.begin_finish("j", NOW + 3)
    store.end("j", NOW + 4, State.SUCCEEDED, {"artifacts": []}, "")
    notice = store.notices.take("example.com", NOW + 5)
    assert notice
    store.notices.told(notice, Answer("503", again_in=1.0), "https://example.com/…", NOW + 6, 0.5, False)
    *_, tried = told(store, NOW + 7)
    assert events([tried]) == [(5, "notice.postponed")]
    again = store.notices.take("example.com", NOW + 60)
    assert again
    store.notices.told(again, Answer("204", delivered=True), "https://example.com/…", NOW + 61, 0.5, False)
    *_, ended, delivered = told(store, NOW + 70)
    assert events([ended, delivered]) == [(4, "job.ended"), (61, "notice.delivered")]
    assert delivered.text == "example.com: delivered at try 2: 204"
    assert "a-secret-path" not in str([shown(each) for each in told(store, NOW + 70)])


@pytest.mark.parametrize("paused", ["batch", "account"])
def test_what_holds_a_job_that_waits(store: Store, paused: str) -> None:
    if paused == "batch":
        store.lanes.pause("batch", "b", NOW)
    else:
        store.accounts.rest(PROVIDER, "a", NOW, NOW + 30, "TooMany", "later")
    enqueue(store, batch="b")
    assert events(told(store, NOW + 1)) == [(0, "job.enqueued"), (1, "job.waits")]
    assert told(store, NOW + 1)[-1].more["gate"] in ("paused", "rest", "accounts")


def test_the_journal_is_read_to_its_end(store: Store) -> None:
    enqueue(store)
    begin(store)
    for number in range(250):
        of = "j.1" if number in (0, 249) else "another.1"
        store.journal.note(Callback(PROVIDER, "a", of, b"{}", NOW + number), "duplicate")
    assert sum(each.event == "callback.received" for each in told(store, NOW + 500)) == 2
