"""What becomes of a job and of its account is a function of the error alone."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest

from orchestrator import errors
from orchestrator.errors import ProviderError
from orchestrator.retry import (
    BACKOFF_CAP_SECONDS,
    BUSY_SECONDS,
    QUOTA_REST_SECONDS,
    STORAGE_GATE_SECONDS,
    Again,
    GiveUp,
    backoff_seconds,
    collect_again_seconds,
    decide,
    means,
    rest_seconds,
    retry_after_seconds,
    verdict,
)

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
HALF = 0.5
DAY = 86_400.0


@pytest.mark.parametrize(
    ("error", "failures", "decision"),
    [
        (errors.Unavailable("m"), 0, Again(1.0, counts=True)),  # half of 2 s
        (errors.Unreachable("m"), 1, Again(0.0, counts=False)),  # our own network: no job is to blame
        (errors.Unavailable("m"), 3, Again(8.0, counts=True)),  # the last try of five is still to come
        (errors.Unavailable("m"), 4, GiveUp()),  # this was the fifth failure
        (errors.Unavailable("m"), 99, GiveUp()),  # the budget was lowered since
        (errors.Unavailable("m", wait_seconds=7), 0, Again(7, counts=True)),  # Retry-After is obeyed
        (errors.Unavailable("m", wait_seconds=0), 0, Again(1.0, counts=True)),  # "at once" is no hammering
        (errors.Unavailable("m", wait_seconds=7), 4, GiveUp()),  # but buys no further try
        (errors.AccountFull("m"), 99, Again(0.0, counts=False)),  # being busy is no failure, ever
        (errors.TooMany("m", wait_seconds=7), 99, Again(0.0, counts=False)),  # the account waits, not the job
        (errors.Unauthorized("m"), 99, Again(0.0, counts=False)),  # another account may do it
        (errors.OutOfCredit("m"), 99, Again(0.0, counts=False)),
        (errors.QuotaSpent("m"), 99, Again(0.0, counts=False)),
        (errors.Broken("m"), 99, Again(0.0, counts=False)),
        (errors.Invalid("m"), 0, GiveUp()),  # the same request would be refused again
        (errors.Moderated("m"), 0, GiveUp()),  # and providers suspend accounts for repeating this
        (errors.Unsupported("m"), 0, GiveUp()),
        (errors.Rejected("m"), 0, GiveUp()),
        (errors.Uncertain("m"), 0, GiveUp()),  # never repeated blindly: it may have been paid for
        (ProviderError("m"), 0, GiveUp()),  # a kind that an older version wrote
    ],
)
def test_a_job_is_tried_again_only_where_that_can_help(error, failures, decision):
    assert decide(error, {type(error).__name__: failures}, max_attempts=5, dice=HALF) == decision


def test_a_budget_of_one_attempt_allows_no_second():
    assert decide(errors.Unavailable("m"), {}, max_attempts=1, dice=HALF) == GiveUp()


@pytest.mark.parametrize(
    ("failures", "ceiling"),
    [
        (0, 2),
        (1, 4),
        (4, 32),
        (7, 256),
        (8, BACKOFF_CAP_SECONDS),
        (10_000, BACKOFF_CAP_SECONDS),  # does not overflow
    ],
)
def test_backoff_doubles_up_to_its_cap_with_full_jitter(failures, ceiling):
    assert backoff_seconds(failures, 0.0) == 0.0
    assert backoff_seconds(failures, HALF) == ceiling / 2
    assert backoff_seconds(failures, 0.999) < ceiling


def test_what_is_no_picture_is_tried_for_about_three_quarters_of_an_hour():
    error, tried = errors.BadPicture("html"), []
    while (seconds := collect_again_seconds(error, len(tried), DAY, HALF)) is not None:
        tried.append(seconds)
    assert 1800 < sum(tried) < 3600


@pytest.mark.parametrize(
    ("error", "failures", "seconds_left", "seconds"),
    [
        (errors.CollectFailed("reset"), 0, DAY, 1),  # half of 2 s
        (errors.CollectFailed("reset"), 99, 1, 300),
        (errors.CollectFailed("reset"), 99, 0, None),  # its URL is dead
        (errors.StorageFailed("full", wide=True), 99, DAY, 15),
        (errors.StorageFailed("full", wide=False), 99, -DAY, 15),  # it could be fetched: it lives
    ],
)
def test_a_picture_is_collected_again_while_its_url_lives(error, failures, seconds_left, seconds):
    assert collect_again_seconds(error, failures, seconds_left, HALF) == seconds


def test_nothing_is_begun_from_one_failure_of_the_storage_to_the_next():
    error = errors.StorageFailed("full", wide=True)
    longest = max(collect_again_seconds(error, n, DAY, 1.0) or 0 for n in range(99))
    assert 2 * longest < STORAGE_GATE_SECONDS


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (errors.AccountFull("m"), sum(BUSY_SECONDS) / 2),  # the seed: 10 to 30 seconds
        (errors.TooMany("m"), sum(BUSY_SECONDS) / 2),
        (errors.TooMany("m", wait_seconds=90), 90),  # Retry-After is obeyed
        (errors.QuotaSpent("m"), QUOTA_REST_SECONDS),
        (errors.QuotaSpent("m", wait_seconds=60), 60),
        (errors.Unauthorized("m"), math.inf),  # a person has to mend it
        (errors.OutOfCredit("m"), math.inf),
        (errors.OutOfCredit("m", wait_seconds=60), math.inf),  # no header brings credit
        (errors.Broken("m"), math.inf),
        (errors.Unavailable("m", wait_seconds=60), None),  # one task's trouble
        (errors.Moderated("m"), None),
        (errors.Uncertain("m"), None),
        (ProviderError("m"), None),
    ],
)
def test_an_account_rests_only_where_the_account_is_the_trouble(error, seconds):
    assert rest_seconds(error, HALF) == seconds


def test_a_busy_account_rests_between_ten_and_thirty_seconds():
    assert rest_seconds(errors.TooMany("m"), 0.0) == 10
    assert rest_seconds(errors.TooMany("m"), 0.999) < 30


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (errors.AccountFull("m"), "busy"),
        (errors.TooMany("m"), "busy"),
        (errors.Broken("m"), "refused"),
        (errors.QuotaSpent("m"), "refused"),
        (errors.Unavailable("m"), "failed"),
        (errors.Moderated("m"), "failed"),
        (errors.Uncertain("m"), "failed"),
    ],
)
def test_an_attempt_is_counted_by_the_family_of_its_error(error, word):
    assert verdict(error) == word


def test_only_a_full_account_rests_until_its_next_freed_slot():
    assert means(errors.AccountFull("m")) == "full"
    assert means(errors.TooMany("m")) == "too many"
    assert means(errors.Moderated("m")) == "moderated"
    assert means(errors.OutOfCredit("m")) == ""


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 1.5 ", 1.5),
        ("0", 0.0),
        ("-3", 0.0),  # never back in time
        ("Sat, 21 Nov 2026 12:01:30 GMT", 90.0),
        ("Sat, 21 Nov 2026 13:01:30 +0100", 90.0),
        ("Sat, 21 Nov 2026 11:00:00 GMT", 0.0),  # over already
        ("Sat, 21 Nov 2026 12:01:30", None),  # no zone: it says nothing
        ("Sat, 21 Nov 99999 12:01:30 GMT", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(value, seconds):
    assert retry_after_seconds(value, NOW) == seconds


@pytest.mark.parametrize("value", ["inf", "Infinity", "1e400"])
def test_retry_after_never_means_for_ever(value):
    assert retry_after_seconds(value, NOW) is None


def test_retry_after_with_an_absurd_zone_says_nothing():
    assert retry_after_seconds("Sat, 21 Nov 2026 12:01:30 +99999999999999", NOW) is None
