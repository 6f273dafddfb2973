"""Every provider answers the same questions. A new one needs a row in SAMPLES, a test file, a README row."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator import errors, providers
from orchestrator.accounts_file import ACCOUNT_NUMBERS
from orchestrator.addresses import may_fetch
from orchestrator.errors import Invalid, Malformed, ProviderError, Uncertain, Unsupported, describe
from orchestrator.models import (
    Account,
    Failed,
    Pending,
    Reply,
    Report,
    Request,
    Secret,
    Submission,
    Succeeded,
)
from orchestrator.provider import Provider
from orchestrator.providers import registry
from orchestrator.schemas import ASPECT_RATIOS, check

REPOSITORY = Path(__file__).parent.parent
TOKEN = "a-token-that-must-never-show"
EMAIL = "studio@example.com"
REFERENCE = "cmVm.c2ln"
UPSTREAM_ID = "0f6c-41"
PICTURE = "https://d1.cloudfront.net/0.png"


@dataclass(frozen=True)
class Sample:
    """What the questions need to know of one provider.

    `done`: the body that tells of a success with one picture, of a poll where there are polls.
    `place`: where in it the status word stands; empty: there is none.
    `empty`: what to put where, so that the picture is gone.
    """

    parameters: Mapping[str, Any]
    done: Mapping[str, Any]
    empty: Mapping[tuple[str, ...], Any]
    place: tuple[str, ...] = ("status",)
    fields: Mapping[str, Any] = field(default_factory=dict)  # of the account
    base_url: str = ""  # where the provider itself has none
    other_than_unavailable: frozenset[int] = frozenset()  # statuses from 500 that mean something else


SAMPLES = {
    "freepik_runway": Sample(
        parameters={"prompt": "a fox", "ratio": "1280:720", "seed": 7},
        done={"data": {"task_id": UPSTREAM_ID, "status": "COMPLETED", "generated": [PICTURE]}},
        empty={("data", "generated"): []},
        place=("data", "status"),
    ),
    "runway": Sample(
        parameters={"promptText": "a fox", "model": "gen4_image", "ratio": "1280:720", "seed": 7},
        done={"id": UPSTREAM_ID, "status": "SUCCEEDED", "output": [PICTURE]},
        empty={("output",): []},
    ),
    "useapi_frames": Sample(
        parameters={"text_prompt": "a fox", "style": "vivid", "seed": 7, "email": EMAIL},
        done={"taskId": UPSTREAM_ID, "status": "SUCCEEDED", "artifacts": [{"url": PICTURE}], "error": None},
        empty={("artifacts",): []},
        fields={"email": EMAIL},
        other_than_unavailable=frozenset({596}),
    ),
    "useapi_preview": Sample(
        parameters={"text_prompt": "a fox", "style": "anime", "seed": 7, "email": EMAIL},
        done={"url": PICTURE, "seed": 7},
        empty={("url",): None},
        place=(),
        fields={"email": EMAIL, "allow_retired": True},
        other_than_unavailable=frozenset({596}),
    ),
    "webhook_json": Sample(
        parameters={"prompt": "a fox", "parameters": {"size": "wide"}},
        done={"job": {"id": UPSTREAM_ID, "state": "done", "images": [{"url": PICTURE}], "problem": None}},
        empty={("job", "images"): []},
        place=("job", "state"),
        fields={
            "submit_path": "/jobs",
            "poll_path": "/jobs/{id}",
            "headers": {"X-Api-Key": "{token}"},
            "body": {"text": "{prompt}", "notify": "{callback_url}", "options": {"size": "tall"}},
            "parameters_at": "options",
            "id_at": "job.id",
            "status_at": "job.state",
            "outputs_at": "job.images[*].url",
            "error_at": "job.problem|problem|error|message",
            "pending": ["waiting"],
            "succeeded": ["done"],
            "failed": ["broken"],
            "artifact_hosts": [".cloudfront.net"],
        },
        base_url="https://api.atelier.example/v2",
    ),
}


def test_every_provider_has_a_row_here():
    assert registry().keys() <= SAMPLES.keys()


@dataclass(frozen=True)
class Case:
    """A provider as an account of it sees it."""

    name: str
    sample: Sample
    account: Account
    provider: Provider

    def body(self, changed: Mapping[tuple[str, ...], Any]) -> Any:
        """The body of a success, changed at some places."""
        body: Any = copy.deepcopy(dict(self.sample.done))
        for place, value in changed.items():
            inner = body
            for name in place[:-1]:
                inner = inner[name]
            inner[place[-1]] = value
        return body

    def read(self, body: Any) -> Any:
        """The outcome that a body tells of: of a poll, or of the submit where that is all there is."""
        if self.provider.synchronous:
            return self.provider.read_submission(Reply(200, {}, body, "")).outcome
        return self.provider.read_report(body).outcome

    def requests(self) -> Iterator[Callable[[], Request]]:
        """Everything the provider builds."""
        ours, account = self.provider, self.account
        url = f"https://jobs.example.com/callbacks/{self.name}/{REFERENCE}" if ours.calls_back else None
        yield lambda: ours.submit_request(self.sample.parameters, account, REFERENCE, url)
        if not ours.synchronous:
            yield lambda: ours.submit_request(self.sample.parameters, account, REFERENCE, None)
        for build in (ours.poll_request, ours.cancel_request):
            if build(UPSTREAM_ID, account) is not None:
                yield lambda build=build: build(UPSTREAM_ID, account)
        for place, _ in enumerate(ours.search_requests(account)):
            yield lambda place=place: ours.search_requests(account)[place]


def make_case(name: str) -> Case:
    provider = registry()[name]
    sample = SAMPLES.get(name)
    assert sample is not None, f"give {name} a row in SAMPLES"
    account = Account(
        provider=name,
        name="studio-1",
        token=Secret(TOKEN),
        max_jobs=5,
        base_url=sample.base_url or provider.base_url,
        fields=sample.fields,
        deadline_seconds=1800,
        poll_seconds=10,
        net_seconds=60,
        timeout_seconds=30,
        max_attempts=5,
    )
    return Case(name, sample, account, provider.of(account))


@pytest.fixture(params=sorted(registry()))
def case(request: pytest.FixtureRequest) -> Case:
    return make_case(request.param)


FORGETFUL = """
from orchestrator.provider import Provider
from orchestrator.providers.runway import Runway

FORGOTTEN = ("signs", "artifact_hosts")
said = {name: each for name, each in vars(Runway).items() if name[0] != "_" and name not in FORGOTTEN}


class Forgetful(Provider):
    vars().update(said)


PROVIDER = Forgetful()
"""


def test_what_a_provider_forgets_to_say_is_told_by_name(tmp_path, monkeypatch):
    (tmp_path / "forgetful.py").write_text(FORGETFUL, encoding="utf-8")
    monkeypatch.setattr(providers, "__path__", [*providers.__path__, str(tmp_path)])
    with pytest.raises(TypeError, match=r"^orchestrator\.providers\.forgetful: .* signs, artifact_hosts: "):
        registry.__wrapped__()


# --- where it is written down -------------------------------------------------------------------------


def test_it_is_named_as_its_file(case):
    assert type(case.provider).__module__ == f"orchestrator.providers.{case.name}"
    assert case.provider.name == case.name
    assert re.fullmatch(r"[a-z][a-z0-9_]*", case.name)  # it stands in callback URLs and Redis keys


def test_it_has_a_test_file(case):
    assert (REPOSITORY / "tests" / f"test_{case.name}.py").is_file()


def test_it_has_a_row_in_the_readme_that_links_its_page(case):
    lines = (REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()
    (row,) = [line for line in lines if line.startswith(f"| `{case.name}` |")]
    assert f"]({case.provider.docs_url})" in row
    assert case.provider.kind in row


def test_it_names_the_page_it_was_written_from(case):
    page, _, _ = case.provider.docs_url.partition("#")
    assert page.startswith("https://") or (REPOSITORY / page).is_file()


def test_it_says_how_an_outcome_comes(case):
    provider = case.provider
    assert provider.kind in ("callback", "poll", "synchronous")
    assert not (provider.synchronous and provider.calls_back)
    assert provider.calls_back or not provider.signs
    polls = provider.poll_request(UPSTREAM_ID, case.account) is not None
    assert provider.calls_back or polls or provider.synchronous, "nothing would tell how a job ends"
    assert provider.prompt_parameter in provider.schema().fields


def test_pictures_may_be_fetched_from_each_of_its_hosts(case):
    """Each is an exact host, or `.suffix` for all below it: no wildcard, no scheme, no capital letters."""
    hosts = case.provider.artifact_hosts
    assert isinstance(hosts, tuple) and hosts, "give artifact_hosts: pictures from elsewhere are not fetched"
    for host in hosts:
        below = f"cdn{host}" if host.startswith(".") else host
        assert may_fetch(f"https://{below}/0.png", hosts, base_url=""), host


# --- parameters ---------------------------------------------------------------------------------------


def test_the_sample_is_accepted_and_an_unknown_parameter_refused(case):
    schema = case.provider.schema
    assert check(schema, case.sample.parameters, case.name) == case.sample.parameters
    with pytest.raises(Invalid, match=f"^{case.name}: no_such_parameter = 1: "):
        check(schema, {**case.sample.parameters, "no_such_parameter": 1}, case.name)


def test_the_prompt_is_required_and_not_empty(case):
    prompt = case.provider.prompt_parameter
    others = {name: value for name, value in case.sample.parameters.items() if name != prompt}
    for parameters in (others, {**others, prompt: ""}, {**others, prompt: None}, {**others, prompt: 5}):
        with pytest.raises(Invalid, match=f"^{case.name}: {prompt}"):
            check(case.provider.schema, parameters, case.name)


@pytest.mark.parametrize("more", [{}, {"seed": 7}, *({"aspect_ratio": ratio} for ratio in ASPECT_RATIOS)])
def test_a_portable_request_becomes_parameters_it_accepts_or_is_refused_with_the_cure(case, more):
    request = {"prompt": "a fox", "style": "sketch", **more}
    before = copy.deepcopy(request)
    try:
        translated = case.provider.translate(request)
    except Unsupported as refused:
        assert f"leave {case.name} out" in str(refused)
    else:
        assert check(case.provider.schema, translated, case.name) == translated
        assert translated[case.provider.prompt_parameter].startswith("a fox")
        assert case.provider.translate(request) == translated
    assert request == before


def test_what_moderation_judges_are_parameters_the_prompt_first(case):
    first, *others = case.provider.content_parameters or (case.provider.prompt_parameter,)
    assert first == case.provider.prompt_parameter
    assert {first, *others} <= case.provider.schema().fields.keys()
    assert re.fullmatch(r"[0-9a-f]{32}", case.provider.content(case.sample.parameters))


def test_its_account_defaults_are_settings_that_exist(case):
    for name, value in case.provider.account_defaults.items():
        _, lowest, highest, _ = ACCOUNT_NUMBERS[name]
        assert lowest <= value <= highest
    assert list(case.provider.account_faults(case.sample.fields)) == []


# --- requests -----------------------------------------------------------------------------------------


def test_builders_are_pure(case):
    before = copy.deepcopy((case.sample.parameters, case.account.fields))
    for build in case.requests():
        assert build() == build()
    assert (case.sample.parameters, case.account.fields) == before


def test_the_token_is_in_the_headers_alone(case):
    for build in case.requests():
        request = build()
        assert any(TOKEN in text for text in request.headers.values())
        for shown in (request.url, repr(request), json.dumps(request.json), json.dumps(dict(request.query))):
            assert TOKEN not in shown


def test_requests_go_to_the_accounts_own_address_as_text(case):
    for build in case.requests():
        request = build()
        assert request.url.startswith(f"{case.account.base_url}/")
        assert all(isinstance(value, str) for value in request.query.values())
        json.dumps(request.json)


def test_an_upstream_id_cannot_leave_its_place_in_the_url(case):
    for build in (case.provider.poll_request, case.provider.cancel_request):
        request = build("a/../b?c#d", case.account)
        assert request is None or request.url.endswith("a%2F..%2Fb%3Fc%23d")


# --- answers ------------------------------------------------------------------------------------------


def test_a_success_is_read(case):
    assert case.read(case.body({})) == Succeeded((PICTURE,))
    if not case.provider.synchronous:
        assert case.provider.read_report(case.body({})).upstream_id == UPSTREAM_ID


def test_a_success_without_artifacts_is_no_success_and_tried_again(case):
    outcome = case.read(case.body(case.sample.empty))
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, errors.Transient)


WITH_STATUS = [name for name, sample in SAMPLES.items() if sample.place and name in registry()]


@pytest.mark.parametrize("word", ["PAUSED", "", None, 7, ["FAILED"], {}])
@pytest.mark.parametrize("case", WITH_STATUS, indirect=True)
def test_an_unknown_status_word_is_pending_and_says_so(case, word):
    outcome = case.read(case.body({case.sample.place: word}))
    assert isinstance(outcome, Pending)
    assert not outcome.known


@pytest.mark.parametrize("body", [None, True, 5, "x", [], {}, [[]], [{}], {"a": 1}, {"data": None}])
def test_garbage_is_malformed_and_an_unreadable_submission_uncertain(case, body):
    with pytest.raises(Malformed):
        case.provider.read_report(body)
    try:
        outcome = case.provider.read_submission(Reply(200, {}, body, "")).outcome
    except Uncertain:
        return
    assert case.provider.repeatable_submit, "it may have started, and be paid for"
    assert isinstance(outcome, Failed)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
SHARED = [HealthCheck.function_scoped_fixture]


def places(body: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a body, the whole of it included."""
    yield at
    pairs = body.items() if isinstance(body, Mapping) else enumerate(body) if isinstance(body, list) else ()
    for name, value in pairs:
        yield from places(value, (*at, name))


@settings(deadline=None, max_examples=200, suppress_health_check=SHARED)
@given(drawn=st.data())
def test_readers_raise_nothing_else_whatever_stands_in_a_body(case, drawn):
    done = case.body({})
    place = drawn.draw(st.sampled_from(list(places(done))))
    rubbish = drawn.draw(JSON)
    body = case.body({place: rubbish}) if place else rubbish
    try:
        assert isinstance(case.provider.read_report(body), Report)
    except Malformed:
        pass
    try:
        assert isinstance(case.provider.read_submission(Reply(200, {}, body, "")), Submission)
    except Uncertain:
        pass
    assert isinstance(case.provider.read_error(Reply(400, {}, body, "")), ProviderError)


GARBAGE = (None, "x", 5, [], {}, {"error": {}}, {"error": None}, {"error": ["x"]}, {"message": 5})


def test_every_error_status_is_an_error_whatever_its_body(case):
    for status in range(400, 600):
        for body in GARBAGE:
            error = case.provider.read_error(Reply(status, {}, body, ""))
            assert isinstance(error, ProviderError)
            assert error.http_status == status
            assert not isinstance(error, Uncertain)  # the exchange decides that
            assert str(error)
            if status >= 500 and status not in case.sample.other_than_unavailable:
                assert type(error) is errors.Unavailable


@pytest.mark.parametrize(("status", "family"), [(401, errors.Unauthorized), (429, errors.ProviderError)])
def test_a_refused_token_rests_the_account_and_a_429_is_no_fault_of_the_job(case, status, family):
    error = case.provider.read_error(Reply(status, {}, None, ""))
    assert isinstance(error, family)
    assert isinstance(error, errors.Busy | errors.AccountError)


def test_no_e_mail_and_no_token_is_in_a_message(case):
    words = f"account {EMAIL} is in error"
    bodies = [
        {"error": words},
        {"message": words},
        {"error": {"message": words, "errorMessage": words}},
        None,
    ]
    for body in bodies:
        for status in (400, 401, 403, 412, 422, 429, 500, 596):
            error = case.provider.read_error(Reply(status, {}, body, words))
            assert EMAIL not in f"{error} {error!r} {describe(error)}"
            assert TOKEN not in str(error)
    assert TOKEN not in repr(case.account)
