"""What the store does with a callback: one step that takes it, notes it, and knows it when it comes again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.errors import Stale
from orchestrator.models import Callback
from orchestrator.store import Store
from orchestrator.store.journal import KEPT_BYTES, KEPT_PARKED
from tests import store_kit
from tests.store_kit import DAY, ERROR, FAILURE, NOW, OTHER, PROVIDER, TIMING, URLS, opened, submit

server, raw, store = store_kit.server, store_kit.raw, store_kit.store

UPSTREAM = "up-1"


def callback(
    attempt: str = "j.1", delivery: str = "", body: bytes = b"{}", provider: str = PROVIDER
) -> Callback:
    return Callback(provider, "a", attempt, body, NOW + 5, delivery)


def words(store: Store, parked: bool = False) -> list[str]:
    return [entry.word for entry in reversed(store.journal.recent(10, parked))]


def settle(store: Store, told: Callback, upstream_id: str = UPSTREAM) -> str:
    return store.settle(
        told.attempt, "succeeded", NOW + 5, artifact_urls=URLS, upstream_id=upstream_id,
        source="callbacks", callback=told,
    ).word  # fmt: skip


@pytest.fixture
def submitted(store: Store) -> Store:
    opened(store, "j")
    submit(store, "j.1", UPSTREAM, NOW + 60)
    return store


def test_progress_is_counted_and_noted(submitted, raw):
    body = '{"word": "späť"}'.encode()
    assert submitted.journal.hear(callback(body=body), UPSTREAM, True).word == "pending"
    (entry,) = submitted.journal.recent(10)
    assert (entry.at, entry.provider, entry.account) == (NOW + 5, PROVIDER, "a")
    assert (entry.attempt, entry.word, entry.body.encode()) == ("j.1", "pending", body)
    assert submitted.stats()[f"{PROVIDER}/callbacks"] == 1
    assert raw.keys("orc:delivery:*") == []


def test_progress_of_another_generation_is_a_mismatch(submitted):
    assert submitted.journal.hear(callback(), "another", True).word == "mismatch"
    assert words(submitted) == ["mismatch"]


def test_progress_of_an_attempt_that_nobody_knows_is_parked(store):
    assert store.journal.hear(callback("nobody.1"), UPSTREAM, True).word == "unknown"
    assert (words(store), words(store, parked=True)) == ([], ["unknown"])


def test_progress_that_brings_the_upstream_id_is_taken_once_that_is_recorded(store):
    opened(store, "j")
    told = store.journal.hear(callback(delivery="d-1"), UPSTREAM, True)
    assert (told.word, told.account, told.timing) == ("nameless", "a", f"{PROVIDER}/")
    assert words(store) == []
    submit(store, "j.1", UPSTREAM, NOW + 60)
    assert store.journal.hear(callback(delivery="d-1"), UPSTREAM, True).word == "pending"
    assert words(store) == ["pending"]
    assert store.stats()[f"{PROVIDER}/callbacks"] == 1


def test_progress_that_does_not_say_whose_it_is_brings_no_upstream_id(store):
    opened(store, "j")
    assert store.journal.hear(callback(), UPSTREAM, False).word == "pending"
    attempt = store.attempt("j.1")
    assert attempt is not None and attempt.upstream_id is None


def test_a_delivery_is_taken_once_and_of_its_provider_alone(submitted, raw):
    first = callback(delivery="d-1")
    assert submitted.journal.hear(first, UPSTREAM, True).word == "pending"
    assert submitted.journal.hear(first, UPSTREAM, True).word == "duplicate"
    another = callback("nobody.1", delivery="d-1", provider=OTHER)
    assert submitted.journal.hear(another, UPSTREAM, True).word == "unknown"
    assert submitted.stats()[f"{PROVIDER}/callbacks"] == 1
    assert words(submitted) == ["pending"]
    assert all(0 < raw.ttl(key) <= 3600 for key in raw.keys("orc:delivery:*"))


@pytest.mark.parametrize(
    "other",
    [
        callback(delivery="d-1", body=b"{ }"),
        callback("k.1", delivery="d-1"),
        replace(callback(delivery="d-1"), account="b"),
    ],
    ids=["body", "attempt", "account"],
)
def test_a_delivery_that_brings_something_else_the_second_time_is_refused(other, submitted):
    assert submitted.journal.hear(callback(delivery="d-1"), UPSTREAM, True).word == "pending"
    with pytest.raises(Stale):
        submitted.journal.hear(other, UPSTREAM, True)
    with pytest.raises(Stale):
        settle(submitted, other)
    assert words(submitted) == ["pending"]
    assert submitted.attempt("j.1").state == "submitted"


def test_what_an_earlier_release_remembers_of_a_delivery_refuses_it(submitted, raw):
    submitted.journal.hear(callback(delivery="d-1"), UPSTREAM, True)
    (key,) = raw.keys("orc:delivery:*")
    raw.set(key, "1")
    with pytest.raises(Stale):
        submitted.journal.hear(callback(delivery="d-1"), UPSTREAM, True)


def test_the_end_is_settled_noted_and_remembered_in_one_step(submitted):
    assert settle(submitted, callback(delivery="d-1")) == "settled"
    assert settle(submitted, callback(delivery="d-1")) == "duplicate"  # the very same: not even noted
    assert settle(submitted, callback(delivery="d-2")) == "duplicate"
    assert words(submitted) == ["settled", "duplicate"]
    assert submitted.stats()[f"{PROVIDER}/callbacks"] == 2
    assert len(submitted.durations(TIMING)) == 1


def test_a_delivery_that_was_refused_may_come_again(submitted):
    for _ in range(2):
        assert settle(submitted, callback(delivery="d-1"), "another") == "mismatch"
        assert submitted.journal.hear(callback(delivery="d-1"), "another", True).word == "mismatch"
        submitted.journal.note(callback(delivery="d-1"), "unreadable")
    assert settle(submitted, callback(delivery="d-1")) == "settled"
    assert (words(submitted), words(submitted, parked=True)) == (
        ["mismatch"] * 4 + ["settled"],
        ["unreadable"] * 2,
    )


def test_an_end_that_nobody_knows_is_parked(store):
    assert settle(store, callback("nobody.1")) == "unknown"
    assert words(store, parked=True) == ["unknown"]


def test_a_failure_that_a_callback_tells_of_lines_the_job_up_again(submitted):
    again = {"error": ERROR, "again_at": NOW + 90, "counts": FAILURE}
    assert submitted.settle("j.1", "failed", NOW + 5, **again, callback=callback()).word == "settled"
    assert (words(submitted), submitted.job("j").state) == (["settled"], "queued")


def test_of_a_long_body_the_beginning_is_kept(submitted):
    submitted.journal.hear(callback(body=b"x" * (KEPT_BYTES + 1)), UPSTREAM, True)
    assert submitted.journal.recent(1)[0].body == "x" * KEPT_BYTES


def test_what_is_no_text_takes_no_more_room(submitted):
    for body in (b"\xff" * KEPT_BYTES, b"x" + "ä".encode() * KEPT_BYTES):
        submitted.journal.hear(callback(body=body), UPSTREAM, True)
        kept = submitted.journal.recent(1)[0].body.encode()
        assert KEPT_BYTES - 3 < len(kept) <= KEPT_BYTES


def test_of_an_attempt_that_is_not_known_the_latest_callbacks_are_parked(store, raw):
    """Who has one genuine URL does not fill Redis."""
    store.journal.note(callback("other.1"), "unreadable")
    for number in range(40):
        told = callback("nobody.1", body=b"%d" % number)
        if number % 2:
            store.journal.note(told, "unreadable")
        else:
            assert settle(store, told) == "unknown"
    parked = store.journal.recent(KEPT_PARKED, parked=True)
    assert [entry.body for entry in parked] == [*(str(number) for number in range(39, 31, -1)), "{}"]
    assert (raw.llen("orc:parked:nobody.1"), raw.llen("orc:parked:other.1")) == (8, 1)
    assert 0 < raw.ttl("orc:parked:nobody.1") <= DAY
    store.journal.forget_parked(parked[3].id)
    store.journal.note(callback("nobody.1"), "unreadable")
    assert store.journal.count(parked=True) == 8


def test_a_server_that_has_forgotten_the_steps_is_told_them_again(submitted, raw):
    raw.script_flush()
    assert submitted.journal.hear(callback(), UPSTREAM, True).word == "pending"
    raw.script_flush()
    assert settle(submitted, callback()) == "settled"
