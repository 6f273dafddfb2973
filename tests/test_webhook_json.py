"""An API described in the accounts file: what is said to it, how its answers are read, what cannot work."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from orchestrator import errors
from orchestrator.accounts_file import ProviderFacts
from orchestrator.errors import ConfigurationError, Invalid, Malformed, Uncertain, Unsupported
from orchestrator.json_shapes import filled, find, texts
from orchestrator.models import Account, Failed, Pending, Reply, Report, Secret, Submission, Succeeded
from orchestrator.providers import registry
from orchestrator.providers.webhook_json import JsonParameters
from orchestrator.schemas import check
from orchestrator.settings import Settings

GENERIC = registry()["webhook_json"]
TOKEN = "a-token-that-must-never-show"
REFERENCE = "cmVm.c2ln"
CALLBACK_URL = f"https://jobs.example.com/callbacks/webhook_json/{REFERENCE}"
PICTURE = "https://images.atelier.example/0.png"
ROW = """
[[accounts]]
provider = "webhook_json"
name = "atelier-1"
token = "env:ATELIER_KEY"
base_url = "https://api.atelier.example/v2"
"""
OWN = """
api = "atelier"
submit_path = "/jobs"
poll_path = "/jobs/{id}"
headers = { X-Api-Key = "{token}" }
body = { text = "{prompt}", notify = "{callback_url}", tag = "{reference}", options = { size = "wide" } }
parameters_at = "options"
id_at = "job.id"
status_at = "job.state"
outputs_at = "job.images[*].url"
error_at = "job.problem|problem"
pending = ["waiting", "drawing"]
succeeded = ["done"]
failed = ["broken"]
refused = ["unsafe"]
artifact_hosts = [".atelier.example"]
"""
JOB: dict[str, Any] = {"id": "j1", "state": "waiting", "images": [], "problem": None}


def account(changed: str = "", without: tuple[str, ...] = (), base_url: str = "", **other: Any) -> Account:
    fields = {**tomllib.loads(OWN), **tomllib.loads(changed), **other}
    return Account(
        provider="webhook_json",
        name="atelier-1",
        token=Secret(TOKEN),
        max_jobs=1,
        base_url=base_url or "https://api.atelier.example/v2",
        fields={name: value for name, value in fields.items() if name not in without},
        deadline_seconds=1800,
        poll_seconds=10,
        net_seconds=60,
        timeout_seconds=30,
        max_attempts=5,
    )


ATELIER = GENERIC.of(account())


def submit(parameters: dict[str, Any], callback_url: str | None = CALLBACK_URL, **changed: Any) -> Any:
    mine = account(**changed)
    return GENERIC.of(mine).submit_request({"prompt": "a fox", **parameters}, mine, REFERENCE, callback_url)


def outcome(**changed: Any) -> Any:
    return ATELIER.read_report({"job": {**JOB, **changed}}).outcome


# --- the accounts file --------------------------------------------------------------------------------


@pytest.fixture
def read(monkeypatch, tmp_path):
    """The accounts of a file, as the product reads them."""
    monkeypatch.setenv("ATELIER_KEY", TOKEN)
    facts = ProviderFacts(
        GENERIC.base_url, GENERIC.account_fields, GENERIC.account_defaults, GENERIC.account_faults
    )

    def settings(text: str) -> tuple[Account, ...]:
        path = tmp_path / "accounts.toml"
        path.write_text(text)
        monkeypatch.setenv("ORCHESTRATOR_ACCOUNTS", str(path))
        return Settings.from_environ({"webhook_json": facts}).accounts

    return settings


def test_the_whole_description_is_read_from_the_accounts_file(read):
    (made,) = read(ROW + OWN)
    assert made.fields == tomllib.loads(OWN)
    assert TOKEN not in repr(made)


SHORTEST = """
submit_path = "/jobs"
outputs_at = "images"
succeeded = ["done"]
failed = ["failed"]
"""


def test_four_lines_are_enough_for_an_api_of_the_usual_words(read):
    (made,) = read(ROW + SHORTEST)
    provider = GENERIC.of(made)
    request = provider.submit_request({"prompt": "a fox"}, made, REFERENCE, CALLBACK_URL)
    assert request.headers == {"Authorization": f"Bearer {TOKEN}"}
    assert request.json == {"prompt": "a fox", "callback_url": CALLBACK_URL}
    assert provider.calls_back
    body = {"id": 7, "status": "Done", "images": [PICTURE]}
    assert provider.read_report(body) == Report("7", Succeeded((PICTURE,)))


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ('submit_path = ""', "submit_path is missing"),
        ('submit_path = "jobs"', "submit_path is 'jobs'; it must begin with /"),
        ('submit_path = "@elsewhere.example/"', "it must begin with /"),  # it would name another host
        ('submit_path = "/jobs?key={token}"', "submit_path can hold no placeholder"),
        ('submit_method = "GET"', "submit_method is 'GET'; it must be one of POST, PUT, PATCH"),
        ('poll_path = "/jobs"', "must hold {id} once"),
        ('poll_path = "/jobs/{id}?key={token}"', "must hold {id} once, and no other placeholder"),
        ("headers = { X-Api-Key = 5 }", "headers must be a table of texts"),
        ('headers = { X-Api-Key = "{key}" }', "headers hold {key}; only {token} is filled in there"),
        ('headers = { Accept = "*/*" }', "headers do not hold {token}: it would never be sent"),
        ('headers = "Bearer abc"', "headers is a str, not a table"),
        ('body = { text = "{promt}" }', "body holds {promt}; filled in there are callback_url, prompt"),
        ('body = { text = "{prompt}", key = "{token}" }', "body holds {token}"),
        ('body = { tag = "{reference}" }', "body does not hold {prompt}"),
        ('parameters_at = "text"', "parameters_at is 'text'; it must name a table of body"),
        ('parameters_at = "a[0]"', "parameters_at is 'a[0]'"),
        ('id_at = ""', "id_at is ''; it must be a path such as images[*].url"),
        ('outputs_at = "images[]"', "outputs_at is 'images[]'"),
        ('outputs_at = "images..url"', "outputs_at is 'images..url'"),
        ("outputs_at = 5", "outputs_at is 5, not a str"),
        ('succeeded = "done"', "succeeded is a str, not a list"),
        ("succeeded = []", "succeeded is missing"),
        ("failed = [5]", "failed must be a list of texts"),
        ('failed = ["Done"]', "the word 'done' stands in two of pending, succeeded, failed, refused"),
        ('artifact_hosts = ["https://cdn.example.com"]', "artifact_hosts has 'https://cdn.example.com'"),
        ('artifact_hosts = [".com"]', "artifact_hosts has '.com'"),
        ('colour = "red"', "'colour' is not known"),
    ],
)
def test_what_cannot_work_is_refused_at_start(read, changed, fault):
    name = changed.partition(" =")[0]
    kept = "\n".join(line for line in OWN.splitlines() if not line.startswith(f"{name} ="))
    with pytest.raises(ConfigurationError) as refused:
        read(f"{ROW}{kept}\n{changed}\n")
    assert fault in str(refused.value)
    assert "accounts file, account 1 (atelier-1)" in str(refused.value)


def test_all_that_is_wrong_is_told_at_once(read):
    with pytest.raises(ConfigurationError) as refused:
        read(ROW)
    assert [fault.partition(": ")[2] for fault in refused.value.faults] == [
        "submit_path is missing",
        "outputs_at is missing",
        "succeeded is missing",
        "failed is missing",
    ]


def test_an_api_that_neither_calls_back_nor_is_polled_is_refused(read):
    body = 'body = { text = "{prompt}" }\n'
    with pytest.raises(ConfigurationError, match="nothing would tell how a job ends"):
        read(ROW + SHORTEST + body)
    read(ROW + SHORTEST + body + 'poll_path = "/jobs/{id}"')


def test_a_base_url_is_required(read):
    with pytest.raises(ConfigurationError, match="base_url is ''"):
        read(ROW.replace("base_url", "#") + OWN)


# --- parameters ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "fault"),
    [
        ({}, "prompt: Missing data"),
        ({"prompt": ""}, "prompt = ''"),
        ({"prompt": "a fox", "size": "wide"}, "size = 'wide'"),
        ({"prompt": "a fox", "parameters": []}, "parameters = "),
        ({"prompt": "a fox", "parameters": {5: 1}}, "parameters = "),
    ],
)
def test_only_a_prompt_and_a_free_mapping_are_taken(parameters, fault):
    with pytest.raises(Invalid, match=f"webhook_json: {fault}"):
        check(JsonParameters, parameters, "webhook_json")


def test_the_free_parameters_are_free():
    free = {"prompt": "a fox", "parameters": {"size": "wide", "loras": [{"name": "x", "weight": 0.5}]}}
    assert check(JsonParameters, free, "webhook_json") == free


def test_a_parameter_cannot_replace_what_the_orchestrator_fills_in():
    mine = account(parameters_at="")
    taken = {"prompt": "a fox", "parameters": {"notify": "https://elsewhere.example.com", "text": "a dog"}}
    with pytest.raises(Invalid, match="the orchestrator sets notify, text itself"):
        GENERIC.check(taken, [mine])
    sent = submit({"parameters": taken["parameters"]}, parameters_at="").json
    assert (sent["notify"], sent["text"]) == (CALLBACK_URL, "a fox")


def test_jobs_say_which_api_where_the_accounts_are_of_several():
    other = account(base_url="https://api.studio.example", api="studio")
    with pytest.raises(Invalid, match=r"say api = … \(known: atelier, studio\)"):
        GENERIC.check({"prompt": "a fox"}, [account(), other])
    GENERIC.check({"prompt": "a fox", "api": "studio"}, [account(), other])
    GENERIC.check({"prompt": "a fox"}, [account(), account()])
    assert GENERIC.pins({"prompt": "a fox", "api": "studio"}) == {"api": "studio"}
    assert GENERIC.pins({"prompt": "a fox"}) == {}


# --- requests -----------------------------------------------------------------------------------------


def test_the_submit_request_is_the_template_filled_in():
    request = submit({"parameters": {"images": 4, "size": "tall"}})
    assert (request.method, request.url) == ("POST", "https://api.atelier.example/v2/jobs")
    assert request.headers == {"X-Api-Key": TOKEN}
    assert request.json == {
        "text": "a fox",
        "notify": CALLBACK_URL,
        "tag": REFERENCE,
        "options": {"size": "tall", "images": 4},
    }


def test_without_a_callback_url_its_field_is_left_out():
    assert "notify" not in submit({}, None).json


def test_without_callbacks_and_without_polls_nothing_is_submitted():
    with pytest.raises(Unsupported, match="set ORCHESTRATOR_PUBLIC_URL"):
        submit({}, None, without=("poll_path",))


def test_a_prompt_with_braces_stays_as_it_is():
    assert submit({"prompt": "{callback_url} {token} {}"}).json["text"] == "{callback_url} {token} {}"


def test_parameters_may_go_to_the_top_or_to_a_table_that_is_not_there_yet():
    assert submit({"parameters": {"n": 1}}, parameters_at="").json["n"] == 1
    assert submit({"parameters": {"n": 1}}, parameters_at="a.b").json["a"] == {"b": {"n": 1}}


def test_an_id_cannot_leave_its_place_in_the_poll_url():
    request = ATELIER.poll_request("a/../b?c#d", account())
    assert (request.method, request.url) == ("GET", "https://api.atelier.example/v2/jobs/a%2F..%2Fb%3Fc%23d")
    assert request.headers == {"X-Api-Key": TOKEN}


def test_an_api_without_a_poll_path_is_never_polled():
    assert GENERIC.of(account(without=("poll_path",))).poll_request("j1", account()) is None


@pytest.mark.parametrize(
    ("body", "calls_back"),
    [
        ({"text": "{prompt}"}, False),
        ({"text": "{prompt}", "hooks": [{"url": "{callback_url}"}]}, True),
        ({"text": "{prompt}", "hook": "{callback_url}?x=1"}, True),
    ],
)
def test_it_calls_back_where_it_is_told_where(body, calls_back):
    assert GENERIC.of(account(body=body)).calls_back is calls_back


def test_each_account_has_its_own_artifact_hosts():
    assert ATELIER.artifact_hosts == (".atelier.example",)
    assert GENERIC.artifact_hosts == ()


# --- answers ------------------------------------------------------------------------------------------


def test_a_submission_is_an_id_and_may_be_over_at_once():
    assert ATELIER.read_submission(Reply(202, {}, {"job": {"id": "j1"}}, "")) == Submission("j1")
    body = {"job": {**JOB, "state": "done", "images": [{"url": PICTURE}]}}
    assert ATELIER.read_submission(Reply(200, {}, body, "")) == Submission("j1", Succeeded((PICTURE,)))


@pytest.mark.parametrize("body", [None, [], {"id": "j1"}, {"job": {}}, {"job": {"id": None}}])
def test_an_answer_without_an_id_is_uncertain_since_it_may_be_paid_for(body):
    with pytest.raises(Uncertain):
        ATELIER.read_submission(Reply(200, {}, body, ""))


@pytest.mark.parametrize("upstream_id", [None, "", True, [], {}, 1.5, ".", ".."])
def test_what_is_no_id_is_malformed(upstream_id):
    with pytest.raises(Malformed):
        ATELIER.read_report({"job": {**JOB, "id": upstream_id}})


def test_without_an_account_nothing_is_read():
    with pytest.raises(Malformed):
        GENERIC.read_report({"id": "j1", "status": "done"})


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"state": "waiting"}, Pending("waiting")),
        ({"state": "DRAWING"}, Pending("DRAWING")),
        ({"state": "simmering"}, Pending("simmering", known=False)),
        ({"state": None}, Pending("", known=False)),
        ({"state": {"a": 1}}, Pending("", known=False)),
        ({"state": "done", "images": [{"url": PICTURE}, {"url": ""}, {}, 5]}, Succeeded((PICTURE,))),
    ],
)
def test_a_report_is_read_by_the_accounts_words(changed, expected):
    assert outcome(**changed) == expected


@pytest.mark.parametrize(
    ("changed", "family", "message"),
    [
        ({"state": "broken", "problem": "no paint"}, errors.BadOutput, "no paint"),
        ({"state": "broken"}, errors.BadOutput, "broken"),
        ({"state": "unsafe", "problem": "no"}, errors.Moderated, "no"),
        ({"state": "done"}, errors.Unavailable, "done, but without outputs"),
        ({"state": "done", "images": PICTURE}, errors.Unavailable, "done, but without outputs"),
        ({"state": "broken", "problem": "of bob@example.com"}, errors.BadOutput, "of <e-mail>"),
    ],
)
def test_a_failure_is_read_by_the_accounts_words(changed, family, message):
    failed = outcome(**changed)
    assert isinstance(failed, Failed)
    assert (type(failed.error), str(failed.error)) == (family, message)


@pytest.mark.parametrize(
    ("status", "family"),
    [
        (400, errors.Invalid),
        (401, errors.Unauthorized),
        (402, errors.OutOfCredit),
        (403, errors.Unauthorized),
        (404, errors.Broken),
        (408, errors.Unavailable),
        (409, errors.Rejected),
        (422, errors.Invalid),
        (429, errors.TooMany),
        (500, errors.Unavailable),
        (503, errors.Unavailable),
    ],
)
def test_an_error_answer_is_read_by_its_status(status, family):
    error = ATELIER.read_error(Reply(status, {}, {"problem": "no paint"}, ""))
    assert (type(error), str(error), error.http_status) == (family, "no paint", status)


# --- paths and templates ------------------------------------------------------------------------------

BODY = {"a": {"b": [{"c": 1}, {"c": None}, {"c": [2, 3]}, {}]}, "d": "x", "e": [["y", "z"]], "n": None}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("d", ["x"]),
        ("a.b[*].c", [1, [2, 3]]),
        ("a.b[2].c[*]", [2, 3]),
        ("a.b[0].c", [1]),
        ("a.b[9].c", []),
        ("e[*][1]", ["z"]),
        ("a.b.c", []),  # a list has no names
        ("a[*]", []),  # a table has no entries
        ("n|d", ["x"]),  # null is nothing
        ("no.such|a.b[0].c", [1]),
        ("d|a.b[0].c", ["x"]),
    ],
)
def test_a_path_finds_what_stands_there(path, found):
    assert find(BODY, path) == found


def test_a_path_may_begin_with_a_list():
    assert find([{"url": "x"}, {"url": "y"}], "[*].url") == ["x", "y"]


def test_texts_are_taken_one_level_deep():
    assert list(texts(["a", ["b", "", 5, ["c"]], None, {"d": "e"}])) == ["a", "b"]


def test_a_template_is_left_as_it_is():
    template = {"a": ["{x}", "{y}"], "b": {"c": "{y}"}, "d": 5}
    assert filled(template, {"x": "1", "y": None}) == {"a": ["1"], "b": {}, "d": 5}
    assert template == {"a": ["{x}", "{y}"], "b": {"c": "{y}"}, "d": 5}
