"""Every refusal is one JSON object of RFC 9457, `application/problem+json`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from flask import Flask, Response
from marshmallow import Schema, ValidationError, fields
from werkzeug.exceptions import HTTPException

from orchestrator.errors import (
    BadFile,
    ConfigurationError,
    Conflict,
    Malformed,
    NotFound,
    OrchestratorError,
    ProviderError,
    QueueFull,
    StoreUnavailable,
)
from orchestrator.schemas import faults_by_field, names_in

MEDIA_TYPE = "application/problem+json"
STORE_SECONDS, QUEUE_SECONDS, SEAT_SECONDS = 5, 30, 5  # until the same is worth trying again

# What werkzeug says of these is for people before browsers.
DETAILS = {
    400: "the request cannot be read, or broke off: send it again",
    404: "nothing is at this address: /openapi.json lists what is",
    405: "this address does not take this method: Allow lists those it takes",
    408: "the request came too slowly: send it again",
    413: "the body is larger than is taken: send it in parts",
    500: "this is a fault of ours, and in our log: nothing is known to be wrong with the request",
}
Fault = tuple[str, str]  # where it is, what it is and its cure


class FaultShown(Schema):
    place = fields.String(required=True, metadata={"description": "A field, a parameter, or `line 7`."})
    custom_id = fields.String(metadata={"description": "Of the line."})
    detail = fields.String(required=True, metadata={"description": "What is wrong, and the cure."})


class ProblemShown(Schema):
    """RFC 9457."""

    type = fields.String(required=True)
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    detail = fields.String(required=True)
    errors = fields.List(fields.Nested(FaultShown), metadata={"description": "Each fault; at most 100."})
    count = fields.Integer(metadata={"description": "How many faults there are in all."})
    enqueued = fields.Integer(metadata={"description": "How many lines were enqueued before it happened."})


class Problem(HTTPException):
    """Ends a request. `more`: further members of the answer."""

    def __init__(
        self, status: int, detail: str, headers: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(detail)
        self.code = status
        self.headers = dict(headers or {})
        self.more = more


def invalid(faults: Sequence[Fault]) -> Problem:
    """422, with every fault of a request."""
    errors = [{"place": place, "detail": detail} for place, detail in faults]
    return Problem(422, "; ".join(detail for _, detail in faults), errors=errors, count=len(errors))


def in_a_while(status: int, detail: str, seconds: int, **more: Any) -> Problem:
    return Problem(status, detail, {"Retry-After": str(seconds)}, **more)


def problem_of(error: OrchestratorError) -> Problem:
    """What one of our errors means to who asked."""
    match error:
        case NotFound():
            return Problem(404, str(error))
        case Conflict():
            return Problem(409, str(error))
        case QueueFull():
            return in_a_while(429, "as many jobs wait as may: send the same again later", QUEUE_SECONDS)
        case StoreUnavailable():
            return in_a_while(503, "the store does not answer: send it again", STORE_SECONDS)
        case Malformed():
            return Problem(400, f"{error}: send it again")
        case ConfigurationError():
            return invalid([("provider", fault) for fault in error.faults])
        case ProviderError() | BadFile():
            return Problem(422, str(error))
        case _:
            return Problem(500, DETAILS[500])


def answered(error: HTTPException) -> Response:
    """Any refusal, ours or werkzeug's, as an answer."""
    status = error.code or 500
    more = dict(getattr(error, "more", {}))
    detail = DETAILS.get(status) if not isinstance(error, Problem) else error.description
    headers = dict(getattr(error, "headers", {}))
    headers |= {name: text for name, text in error.get_headers() if name == "Allow"}
    title = HTTPStatus(status).phrase
    told = {"type": "about:blank", "title": title, "status": status, "detail": detail or title, **more}
    return Response(json.dumps(told) + "\n", status, headers, content_type=MEDIA_TYPE)


def handle_problems(app: Flask, answer: Callable[[HTTPException], Response] = answered) -> None:
    app.register_error_handler(HTTPException, answer)
    app.register_error_handler(OrchestratorError, lambda error: answer(problem_of(error)))


def refuse_arguments(error: ValidationError, request: Any, schema: Schema, **_: Any) -> None:
    """For webargs: faults of a query, all at once. Raises: Problem."""
    values = {**request.args.to_dict(), **request.view_args}
    by_location = error.normalized_messages()
    faults = [
        fault
        for messages in by_location.values()
        for fault in faults_by_field(ValidationError(messages), values, names_in(schema)).items()
    ]
    raise invalid(faults)
