"""What an outcome means, in one table: the verdict, whether the job goes again, and what the account does."""

from __future__ import annotations

import pytest

from orchestrator import errors
from orchestrator.models import Failed, Lost, Succeeded, Tries
from orchestrator.retry import UNTIL_RESUMED
from orchestrator.settlement import refused_before, settlement

NOW = 1_700_000_000.0
HALF = 0.5
MAX_ATTEMPTS = 3


def told(outcome, tries=None):
    return settlement(outcome, tries or Tries(), MAX_ATTEMPTS, NOW, lambda: HALF)


def test_a_success_brings_its_pictures_and_nothing_else():
    assert told(Succeeded(("https://a/1.png",))) == ("succeeded", {"artifact_urls": ("https://a/1.png",)})


@pytest.mark.parametrize(
    ("error", "verdict", "again_in", "counts", "rest", "means"),
    [
        (errors.Unavailable("m"), "failed", 1.0, "Unavailable", None, ""),
        (errors.BadOutput("m"), "failed", 1.0, "BadOutput", None, ""),
        (errors.Unreachable("m"), "failed", 0.0, "", 20.0, ""),
        (errors.AccountFull("m"), "busy", 0.0, "", 20.0, "full"),
        (errors.AccountFull("m", wait_seconds=7), "busy", 0.0, "", 7.0, "full"),
        (errors.TooMany("m"), "busy", 0.0, "", 20.0, "too many"),
        (errors.QuotaSpent("m"), "refused", 0.0, "", 3600.0, ""),
        (errors.OutOfCredit("m"), "refused", 0.0, "", UNTIL_RESUMED - NOW, ""),
        (errors.Moderated("m"), "failed", None, "Moderated", None, "moderated"),
        (errors.Invalid("m"), "failed", None, "Invalid", None, ""),
    ],
)
def test_the_family_of_an_error_is_the_decision(error, verdict, again_in, counts, rest, means):
    word, said = told(Failed(error))
    assert word == verdict
    assert said["again_at"] == (None if again_in is None else NOW + again_in)
    assert (said["counts"], said["means"]) == (counts, means)
    assert said["rest_until"] == (None if rest is None else NOW + rest)
    assert said["error"]["kind"] == type(error).__name__


def test_silence_may_have_been_paid_for_so_it_is_tried_once_more_only():
    word, said = told(Lost())
    assert (word, said["counts"], said["again_at"]) == ("lost", "NoOutcome", NOW + 1.0)
    assert told(Lost(), Tries({"NoOutcome": 1}))[1]["again_at"] is None


def test_each_class_has_its_budget_and_all_share_one():
    assert told(Failed(errors.BadOutput("m")), Tries({"Unavailable": 1}))[1]["again_at"] is not None
    assert told(Failed(errors.BadOutput("m")), Tries({"BadOutput": 1}))[1]["again_at"] is None
    spent = Tries({"Unavailable": 1, "BadOutput": 1})
    assert told(Failed(errors.Unavailable("m")), spent)[1]["again_at"] is None


@pytest.mark.parametrize(("most", "again"), [(1, False), (2, True)])
def test_a_job_may_have_its_own_budget(most, again):
    assert (told(Failed(errors.Unavailable("m")), Tries({}, most))[1]["again_at"] is not None) == again


def test_what_is_held_is_for_a_person_to_decide():
    word, said = told(Lost(held=True))
    assert (word, said["again_at"], said["error"]["kind"]) == ("lost", None, "Held")
    assert "replay it or purge it" in said["error"]["message"]


def test_what_was_refused_before_is_not_sent_again():
    _, said = told(refused_before())
    assert (said["again_at"], said["error"]["kind"]) == (None, "Moderated")
    assert "`orchestrator dead replay JOB --even-if-moderated`" in said["error"]["message"]
