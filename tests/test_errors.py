"""The error tree is what its docstring draws, and an error survives its way through Redis and Celery."""

from __future__ import annotations

import json
import pickle
import re

import pytest

from orchestrator import errors
from orchestrator.errors import (
    ConfigurationError,
    OrchestratorError,
    ProviderError,
    describe,
    without_queries,
)
from orchestrator.models import Secret, State

PROVIDER_FAMILIES = {
    "Transient": {"Unavailable", "Unreachable", "BadOutput", "NoOutcome"},
    "Busy": {"AccountFull", "TooMany"},
    "AccountError": {"Unauthorized", "OutOfCredit", "QuotaSpent", "Broken"},
    "Rejected": {"Invalid", "Moderated", "Unsupported", "Held"},
    "Uncertain": set(),
}


def classes() -> dict[str, type]:
    return {
        name: value
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, OrchestratorError)
    }


def test_the_docstring_draws_every_error_and_no_other():
    drawing = errors.__doc__.split("A `ProviderError` crosses")[0]
    left = "\n".join(re.split(r"\s{3,}(?=[a-z])", line)[0] for line in drawing.splitlines()[1:])
    assert set(re.findall(r"\b[A-Z]\w+", left)) - {"POST", "Redis"} == set(classes())


@pytest.mark.parametrize(("family", "children"), PROVIDER_FAMILIES.items())
def test_every_provider_error_is_in_the_family_that_decides_for_it(family, children):
    parent = classes()[family]
    assert parent.__mro__[1] is ProviderError
    assert {child.__name__ for child in parent.__subclasses__()} == children


@pytest.mark.parametrize("name", sorted(n for n, c in classes().items() if issubclass(c, ProviderError)))
def test_a_provider_error_is_described_as_json(name):
    error = classes()[name]("it did not work", http_status=418)
    assert json.loads(json.dumps(describe(error))) == {
        "kind": name, "message": "it did not work", "http_status": 418,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("Account bob@example.com is busy", "Account <e-mail> is busy"),  # useapi's first 429
        # inside a task id, whose `-task` could belong to the address
        ("user:1-runwayml:b.o+b@ex-a.co.uk-task:7", "user:1-runwayml:<e-mail>:7"),
        ("a@b.com and c@d.org", "<e-mail> and <e-mail>"),  # every one
        ("5 @ 3.5 per image", "5 @ 3.5 per image"),  # no e-mail at all
    ],
)
def test_e_mail_addresses_never_show(message, shown):
    error = errors.AccountFull(message)
    assert (str(error), error.message, describe(error)["message"]) == (shown, shown, shown)
    assert error.args == (shown,)  # Celery stores the arguments


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see https://a.b/c?token=s3cret now", "see https://a.b/c?… now"),
        ('{"url": "https://a.b/c#s3cret"}', '{"url": "https://a.b/c?…"}'),
        ("http://a/http://b/c?u=https://d?e", "http://a/http://b/c?…"),
        (":///://a:b://:?s3cret", ":///://a:b://:?…"),
        ("what? https://a.b/c", "what? https://a.b/c"),
    ],
)
def test_what_opens_a_url_never_shows(text, shown):
    assert without_queries(text) == shown


@pytest.mark.parametrize("piece", ["://", "a://b/", ":", "/", "://a?"])
def test_hiding_what_opens_a_url_takes_no_longer_than_the_text_is_long(piece):
    assert without_queries(piece * 500_000).startswith(piece[:4])  # hours, if each is looked at from each


def test_a_configuration_error_says_every_fault():
    error = ConfigurationError(["a is wrong", "b is missing"])
    assert error.faults == ["a is wrong", "b is missing"]
    assert str(error) == "2 thing(s) to mend before this can start:\n  - a is wrong\n  - b is missing"


def test_a_provider_error_can_be_pickled_with_what_it_knows():
    again = pickle.loads(pickle.dumps(errors.TooMany("later", http_status=429, wait_seconds=7.5)))
    assert (type(again), str(again)) == (errors.TooMany, "later")
    assert (again.http_status, again.wait_seconds) == (429, 7.5)


def test_a_configuration_error_can_be_pickled():
    error = ConfigurationError(["a is wrong", "b is missing"])
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_secret_shows_only_when_it_is_asked():
    secret = Secret("hunter2")
    assert secret.reveal() == "hunter2"
    assert "hunter2" not in f"{secret} {secret!r} {[secret]}"


def test_three_states_are_ends():
    assert {state.value for state in State if state.ended} == {"succeeded", "failed", "cancelled"}
