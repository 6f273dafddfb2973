"""Frames at useapi.net: what we say to it, and how every shape of its answers is read.

Shapes and statuses: the seed (https://useapi.net/docs/api-runwayml-v1/post-runwayml-frames-create) and the
vendor's other pages and scripts.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator import errors
from orchestrator.errors import Invalid, Malformed, Uncertain
from orchestrator.models import Account, Failed, Pending, Reply, Report, Secret, Submission, Succeeded
from orchestrator.providers import registry
from orchestrator.providers.useapi_frames import FramesParameters
from orchestrator.schemas import check

FRAMES = registry()["useapi_frames"]
BASE_URL = "https://api.useapi.net/v1/runwayml"
TOKEN = "user:1-token"
EMAIL = "studio@example.com"
TASK_ID = f"user:1-runwayml:{EMAIL}-task:0f6c"
REFERENCE = "cmVm.c2ln"
CALLBACK_URL = f"https://jobs.example.com/callbacks/useapi_frames/{REFERENCE}"
PICTURE = "https://d1.cloudfront.net/0.png?_jwt=x"
CREATED: dict[str, Any] = {
    "taskId": TASK_ID,
    "id": "0f6c",
    "taskType": "text_to_image",
    "options": {"text_prompt": "a fox", "seed": 1},
    "status": "PENDING",
    "error": None,
    "progressText": None,
    "progressRatio": None,
    "estimatedTimeToStartSeconds": 0,
    "artifacts": [],
    "replyUrl": CALLBACK_URL,
    "replyRef": REFERENCE,
    "code": 200,
}
FULL = {
    "text_prompt": "a fox",
    "aspect_ratio": "21:9",
    "style": "vivid",
    "diversity": 5,
    "seed": 12345678,
    "num_images": 4,
    "exploreMode": True,
    "email": EMAIL,
    "maxJobs": 5,
    "imageAssetId1": "asset:1",
    "imageAssetId2": "asset:2",
    "imageAssetId3": "asset:3",
}
STYLES = (
    "vivid, vivid-warm, vivid-cool, high-contrast, high-contrast-warm, high-contrast-cool, bw, bw-contrast, "
    "muted-pastel, dreamscape, nordic-minimal, light-anime, dark-anime, painted-anime, 3d-cartoon, sketch, "
    "low-angle, in-motion, terracotta"
).split(", ")


def account(max_jobs: int = 5, **fields: Any) -> Account:
    return Account(
        provider="useapi_frames",
        name="studio-1",
        token=Secret(TOKEN),
        max_jobs=max_jobs,
        base_url=BASE_URL,
        fields=fields,
        deadline_seconds=1800,
        poll_seconds=10,
        net_seconds=60,
        timeout_seconds=30,
        max_attempts=5,
    )


def checked(**parameters: Any) -> dict[str, Any]:
    return check(FramesParameters, {"text_prompt": "a fox", **parameters}, "useapi_frames")


def reply(status: int, body: Any = None, text: str = "") -> Reply:
    return Reply(status, {}, body, text)


def outcome(**changed: Any) -> Any:
    """What a task that differs from a fresh one only so means."""
    return FRAMES.read_report({**CREATED, **changed}).outcome


# --- parameters ---------------------------------------------------------------------------------------


def test_every_parameter_of_the_page_is_accepted_together():
    assert check(FramesParameters, FULL, "useapi_frames") == FULL


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("text_prompt", "x"),
        ("text_prompt", "x" * 1000),
        *[("style", style) for style in STYLES],
        *[("aspect_ratio", ratio) for ratio in ("16:9", "9:16", "1:1", "4:3", "3:4", "21:9")],
        ("diversity", 0),
        ("diversity", 5),
        ("seed", 1),
        ("seed", 4294967294),
        ("num_images", 1),
        ("num_images", 4),
        ("exploreMode", False),
        ("maxJobs", 1),
        ("maxJobs", 10),
    ],
)
def test_what_the_page_allows_passes_unchanged(name, value):
    assert checked(**{name: value})[name] == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("text_prompt", ""),
        ("text_prompt", "x" * 1001),
        ("text_prompt", None),
        ("text_prompt", 5),
        ("style", "Vivid"),  # words are spelled as on the page
        ("style", ""),
        ("aspect_ratio", "2:3"),
        ("diversity", -1),
        ("diversity", 6),
        ("diversity", 2.5),
        ("diversity", "2"),
        ("seed", 0),
        ("seed", 4294967295),
        ("seed", True),
        ("num_images", 2),  # one or four, nothing between
        ("exploreMode", "perhaps"),
        ("email", "studio"),
        ("maxJobs", 0),
        ("maxJobs", 11),
        ("imageAssetId1", ""),
        ("imageAssetId3", "x" * 1025),
        ("imageAssetId4", "asset:4"),  # the endpoint takes three
        ("text_promt", "a fox"),  # a slip of the pen must not cost a picture
        ("replyUrl", "https://elsewhere.example.com"),
        ("replyRef", "mine"),
    ],
)
def test_what_the_page_does_not_allow_is_refused_by_name(name, value):
    with pytest.raises(Invalid, match=f"^useapi_frames: {name} = "):
        checked(**{name: value})


def test_the_prompt_is_required_and_nothing_else():
    with pytest.raises(Invalid, match=r"^useapi_frames: text_prompt: Missing data for required field\.$"):
        check(FramesParameters, {}, "useapi_frames")
    assert checked() == {"text_prompt": "a fox"}  # the provider's defaults stay the provider's


def test_all_faults_are_told_at_once():
    with pytest.raises(Invalid) as refused:
        checked(text_prompt="", seed=0, style="x", diversity=9, colour="red")
    told = [part.split(" = ")[0] for part in str(refused.value).removeprefix("useapi_frames: ").split("; ")]
    assert told == ["colour", "diversity", "seed", "style", "text_prompt"]


def test_a_reply_url_does_not_hide_the_other_faults():
    with pytest.raises(Invalid) as refused:
        checked(replyUrl="https://elsewhere.example.com", seed=0)
    assert "seed = 0" in str(refused.value)
    assert "leave it out" in str(refused.value)


def test_reply_fields_are_refused_with_the_reason():
    with pytest.raises(Invalid, match="The orchestrator sets this itself: leave it out"):
        checked(replyRef="mine")


# --- requests -----------------------------------------------------------------------------------------


def test_the_submit_request_is_the_one_of_the_page():
    request = FRAMES.submit_request({"text_prompt": "a fox", "seed": 7}, account(), REFERENCE, CALLBACK_URL)
    assert (request.method, request.url) == ("POST", f"{BASE_URL}/frames/create")
    assert request.headers == {"Authorization": f"Bearer {TOKEN}", "Accept": "application/json"}
    assert request.query == {}
    assert request.json == {
        "text_prompt": "a fox",
        "seed": 7,
        "maxJobs": 5,
        "replyRef": REFERENCE,
        "replyUrl": CALLBACK_URL,
    }


def test_without_a_callback_url_only_the_reference_is_sent():
    sent = FRAMES.submit_request({"text_prompt": "a fox"}, account(), REFERENCE, None).json
    assert sent["replyRef"] == REFERENCE
    assert "replyUrl" not in sent


def test_the_accounts_e_mail_is_sent_where_it_has_one():
    assert FRAMES.submit_request({}, account(email=EMAIL), REFERENCE, None).json["email"] == EMAIL
    assert "email" not in FRAMES.submit_request({}, account(), REFERENCE, None).json


@pytest.mark.parametrize(
    ("limit", "parameters", "sent"),
    [
        (1, {}, 1),
        (10, {}, 10),
        (500, {}, 10),  # useapi refuses more
        (5, {"maxJobs": 2}, 2),  # the caller's word stands
    ],
)
def test_max_jobs_is_the_accounts_but_never_above_ten(limit, parameters, sent):
    assert FRAMES.submit_request(parameters, account(limit), REFERENCE, None).json["maxJobs"] == sent


def test_building_a_request_leaves_the_jobs_parameters_alone():
    parameters = {"text_prompt": "a fox"}
    FRAMES.submit_request(parameters, account(email=EMAIL), REFERENCE, CALLBACK_URL)
    assert parameters == {"text_prompt": "a fox"}


def test_the_token_does_not_show_in_a_request():
    assert TOKEN not in repr(FRAMES.submit_request({}, account(), REFERENCE, None))


@pytest.mark.parametrize(("build", "method"), [("poll_request", "GET"), ("cancel_request", "DELETE")])
def test_the_task_url_keeps_colon_and_at_sign_of_the_full_id(build, method):
    request = getattr(FRAMES, build)(TASK_ID, account())
    assert (request.method, request.url) == (method, f"{BASE_URL}/tasks/{TASK_ID}")
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"
    assert request.json is None


def test_a_task_id_cannot_leave_its_place_in_the_url():
    assert FRAMES.poll_request("a/../b?c#d", account()).url == f"{BASE_URL}/tasks/a%2F..%2Fb%3Fc%23d"


def test_a_job_insists_on_an_account_only_by_e_mail():
    assert FRAMES.pins({"text_prompt": "a fox", "email": EMAIL}) == {"email": EMAIL}
    assert FRAMES.pins({"text_prompt": "a fox"}) == {}


# --- what was submitted -------------------------------------------------------------------------------


def test_a_fresh_task_is_pending_under_its_full_id():
    assert FRAMES.read_submission(reply(200, CREATED)) == Submission(TASK_ID, Pending("PENDING"))


def test_a_submission_may_be_over_at_once():
    body = {**CREATED, "status": "SUCCEEDED", "artifacts": [{"url": PICTURE}]}
    assert FRAMES.read_submission(reply(200, body)).outcome == Succeeded((PICTURE,))


@pytest.mark.parametrize(
    "body",
    [None, [], "ok", {}, {**CREATED, "taskId": None}, {**CREATED, "taskId": ""}, {**CREATED, "taskId": 7}],
)
def test_an_answer_without_a_task_id_is_uncertain_since_it_may_be_paid_for(body):
    with pytest.raises(Uncertain) as uncertain:
        FRAMES.read_submission(reply(201, body))
    assert uncertain.value.http_status == 201


# --- reports ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        {**CREATED},
        {"task": {**CREATED}},  # some answers nest it
        {"task": {**CREATED, "replyRef": None}, "replyRef": REFERENCE},
        {**CREATED, "replyRef": None, "request": {"replyRef": REFERENCE}},  # so do useapi's other services
        {**CREATED, "replyRef": None, "response": {"replyRef": REFERENCE}},
    ],
)
def test_a_report_names_the_task_and_our_reference_wherever_they_stand(body):
    assert FRAMES.read_report(body) == Report(TASK_ID, Pending("PENDING"), REFERENCE)


@pytest.mark.parametrize("echoed", [None, 5, {"a": 1}])
def test_a_reference_that_is_not_echoed_is_none(echoed):
    assert FRAMES.read_report({**CREATED, "replyRef": echoed}).reference is None


@pytest.mark.parametrize(
    "body", [None, [CREATED], "x", 5, {}, {"task": []}, {"task": {}}, {"error": "Not found.", "code": 404}]
)
def test_what_is_no_task_is_malformed(body):
    with pytest.raises(Malformed):
        FRAMES.read_report(body)


@pytest.mark.parametrize("word", ["PENDING", "THROTTLED", "RUNNING", "running"])
def test_the_words_for_not_yet_are_known(word):
    assert outcome(status=word) == Pending(word.upper())


@pytest.mark.parametrize("word", ["CANCELLED", "PAUSED", "SUCCEEDED_MAYBE", "", None, 7, ["FAILED"]])
def test_an_unknown_word_is_pending_and_says_so(word):
    pending = outcome(status=word, artifacts=[{"url": PICTURE}])
    assert isinstance(pending, Pending)
    assert not pending.known


@pytest.mark.parametrize(
    ("ratio", "progress"),
    [
        ("0.5", 0.5),  # the pages show a text,
        (0.5, 0.5),  # the model a number,
        (None, None),  # the seed null
        ("1", 1.0),
        (0, 0.0),
        ("half", None),
        ("", None),
        ([], None),
        ({}, None),
    ],
)
def test_progress_is_read_from_text_number_or_nothing(ratio, progress):
    assert outcome(status="RUNNING", progressRatio=ratio) == Pending("RUNNING", progress)


@pytest.mark.parametrize("ratio", ["nan", "inf", pytest.param(10**400, id="huge")])
def test_progress_that_is_no_finite_number_is_none(ratio):
    assert outcome(status="RUNNING", progressRatio=ratio) == Pending("RUNNING", None)


def test_a_success_has_every_picture_in_order():
    artifacts = [{"url": f"https://d1.cloudfront.net/{n}.png", "fileSize": "12"} for n in range(4)]
    assert outcome(status="SUCCEEDED", artifacts=artifacts) == Succeeded(
        tuple(each["url"] for each in artifacts)
    )


@pytest.mark.parametrize(
    "artifacts", [[], None, {}, "x", [None], [{}], [{"url": ""}], [{"url": None}], ["x"]]
)
def test_a_success_without_pictures_is_no_success(artifacts):
    failed = outcome(status="SUCCEEDED", artifacts=artifacts)
    assert isinstance(failed, Failed)
    assert type(failed.error) is errors.Unavailable


@pytest.mark.parametrize("artifacts", [5, True])
def test_a_success_with_a_number_for_artifacts_is_no_success(artifacts):
    assert isinstance(outcome(status="SUCCEEDED", artifacts=artifacts), Failed)


# https://docs.dev.runwayml.com/errors/task-failures
@pytest.mark.parametrize(
    ("error", "family", "message"),
    [
        # Moderation is never tried again: Runway suspends accounts for that.
        ({"reason": "SAFETY.INPUT.TEXT", "errorMessage": "no"}, errors.Moderated, "no (SAFETY.INPUT.TEXT)"),
        ({"reason": "SAFETY.OUTPUT.IMAGE", "message": "no"}, errors.Moderated, "no (SAFETY.OUTPUT.IMAGE)"),
        (
            {"reason": "INPUT_PREPROCESSING.SAFETY.TEXT", "message": "no"},
            errors.Moderated,
            "no (INPUT_PREPROCESSING.SAFETY.TEXT)",
        ),
        # Runway's own trouble may pass.
        (
            {"reason": "INTERNAL.BAD_OUTPUT.CODE01", "message": "m"},
            errors.BadOutput,
            "m (INTERNAL.BAD_OUTPUT.CODE01)",
        ),
        ({"reason": "INTERNAL", "message": "m"}, errors.Unavailable, "m (INTERNAL)"),
        (
            {"reason": "INPUT_PREPROCESSING.INTERNAL", "message": "m"},
            errors.Unavailable,
            "m (INPUT_PREPROCESSING.INTERNAL)",
        ),
        ({"reason": "THIRD_PARTY.UNAVAILABLE", "message": "m"}, errors.Unavailable, None),
        # No reason: temporary, by the client that useapi wraps.
        ({"reason": "", "message": "m"}, errors.Unavailable, "m"),
        ({"reason": None, "errorMessage": "e", "message": "m"}, errors.Unavailable, "e"),
        ({}, errors.Unavailable, "the task failed without a reason"),
        (None, errors.Unavailable, "the task failed without a reason"),
        ("it broke", errors.Unavailable, "it broke"),
        # Any other reason is the job's own.
        ({"reason": "ASSET.INVALID", "message": "m"}, errors.Rejected, "m (ASSET.INVALID)"),
        ({"reason": "UNSAFETY.X", "message": "m"}, errors.Rejected, "m (UNSAFETY.X)"),
        ({"message": "task of bob@example.com failed"}, errors.Unavailable, "task of <e-mail> failed"),
    ],
)
def test_a_failed_task_is_read_by_its_reason(error, family, message):
    failed = outcome(status="FAILED", error=error)
    assert isinstance(failed, Failed)
    assert type(failed.error) is family
    assert message is None or str(failed.error) == message


def test_a_failure_with_only_a_reason_does_not_say_that_it_has_none():
    failed = outcome(status="FAILED", error={"reason": "SAFETY.INPUT.TEXT"})
    assert "SAFETY.INPUT.TEXT" in str(failed.error)
    assert "without a reason" not in str(failed.error)


# --- errors -------------------------------------------------------------------------------------------

BUSY = {
    "error": f"Account {EMAIL} is busy executing 5 tasks",
    "runningTasks": {EMAIL: [{"email": EMAIL, "taskId": TASK_ID, "replyRef": REFERENCE}]},
    "code": 429,
}
NO_CREDIT = {"error": "You do not have enough credits to run this task."}
MODERATED = {
    "message": "Text did not pass content moderation.",
    "moderation_category": "x",
    "reason": "SAFETY.INPUT.TEXT",
    "tally_asimov": True,
}


@pytest.mark.parametrize(
    ("status", "body", "family", "message"),
    [
        (400, {"error": "bad ratio", "code": 400}, errors.Invalid, "bad ratio"),
        (400, NO_CREDIT, errors.OutOfCredit, NO_CREDIT["error"]),  # the official API's status for it
        (401, {"error": "Unauthorized", "code": 401}, errors.Unauthorized, "Unauthorized"),
        (402, {"error": "Account has no subscription"}, errors.Broken, "Account has no subscription"),
        (403, MODERATED, errors.Moderated, MODERATED["message"]),  # neither `error` nor `code`
        (404, {"error": "Not found.", "code": 404}, errors.Broken, "Not found."),
        (412, NO_CREDIT, errors.OutOfCredit, NO_CREDIT["error"]),  # without `code`
        (422, {"detail": "free form"}, errors.Moderated, "HTTP 422"),
        (429, BUSY, errors.AccountFull, "Account <e-mail> is busy executing 5 tasks"),
        (
            429,
            {"error": "You have too many tasks running"},
            errors.TooMany,
            "You have too many tasks running",
        ),
        (429, {"runningTasks": {}}, errors.AccountFull, "HTTP 429"),  # it is the key that tells
        (429, None, errors.TooMany, "HTTP 429"),
        (596, {"error": f"Account {EMAIL} in error state: x", "code": 596}, errors.Broken, None),
        (500, {"error": "x"}, errors.Unavailable, "x"),
        (502, None, errors.Unavailable, "HTTP 502"),
        (503, [], errors.Unavailable, "HTTP 503"),
        (504, {"error": None}, errors.Unavailable, "HTTP 504"),
        (405, None, errors.Rejected, "HTTP 405"),  # what no table knows would be refused again
        (410, {"error": "Job has expired", "code": 410}, errors.Rejected, "Job has expired"),
        # The same key holds an object on tasks.
        (400, {"error": {"errorMessage": "e", "message": "m"}}, errors.Invalid, "e"),
        (400, {"error": {"message": "m"}}, errors.Invalid, "m"),
        (400, {"error": {}}, errors.Invalid, "HTTP 400"),
    ],
)
def test_an_error_answer_is_read_by_its_status_and_shape(status, body, family, message):
    error = FRAMES.read_error(reply(status, body))
    assert type(error) is family
    assert error.http_status == status
    assert EMAIL not in str(error)
    assert message is None or str(error) == message


def test_an_error_page_that_is_no_json_is_shown_as_text():
    assert str(FRAMES.read_error(reply(502, None, "<h1>Bad gateway</h1>"))) == "<h1>Bad gateway</h1>"


# --- search -------------------------------------------------------------------------------------------


def test_what_useapi_took_is_asked_of_the_scheduler_and_of_the_task_list():
    scheduler, tasks = FRAMES.search_requests(account(email=EMAIL))
    assert (scheduler.method, scheduler.url) == ("GET", f"{BASE_URL}/scheduler")
    assert (tasks.method, tasks.url) == ("GET", f"{BASE_URL}/tasks/")
    assert tasks.query == {"offset": "0", "limit": "100", "email": EMAIL}  # offset and limit are required
    assert tasks.headers["Authorization"] == scheduler.headers["Authorization"] == f"Bearer {TOKEN}"
    assert "email" not in FRAMES.search_requests(account())[1].query


ROWS = [
    {"taskId": TASK_ID, "replyRef": REFERENCE},
    {"taskId": "by hand on the site"},
    {"taskId": "x", "replyRef": None},
    {"replyRef": "y"},
]


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (ROWS, {REFERENCE: TASK_ID}),  # /scheduler answers an array
        ({"tasks": ROWS}, {REFERENCE: TASK_ID}),  # /tasks an object
        ([], {}),
        ({"tasks": []}, {}),
    ],
)
def test_a_list_gives_the_task_of_each_reference(body, found):
    assert FRAMES.read_search(body) == found


@pytest.mark.parametrize(
    "body",
    [
        None,  # an HTML page with status 200
        {},
        {"error": "Account is in error state", "code": 200},
    ],
)
def test_an_answer_that_is_no_list_does_not_say_that_nothing_was_taken(body):
    with pytest.raises(Malformed):
        FRAMES.read_search(body)


@pytest.mark.parametrize("body", ["x", 5, {"tasks": None}, {"tasks": 5}])
def test_a_list_of_another_shape_is_malformed(body):
    with pytest.raises(Malformed):
        FRAMES.read_search(body)


@pytest.mark.parametrize(
    ("made_at", "is_found"),
    [
        ("2026-11-20T11:59:59Z", False),
        ("2026-11-20T11:59:59.900Z", False),
        ("2026-11-20T12:00:00Z", True),
        ("2026-11-21T00:00:00.000+02:00", True),
        ("soon", True),  # who does not say when, is not too old
        (None, True),
        (5, True),
    ],
)
def test_a_list_is_read_since_a_moment(made_at, is_found):
    since = datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()
    body = [{"taskId": TASK_ID, "replyRef": REFERENCE, "createdAt": made_at}]
    assert FRAMES.read_search(body, since) == ({REFERENCE: TASK_ID} if is_found else {})


@pytest.mark.parametrize("row", [None, 5, "x", {"taskId": "x", "replyRef": ["y"]}])
def test_a_strange_row_does_not_hide_the_others(row):
    assert FRAMES.read_search([row, *ROWS]) == {REFERENCE: TASK_ID}


def test_the_registry_finds_the_provider_by_its_file_name():
    assert FRAMES.name == "useapi_frames"
    assert (FRAMES.calls_back, FRAMES.signs) == (True, False)
    assert FRAMES.prompt_parameter in FramesParameters().fields
