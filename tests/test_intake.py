"""What a caller sends becomes a job, or is refused in words before anything is spent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.errors import ConfigurationError, Invalid, Unsupported
from orchestrator.exchange import Exchange
from orchestrator.intake import new_job
from orchestrator.models import Account, NewJob, Secret
from orchestrator.providers import registry
from orchestrator.upstream import Upstream

PROMPT = {"text_prompt": "a fox"}
NOW = 1_700_000_000.0


def account(name: str, provider: str = "useapi_frames", **fields: Any) -> Account:
    return Account(
        provider=provider,
        name=name,
        token=Secret("t"),
        max_jobs=5,
        base_url="https://api.useapi.net/v1/runwayml",
        fields=fields,
        deadline_seconds=1800,
        poll_seconds=10,
        net_seconds=60,
        timeout_seconds=30,
        max_attempts=5,
    )


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    upstream = Upstream()
    accounts = [account("studio-1", email="one@example.com"), account("studio-2", email="two@example.com")]
    yield Exchange(
        upstream=upstream,
        artifacts=None,
        providers=registry(),
        accounts={(each.provider, each.name): each for each in accounts},
        keys=(),
        public_url=None,
    )
    upstream.close()


def test_a_job_carries_what_was_asked_for(exchange):
    options = {"batch": "spring", "priority": 3}
    made = new_job(
        exchange, "j1", "useapi_frames", PROMPT, options, NOW, start_at=9.0, task_options={"root_id": "r"}
    )
    assert made == NewJob(
        id="j1",
        provider="useapi_frames",
        parameters=PROMPT,
        batch="spring",
        priority=3,
        account="",
        start_at=9.0,
        options={"root_id": "r"},
    )


def test_the_callers_parameters_are_left_as_they_are(exchange):
    parameters = {"text_prompt": "a fox", "exploreMode": "true"}
    assert new_job(exchange, "j1", "useapi_frames", parameters, {}, NOW).parameters["exploreMode"] is True
    assert parameters == {"text_prompt": "a fox", "exploreMode": "true"}


def test_a_job_that_names_an_e_mail_is_pinned_to_its_account(exchange):
    made = new_job(exchange, "j1", "useapi_frames", {**PROMPT, "email": "two@example.com"}, {}, NOW)
    assert made.account == "studio-2"


def test_a_job_of_an_e_mail_nobody_has_is_refused_without_showing_an_address(exchange):
    with pytest.raises(Invalid) as refused:
        new_job(exchange, "j1", "useapi_frames", {**PROMPT, "email": "three@example.com"}, {}, NOW)
    assert str(refused.value) == (
        "no account of useapi_frames has this email: leave it out, or add one (known: studio-1, studio-2)"
    )


@pytest.mark.parametrize("name", ["midjourney", "", None, 5, {}])
def test_an_unknown_provider_is_refused_with_those_that_are_known(exchange, name):
    with pytest.raises(Unsupported, match=r"known are .*useapi_frames"):
        new_job(exchange, "j1", name, PROMPT, {}, NOW)


def test_a_provider_without_an_account_is_refused_where_accounts_are_known(exchange):
    elsewhere = {("runway", "a"): account("a", provider="runway")}
    with pytest.raises(ConfigurationError, match="no account of useapi_frames: add one"):
        new_job(replace(exchange, accounts=elsewhere), "j1", "useapi_frames", PROMPT, {}, NOW)


def test_a_caller_without_an_accounts_file_may_enqueue(exchange):
    # Only the workers need credentials.
    made = new_job(replace(exchange, accounts={}), "j1", "useapi_frames", PROMPT, {}, NOW)
    assert (made.provider, made.account, made.options) == ("useapi_frames", "", {})


def test_a_job_of_several_providers_carries_its_parameters_at_each(exchange):
    wanted = ["useapi_frames", "freepik_runway"]
    accounts = {**exchange.accounts, ("freepik_runway", "f"): account("f", "freepik_runway")}
    request = {"prompt": "a fox", "aspect_ratio": "1:1", "seed": 7}
    made = new_job(replace(exchange, accounts=accounts), "j1", wanted, request, {}, NOW)
    frames = {"text_prompt": "a fox", "aspect_ratio": "1:1", "seed": 7}
    assert (made.provider, made.parameters, made.account) == ("useapi_frames", frames, "")
    assert list(made.choices) == wanted
    assert made.choices["useapi_frames"] == frames
    assert made.choices["freepik_runway"]["prompt"] == "a fox"


def test_one_provider_in_a_list_takes_a_portable_request_and_is_no_choice(exchange):
    made = new_job(exchange, "j1", ["useapi_frames"], {"prompt": "a fox"}, {}, NOW)
    assert (made.provider, made.parameters, made.choices) == ("useapi_frames", PROMPT, {})


@pytest.mark.parametrize(
    ("wanted", "request_", "error", "words"),
    [
        ([], {"prompt": "a fox"}, Unsupported, "no provider is named"),
        (["useapi_frames", "midjourney"], {"prompt": "a fox"}, Unsupported, "no provider 'midjourney'"),
        (["useapi_frames"], PROMPT, Invalid, "portable request: .*text_prompt"),
        (["useapi_frames", "freepik_runway"], {"prompt": "a fox"}, ConfigurationError, "freepik_runway"),
        (["useapi_frames"], {"prompt": "a fox", "aspect_ratio": "3:2"}, Unsupported, "aspect_ratio = '3:2'"),
    ],
)
def test_a_portable_request_is_checked_for_every_provider(exchange, wanted, request_, error, words):
    with pytest.raises(error, match=words):
        new_job(exchange, "j1", wanted, request_, {}, NOW)


def test_expiry_in_seconds_counts_from_now(exchange):
    made = new_job(exchange, "j1", "useapi_frames", PROMPT, {"expires": 60}, NOW)
    assert made.expires_at == NOW + 60
    assert new_job(exchange, "j1", "useapi_frames", PROMPT, {}, NOW, expires_at=7.0).expires_at == 7.0


@pytest.mark.parametrize(
    ("parameters", "options", "fault"),
    [
        ({}, {}, "useapi_frames: text_prompt"),
        (None, {}, "useapi_frames: parameters"),
        ([PROMPT], {}, "useapi_frames: parameters"),
        (PROMPT, {"priority": 10}, "job options: priority = 10"),
        (PROMPT, {"expires": 0}, "job options: expires = 0"),
        (PROMPT, {"max_attempts": 0}, "job options: max_attempts = 0"),
        (PROMPT, {"tenant": "a/b"}, "job options: tenant = 'a/b'"),
        (PROMPT, {"queue": "fast"}, "job options: queue = 'fast'"),
    ],
)
def test_a_fault_says_whether_it_is_in_the_parameters_or_in_the_options(exchange, parameters, options, fault):
    with pytest.raises(Invalid, match=fault):
        new_job(exchange, "j1", "useapi_frames", parameters, options, NOW)


def test_a_task_keeps_its_id_whatever_its_custom_id_is(exchange):
    made = new_job(exchange, "j1", "useapi_frames", PROMPT, {"custom_id": "a"}, NOW)
    assert (made.id, made.custom_id, made.fingerprint) == ("j1", "a", "")
    with pytest.raises(Invalid, match="idempotency_key: this job has an id already"):
        new_job(exchange, "j1", "useapi_frames", PROMPT, {"idempotency_key": "a"}, NOW)
