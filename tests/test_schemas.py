"""What callers may say of a job, how every fault is named at once, and what is shown of a job."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from marshmallow import Schema, fields

from orchestrator.errors import Invalid
from orchestrator.models import Job, State
from orchestrator.schemas import JobOptions, check, moment, shown

JOB = Job(
    id="j1",
    provider="useapi_frames",
    parameters={"text_prompt": "a fox", "email": "bob@example.com"},
    state=State.FAILED,
    batch="spring",
    priority=3,
    attempts=2,
    failures=1,
    account="studio-1",
    created_at=0.0,
    ended_at=1.5,
    options={"link": "celery plumbing"},
    error={"kind": "Moderated", "message": "no", "http_status": 403},
    reason="no",
    artifact_urls=("https://x.cloudfront.net/1?_jwt=signed",),
    result=None,
    collect_failures=0,
    due_at=None,
    expires_at=None,
    tenant="",
    target="useapi_frames",
)


def test_a_job_without_options_is_in_the_common_lane_with_priority_zero():
    assert check(JobOptions, {}, "job options") == {
        "batch": "",
        "tenant": "",
        "priority": 0,
        "max_attempts": None,
        "expires": None,
        "even_if_moderated": False,
        "custom_id": "",
        "idempotency_key": "",
        "notify_url": "",
    }


@pytest.mark.parametrize(
    "batch", ["a", "7", "spring 2026", "a_b-c.d:e", "x" * 100, ""], ids=lambda text: text[:12]
)
def test_a_batch_is_named_by_letters_digits_and_a_few_marks(batch):
    assert check(JobOptions, {"batch": batch, "tenant": batch}, "o")["batch"] == batch


@pytest.mark.parametrize(
    "batch",
    [
        "x" * 101,  # too long
        " a",  # does not begin with a letter or digit
        "..",  # would leave the artifacts folder
        "a/b",  # so would this
        "a\\b",
        "a\nb",
        "é",
        "{a}",  # a hash tag in a Redis cluster
        5,
        None,
    ],
)
def test_a_batch_that_is_no_name_is_refused(batch):
    with pytest.raises(Invalid, match="job options: batch"):
        check(JobOptions, {"batch": batch}, "job options")


def test_a_batch_does_not_end_with_a_newline():
    with pytest.raises(Invalid):
        check(JobOptions, {"batch": "spring\n"}, "job options")


@pytest.mark.parametrize("priority", [-1, 10, 1.0, "5", True, None])
def test_a_priority_is_a_whole_number_from_0_to_9(priority):
    with pytest.raises(Invalid, match="priority"):
        check(JobOptions, {"priority": priority}, "job options")


def test_every_fault_is_named_with_its_value_and_what_would_be_right():
    with pytest.raises(Invalid) as refused:
        check(JobOptions, {"batch": "a/b", "priority": 10, "colour": "red"}, "job options")
    assert str(refused.value) == (
        "job options: batch = 'a/b': Must be 1 to 100 letters, digits, spaces or _ . : - and begin with a "
        "letter or digit.; colour = 'red': Unknown field. Known are custom_id, batch, tenant, "
        "priority, max_attempts, expires, even_if_moderated, notify_url, idempotency_key.; "
        "priority = 10: Must be greater than or equal to 0 and less than or equal to 9."
    )


def test_a_long_value_is_cut_in_the_message():
    with pytest.raises(Invalid) as refused:
        check(JobOptions, {"batch": "/" * 5000}, "job options")
    assert "/…: Must be" in str(refused.value)
    assert len(str(refused.value)) < 300


def test_faults_inside_a_nested_value_are_all_named():
    class Outer(Schema):
        sizes = fields.List(fields.Integer(strict=True))

    with pytest.raises(Invalid) as refused:
        check(Outer, {"sizes": [1, "a", 2.5]}, "outer")
    assert str(refused.value).count("Not a valid integer.") == 2


@pytest.mark.parametrize("values", [None, [], "text", 5])
def test_what_is_no_mapping_is_refused_in_words(values):
    with pytest.raises(Invalid, match="job options: parameters: "):
        check(JobOptions, values, "job options")


def test_fields_that_count_untold_count_and_a_field_may_be_called_otherwise():
    class Wanted(Schema):
        size = fields.Integer(load_default=7)
        colour = fields.String(data_key="color")
        prompt = fields.String(required=True)
        style = fields.String()

    assert check(Wanted, {"prompt": "a fox"}, "w") == {"size": 7, "prompt": "a fox"}
    assert check(Wanted, {"prompt": "a fox", "color": "red"}, "w")["colour"] == "red"
    with pytest.raises(Invalid) as caught:
        check(Wanted, {"color": 1, "colour": "red", "size": "x"}, "w")
    assert [fault.split(":")[0] for fault in str(caught.value).removeprefix("w: ").split("; ")] == [
        "color = 1", "colour = 'red'", "prompt", "size = 'x'",
    ]  # fmt: skip


def test_names_that_are_no_texts_are_refused_in_words():
    with pytest.raises(Invalid):
        check(JobOptions, {1: 2, "colour": 3}, "job options")


def test_a_job_is_shown_as_json_without_e_mail_and_celery_plumbing():
    text = json.dumps(shown(JOB))
    assert "bob@example.com" not in text
    assert "plumbing" not in text
    assert json.loads(text) | {"parameters": {"text_prompt": "a fox"}} == json.loads(text)
    assert json.loads(text)["state"] == "failed"
    assert json.loads(text)["error"]["kind"] == "Moderated"


def test_a_job_without_account_and_batch_shows_none():
    view = shown(replace(JOB, account="", batch="", ended_at=None))
    assert (view["account"], view["batch"], view["ended_at"]) == (None, None, None)


def test_a_job_whose_pictures_could_not_be_kept_shows_why():
    # No attempt failed, so `error` is empty; the reason is all there is.
    view = shown(replace(JOB, error=None, reason="the picture could not be kept: No space left on device"))
    assert "No space left on device" in json.dumps(view)


def test_a_moment_is_iso_8601_in_utc():
    assert moment(1_700_000_000.25) == "2023-11-14T22:13:20.250+00:00"
    assert moment(0.0) == "1970-01-01T00:00:00.000+00:00"  # not taken for "never"
    assert moment(None) is None
