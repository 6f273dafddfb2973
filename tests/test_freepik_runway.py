"""Runway at Freepik: what we say to it, how every shape of its answers is read, and whom it is believed.

Shapes and statuses: the seed (https://docs.freepik.com/api-reference/text-to-image/post-runway), other
pages of Freepik (https://docs.freepik.com/webhooks) and what its clients met.
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from standardwebhooks import Webhook

from orchestrator import errors
from orchestrator.errors import BadSignature, Invalid, Malformed, Stale, Uncertain
from orchestrator.models import Account, Failed, Pending, Reply, Report, Secret, Submission, Succeeded
from orchestrator.providers import registry
from orchestrator.providers.freepik_runway import RunwayParameters, SigningKey
from orchestrator.schemas import check
from orchestrator.signatures import sign_webhook

RUNWAY = registry()["freepik_runway"]
BASE_URL = "https://api.freepik.com"
CREATE_URL = f"{BASE_URL}/v1/ai/text-to-image/runway"
TOKEN = "FPSX-a-key-that-must-never-show"
TASK_ID = "046b6c7f-0b8a-43b9-b35d-6489e6daee91"
REFERENCE = "cmVm.c2ln"
CALLBACK_URL = f"https://jobs.example.com/callbacks/freepik_runway/{REFERENCE}"
PICTURE = f"https://cdn-magnific.freepik.com/runway_{TASK_ID}_0.png?token=exp=1751007773~hmac=00ff"
CREATED: dict[str, Any] = {"task_id": TASK_ID, "status": "CREATED", "generated": []}
FULL = {"prompt": "a fox", "ratio": "1920:1080", "seed": 12345}
RATIOS = (
    "1920:1080 1080:1920 1024:1024 1360:768 1080:1080 1168:880 1440:1080 1080:1440 "
    "1808:768 2112:912 1280:720 720:1280 720:720 960:720 720:960 1680:720"
).split()

# The vectors of the fact sheet, made with nothing but `hmac`.
SECRET = "c2VjcmV0LWZvci10ZXN0cy0wMDAwMDAwMDA="
NOW = 1700000000.0
BODY = (
    b'{"task_id":"046b6c7f-0b8a-43b9-b35d-6489e6daee91","status":"COMPLETED",'
    b'"generated":["https://example.invalid/a.png"]}'
)
BY_TEXT = "mYZ9teReyPenbgzqP52oUoiDqnpUDoFVqKCpgCjK5uo="
BY_BASE64 = "DiqZW6GJG5/BmbsdSz5a/p94aQK+T4O5/Dy6/YDoxYg="
OTHER = "A" * 43 + "="
SIGNED = {"webhook-id": "wh_0001", "webhook-timestamp": "1700000000", "webhook-signature": f"v1,{BY_TEXT}"}


def account(base_url: str = BASE_URL, secret: str | None = None, **fields: Any) -> Account:
    if secret is not None:
        fields["signing_secret"] = Secret(secret)
    return Account(
        provider="freepik_runway",
        name="studio-1",
        token=Secret(TOKEN),
        max_jobs=5,
        base_url=base_url,
        fields=fields,
        deadline_seconds=1800,
        poll_seconds=10,
        net_seconds=60,
        timeout_seconds=30,
        max_attempts=5,
    )


def checked(**parameters: Any) -> dict[str, Any]:
    return check(RunwayParameters, {"prompt": "a fox", "ratio": "1024:1024", **parameters}, "freepik_runway")


def reply(status: int, body: Any = None, text: str = "") -> Reply:
    return Reply(status, {}, body, text)


def outcome(**changed: Any) -> Any:
    """What a task that differs from a fresh one only so means."""
    return RUNWAY.read_report({**CREATED, **changed}).outcome


# --- parameters ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prompt", "x"),
        ("prompt", "x" * 1000),
        *[("ratio", ratio) for ratio in RATIOS],
        ("seed", 0),
        ("seed", 4294967295),
    ],
)
def test_what_the_page_allows_passes_unchanged(name, value):
    assert checked(**{name: value})[name] == value


def test_every_parameter_is_accepted_together_and_the_seed_is_not_needed():
    assert check(RunwayParameters, FULL, "freepik_runway") == FULL
    assert checked() == {"prompt": "a fox", "ratio": "1024:1024"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prompt", ""),
        ("prompt", "x" * 1001),
        ("prompt", None),
        ("prompt", 5),
        ("ratio", "16:9"),  # useapi's word
        ("ratio", "1104:832"),  # a video ratio of the seed of `runway`
        ("ratio", ""),
        ("ratio", None),
        ("seed", -1),
        ("seed", 4294967296),
        ("seed", 1.5),
        ("seed", "1"),
        ("seed", True),
        ("text_prompt", "a fox"),
        ("webhook_url", "https://elsewhere.example.com"),
    ],
)
def test_what_the_page_does_not_allow_is_refused_by_name(name, value):
    with pytest.raises(Invalid, match=f"^freepik_runway: {name} = "):
        checked(**{name: value})


def test_prompt_and_ratio_are_required_and_all_faults_are_told_at_once():
    with pytest.raises(Invalid) as refused:
        check(RunwayParameters, {"seed": -1}, "freepik_runway")
    for name in ("prompt: Missing", "ratio: Missing", "seed = -1"):
        assert name in str(refused.value)


def test_a_webhook_url_is_refused_with_the_reason():
    with pytest.raises(Invalid, match="The orchestrator sets this itself: leave it out"):
        checked(webhook_url="https://elsewhere.example.com")


# --- requests -----------------------------------------------------------------------------------------


def test_the_submit_request_is_the_one_of_the_page():
    request = RUNWAY.submit_request(FULL, account(), REFERENCE, CALLBACK_URL)
    assert (request.method, request.url, request.query) == ("POST", CREATE_URL, {})
    assert request.headers == {"x-freepik-api-key": TOKEN, "Accept": "application/json"}
    assert request.json == {**FULL, "webhook_url": CALLBACK_URL}
    assert "webhook_url" not in FULL  # the job's parameters stay as they are


def test_without_a_callback_url_none_is_sent():
    assert RUNWAY.submit_request(FULL, account(), REFERENCE, None).json == FULL


def test_the_poll_request_asks_for_the_task():
    request = RUNWAY.poll_request(TASK_ID, account())
    assert (request.method, request.url, request.json) == ("GET", f"{CREATE_URL}/{TASK_ID}", None)
    assert request.headers["x-freepik-api-key"] == TOKEN


def test_a_task_id_cannot_leave_its_place_in_the_url():
    assert RUNWAY.poll_request("a/../b?c#d", account()).url == f"{CREATE_URL}/a%2F..%2Fb%3Fc%23d"


@pytest.mark.parametrize(
    ("base_url", "fields", "header"),
    [
        (BASE_URL, {}, "x-freepik-api-key"),
        ("https://api.magnific.com", {}, "x-magnific-api-key"),
        ("https://eu.api.magnific.com", {}, "x-magnific-api-key"),
        ("https://notmagnific.com", {}, "x-freepik-api-key"),
        ("https://magnific.com.example.com", {}, "x-freepik-api-key"),
        ("http://127.0.0.1:9000", {}, "x-freepik-api-key"),
        ("https://api.magnific.com", {"header": "x-freepik-api-key"}, "x-freepik-api-key"),
        ("https://proxy.example.com/freepik", {"header": "x-magnific-api-key"}, "x-magnific-api-key"),
    ],
)
def test_the_key_goes_into_the_header_of_the_host_or_of_the_account(base_url, fields, header):
    for request in (
        RUNWAY.submit_request(FULL, account(base_url, **fields), REFERENCE, None),
        RUNWAY.poll_request(TASK_ID, account(base_url, **fields)),
    ):
        assert request.headers == {header: TOKEN, "Accept": "application/json"}
        assert request.url.startswith(f"{base_url}/v1/ai/text-to-image/runway")


def test_no_secret_shows_in_a_request_or_an_account():
    shown = repr((RUNWAY.submit_request({}, account(), REFERENCE, None), account(secret=SECRET)))
    assert TOKEN not in shown
    assert SECRET not in shown


def test_it_cannot_cancel_and_its_list_has_no_reference_to_search_for():
    assert RUNWAY.cancel_request(TASK_ID, account()) is None
    assert not RUNWAY.search_requests(account())
    assert RUNWAY.pins(FULL) == {}


# --- what was submitted -------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["CREATED", "IN_PROGRESS"])  # the page shows both
@pytest.mark.parametrize("enveloped", [True, False])
def test_a_fresh_task_is_pending_with_and_without_the_envelope(status, enveloped):
    task = {**CREATED, "status": status}
    body = {"data": task} if enveloped else task
    assert RUNWAY.read_submission(reply(200, body)) == Submission(TASK_ID, Pending(status))


@pytest.mark.parametrize(
    "body",
    [None, [], "ok", {}, {"data": None}, {"data": []}, {"data": [CREATED]}, {"data": {"status": "CREATED"}},
     {**CREATED, "task_id": None}, {**CREATED, "task_id": ""}, {**CREATED, "task_id": 7}],
)  # fmt: skip
def test_an_answer_without_a_task_id_is_uncertain_since_it_may_be_paid_for(body):
    with pytest.raises(Uncertain) as uncertain:
        RUNWAY.read_submission(reply(201, body))
    assert uncertain.value.http_status == 201
    with pytest.raises(Malformed):
        RUNWAY.read_report(body)


# --- reports ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        CREATED,  # a callback
        {"data": CREATED},  # an answer
        {"data": None, **CREATED},
        {**CREATED, "request_id": 7},  # as the icon endpoint's
        {"task_id": TASK_ID, "status": "created"},
    ],
)
def test_a_report_names_the_task_and_has_no_reference(body):
    assert RUNWAY.read_report(body) == Report(TASK_ID, Pending("CREATED"), None)


@pytest.mark.parametrize("word", ["CANCELLED", "PAUSED", "SUCCEEDED", "", None, 7, ["FAILED"]])
def test_an_unknown_word_is_pending_and_says_so(word):
    pending = outcome(status=word, generated=[PICTURE])
    assert isinstance(pending, Pending)
    assert not pending.known


@pytest.mark.parametrize(
    ("generated", "urls"),
    [
        ([PICTURE], (PICTURE,)),
        ([PICTURE, "https://b/"], (PICTURE, "https://b/")),
        ([{"url": PICTURE, "content_type": "image/png"}], (PICTURE,)),
        ([{"url": PICTURE}, "https://b/", None, 5, {}, {"url": None}, ""], (PICTURE, "https://b/")),
    ],
)
def test_a_success_has_every_picture_in_order(generated, urls):
    assert outcome(status="COMPLETED", generated=generated) == Succeeded(urls)


@pytest.mark.parametrize(
    "generated", [[], None, {}, PICTURE, 5, True, [None], [{}], [""], [{"url": ""}], [[]]]
)
def test_a_success_without_pictures_is_no_success(generated):
    failed = outcome(status="COMPLETED", generated=generated)
    assert isinstance(failed, Failed)
    assert type(failed.error) is errors.Unavailable


def test_pictures_before_the_end_are_none():
    """The page's example of a CREATED task has two."""
    assert outcome(status="CREATED", generated=[PICTURE]) == Pending("CREATED")


def test_a_failure_has_no_reason_and_may_pass():
    failed = outcome(status="FAILED")
    assert type(failed.error) is errors.BadOutput
    assert "no reason" in str(failed.error)


# --- errors -------------------------------------------------------------------------------------------

INVALID = [{"name": "page", "reason": "must be a number"}, {"name": "ratio", "reason": "is unknown"}]
PROBLEM = {"message": "Wrong parameters.", "invalid_params": INVALID}
TOLD = "Wrong parameters. (page: must be a number; ratio: is unknown)"


@pytest.mark.parametrize(
    ("status", "body", "family", "message"),
    [
        (400, {"message": "bad ratio"}, errors.Invalid, "bad ratio"),
        (400, {"problem": PROBLEM}, errors.Invalid, TOLD),  # the schema
        (400, PROBLEM, errors.Invalid, TOLD),  # the example
        (400, {"problem": {"invalid_params": INVALID[:1]}}, errors.Invalid, "page: must be a number"),
        (400, {"problem": {**PROBLEM, "invalid_params": "x"}}, errors.Invalid, "Wrong parameters."),
        (400, {"problem": {**PROBLEM, "invalid_params": ["x", 5]}}, errors.Invalid, "Wrong parameters."),
        (400, {"problem": "x", "message": "m"}, errors.Invalid, "m"),
        (400, {"title": "Bad Request"}, errors.Invalid, "Bad Request"),
        (400, {"message": None}, errors.Invalid, "HTTP 400"),
        (400, {"message": "You do not have enough credits to run this task."}, errors.OutOfCredit, None),
        (400, {"message": "the prompt 'a credit card' is too long"}, errors.Invalid, None),
        (401, {"message": "Invalid API key"}, errors.Unauthorized, "Invalid API key"),
        (401, {"message": "Missing API key"}, errors.Unauthorized, None),
        (402, {"message": "x"}, errors.OutOfCredit, "x"),
        (403, {"message": "Insufficient credits"}, errors.OutOfCredit, None),
        (403, {"message": "Forbidden"}, errors.Unauthorized, "Forbidden"),  # rests the account, not the batch
        (403, None, errors.Unauthorized, "HTTP 403"),
        (403, {"message": "Prompt refused by content moderation"}, errors.Moderated, None),
        (404, {"message": "Not found"}, errors.Broken, "Not found"),
        (405, None, errors.Rejected, "HTTP 405"),
        (413, [], errors.Rejected, "HTTP 413"),
        (422, {"message": "x"}, errors.Invalid, "x"),
        (429, {"message": "Too Many Requests"}, errors.TooMany, "Too Many Requests"),
        (429, None, errors.TooMany, "HTTP 429"),
        (429, {"message": "You have reached your daily limit"}, errors.QuotaSpent, None),
        (429, {"message": "Quota exceeded"}, errors.QuotaSpent, None),
        (500, {"message": "Internal Server Error"}, errors.Unavailable, "Internal Server Error"),
        (502, None, errors.Unavailable, "HTTP 502"),
        (503, {"message": "Service Unavailable. Please try again later."}, errors.Unavailable, None),
        (503, {"message": "insufficient funds of machines"}, errors.Unavailable, None),
        (599, {"problem": None}, errors.Unavailable, "HTTP 599"),
    ],
)
def test_an_error_answer_is_read_by_its_status_and_shape(status, body, family, message):
    error = RUNWAY.read_error(reply(status, body))
    assert type(error) is family
    assert error.http_status == status
    assert message is None or str(error) == message


def test_an_error_that_is_no_json_shows_its_text():
    assert str(RUNWAY.read_error(reply(502, None, "<h1>Bad Gateway</h1>"))) == "<h1>Bad Gateway</h1>"


# --- signatures ---------------------------------------------------------------------------------------


def verify(
    headers: dict[str, Any] | None = None,
    body: bytes = BODY,
    secret: str | None = SECRET,
    now: float = NOW,
    **fields: Any,
) -> None:
    RUNWAY.verify(SIGNED if headers is None else headers, body, account(secret=secret, **fields), now)


def changed(**headers: str | None) -> dict[str, str]:
    """The valid headers with some changed; None leaves one out."""
    told = {**SIGNED, **{f"webhook-{name}": value for name, value in headers.items()}}
    return {name: value for name, value in told.items() if value is not None}


@pytest.mark.parametrize("fields", [{}, {"signing_key": SigningKey.UTF8}, {"signing_key": "utf8"}])
def test_the_vector_whose_key_is_the_text_of_the_secret(fields):
    verify(**fields)


@pytest.mark.parametrize("secret", [SECRET, SECRET.rstrip("="), f"whsec_{SECRET}", f" {SECRET} "])
@pytest.mark.parametrize("signing_key", [SigningKey.BASE64, "base64"])
def test_the_vector_whose_key_is_what_the_secret_decodes_to(secret, signing_key):
    verify(changed(signature=f"v1,{BY_BASE64}"), secret=secret, signing_key=signing_key)


def test_one_making_of_the_key_does_not_pass_for_the_other():
    with pytest.raises(BadSignature):
        verify(signing_key=SigningKey.BASE64)
    with pytest.raises(BadSignature):
        verify(changed(signature=f"v1,{BY_BASE64}"))


@pytest.mark.parametrize(
    "signature",
    [
        f"v1,{BY_TEXT} v2,{OTHER}",
        f"v1,{OTHER} v2,{BY_TEXT}",  # versions stand for secrets, and one of them is ours
        f"v7,{BY_TEXT}",
        f"v1a,{OTHER}{OTHER} v1,{BY_TEXT}",  # Standard Webhooks' other algorithm
        f"x, ,, v1 v1, {BY_TEXT} v1,{BY_TEXT}  ",
        " ".join([f"v1,{OTHER}"] * 80 + [f"v1,{BY_TEXT}"]),
    ],
)
def test_any_entry_that_fits_suffices(signature):
    verify(changed(signature=signature))


@pytest.mark.parametrize("secret", [f"new,{SECRET}", f"{SECRET},old", f" new , {SECRET} ,, old "])
def test_any_of_our_secrets_suffices_while_they_rotate(secret):
    verify(secret=secret)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        changed(id=None),
        changed(timestamp=None),
        changed(signature=None),
        changed(id=""),
        changed(id="wh_0002"),
        changed(id="wh_0001\u00e9"),
        changed(id="\u00ff"),
        changed(id="\ud800"),
        changed(id="wh_0001\n"),
        changed(id="x" * 257),
        changed(id="x" * 100_000),
        changed(timestamp=""),
        changed(timestamp="1700000001"),
        changed(timestamp="1700000000.0"),
        changed(timestamp="1.7e9"),
        changed(timestamp="-1"),
        changed(timestamp=" 1700000000"),
        changed(timestamp="1700000000\n"),
        changed(timestamp="nan"),
        changed(timestamp="\u0661\u0667"),  # digits, but not ours
        changed(timestamp="9" * 100_000),
        changed(signature=""),
        changed(signature=" "),
        changed(signature=","),
        changed(signature="v1"),
        changed(signature="v1,"),
        changed(signature=f"v1,{OTHER}"),
        changed(signature=BY_TEXT),  # no version: one client met this, no page shows it
        changed(signature=f"v,{BY_TEXT}"),
        changed(signature=f"v1,{BY_TEXT},"),
        changed(signature=f"v1,{BY_TEXT}\n"),
        changed(signature=f"v1,,{BY_TEXT}"),
        changed(signature=f"v1,v1,{BY_TEXT}"),
        changed(signature=f"v1,{BY_TEXT},v2,{OTHER}"),  # a comma is what joins two headers of one name
        changed(signature=f"v1;{BY_TEXT}"),
        changed(signature=f"v1,{BY_TEXT.rstrip('=')}"),
        changed(signature=f"v1,{BY_TEXT.lower()}"),
        changed(signature=f"v1,{BY_TEXT[:-2]}\u00e9="),
        changed(signature="v1,\u00e9\ud800"),
        changed(signature="\x00"),
        changed(signature="v1," * 100_000),
        changed(signature=" ".join([f"v1,{OTHER}"] * 5_000)),
        changed(signature=" " * 100_000),
        changed(signature="," * 100_000),
        {"x-freepik-signature": f"sha256={BY_TEXT}"},  # seen in the wild, on no page
    ],
)
def test_whatever_is_wrong_with_the_headers_is_a_bad_signature_and_nothing_else(headers):
    with pytest.raises(BadSignature):
        verify(headers)


@pytest.mark.parametrize(
    "body", [b"", BODY + b" ", BODY.replace(b"COMPLETED", b"FAILED"), b"\xff\xfe", b"[]"]
)
def test_another_body_is_a_bad_signature(body):
    with pytest.raises(BadSignature):
        verify(body=body)


def test_the_raw_bytes_are_signed_and_not_what_they_mean():
    with pytest.raises(BadSignature):
        verify(body=json.dumps(json.loads(BODY)).encode())
    raw = b"\xff\x00 not text at all"
    verify(changed(signature=f"v1,{sign_webhook('wh_0001', '1700000000', raw, SECRET.encode())}"), body=raw)


@pytest.mark.parametrize("seconds", [0, 299, 300, -299, -300])
def test_a_delivery_within_the_window_is_taken(seconds):
    verify(now=NOW + seconds)


@pytest.mark.parametrize("seconds", [300.1, 86_400, -300.1, -1e9, 1e9])
def test_a_genuine_delivery_outside_the_window_is_stale_old_or_new(seconds):
    with pytest.raises(Stale):
        verify(now=NOW + seconds)


def test_a_forged_delivery_is_not_told_that_it_is_stale():
    with pytest.raises(BadSignature):
        verify(changed(signature=f"v1,{OTHER}"), now=NOW + 86_400)


@pytest.mark.parametrize(
    ("secret", "fields"),
    [
        ("another", {}),
        ("", {}),
        (" , ,", {}),
        (SECRET, {"signing_key": "hex"}),  # the settings refuse this; here it is not believed
        ("whsec_", {"signing_key": "base64"}),  # an empty key would let anybody sign
        ("not base64!", {"signing_key": "base64"}),
        ("\u00e9", {"signing_key": "base64"}),
        (f"{SECRET},A", {"signing_key": "base64"}),
    ],
)
def test_a_secret_that_is_none_lets_nobody_in(secret, fields):
    for key in (b"", b"whsec_", SECRET.encode()):
        signature = sign_webhook("wh_0001", "1700000000", BODY, key)
        with pytest.raises(BadSignature):
            verify(changed(signature=f"v1,{signature}"), secret=secret, **fields)


def test_the_empty_key_of_a_list_of_secrets_is_left_out():
    signature = sign_webhook("wh_0001", "1700000000", BODY, b"")
    with pytest.raises(BadSignature):
        verify(changed(signature=f"v1,{signature}"), secret=f"{SECRET},")


@pytest.mark.parametrize("headers", [{}, SIGNED, changed(signature="v1,x")])
def test_without_a_signing_secret_the_reference_in_the_url_is_the_check(headers):
    verify(headers, secret=None)


def test_no_refusal_shows_the_secret():
    for headers, now in ((changed(signature="v1,x"), NOW), (SIGNED, NOW + 1e6)):
        with pytest.raises(errors.CallbackRefused) as refused:
            verify(headers, now=now)
        assert SECRET not in str(refused.value)
        assert BY_TEXT not in str(refused.value)


@pytest.mark.parametrize("signing_key", list(SigningKey))
def test_what_the_library_of_standard_webhooks_signs_is_believed(signing_key):
    key = SECRET.encode() if signing_key is SigningKey.UTF8 else base64.b64decode(SECRET)
    at = datetime.fromtimestamp(NOW, UTC)
    signature = Webhook(key).sign("msg_1", at, BODY.decode())
    verify(changed(id="msg_1", signature=signature), signing_key=signing_key)
    with pytest.raises(BadSignature):
        verify(changed(id="msg_2", signature=signature), signing_key=signing_key)


def test_what_we_sign_is_believed_by_the_library():
    now = str(int(datetime.now(UTC).timestamp()))
    signature = sign_webhook("msg_1", now, BODY, SECRET.encode())
    headers = {"webhook-id": "msg_1", "webhook-timestamp": now, "webhook-signature": f"v1,{signature}"}
    assert Webhook(SECRET.encode()).verify(BODY, headers) == json.loads(BODY)


@pytest.mark.parametrize(
    ("headers", "delivery"),
    [
        (SIGNED, "wh_0001"),
        (changed(signature=None), None),  # anybody can write an id
        (changed(id=None), None),
        (changed(id=""), None),
        (changed(id="x" * 257), None),
        (changed(id="\u00e9"), None),
        ({}, None),
    ],
)
def test_a_delivery_is_known_by_its_id_where_it_is_signed(headers, delivery):
    assert RUNWAY.delivery_id(headers) == delivery


@pytest.mark.parametrize(
    ("url", "dies_at"),
    [
        ("https://cdn-magnific.freepik.com/x.png?token=exp=1790180062~hmac=ab&size=1", 1_790_180_062.0),
        ("https://cdn-magnific.freepik.com/x.png?size=1&token=exp=1790180062~hmac=ab", 1_790_180_062.0),
        ("https://ai-statics.freepik.com/x.png", 3700.0),
        ("https://ai-statics.freepik.com/x.png?token=exp=soon~hmac=ab", 3700.0),
    ],
)
def test_a_url_says_itself_until_when_it_lives(url, dies_at):
    assert registry()["freepik_runway"].artifact_dies_at(url, 100.0) == dies_at
