"""Runway's official API: what we say to it, what each model takes, how every shape of its answers is read.

Sources: github.com/runwayml/sdk-python 5.24.0, https://docs.dev.runwayml.com (errors, task-failures, tiers),
and the seed, whose OpenAPI (tests/data/runway-seed-openapi.yml) is a third party's.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import yaml
from openapi_core import OpenAPI
from openapi_core.exceptions import OpenAPIError
from openapi_core.testing import MockRequest
from runwayml.types import text_to_image_create_params
from runwayml.types.task_retrieve_response import TaskRetrieveResponse

from orchestrator import errors, retry
from orchestrator.errors import CollectFailed, Invalid, Malformed, Uncertain, Unreachable
from orchestrator.exchange import Exchange
from orchestrator.models import (
    Account,
    Artifact,
    Failed,
    Job,
    Pending,
    Reply,
    Secret,
    State,
    Submission,
    Succeeded,
)
from orchestrator.pictures import Pictures
from orchestrator.providers import registry
from orchestrator.providers.runway import PENDING_WORDS
from orchestrator.providers.runway.parameters import MODELS, UNCHECKED, RunwayParameters
from orchestrator.schemas import check

RUNWAY = registry()["runway"]
HOST = "https://api.dev.runwayml.com"
TOKEN = "key_" + "0" * 128
TASK_ID = "17f20503-6c24-4c16-946b-35dbbce2af2f"
PICTURE = "https://dnznrvs05pmza.cloudfront.net/0.png?_jwt=x"
IMAGE = {"uri": "https://example.com/a.png"}
SEED = yaml.safe_load((Path(__file__).parent / "data" / "runway-seed-openapi.yml").read_text())
SEED_RATIOS = ["1280:720", "1584:672", "1104:832", "720:1280", "832:1104", "960:960"]


def account(base_url: str = HOST, **changed: Any) -> Account:
    made = Account(
        provider="runway",
        name="studio-1",
        token=Secret(TOKEN),
        max_jobs=2,
        base_url=base_url,
        fields={},
        deadline_seconds=1800,
        poll_seconds=5,
        net_seconds=60,
        timeout_seconds=30,
        max_attempts=5,
    )
    return replace(made, **changed)


def checked(**parameters: Any) -> dict[str, Any]:
    return check(RunwayParameters, {"promptText": "a fox", **parameters}, "runway")


def reply(status: int, body: Any = None, text: str = "") -> Reply:
    return Reply(status, {}, body, text)


def outcome(**task: Any) -> Any:
    body = {"id": TASK_ID, "createdAt": "2026-11-01T00:00:00.000Z", **task}
    return RUNWAY.read_report(body).outcome


# --- parameters ---------------------------------------------------------------------------------------


def images(count: int, **marks: str) -> list[dict[str, str]]:
    return [{**IMAGE, **marks} for _ in range(count)]


ALLOWED = [
    {},
    {"model": "gen4_image", "ratio": "1920:1080", "seed": 4294967295},
    {"contentModeration": {"publicFigureThreshold": "low"}},
    {
        "referenceImages": [
            {**IMAGE, "tag": "hero"},
            {"uri": "runway://a"},
            {"uri": "data:image/png;base64,AA"},
        ]
    },
    {"promptText": "x" * 1000},
    {"promptText": "😀" * 500},  # two UTF-16 units each
    {"model": "gen4_image_turbo", "referenceImages": images(1)},
    {"model": "gen4_image_turbo", "referenceImages": images(3, tag="a_2")},
    {"model": "gemini_2.5_flash", "ratio": "1536:672", "promptText": "x" * 40_000},  # no limit is known
    {"model": "gemini_image3_pro", "ratio": "6336:2688", "promptText": "x" * 5500, "outputCount": 4},
    {"model": "gemini_image3_pro", "referenceImages": images(14, subject="human")},
    {"model": "gemini_image3.1_flash", "ratio": "176:1408", "outputCount": 1},
    {"model": "gpt_image_2", "ratio": "auto", "outputCount": 10, "quality": "low", "background": "opaque"},
    {"model": "gpt_image_2", "promptText": "x" * 32_000, "referenceImages": images(16)},
    {"model": "seedream5_pro", "ratio": "auto_2k", "outputFormat": "png", "grounding": True},
    {"model": "seedream5_lite", "ratio": "2050:2050", "outputCount": 7},  # takes freeform sizes
    {"model": "muse_image", "ratio": "1:1", "outputCount": 99, "seed": 1},  # newer: sent as it is
]


@pytest.mark.parametrize("parameters", ALLOWED, ids=str)
def test_what_a_model_takes_passes_unchanged(parameters):
    assert checked(**parameters) == {"promptText": "a fox", **parameters}


REFUSED = [
    ({"promptText": ""}, "promptText", "Shorter"),
    ({"promptText": "x" * 1001}, "promptText", "takes 1000 UTF-16 code units, this has 1001"),
    ({"promptText": "😀" * 501}, "promptText", "this has 1002"),
    ({"model": "gemini_image3_pro", "promptText": "x" * 5501}, "promptText", "takes 5500"),
    ({"model": "seedream5_lite", "promptText": "x" * 4001}, "promptText", "takes 4000"),
    ({"model": "gen5"}, "model", "Must be one of: gen4_image,"),
    ({"model": ["gen4_image"]}, "model", "Not a valid string"),
    ({"ratio": "16:9"}, "ratio", "nearest are"),
    ({"ratio": "wide"}, "ratio", "nearest are 1280:720 and"),
    ({"model": "seedream5_lite", "ratio": "auto"}, "ratio", "nearest are 2848:1600 and"),
    ({"model": "gemini_2.5_flash", "ratio": "2048:2048"}, "ratio", "nearest are 1024:1024 and"),
    ({"referenceImages": images(4)}, "referenceImages", "gen4_image takes 0 to 3, here are 4"),
    ({"model": "gen4_image_turbo"}, "referenceImages", "takes 1 to 3, here are 0"),
    ({"model": "gpt_image_2", "referenceImages": images(17)}, "referenceImages", "takes 0 to 16"),
    ({"referenceImages": images(1, subject="human")}, "referenceImages", "takes no subject"),
    ({"model": "seedream5_pro", "referenceImages": images(1, tag="abc")}, "referenceImages", "takes no tag"),
    ({"referenceImages": [{}]}, "referenceImages", "Missing data"),
    ({"referenceImages": [{"uri": "http://example.com/a.png"}]}, "referenceImages", "https://"),
    ({"referenceImages": [{"uri": "https://" + "x" * 2041}]}, "referenceImages", "at most 2048"),
    ({"referenceImages": images(1, tag="ab")}, "referenceImages", "3 to 16"),
    ({"referenceImages": images(1, tag="1ab")}, "referenceImages", "begin with a letter"),
    ({"referenceImages": images(1, tag="ab-c")}, "referenceImages", "3 to 16"),
    ({"referenceImages": images(1, weight="1")}, "referenceImages", "Unknown field"),
    ({"seed": "7"}, "seed", "Not a valid integer"),
    ({"model": "gemini_2.5_flash", "seed": 7}, "seed", "gemini_2.5_flash has no such parameter"),
    ({"model": "gpt_image_2", "contentModeration": {}}, "contentModeration", "has no such parameter"),
    ({"contentModeration": {"publicFigureThreshold": "none"}}, "contentModeration", "Must be one of"),
    ({"outputCount": 4}, "outputCount", "gen4_image has no such parameter"),
    ({"model": "gemini_image3_pro", "outputCount": 2}, "outputCount", "makes one of 1 4"),
    ({"model": "gpt_image_2", "outputCount": 11}, "outputCount", "makes one of"),
    ({"model": "seedream5_pro", "outputCount": 0}, "outputCount", "greater than or equal to 1"),
    ({"text_prompt": "a fox"}, "text_prompt", "no such parameter"),
]


@pytest.mark.parametrize(("parameters", "field", "words"), REFUSED, ids=str)
def test_what_a_model_does_not_take_is_refused_by_name(parameters, field, words):
    with pytest.raises(Invalid) as refused:
        checked(**parameters)
    told = str(refused.value)
    assert told.startswith(f"runway: {field}")
    assert words in told


def test_all_faults_are_told_at_once():
    with pytest.raises(Invalid) as refused:
        checked(promptText="x" * 1001, ratio="1:1", seed="x", outputCount=2)
    told = [
        part.split(" = ")[0]
        for part in str(refused.value).removeprefix("runway: ").split("; ")
        if " = " in part
    ]
    assert told == ["outputCount", "promptText", "ratio", "seed"]


def test_a_model_that_is_none_is_one_fault_not_many():
    with pytest.raises(Invalid) as refused:
        checked(model="gen5", ratio="1:1", outputCount=3)
    assert "gen4_image takes" not in str(refused.value) and "outputCount" not in str(refused.value)


@pytest.mark.parametrize("values", [None, [], "x", 5])
def test_parameters_that_are_no_mapping_are_refused_in_words(values):
    with pytest.raises(Invalid, match="must be a mapping"):
        check(RunwayParameters, values, "runway")


@pytest.mark.parametrize(
    ("ratio", "nearest"),
    [
        ("1584:672", "1680:720 and 1808:768"),
        ("1104:832", "1168:880 and 960:720"),
        ("832:1104", "720:960 and 1080:1440"),
        ("960:960", "1024:1024 and 1080:1080"),
    ],
)
def test_the_seeds_video_ratios_are_refused_with_the_nearest_real_ones(ratio, nearest):
    with pytest.raises(Invalid, match=f"gen4_image does not take it; nearest are {nearest}"):
        checked(ratio=ratio)


# --- our table and the SDK's ---------------------------------------------------------------------------


def words_of(hint: Any) -> list[Any]:
    if get_origin(hint) is Literal:
        return list(get_args(hint))
    return [word for inner in get_args(hint) for word in words_of(inner)]


SDK_MODELS = {
    words_of(hints["model"])[0]: hints
    for hints in (
        get_type_hints(variant, include_extras=True)
        for variant in get_args(text_to_image_create_params.TextToImageCreateParams)
    )
}
SDK_NAMES = {
    "seed": "seed",
    "content_moderation": "contentModeration",
    "output_count": "outputCount",
    "quality": "quality",
    "background": "background",
    "output_format": "outputFormat",
    "grounding": "grounding",
}


def test_the_models_are_those_of_the_official_sdk():
    assert {*MODELS, *UNCHECKED} == set(SDK_MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_the_table_of_a_model_is_that_of_the_official_sdk(name):
    hints, model = SDK_MODELS[name], MODELS[name]
    assert set(model.ratios.split()) == set(words_of(hints["ratio"]))
    assert set(model.takes.split()) == {SDK_NAMES[hint] for hint in hints if hint in SDK_NAMES}
    if counts := words_of(hints.get("output_count")):
        assert model.counts.split() == list(map(str, counts))
    image = next(each for each in get_args(hints["reference_images"]) if each)
    while not hasattr(image, "__annotations__"):
        image = get_args(image)[0]
    assert {"uri", *model.marks.split()} == set(get_type_hints(image))


# --- requests -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("base_url", [HOST, f"{HOST}/v1"])
def test_the_submit_request_is_the_one_of_the_page(base_url):
    request = RUNWAY.submit_request(checked(seed=7), account(base_url), "ref", None)
    assert (request.method, request.url) == ("POST", f"{HOST}/v1/text_to_image")
    assert request.headers == {
        "Authorization": f"Bearer {TOKEN}",
        "X-Runway-Version": "2024-11-06",
        "Accept": "application/json",
    }
    assert request.json == {"model": "gen4_image", "ratio": "1280:720", "promptText": "a fox", "seed": 7}


@pytest.mark.parametrize(
    ("model", "ratio"),
    [
        ("gen4_image", "1280:720"),
        ("gen4_image_turbo", "1280:720"),
        ("gemini_2.5_flash", "1344:768"),
        ("gemini_image3_pro", "1344:768"),
        ("gemini_image3.1_flash", "1344:768"),
        ("gpt_image_2", "1920:1088"),
        ("seedream5_pro", "1376:768"),
        ("seedream5_lite", "2848:1600"),
    ],
)
def test_a_ratio_that_is_not_named_is_a_small_16_to_9_of_the_model(model, ratio):
    assert RUNWAY.submit_request({"model": model}, account(), "ref", None).json["ratio"] == ratio
    named = RUNWAY.submit_request({"model": model, "ratio": "x"}, account(), "ref", None)
    assert named.json["ratio"] == "x"


def test_a_newer_model_is_sent_without_a_ratio_of_ours():
    sent = RUNWAY.submit_request({"model": "ideogram_4_5", "promptText": "a"}, account(), "ref", None).json
    assert sent == {"model": "ideogram_4_5", "promptText": "a"}


def test_building_a_request_leaves_the_jobs_parameters_alone_and_shows_no_token():
    parameters = {"promptText": "a fox"}
    assert TOKEN not in repr(RUNWAY.submit_request(parameters, account(), "ref", None))
    assert parameters == {"promptText": "a fox"}


@pytest.mark.parametrize(("build", "method"), [("poll_request", "GET"), ("cancel_request", "DELETE")])
@pytest.mark.parametrize("base_url", [HOST, f"{HOST}/v1"])
def test_a_task_is_asked_after_and_cancelled_under_its_id(build, method, base_url):
    request = getattr(RUNWAY, build)(TASK_ID, account(base_url))
    assert (request.method, request.url) == (method, f"{HOST}/v1/tasks/{TASK_ID}")
    assert request.headers["X-Runway-Version"] == "2024-11-06"
    assert getattr(RUNWAY, build)("a/../b?c", account()).url == f"{HOST}/v1/tasks/a%2F..%2Fb%3Fc"


def test_it_is_polled_cannot_be_searched_and_pins_nothing():
    assert (RUNWAY.calls_back, RUNWAY.signs, RUNWAY.name) == (False, False, "runway")
    assert RUNWAY.search_requests(account()) == ()
    assert RUNWAY.pins({"promptText": "a"}) == {}
    assert RUNWAY.prompt_parameter in RunwayParameters().fields


# --- the seed -----------------------------------------------------------------------------------------

SPEC = OpenAPI.from_dict(SEED)


def as_openapi(parameters: dict[str, Any], base_url: str = HOST, method: str = "post") -> MockRequest:
    """Our request for these parameters, or for a poll, as openapi-core reads requests."""
    if method == "post":
        request = RUNWAY.submit_request(parameters, account(base_url), "ref", None)
    else:
        request = RUNWAY.poll_request(TASK_ID, account(base_url))
    return MockRequest(
        HOST,
        method,
        request.url.removeprefix(HOST),
        headers=dict(request.headers),
        data=json.dumps(request.json).encode() if request.json else None,
        content_type="application/json",
    )


@pytest.mark.parametrize(
    "parameters",
    [
        {"promptText": "a fox"},
        {"promptText": "a fox", "model": "gen4_image"},
        {"promptText": "x" * 1000, "model": "gen4_image", "ratio": "1280:720"},
        {"promptText": "a fox", "ratio": "720:1280"},
    ],
    ids=lambda parameters: str(parameters)[:60],
)
def test_our_requests_are_valid_by_the_seeds_openapi_where_that_is_right(parameters):
    SPEC.validate_request(as_openapi(checked(**parameters)))


def test_our_polls_are_valid_by_the_seeds_openapi():
    SPEC.validate_request(as_openapi({}, method="get"))


def seed_property(name: str, schema: str = "TextToImageRequest") -> dict[str, Any]:
    return SEED["components"]["schemas"][schema]["properties"].get(name, {})


def seed_takes(parameters: dict[str, Any]) -> bool:
    try:
        SPEC.validate_request(as_openapi(parameters))
    except OpenAPIError:
        return False
    return True


SDK_REQUEST = "sdk-python 5.24.0, types/text_to_image_create_params.py"
SDK_TASK = "sdk-python 5.24.0, types/task_retrieve_response.py"
SDK_DELETE = "sdk-python 5.24.0, resources/tasks.py"
SDK_UNITS = "the same, which counts UTF-16 units; JSON Schema counts code points"
ERRORS_PAGE = "https://docs.dev.runwayml.com/errors/errors"
STATUSES = seed_property("status", "TaskResponse")["enum"]
REQUIRED = SEED["components"]["schemas"]["TextToImageRequest"]["required"]
CREATE_ANSWERS = SEED["paths"]["/text_to_image"]["post"]["responses"]
REAL_RATIOS = MODELS["gen4_image"].ratios.split()

# name, where reality is written, and the check that seed and reality differ in just that
DIFFERENCES: list[tuple[str, str, bool]] = [
    ("four of six ratios are of video", SDK_REQUEST, len({*SEED_RATIOS} - {*REAL_RATIOS}) == 4),
    ("14 ratios are missing", SDK_REQUEST, len({*REAL_RATIOS} - {*SEED_RATIOS}) == 14),
    ("a real ratio is refused", SDK_REQUEST, not seed_takes({"promptText": "a", "ratio": "1920:1080"})),
    ("ratio may be left out", SDK_REQUEST, "ratio" not in REQUIRED),
    ("gen4_image is the only model", SDK_REQUEST, seed_property("model")["enum"] == ["gen4_image"]),
    ("no referenceImages", SDK_REQUEST, not seed_property("referenceImages")),
    ("no seed", SDK_REQUEST, not seed_property("seed")),
    ("no contentModeration", SDK_REQUEST, not seed_property("contentModeration")),
    ("no outputCount", SDK_REQUEST, not seed_property("outputCount")),
    ("1000 characters are others", SDK_UNITS, seed_takes({"promptText": "😀" * 501})),
    ("PROCESSING is no status", SDK_TASK, "PROCESSING" in STATUSES),
    ("THROTTLED is one", SDK_TASK, "THROTTLED" not in STATUSES),
    ("RUNNING is one", SDK_TASK, "RUNNING" not in STATUSES),
    ("no progress", SDK_TASK, not seed_property("progress", "TaskResponse")),
    ("no failureCode", SDK_TASK, not seed_property("failureCode", "TaskResponse")),
    ("no DELETE", SDK_DELETE, "delete" not in SEED["paths"]["/tasks/{id}"]),
    ("no 5xx", ERRORS_PAGE, not any(status.startswith("5") for status in CREATE_ANSWERS)),
    ("no issues in an error", ERRORS_PAGE, not seed_property("issues", "ErrorResponse")),
]


@pytest.mark.parametrize(("name", "source", "differs"), DIFFERENCES, ids=[name for name, _, _ in DIFFERENCES])
def test_the_seed_differs_from_reality_in_what_is_listed(name, source, differs):
    assert differs, f"{name}: {source}"


def test_what_the_seed_names_is_what_we_read():
    assert seed_property("ratio")["enum"] == SEED_RATIOS
    assert set(seed_property("status", "TaskResponse")["enum"]) <= {
        *PENDING_WORDS, "SUCCEEDED", "FAILED", "CANCELLED",
    }  # fmt: skip
    assert set(SEED["components"]["schemas"]["TaskResponse"]["properties"]) <= {
        "id", "status", "createdAt", "output", "failure",
    }  # fmt: skip


# --- what was submitted -------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [{"id": TASK_ID}, {"id": TASK_ID, "estimatedCost": {"credits": 5}}])
def test_a_fresh_task_is_pending_under_its_id(body):
    assert RUNWAY.read_submission(reply(200, body)) == Submission(TASK_ID, Pending("PENDING"))


@pytest.mark.parametrize("body", [None, [], "ok", {}, {"id": None}, {"id": ""}, {"id": 7}])
def test_an_answer_without_an_id_is_uncertain_since_it_may_be_paid_for(body):
    with pytest.raises(Uncertain) as uncertain:
        RUNWAY.read_submission(reply(200, body))
    assert uncertain.value.http_status == 200


# --- reports ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ({"status": "PENDING"}, Pending("PENDING")),
        ({"status": "THROTTLED"}, Pending("THROTTLED")),  # queued on their side: not an error
        ({"status": "RUNNING", "progress": 0.25}, Pending("RUNNING", 0.25)),
        ({"status": "RUNNING", "progress": 0}, Pending("RUNNING", 0.0)),
        ({"status": "RUNNING"}, Pending("RUNNING")),
        ({"status": "RUNNING", "progress": "half"}, Pending("RUNNING")),
        ({"status": "RUNNING", "progress": float("nan")}, Pending("RUNNING")),
        ({"status": "RUNNING", "progress": 10**400}, Pending("RUNNING")),
        ({"status": "PROCESSING"}, Pending("PROCESSING")),  # the seed's
        ({"status": "running"}, Pending("RUNNING")),
        ({"status": "PAUSED"}, Pending("PAUSED", known=False)),
        ({"status": ""}, Pending("", known=False)),
        ({}, Pending("", known=False)),
        ({"status": "SUCCEEDED", "output": [PICTURE]}, Succeeded((PICTURE,))),
        ({"status": "SUCCEEDED", "output": [PICTURE, None, "b"]}, Succeeded((PICTURE, "b"))),
    ],
)
def test_a_status_is_read(task, expected):
    assert outcome(**task) == expected


def test_every_status_of_the_sdk_is_known():
    variants = get_args(get_args(TaskRetrieveResponse)[0])
    words = {words_of(variant.model_fields["status"].annotation)[0] for variant in variants}
    assert words == PENDING_WORDS - {"PROCESSING"} | {"SUCCEEDED", "FAILED", "CANCELLED"}


@pytest.mark.parametrize("output", [[], None, {}, "x", 5, [None], [""]])
def test_a_success_without_output_is_no_success(output):
    failed = outcome(status="SUCCEEDED", output=output)
    assert type(failed.error) is errors.Unavailable


def test_a_cancelled_task_is_over_and_not_tried_again():
    failed = outcome(status="CANCELLED")
    assert isinstance(failed, Failed) and type(failed.error) is errors.Rejected
    assert isinstance(retry.decide(failed.error, {}, 5, 0.5), retry.GiveUp)


@pytest.mark.parametrize("body", [None, [], "x", 5, {}, {"id": ""}, {"id": 5}, {"error": "Not found"}])
def test_what_is_no_task_is_malformed(body):
    with pytest.raises(Malformed):
        RUNWAY.read_report(body)


# https://docs.dev.runwayml.com/errors/task-failures: code, our error, seconds before another try
NEVER, MAYBE_ONCE, LATER, MUCH_LATER = None, 0.0, 30.0, 120.0


@pytest.mark.parametrize(
    ("code", "family", "again"),
    [
        # Moderation is never tried again: it is charged, and too much of it suspends the account.
        ("SAFETY", errors.Moderated, NEVER),
        ("SAFETY.INPUT.TEXT", errors.Moderated, NEVER),
        ("SAFETY.INPUT.IMAGE", errors.Moderated, NEVER),
        ("SAFETY.OUTPUT.IMAGE", errors.Moderated, NEVER),
        ("INPUT_PREPROCESSING.SAFETY.TEXT", errors.Moderated, NEVER),
        ("INPUT_PREPROCESSING.SAFETY.THIRD_PARTY", errors.Moderated, NEVER),
        ("ASSET.INVALID", errors.Invalid, NEVER),
        ("THIRD_PARTY.INPUT_VALIDATION", errors.Invalid, NEVER),
        # Its own output was no good: one more try, which is paid for.
        ("INTERNAL.BAD_OUTPUT", errors.BadOutput, MAYBE_ONCE),
        ("INTERNAL.BAD_OUTPUT.01", errors.BadOutput, MAYBE_ONCE),
        ("INTERNAL.BAD_OUTPUT.CODE01", errors.BadOutput, MAYBE_ONCE),
        # May pass by itself.
        ("INTERNAL", errors.Unavailable, LATER),
        ("INTERNAL.SOMETHING", errors.Unavailable, LATER),
        (None, errors.Unavailable, LATER),
        ("", errors.Unavailable, LATER),
        ("INPUT_PREPROCESSING.INTERNAL", errors.Unavailable, LATER),
        ("THIRD_PARTY.UNAVAILABLE", errors.Unavailable, MUCH_LATER),
        # What no page names is the job's own; prefixes end at a dot.
        ("UNKNOWN.CODE", errors.Rejected, NEVER),
        ("SAFETYNET.X", errors.Rejected, NEVER),
        ("THIRD_PARTY.OTHER", errors.Rejected, NEVER),
    ],
)
def test_a_failed_task_is_read_by_the_prefix_of_its_code(code, family, again):
    error = outcome(status="FAILED", failure="It broke.", failureCode=code).error
    assert type(error) is family
    assert str(error) == (f"It broke. ({code})" if code else "It broke.")
    decision = retry.decide(error, {}, 5, 0.0)
    assert decision == (retry.GiveUp() if again is NEVER else retry.Again(again, counts=True))
    if again == MAYBE_ONCE:
        assert retry.decide(error, {"BadOutput": 1}, 5, 0.0) == retry.GiveUp()


def test_a_failure_without_words_still_says_something():
    assert str(outcome(status="FAILED").error) == "the task failed"


# --- errors -------------------------------------------------------------------------------------------

ISSUES = {
    "error": "Validation of body failed",
    "issues": [
        {"code": "too_big", "path": ["promptText"], "message": "Too big"},
        {"path": ["referenceImages", 0, "uri"], "message": "Invalid URL"},
        {"message": "Odd"},
        "odd",
    ],
    "docUrl": "https://docs.dev.runwayml.com/api",
}
NO_CREDIT = "You do not have enough credits to run this task."
ISSUES_LINE = "Validation of body failed; promptText Too big; referenceImages.0.uri Invalid URL; Odd"


@pytest.mark.parametrize(
    ("status", "body", "family", "message"),
    [
        (400, ISSUES, errors.Invalid, ISSUES_LINE),
        (400, {"error": "Bad version"}, errors.Invalid, "Bad version"),
        (400, {"error": "x", "issues": "odd"}, errors.Invalid, "x"),
        (400, {"issues": [{"path": "odd", "message": "m"}]}, errors.Invalid, "m"),
        (400, {"error": NO_CREDIT, "docUrl": "d"}, errors.OutOfCredit, NO_CREDIT),
        (401, {"error": "Unauthorized"}, errors.Unauthorized, "Unauthorized"),
        (404, {"error": "Not found"}, errors.Broken, "Not found"),
        (405, None, errors.Rejected, "HTTP 405"),
        (429, {"error": "Your daily task limit has been reached."}, errors.QuotaSpent, None),
        (429, {"message": "Too Many Requests"}, errors.TooMany, "Too Many Requests"),
        (429, None, errors.TooMany, "HTTP 429"),
        (500, {"error": "x"}, errors.Unavailable, "x"),
        (502, None, errors.Unavailable, "HTTP 502"),
        (503, [], errors.Unavailable, "HTTP 503"),
        (504, {"error": None}, errors.Unavailable, "HTTP 504"),
    ],
)  # fmt: skip
def test_an_error_answer_is_read_by_its_status_and_words(status, body, family, message):
    error = RUNWAY.read_error(reply(status, body))
    assert type(error) is family
    assert error.http_status == status
    assert "\n" not in str(error)
    assert message is None or str(error) == message


def test_an_error_page_that_is_no_json_is_shown_as_text():
    assert str(RUNWAY.read_error(reply(502, None, "<h1>Bad gateway</h1>"))) == "<h1>Bad gateway</h1>"


def test_the_daily_cap_rests_the_account_for_hours_and_too_many_for_seconds():
    spent = RUNWAY.read_error(reply(429, {"error": "Your daily task limit has been reached."}))
    assert retry.rest_seconds(spent, 0.5) == 4 * 3600
    assert retry.decide(spent, 0, 5, 0.5) == retry.Again(0.0, counts=False)
    assert 10 <= (retry.rest_seconds(RUNWAY.read_error(reply(429)), 0.5) or 0) <= 30


# --- through the exchange -----------------------------------------------------------------------------


class FakeUpstream:
    """Answers as told, one after the other, and remembers what it was asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def send(self, request: Any, timeout_seconds: float) -> Reply:
        self.asked.append(f"{request.method} {request.url}")
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def download(self, url: str, hosts: Any, base_url: str) -> Any:
        self.asked.append(url)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class FakeArtifacts:
    def put(self, name: str, url: str, chunks: Any) -> Artifact:
        return Artifact(url, name)

    def describe(self, name: str, about: bytes) -> None: ...


class Chunks:
    def __enter__(self) -> list[bytes]:
        return [b"x"]

    def __exit__(self, *_: object) -> None:
        pass


def exchange(upstream: FakeUpstream, **more: Any) -> Exchange:
    known = {("runway", "studio-1"): account()}
    made = Exchange(upstream, FakeArtifacts(), registry(), known, (), None)  # type: ignore[arg-type]
    return replace(made, **more)


@pytest.mark.parametrize(
    "answer",
    [
        reply(404, {"error": "Not found"}),  # right after accepting
        reply(401, {"error": "Unauthorized"}),
        reply(429, {"message": "Too Many Requests"}),
        reply(500),
        reply(503, None, "<h1>"),
        reply(200, {"odd": 1}),
        reply(200),
        Uncertain("no answer (ReadTimeout)"),
        Unreachable("no connection"),
    ],
)
def test_trouble_in_polling_says_nothing_of_the_task(answer):
    assert exchange(FakeUpstream(answer)).ask(account(), TASK_ID) == Pending(heard=False)


@pytest.mark.parametrize("status", [204, 404])
def test_cancelling_what_is_gone_already_is_fine(status):
    upstream = FakeUpstream(reply(status))
    exchange(upstream).cancel(account(), TASK_ID)
    assert upstream.asked == [f"DELETE {HOST}/v1/tasks/{TASK_ID}"]


@pytest.mark.parametrize(
    ("base_url", "wished", "pace"),
    [
        (HOST, 1, 5),  # no more often than Runway allows
        (f"{HOST}/v1", 1, 5),
        (HOST, 20, 20),
        ("http://127.0.0.1:9000", 0.5, 0.5),  # another address has its own rules
    ],
)
def test_the_pace_of_polling_is_the_accounts_but_at_runway_no_quicker_than_allowed(base_url, wished, pace):
    polled = account(base_url, min_poll_seconds=wished)
    assert exchange(FakeUpstream()).min_poll_seconds(polled) == pace


OLD, FRESH = "https://a.cloudfront.net/0.png?_jwt=old", "https://a.cloudfront.net/0.png?_jwt=new"
JOB = Job(
    id="j", provider="runway", parameters={}, state=State.COLLECTING, batch="b", priority=0, attempts=2,
    failures=0, account="studio-1", created_at=0, ended_at=None, options={}, error=None, reason="",
    artifact_urls=(OLD,), result=None, collect_failures=0, due_at=None,
    expires_at=None,
    tenant="",
    target="useapi_frames",
)  # fmt: skip
WON = {"verdict": "succeeded", "account": "studio-1", "upstream_id": TASK_ID}
LATER_ONE = {"verdict": "failed", "account": "studio-1", "upstream_id": "another"}
DONE = reply(200, {"id": TASK_ID, "status": "SUCCEEDED", "output": [FRESH]})
ASKED = f"GET {HOST}/v1/tasks/{TASK_ID}"


def gone(status: int) -> CollectFailed:
    return CollectFailed("answered", http_status=status)


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_an_expired_url_is_asked_for_anew_and_collected(status):
    upstream = FakeUpstream(gone(status), DONE, Chunks())
    assert Pictures(exchange(upstream)).collect(JOB, [WON, LATER_ONE]) == [Artifact(FRESH, "b/j-1")]
    assert upstream.asked == [OLD, ASKED, FRESH]


@pytest.mark.parametrize(
    ("answers", "attempts", "asked"),
    [
        ([gone(500)], [WON], [OLD]),  # not expired: the same URL may work later
        ([CollectFailed("reset")], [WON], [OLD]),
        ([gone(403)], [], [OLD]),
        ([gone(403)], [LATER_ONE, {**WON, "upstream_id": ""}, {}], [OLD]),
        ([gone(403)], [{**WON, "account": "studio-2"}], [OLD]),  # not one to be asked with this account's key
        ([gone(403), reply(404)], [WON], [OLD, ASKED]),
        (
            [gone(403), reply(200, {"id": TASK_ID, "status": "SUCCEEDED", "output": [OLD]})],
            [WON],
            [OLD, ASKED],
        ),
        ([gone(403), DONE, gone(403)], [WON], [OLD, ASKED, FRESH]),  # once, not for ever
    ],
)
def test_what_cannot_be_refreshed_is_collected_later(answers, attempts, asked):
    upstream = FakeUpstream(*answers)
    with pytest.raises(CollectFailed) as failed:
        Pictures(exchange(upstream)).collect(JOB, attempts)
    assert upstream.asked == asked
    # What was told fresh is what is tried then.
    assert failed.value.fresh_urls == ((FRESH,) if FRESH in asked else ())


def test_a_url_that_lives_is_not_asked_for_anew():
    upstream = FakeUpstream(Chunks())
    assert Pictures(exchange(upstream)).collect(JOB, [WON]) == [Artifact(OLD, "b/j-1")]
    assert upstream.asked == [OLD]


def test_without_a_place_to_keep_them_only_urls_are_given():
    (artifact,) = Pictures(exchange(FakeUpstream(), artifacts=None)).collect(JOB, [])
    assert (artifact.url, artifact.path) == (OLD, None)
