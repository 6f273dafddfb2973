"""The OpenAPI document: what marshmallow says of our schemas, said as exactly as JSON Schema can."""

from __future__ import annotations

from functools import cache
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from marshmallow import Schema, fields, validate

from orchestrator.schemas import JobOptions

OPENAPI = "3.1.0"  # its schemas are JSON Schema, draft 2020-12
SHOWN = "Shown"  # ends the names of schemas of answers here, and not in the document

INFO = (
    "Image generations: ask for one or thousands, walk away, come for the pictures. A key sees what was "
    "enqueued by keys of its name, and nothing else. Every refusal is an `application/problem+json` of RFC "
    "9457."
)
OPTIONS = {
    "batch": "Its jobs wait, are counted and are cancelled together. Yours alone.",
    "priority": "9 goes first, within its batch.",
    "max_attempts": "Failures a job may have; null: as its account says.",
    "expires": "Seconds after which no attempt is begun.",
    "even_if_moderated": "Sent although moderation refused it before.",
    "custom_id": "What you call the job, within its batch: asked for again by this name, it is the same job.",
    "notify_url": "A URL that is told of the end (Standard Webhooks).",
}
CONFIGURATION = {
    "API_TITLE": "orchestrator",
    "API_VERSION": "1",
    "OPENAPI_VERSION": OPENAPI,
    "OPENAPI_URL_PREFIX": "/",
    "API_SPEC_OPTIONS": {"info": {"description": INFO}, "security": [{"key": []}]},
}


def plugin() -> MarshmallowPlugin:
    return MarshmallowPlugin(schema_name_resolver=lambda schema: _class(schema).__name__.removesuffix(SHOWN))


def make_exact(converter: OpenAPIConverter) -> None:
    """Patterns are Python's, ranges may leave their ends out, and options say what they mean."""
    converter.add_attribute_function(_exact)
    converter.add_attribute_function(_described)


@cache
def json_schema(schema: type[Schema]) -> dict[str, Any]:
    """Of one schema, whole in itself, without references."""
    inlining = MarshmallowPlugin(schema_name_resolver=lambda _: None)  # type: ignore[arg-type, return-value]
    APISpec("", "", OPENAPI, [inlining])
    assert inlining.converter is not None
    make_exact(inlining.converter)
    found: dict[str, Any] = inlining.converter.resolve_nested_schema(schema())
    return found


def _class(schema: Any) -> type[Schema]:
    return schema if isinstance(schema, type) else type(schema)


def _exact(_: OpenAPIConverter, field: fields.Field[Any], ret: dict[str, Any], **__: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "pattern" in ret:
        pattern = ret["pattern"].replace(r"\Z", "$")
        found["pattern"] = pattern if pattern.startswith("^") else f"^(?:{pattern})"
    for each in field.validators:
        if isinstance(each, validate.Range) and each.min is not None and not each.min_inclusive:
            ret.pop("minimum", None)
            found["exclusiveMinimum"] = each.min
    return found


def _described(_: OpenAPIConverter, field: fields.Field[Any], **__: Any) -> dict[str, str]:
    is_option = isinstance(field.parent, JobOptions) and "description" not in field.metadata
    return {"description": OPTIONS[field.name]} if is_option and field.name in OPTIONS else {}
