"""Frames, Runway's image model, through useapi.net: by callback (unsigned), by poll, with list and search."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

from marshmallow import fields, validate

from orchestrator import errors
from orchestrator.errors import ProviderError
from orchestrator.models import (
    Account,
    Failed,
    Outcome,
    Pending,
    Reply,
    Report,
    Request,
    Succeeded,
)
from orchestrator.provider import Parameters, Provider, aspect_ratio, given, ours, prompt_and_style

# https://useapi.net/docs/api-runwayml-v1/post-runwayml-frames-create (read 2026-11)
STYLES = (
    "vivid vivid-warm vivid-cool high-contrast high-contrast-warm high-contrast-cool bw bw-contrast "
    "muted-pastel dreamscape nordic-minimal light-anime dark-anime painted-anime 3d-cartoon sketch "
    "low-angle in-motion terracotta"
).split()
ASPECT_RATIOS = "16:9 9:16 1:1 4:3 3:4 21:9".split()

# https://useapi.net/docs/api-runwayml-v1/get-runwayml-tasks (read 2026-11); CANCELLED is not documented
PENDING_WORDS = {"PENDING", "THROTTLED", "RUNNING"}

# https://docs.dev.runwayml.com/errors/task-failures (read 2026-11); the first prefix that fits counts
FAILURES: tuple[tuple[str, type[ProviderError]], ...] = (
    ("SAFETY.", errors.Moderated),
    ("INPUT_PREPROCESSING.SAFETY.", errors.Moderated),
    ("INTERNAL.BAD_OUTPUT", errors.BadOutput),
    ("INTERNAL", errors.Unavailable),
    ("INPUT_PREPROCESSING.INTERNAL", errors.Unavailable),
    ("THIRD_PARTY.UNAVAILABLE", errors.Unavailable),
)

# https://useapi.net/docs/api-runwayml-v1/post-runwayml-frames-create; 402, 422, 596: useapi's other pages
# and its own scripts (github.com/useapi). 404 on create means that the address or the account is wrong.
REFUSALS: dict[int, type[ProviderError]] = {
    400: errors.Invalid,
    401: errors.Unauthorized,
    402: errors.Broken,
    403: errors.Moderated,
    404: errors.Broken,
    412: errors.OutOfCredit,
    422: errors.Moderated,
    596: errors.Broken,
}
NO_CREDIT = "not have enough credits"
# On no page of useapi's. The URLs are Runway's own: signed until a midnight that is 24 to 48 hours off.
ARTIFACT_SECONDS = 24 * 3600.0
HISTORY_PAGE, HISTORY_OFFSET = 500, 1000  # limit and offset of /tasks/ go up to 1000
MAX_JOBS_UPSTREAM = 10  # valid range of maxJobs: 1…10


class FramesParameters(Parameters):
    """https://useapi.net/docs/api-runwayml-v1/post-runwayml-frames-create, plus the newer num_images."""

    text_prompt = fields.String(required=True, validate=validate.Length(1, 1000))
    aspect_ratio = fields.String(validate=validate.OneOf(ASPECT_RATIOS))
    style = fields.String(validate=validate.OneOf(STYLES))
    diversity = fields.Integer(strict=True, validate=validate.Range(0, 5))
    seed = fields.Integer(strict=True, validate=validate.Range(1, 4294967294))
    num_images = fields.Integer(strict=True, validate=validate.OneOf([1, 4]))
    exploreMode = fields.Boolean()
    email = fields.Email()
    maxJobs = fields.Integer(strict=True, validate=validate.Range(1, MAX_JOBS_UPSTREAM))
    imageAssetId1 = fields.String(validate=validate.Length(1, 1024))
    imageAssetId2 = fields.String(validate=validate.Length(1, 1024))
    imageAssetId3 = fields.String(validate=validate.Length(1, 1024))

    # How the orchestrator hears of its own jobs:
    replyUrl = fields.Raw(validate=ours)
    replyRef = fields.Raw(validate=ours)


class UseapiFrames(Provider):
    name = "useapi_frames"
    docs_url = "https://useapi.net/docs/api-runwayml-v1/post-runwayml-frames-create"
    base_url = "https://api.useapi.net/v1/runwayml"
    schema = FramesParameters
    prompt_parameter = "text_prompt"
    content_parameters = ("text_prompt", "imageAssetId1", "imageAssetId2", "imageAssetId3")
    calls_back = True
    signs = False
    artifact_hosts = (".cloudfront.net", ".runwayml.com", ".useapi.net")
    artifact_seconds = ARTIFACT_SECONDS
    account_fields = {"email": str}  # noqa: RUF012
    account_defaults = {"max_jobs": 5}  # noqa: RUF012

    def submit_request(
        self, parameters: Mapping[str, Any], account: Account, reference: str, callback_url: str | None
    ) -> Request:
        body = {"maxJobs": min(account.max_jobs, MAX_JOBS_UPSTREAM), "replyRef": reference, **parameters}
        if "email" in account.fields:
            body["email"] = account.fields["email"]
        if callback_url:
            body["replyUrl"] = callback_url
        return Request("POST", f"{account.base_url}/frames/create", _headers(account), json=body)

    def poll_request(self, upstream_id: str, account: Account) -> Request:
        return Request("GET", f"{account.base_url}/tasks/{_quoted(upstream_id)}", _headers(account))

    def read_report(self, body: Any) -> Report:
        task = _task(body)
        reference = _reference(body)
        return Report(str(task["taskId"]), _outcome(task), reference)

    def read_error(self, reply: Reply) -> ProviderError:
        message = _message(reply.body) or reply.text or f"HTTP {reply.status}"
        if reply.status == 429:
            if isinstance(reply.body, Mapping) and "runningTasks" in reply.body:
                running = _running(reply.body["runningTasks"])
                return errors.AccountFull(message, http_status=429, running=running)
            return errors.TooMany(message, http_status=429)
        if NO_CREDIT in message:
            return errors.OutOfCredit(message, http_status=reply.status)
        if reply.status in REFUSALS:
            return REFUSALS[reply.status](message, http_status=reply.status)
        family = errors.Unavailable if reply.status >= 500 else errors.Rejected
        return family(message, http_status=reply.status)

    def translate(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        prompt, style = prompt_and_style(request, STYLES)
        ratio = aspect_ratio(self.name, request, ASPECT_RATIOS)
        return given(text_prompt=prompt, aspect_ratio=ratio, style=style, seed=request.get("seed"))

    def pins(self, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"email": parameters["email"]} if "email" in parameters else {}

    def cancel_request(self, upstream_id: str, account: Account) -> Request:
        return Request("DELETE", f"{account.base_url}/tasks/{_quoted(upstream_id)}", _headers(account))

    def search_requests(self, account: Account) -> Sequence[Request]:
        # The scheduler lists what is tracked now; the task list also has what is over already.
        recent = {"offset": "0", "limit": "100"}
        if "email" in account.fields:
            recent["email"] = account.fields["email"]
        return (
            Request("GET", f"{account.base_url}/scheduler", _headers(account)),
            Request("GET", f"{account.base_url}/tasks/", _headers(account), query=recent),
        )

    def history_request(self, account: Account, page: int) -> Request | None:
        if page * HISTORY_PAGE > HISTORY_OFFSET:
            return None
        query = {"offset": str(page * HISTORY_PAGE), "limit": str(HISTORY_PAGE)}
        if "email" in account.fields:
            query["email"] = account.fields["email"]
        return Request("GET", f"{account.base_url}/tasks/", _headers(account), query=query)

    def read_history(self, body: Any) -> Sequence[Report]:
        found = []
        for row in _rows(body):
            try:
                report = self.read_report(row)
            except errors.Malformed:
                continue
            if report.reference:
                found.append(report)
        return found

    def read_search(self, body: Any, since: float = 0.0) -> Mapping[str, str]:
        return _references([row for row in _rows(body) if not _was_made_before(row, since)])


def _rows(body: Any) -> list[Any]:
    rows = body.get("tasks") if isinstance(body, Mapping) else body
    if not isinstance(rows, list):
        raise errors.Malformed("no list of tasks in the body")
    return rows


def _was_made_before(row: Any, moment: float) -> bool:
    """Of a task that says when it was made."""
    try:
        return datetime.fromisoformat(row["createdAt"]).timestamp() < moment
    except (KeyError, TypeError, ValueError, OverflowError):
        return False


def _references(rows: Sequence[Any]) -> dict[str, str]:
    """replyRef → taskId of the tasks in a list that carry both."""
    found = [(row.get("replyRef"), row.get("taskId")) for row in rows if isinstance(row, Mapping)]
    return {
        reference: task_id
        for reference, task_id in found
        if isinstance(reference, str) and isinstance(task_id, str) and reference and task_id
    }


def _running(told: Any) -> dict[str, str] | None:
    """What `runningTasks` names of ours: e-mail → list of tasks. None where it is no such thing."""
    if not isinstance(told, Mapping) or not all(isinstance(rows, list) for rows in told.values()):
        return None
    return _references([row for rows in told.values() for row in rows])


def _headers(account: Account) -> dict[str, str]:
    return {"Authorization": f"Bearer {account.token.reveal()}", "Accept": "application/json"}


def _quoted(task_id: str) -> str:
    # The full id holds the account's e-mail; useapi expects `:` and `@` as they are.
    return quote(task_id, safe=":@")


def _task(body: Any) -> Mapping[str, Any]:
    """The task object, which some answers nest under `task`."""
    task = body.get("task", body) if isinstance(body, Mapping) else None
    if not isinstance(task, Mapping) or not isinstance(task.get("taskId"), str) or not task["taskId"]:
        raise errors.Malformed("no taskId in the body")
    return task


def _reference(body: Mapping[str, Any]) -> str | None:
    """`replyRef`, in any of the three places useapi's services put it."""
    for place in (body, body.get("task"), body.get("request"), body.get("response")):
        if isinstance(place, Mapping) and isinstance(place.get("replyRef"), str):
            return str(place["replyRef"])
    return None


def _outcome(task: Mapping[str, Any]) -> Outcome:
    word = str(task.get("status") or "").upper()
    if word == "SUCCEEDED":
        artifacts = task.get("artifacts")
        artifacts = artifacts if isinstance(artifacts, list) else []
        urls = tuple(str(each["url"]) for each in artifacts if isinstance(each, Mapping) and each.get("url"))
        return Succeeded(urls) if urls else Failed(errors.Unavailable("SUCCEEDED, but without artifacts"))
    if word == "FAILED":
        return Failed(_failure(task.get("error")))
    return Pending(word, _progress(task.get("progressRatio")), known=word in PENDING_WORDS)


def _failure(error: Any) -> ProviderError:
    """The error of a failed task: an object with a reason, sometimes a plain text, sometimes nothing."""
    reason = str(error.get("reason") or "") if isinstance(error, Mapping) else ""
    message = _message({"error": error})
    if not reason:
        return errors.Unavailable(message or "the task failed without a reason")
    message = message or "the task failed"
    family = next((family for prefix, family in FAILURES if reason.startswith(prefix)), errors.Rejected)
    return family(f"{message} ({reason})")


def _message(body: Any) -> str:
    """The human words of an error body: `error` is a text on HTTP errors, an object on failed tasks."""
    if not isinstance(body, Mapping):
        return ""
    error = body.get("error")
    if isinstance(error, Mapping):
        return str(error.get("errorMessage") or error.get("message") or "")
    return str(error or body.get("message") or "")


def _progress(ratio: Any) -> float | None:
    try:
        return float(ratio) if math.isfinite(float(ratio)) else None
    except (TypeError, ValueError, OverflowError):
        return None


PROVIDER = UseapiFrames()
