"""The retired preview: refused with the call that replaces it, or one GET that is the whole conversation."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator import errors
from orchestrator.errors import ConfigurationError, Invalid, Malformed, Unavailable, Uncertain, Unsupported
from orchestrator.exchange import Exchange
from orchestrator.intake import new_job
from orchestrator.models import Account, Failed, Pending, Reply, Request, Secret, Submission, Succeeded
from orchestrator.providers import registry
from orchestrator.providers.useapi_frames import FramesParameters
from orchestrator.providers.useapi_preview import FRAMES_STYLES, STYLES, PreviewParameters, replacement
from orchestrator.schemas import check

PREVIEW = registry()["useapi_preview"]
BASE_URL = "https://api.useapi.net/v1/runwayml"
TOKEN = "user:1-token"
EMAIL = "studio@example.com"
PICTURE = "https://d1.cloudfront.net/0.png"
PROMPT = {"text_prompt": "a fox"}
FULL = {
    **PROMPT,
    "prompt_weight": 30,
    "negative_prompt": "dogs",
    "seed": 4294967294,
    "style": "80s_vaporwave",
    "aspect_ratio": "21:9",
    "email": EMAIL,
}
# The table of the page.
PAGE_STYLES = (
    "cinematic,abandoned,abstract_sculpture,advertising,anime,architectural,cartoon,cine_lens,claymation,"
    "concept_art,digital_art,duotone_artistic_photo,forestpunk,frost,graphic_novel,graphite,"
    "impressionist_painting,isometric_3d,low_poly_3d,macro_photography,marker_drawing,moody_film,pixel_art,"
    "retro_photography,sci-fi_art,stickers,storyboard,actor_casting,thriller,35mm,3d_cartoon,3d_render,"
    "80s_vaporwave"
).split(",")


def account(name: str = "studio-1", provider: str = "useapi_preview", **fields: Any) -> Account:
    return Account(
        provider=provider,
        name=name,
        token=Secret(TOKEN),
        max_jobs=2,
        base_url=BASE_URL,
        fields=fields,
        deadline_seconds=1800,
        poll_seconds=10,
        net_seconds=60,
        timeout_seconds=90,
        max_attempts=5,
    )


ALLOWED = account(allow_retired=True)


def read(body: Any, status: int = 200) -> Any:
    return PREVIEW.read_submission(Reply(status, {}, body, "")).outcome


# --- parameters ---------------------------------------------------------------------------------------


def test_every_parameter_of_the_page_is_accepted_together():
    assert check(PreviewParameters, FULL, "useapi_preview") == FULL
    assert PAGE_STYLES == STYLES
    assert len(STYLES) == 33


@pytest.mark.parametrize("style", PAGE_STYLES)
def test_every_style_of_the_page_is_accepted(style):
    assert check(PreviewParameters, {**PROMPT, "style": style}, "useapi_preview")["style"] == style


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("text_prompt", ""),
        ("text_prompt", None),
        ("prompt_weight", 0),
        ("prompt_weight", 31),
        ("prompt_weight", 1.5),
        ("prompt_weight", "5"),
        ("negative_prompt", 5),
        ("seed", 0),
        ("seed", 4294967295),
        ("style", "vivid"),  # a word of Frames
        ("aspect_ratio", "2:3"),
        ("email", "studio"),
        ("replyUrl", "https://elsewhere.example.com"),
    ],
)
def test_what_the_page_does_not_allow_is_refused_by_name(name, value):
    with pytest.raises(Invalid, match=f"^useapi_preview: {name} = "):
        check(PreviewParameters, {**PROMPT, name: value}, "useapi_preview")


# --- retired ------------------------------------------------------------------------------------------


def exchange_of(*accounts: Account) -> Exchange:
    return Exchange(
        upstream=FakeUpstream(),
        artifacts=None,
        providers=registry(),
        accounts={(each.provider, each.name): each for each in accounts},
        keys=(),
        public_url="https://jobs.example.com",
    )


@pytest.mark.parametrize(
    "accounts",
    [
        (),  # a caller without an accounts file
        (account(),),
        (account(allow_retired=False),),
        (account(provider="useapi_frames"),),  # the explanation, not "add an account"
    ],
)
def test_it_is_refused_with_what_replaces_it(accounts):
    with pytest.raises(Unsupported) as refused:
        new_job(exchange_of(*accounts), "j1", "useapi_preview", {**PROMPT, "style": "anime"}, {}, 0.0)
    told = str(refused.value)
    assert "Runway retired this endpoint in September 2025" in told
    assert PREVIEW.docs_url in told
    call = """enqueue("useapi_frames", {'text_prompt': 'a fox', 'style': 'light-anime'})"""
    assert f"Instead: orchestrator.{call}" in told
    assert "allow_retired = true" in told


def test_faults_of_the_parameters_come_first():
    with pytest.raises(Invalid, match="seed = 0"):
        new_job(exchange_of(), "j1", "useapi_preview", {**PROMPT, "seed": 0}, {}, 0.0)


def test_other_providers_still_need_an_account():
    with pytest.raises(ConfigurationError, match="no account of useapi_frames: add one"):
        new_job(exchange_of(ALLOWED), "j1", "useapi_frames", PROMPT, {}, 0.0)


def test_an_account_that_allows_it_runs_it():
    made = new_job(
        exchange_of(account("a"), account("b", allow_retired=True)), "j1", "useapi_preview", PROMPT, {}, 0.0
    )
    assert (made.provider, made.account) == ("useapi_preview", "")


def test_a_job_of_an_e_mail_goes_only_to_an_account_that_allows_it():
    accounts = (account("a", email=EMAIL), account("b", email="other@example.com", allow_retired=True))
    with pytest.raises(Invalid, match="no account of useapi_preview has this allow_retired and email"):
        new_job(exchange_of(*accounts), "j1", "useapi_preview", {**PROMPT, "email": EMAIL}, {}, 0.0)
    made = new_job(
        exchange_of(*accounts), "j1", "useapi_preview", {**PROMPT, "email": "other@example.com"}, {}, 0.0
    )
    assert made.account == "b"


def test_an_account_that_does_not_allow_it_sends_the_job_elsewhere():
    with pytest.raises(errors.Broken, match="does not say allow_retired"):
        PREVIEW.submit_request(PROMPT, account(), "r", None)


def call_in(text: str) -> dict[str, Any]:
    """The parameters of the call that a replacement shows."""
    start = text.index("{")
    parameters: dict[str, Any] = ast.literal_eval(text[start : text.index("})", start) + 1])
    return parameters


@pytest.mark.parametrize("style", [None, *PAGE_STYLES])
@pytest.mark.parametrize("aspect_ratio", [None, "21:9", "1:1", "9:16", "16:9", "4:3", "3:4"])
def test_the_replacement_is_a_call_that_frames_accepts(style, aspect_ratio):
    given = {**PROMPT, "seed": 7, "style": style, "aspect_ratio": aspect_ratio}
    parameters = {name: value for name, value in given.items() if value is not None}
    text = replacement(parameters)
    call = call_in(text)
    assert check(FramesParameters, call, "useapi_frames") == call
    assert call["seed"] == 7
    assert call.get("aspect_ratio") == aspect_ratio
    assert call.get("style") or style is None or FRAMES_STYLES.get(style) == "" or repr(style) in text


@pytest.mark.parametrize(
    ("style", "frames"),
    [
        ("cinematic", None),  # what Frames makes without a style
        ("35mm", None),
        ("anime", "light-anime"),
        ("3d_cartoon", "3d-cartoon"),
        ("graphite", "sketch"),
        ("thriller", "high-contrast-cool"),
    ],
)
def test_styles_are_translated_where_there_is_something_like_them(style, frames):
    text = replacement({**PROMPT, "style": style})
    assert call_in(text).get("style") == frames
    assert "Left out" not in text


def test_what_frames_does_not_have_is_named():
    text = replacement({**FULL, "text_prompt": "x" * 1001})
    assert call_in(text).keys() == {"text_prompt", "aspect_ratio", "seed", "email"}
    for word in ("negative_prompt", "prompt_weight", "style '80s_vaporwave'", "beyond 1000 characters"):
        assert word in text.partition("Left out: ")[2]


def test_the_refusal_shows_no_e_mail():
    with pytest.raises(Unsupported) as refused:
        PREVIEW.check(FULL, [account()])
    assert EMAIL not in str(refused.value)


# --- the conversation ---------------------------------------------------------------------------------


def test_the_request_is_the_one_of_the_page():
    request = PREVIEW.submit_request(FULL, ALLOWED, "reference", None)
    assert (request.method, request.url) == ("GET", f"{BASE_URL}/text_to_image_preview/")
    assert request.headers == {"Authorization": f"Bearer {TOKEN}", "Accept": "application/json"}
    assert request.query == {name: str(value) for name, value in FULL.items()}
    assert request.json is None


def test_the_accounts_e_mail_is_sent_where_it_has_one():
    mine = account(allow_retired=True, email=EMAIL)
    assert PREVIEW.submit_request(PROMPT, mine, "r", None).query == {**PROMPT, "email": EMAIL}


def test_the_answer_is_the_outcome():
    submission = PREVIEW.read_submission(Reply(200, {}, {"url": PICTURE, "seed": 7}, ""))
    assert submission == Submission("", Succeeded((PICTURE,)))


@pytest.mark.parametrize(
    "body", [{}, {"seed": 7}, {"url": ""}, {"url": None}, {"url": ["x"]}, {"error": "no"}]
)
def test_an_answer_without_a_picture_is_no_success(body):
    failed = read(body)
    assert isinstance(failed, Failed)
    assert type(failed.error) is Unavailable


MODERATED = {
    "message": "Text did not pass content moderation.",
    "moderation_category": "SEXUALLY_EXPLICIT",
    "reason": "SAFETY.INPUT.TEXT",
    "tally_asimov": True,
}


@pytest.mark.parametrize(
    ("status", "body", "family", "message"),
    [
        (400, {"error": "bad ratio", "code": 400}, errors.Invalid, "bad ratio"),
        (401, {"error": "Unauthorized", "code": 401}, errors.Unauthorized, "Unauthorized"),
        (402, {"error": "no subscription"}, errors.Broken, "no subscription"),
        (403, MODERATED, errors.Moderated, MODERATED["message"]),
        (403, None, errors.Unauthorized, "HTTP 403"),  # a firewall's page is no moderation
        (404, {"error": "Not found.", "code": 404}, errors.Unsupported, "Not found."),  # now it is gone
        (412, {"error": "You do not have enough credits to run this task."}, errors.OutOfCredit, None),
        (422, {}, errors.Moderated, "HTTP 422"),
        (429, {"error": "busy", "runningTasks": {}}, errors.AccountFull, "busy"),
        (429, {"error": "too many"}, errors.TooMany, "too many"),
        (596, {"error": f"Account {EMAIL} in error state"}, errors.Broken, "Account <e-mail> in error state"),
        (500, None, Unavailable, "HTTP 500"),
        (405, None, errors.Rejected, "HTTP 405"),
    ],
)
def test_an_error_answer_is_read_by_its_status_and_shape(status, body, family, message):
    error = PREVIEW.read_error(Reply(status, {}, body, ""))
    assert (type(error), error.http_status) == (family, status)
    assert message is None or str(error) == message


def test_a_moderated_answer_with_status_200_is_moderated_all_the_same():
    assert isinstance(read(MODERATED).error, errors.Moderated)


def test_there_is_nothing_to_poll_and_nobody_calls_back():
    assert PREVIEW.poll_request("x", ALLOWED) is None
    assert exchange_of(ALLOWED).ask(ALLOWED, "x") == Pending()
    assert not exchange_of(ALLOWED).expects_callback(ALLOWED)
    with pytest.raises(Malformed):
        PREVIEW.read_report({"url": PICTURE})


# --- a lost answer ------------------------------------------------------------------------------------


class FakeUpstream:
    """Answers with what it is given, or raises it."""

    def __init__(self, *answers: Any) -> None:
        self.answers: Iterator[Any] = iter(answers)

    def send(self, request: Request, timeout_seconds: float) -> Reply:
        answer = next(self.answers)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.mark.parametrize(
    "answer",
    [
        Uncertain("no answer (ReadTimeout)"),
        Reply(503, {"retry-after": "7"}, None, ""),
        Reply(200, {}, None, "<h1>"),
    ],
)
def test_a_lost_answer_is_a_failure_that_is_tried_again_at_once(answer):
    """Nothing is spent on it, so nothing waits for the deadline."""
    exchange = Exchange(FakeUpstream(answer), None, registry(), {}, (), None)
    with pytest.raises(Unavailable) as lost:
        exchange.submit(ALLOWED, "j1.1", PROMPT)
    if isinstance(answer, Reply):
        assert lost.value.http_status == answer.status
        assert lost.value.wait_seconds == (7.0 if answer.headers else None)


def test_where_a_submit_is_paid_for_a_lost_answer_stays_uncertain():
    frames = account(provider="useapi_frames")
    exchange = Exchange(FakeUpstream(Reply(503, {}, None, "")), None, registry(), {}, (), None)
    with pytest.raises(Uncertain):
        exchange.submit(frames, "j1.1", PROMPT)
    assert (exchange.may_repeat(frames), exchange.may_repeat(ALLOWED)) == (False, True)
