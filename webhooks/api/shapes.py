"""What callers of the API send and are shown, as the OpenAPI document tells it.

What is shown is only what stands here: a field that a job gets elsewhere does not appear by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import RAISE, Schema, fields, pre_load, validate
from webargs.fields import DelimitedList

from orchestrator.models import State
from orchestrator.providers import registry
from orchestrator.schemas import KEY, NAME, JobOptions, typed

MAX_WAIT_SECONDS = 60
PROVIDERS = sorted(registry())
PORTABLE = "portable"  # request, as the document calls it
STATES = [state.value for state in State]
MOMENT = {"format": "date-time"}
NOTICES = ("notify_url", "on_each", "on_complete")  # of a batch


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _may_be_none(field: type[fields.Field[Any]], **metadata: Any) -> fields.Field[Any]:
    return field(required=True, allow_none=True, metadata=metadata)


def _told(what: str) -> fields.String:
    return fields.String(metadata={"description": f"A URL that is told of {what} (Standard Webhooks)."})


# --- sent ------------------------------------------------------------------------------------------------


class JobRequest(JobOptions):
    """One generation. With several providers any will do, and `parameters` are the portable ones."""

    class Meta(JobOptions.Meta):
        exclude = ("tenant", "idempotency_key")  # the key says whose it is; its header names it

    error_messages = {  # noqa: RUF012
        "unknown": "Unknown field: leave it out, or put it into `parameters`.",
        "type": "Must be a JSON object with `provider` and `parameters`.",
    }

    provider = fields.Raw(
        required=True,
        metadata={
            "anyOf": [
                {"type": "string", "enum": PROVIDERS},
                {"type": "array", "items": {"type": "string", "enum": PROVIDERS}, "minItems": 1},
            ]
        },
    )
    parameters = fields.Dict(
        required=True, metadata={"anyOf": [_reference(name) for name in (*PROVIDERS, PORTABLE)]}
    )


def unquoted(key: str) -> str:
    """The header is a quoted string by its draft, and mostly sent without quotes."""
    is_quoted = len(key) >= 2 and key[0] == key[-1] == '"'
    return key[1:-1] if is_quoted else key


class JobHeaders(Schema):
    """The answer to the same request with the same key is the same job."""

    idempotency_key = fields.String(
        data_key="Idempotency-Key",
        validate=lambda key: KEY(unquoted(key)),
        metadata={
            "minLength": 1,
            "maxLength": 200,
            "pattern": r"^[!-~]([ -~]*[!-~])?$",
            "description": "Names the job, so that this may be repeated: made again with the same body, it "
            "gives the same job; with another, 409.",
        },
    )


class WaitQuery(Schema):
    class Meta:
        unknown = RAISE

    wait = fields.Float(
        load_default=0.0,
        validate=validate.Range(0, MAX_WAIT_SECONDS),
        metadata={"description": "Seconds to wait for news. The answer may come earlier: ask again."},
    )


class BatchQuery(JobOptions):
    """What all jobs of an upload have in common."""

    class Meta(JobOptions.Meta):
        exclude = ("batch", "tenant", "custom_id", "idempotency_key")

    name = fields.String(required=True, validate=NAME, metadata={"description": "The batch, yours alone."})
    provider = DelimitedList(
        fields.String(validate=validate.OneOf(PROVIDERS)),
        required=True,
        validate=validate.Length(1),
        metadata={"description": "Of several, any will do, and each line is a portable request."},
    )
    max_spend = fields.Float(
        validate=validate.Range(0, min_inclusive=False),
        metadata={"description": "What the whole batch may cost; before more, it is paused."},
    )
    max_failures = fields.Integer(
        validate=validate.Range(1),
        metadata={"description": "Once so many of its jobs have failed, it is paused."},
    )
    max_failure_share = fields.Float(
        validate=validate.Range(0, 1, min_inclusive=False),
        metadata={"description": "Once such a share of at least 20 that ended has failed, it is paused."},
    )

    notify_url = _told("the end of each job, and of the batch")
    on_each = _told("the end of each job")
    on_complete = _told("the end of the batch")

    @pre_load
    def _of_texts(self, texts: Mapping[str, str], **_: Any) -> dict[str, Any]:
        """A query is text; numbers and booleans are told as in JSON."""
        numbers = (fields.Integer, fields.Float, fields.Boolean)
        told = {name: text for name, text in texts.items() if isinstance(self.fields.get(name), numbers)}
        return {**texts, **typed(told, {})}


class OutcomesQuery(WaitQuery):
    after = fields.String(
        load_default="0",
        validate=validate.Regexp(r"\d{1,18}(-\d{1,18})?\Z", error="Must be as `Link` gave it."),
        metadata={
            "description": "As the `Link` of the page before has it; left out: from the first.",
            "pattern": r"^\d{1,18}(-\d{1,18})?$",
        },
    )


# --- shown -----------------------------------------------------------------------------------------------


class ArtifactShown(Schema):
    url = fields.String(required=True, metadata={"description": "At the provider; it expires."})
    path = _may_be_none(fields.String, description="Where it is kept.")
    media_type = _may_be_none(fields.String)
    bytes = _may_be_none(fields.Integer)
    sha256 = _may_be_none(fields.String)


class ResultShown(Schema):
    artifacts = fields.List(fields.Nested(ArtifactShown), required=True)
    seconds = fields.Float(metadata={"description": "From enqueue to the pictures in their place."})


class ErrorShown(Schema):
    kind = fields.String(required=True)
    message = fields.String(required=True)
    http_status = _may_be_none(fields.Integer)


class JobShown(Schema):
    """A job as it is now."""

    id = fields.String(required=True)
    state = fields.String(required=True, validate=validate.OneOf(STATES))
    provider = fields.String(required=True)
    account = _may_be_none(fields.String)
    batch = _may_be_none(fields.String)
    custom_id = _may_be_none(fields.String)
    priority = fields.Integer(required=True)
    attempts = fields.Integer(required=True)
    failures = fields.Integer(required=True)
    created_at = _may_be_none(fields.String, **MOMENT)
    ended_at = _may_be_none(fields.String, **MOMENT)
    expires_at = _may_be_none(fields.String, **MOMENT)
    parameters = fields.Dict(required=True)
    error = fields.Nested(ErrorShown, required=True, allow_none=True)
    reason = _may_be_none(fields.String)
    result = fields.Nested(ResultShown, required=True, allow_none=True)


class MomentShown(Schema):
    """One of what happened to a job."""

    at = fields.String(required=True, metadata=MOMENT)
    event = fields.String(required=True, metadata={"description": "Such as `attempt.closed`."})
    text = fields.String(required=True)
    attempt = fields.Integer(metadata={"description": "Its number, from 1."})
    account = fields.String()
    upstream_id = fields.String(metadata={"description": "What the provider calls it."})
    verdict = fields.String()
    error = fields.String(metadata={"description": "The class of the failure."})
    word = fields.String(metadata={"description": "What a callback led to."})
    gate = fields.String(metadata={"description": "What it waits for."})
    until = fields.String(allow_none=True, metadata={"description": "About.", **MOMENT})


class TimelineShown(Schema):
    moments = fields.List(fields.Nested(MomentShown), required=True)


class BatchShown(Schema):
    """A batch as it is now."""

    name = fields.String(required=True)
    total = fields.Integer(required=True)
    queued = fields.Integer(required=True)
    submitted = fields.Integer(required=True)
    collecting = fields.Integer(required=True)
    succeeded = fields.Integer(required=True)
    failed = fields.Integer(required=True)
    cancelled = fields.Integer(required=True)
    is_over = fields.Boolean(required=True)
    paused = _may_be_none(fields.String, description="Why: a person, spend, …; null: it is not.")
    created_at = _may_be_none(fields.String, **MOMENT)
    cost = fields.Float(required=True, metadata={"description": "At most, so far."})
    max_spend = _may_be_none(fields.Float)


class UploadShown(Schema):
    name = fields.String(required=True)
    lines = fields.Integer(required=True)
    enqueued = fields.Integer(required=True, metadata={"description": "The others were known already."})


class OutcomeShown(Schema):
    """One line: what became of a job."""

    custom_id = _may_be_none(fields.String)
    job = fields.String(required=True)
    state = fields.String(required=True, validate=validate.OneOf(["succeeded", "failed", "cancelled"]))
    error = _may_be_none(fields.String, description="The class of the failure.")
    message = _may_be_none(fields.String)
    attempts = fields.Integer(required=True)
    provider = fields.String(required=True)
    account = _may_be_none(fields.String)
    seconds = fields.Float(required=True)
    cost = fields.Float(required=True, metadata={"description": "At most."})
    path = _may_be_none(fields.String)
    sha256 = _may_be_none(fields.String)
    artifacts = fields.List(fields.Nested(ArtifactShown), required=True)
    ended_at = _may_be_none(fields.String, **MOMENT)


class ProviderShown(Schema):
    name = fields.String(required=True)
    outcome_by = fields.String(required=True)
    is_available = fields.Boolean(required=True, metadata={"description": "There is an account of it."})
    docs_url = fields.String(required=True)
    parameters = fields.Dict(required=True, metadata={"description": "JSON Schema of its parameters."})


class ProvidersShown(Schema):
    providers = fields.List(fields.Nested(ProviderShown), required=True)
    portable = fields.Dict(
        required=True, metadata={"description": "JSON Schema of what several providers may be asked at once."}
    )
