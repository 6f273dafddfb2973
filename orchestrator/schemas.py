"""What callers may send, checked by marshmallow before anything is spent; and what is shown of a job."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

from marshmallow import RAISE, Schema, ValidationError, fields, missing, validate, validates_schema

from orchestrator.errors import Invalid
from orchestrator.models import Job

NAME = validate.Regexp(
    r"^[A-Za-z0-9][A-Za-z0-9 _.:-]{0,99}\Z",
    error="Must be 1 to 100 letters, digits, spaces or _ . : - and begin with a letter or digit.",
)

KEY = validate.Regexp(
    r"^[^\x00-\x1f\x7f\ud800-\udfff]{1,200}\Z",
    error="Must be 1 to 200 characters, none of them a control character.",
)

MAX_EXPIRES = 365 * 86_400


class JobName(Schema):
    """What of a job's options no two jobs of a batch have in common."""

    class Meta:
        unknown = RAISE

    custom_id = fields.String(load_default="", validate=lambda name: name == "" or KEY(name))


class JobOptions(JobName):
    """What a caller may say of a job beside its parameters."""

    batch = fields.String(load_default="", validate=lambda name: name == "" or NAME(name))
    tenant = fields.String(load_default="", validate=lambda name: name == "" or NAME(name))
    priority = fields.Integer(strict=True, load_default=0, validate=validate.Range(0, 9))
    max_attempts = fields.Integer(strict=True, load_default=None, validate=validate.Range(1, 100))
    expires = fields.Float(load_default=None, validate=validate.Range(0, MAX_EXPIRES, min_inclusive=False))
    even_if_moderated = fields.Boolean(load_default=False)
    notify_url = fields.String(load_default="")  # how it reads: `NotifyRules.check`
    idempotency_key = fields.String(load_default="", validate=lambda key: key == "" or KEY(key))

    @validates_schema
    def one_name(self, options: Mapping[str, Any], **_: Any) -> None:
        if options.get("custom_id") and options.get("idempotency_key"):
            raise ValidationError("A custom_id is a key itself: leave this out.", "idempotency_key")


# What a portable request may ask for; each provider says which of them it can do.
ASPECT_RATIOS = "1:1 16:9 9:16 4:3 3:4 3:2 2:3 5:4 4:5 21:9".split()


class PortableRequest(Schema):
    """What a caller may ask of several providers at once; each `translate`s it into its own parameters."""

    class Meta:
        unknown = RAISE

    error_messages = {  # noqa: RUF012
        "unknown": "A portable request has no such field: leave it out, or ask one provider alone.",
        "type": "A portable request must be a mapping of names to values.",
    }

    prompt = fields.String(
        required=True,
        validate=validate.Regexp(r"\s*\S", error="Must not be empty: say what is to be seen."),
    )
    aspect_ratio = fields.String(validate=validate.OneOf(ASPECT_RATIOS))
    seed = fields.Integer(strict=True, validate=validate.Range(0, 4294967295))
    style = fields.String(
        validate=validate.Regexp(
            r"^[A-Za-z0-9][A-Za-z0-9 _'-]{0,39}\Z",
            error="Must be 1 to 40 letters, digits, spaces or _ ' - and begin with a letter or digit: "
            "say more of it in the prompt.",
        )
    )


def check(schema: type[Schema], values: Any, what: str, others: Iterable[str] = ()) -> dict[str, Any]:
    """The values as the schema loads them. It is one without hooks that add fields before.

    `others`: names that are known beside the schema's, for who is told that one is not.
    Raises: Invalid, with every fault at once: field, value, and what would be right.
    """
    told = _that_matter(schema, values) if isinstance(values, Mapping) else None
    try:
        loaded: dict[str, Any] = _made(schema, told).load(values)
    except ValidationError as error:
        known = [*names_in(_made(schema, None)), *others]
        raise Invalid(f"{what}: {faults(error, values, known)}") from None
    return loaded


def names_in(schema: Schema) -> list[str]:
    """What callers call its fields."""
    return [field.data_key or name for name, field in schema.load_fields.items()]


def _that_matter(schema: type[Schema], values: Mapping[str, Any]) -> tuple[str, ...]:
    """The fields that are told, or that count untold: marshmallow takes a while over each of the others."""
    fields_of = _made(schema, None).load_fields.items()
    return tuple(
        name
        for name, field in fields_of
        if (field.data_key or name) in values or field.required or field.load_default is not missing
    )


@lru_cache(maxsize=1024)
def _made(schema: type[Schema], only: tuple[str, ...] | None) -> Schema:
    """Making one costs more than all that is ever loaded with it. `only`: of these fields; None: of all."""
    return schema(only=only)


def typed(texts: Mapping[str, str], declared: Mapping[str, fields.Field[Any]]) -> dict[str, Any]:
    """Texts of a command line or a CSV as a schema wants them: text stays text, the rest is read as JSON."""
    return {
        name: text if isinstance(declared.get(name), fields.String) else _read(text)
        for name, text in texts.items()
    }


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def faults(error: ValidationError, values: Any, known: Collection[str]) -> str:
    """Every fault of a marshmallow error in one line."""
    return "; ".join(faults_by_field(error, values, known).values())


def faults_by_field(error: ValidationError, values: Any, known: Collection[str]) -> dict[str, str]:
    """Field → what is wrong with it; of one that is not among the `known`, which may be meant."""
    messages = error.normalized_messages()  # type: ignore[no-untyped-call]
    return {
        str(field): f"{_named(field, values)}: {' '.join([*_flat(texts), *_meant(str(field), known)])}"
        for field, texts in sorted(messages.items(), key=str)
    }


def _meant(field: str, known: Collection[str]) -> list[str]:
    if field == "_schema" or field in known:
        return []
    near = get_close_matches(field, known, 1)
    return [f"Is {near[0]} meant?" if near else f"Known are {', '.join(known)}."]


def _named(field: str, values: Any) -> str:
    if field == "_schema":
        return "parameters"
    if isinstance(values, Mapping) and field in values:
        shown = repr(values[field])
        return f"{field} = {shown if len(shown) <= 60 else shown[:57] + '…'}"
    return field


def _flat(texts: Any) -> list[str]:
    if isinstance(texts, Mapping):
        return [text for nested in texts.values() for text in _flat(nested)]
    if isinstance(texts, list):
        return [text for nested in texts for text in _flat(nested)]
    return [str(texts)]


def shown(job: Job) -> dict[str, Any]:
    """A job as JSON for people and programs: no secrets, no Celery plumbing."""
    return {
        "id": job.id,
        "state": job.state.value,
        "provider": job.provider,
        "account": job.account or None,
        "batch": job.batch or None,
        "custom_id": job.custom_id or None,
        "tenant": job.tenant or None,
        "priority": job.priority,
        "attempts": job.attempts,
        "failures": job.failures,
        "created_at": moment(job.created_at),
        "ended_at": moment(job.ended_at),
        "expires_at": moment(job.expires_at),
        "parameters": {name: value for name, value in job.parameters.items() if name != "email"},
        "error": job.error,
        "reason": job.reason or None,
        "result": job.result,
    }


def moment(seconds: float | None) -> str | None:
    """ISO 8601 in UTC."""
    return (
        None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    )
