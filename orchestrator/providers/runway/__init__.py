"""Runway's official API: poll only. It calls nobody back, lists no tasks and echoes no reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from orchestrator import errors
from orchestrator.errors import ProviderError, Uncertain
from orchestrator.models import (
    Account,
    Failed,
    Outcome,
    Pending,
    Reply,
    Report,
    Request,
    Submission,
    Succeeded,
)
from orchestrator.provider import Provider, aspect_ratio, given, prompt_and_style
from orchestrator.providers.runway.parameters import DEFAULT_MODEL, RATIO_OF, RunwayParameters, completed

VERSION = "2024-11-06"
# "expire within 24-48 hours": https://docs.dev.runwayml.com/assets/outputs (read 2026-11)
ARTIFACT_SECONDS = 24 * 3600.0
DAILY_REST_SECONDS = 4 * 3600.0  # the cap rolls over 24 hours: some of it is back by then

# github.com/runwayml/sdk-python 5.24.0, types/task_retrieve_response.py (read 2026-11); PROCESSING stands in
# the seed alone
PENDING_WORDS = {"PENDING", "THROTTLED", "RUNNING", "PROCESSING"}

# https://docs.dev.runwayml.com/errors/task-failures (read 2026-11), and what third parties met; the first
# that fits counts. Seconds: how long to wait before trying again; None: the usual backoff.
FAILURES: tuple[tuple[str, type[ProviderError], float | None], ...] = (
    ("SAFETY", errors.Moderated, None),
    ("INPUT_PREPROCESSING.SAFETY", errors.Moderated, None),
    ("ASSET", errors.Invalid, None),
    ("THIRD_PARTY.INPUT_VALIDATION", errors.Invalid, None),
    ("INTERNAL.BAD_OUTPUT", errors.BadOutput, None),
    ("INTERNAL", errors.Unavailable, 30.0),
    ("INPUT_PREPROCESSING.INTERNAL", errors.Unavailable, 30.0),
    ("THIRD_PARTY.UNAVAILABLE", errors.Unavailable, 120.0),  # a model that runs elsewhere is slower to return
)

# https://docs.dev.runwayml.com/errors/errors (read 2026-11). 401 is also a wrong host or a suspended account;
# 404 on create means that the address is wrong.
REFUSALS = {400: errors.Invalid, 401: errors.Unauthorized, 404: errors.Broken}
NO_CREDIT = "not have enough credits"  # a 400, of all things
# A 429 is the cap of 24 hours, since too many at once is no error but THROTTLED; these words were seen once.
GENERIC_429 = ("too many requests", "http 429")


class Runway(Provider):
    name = "runway"
    docs_url = "https://docs.dev.runwayml.com/api"
    base_url = "https://api.dev.runwayml.com"
    schema = RunwayParameters
    prompt_parameter = "promptText"
    content_parameters = ("promptText", "referenceImages")
    calls_back = False
    signs = False
    artifact_hosts = (".cloudfront.net", ".runwayml.com")
    artifact_seconds = ARTIFACT_SECONDS
    account_defaults = {"poll_seconds": 5}  # noqa: RUF012
    min_poll_seconds = 5.0  # the SDK's tasks.retrieve: "no more frequently than once every five seconds"

    def submit_request(
        self, parameters: Mapping[str, Any], account: Account, reference: str, callback_url: str | None
    ) -> Request:
        body = completed(parameters)
        return Request("POST", f"{_root(account)}/v1/text_to_image", _headers(account), json=body)

    def read_submission(self, reply: Reply) -> Submission:
        try:
            return Submission(_task_id(reply.body), Pending("PENDING"))
        except errors.Malformed as malformed:
            raise Uncertain(f"answered {reply.status} without an id", http_status=reply.status) from malformed

    def poll_request(self, upstream_id: str, account: Account) -> Request:
        return Request("GET", _task_url(upstream_id, account), _headers(account))

    def read_report(self, body: Any) -> Report:
        return Report(_task_id(body), _outcome(body))

    def read_error(self, reply: Reply) -> ProviderError:
        message = _message(reply.body) or reply.text or f"HTTP {reply.status}"
        told: dict[str, Any] = {"http_status": reply.status}
        if reply.status == 429 and message.strip(". ").lower() in GENERIC_429:
            return errors.TooMany(message, **told)
        if reply.status == 429:
            return errors.QuotaSpent(message, wait_seconds=DAILY_REST_SECONDS, **told)
        if NO_CREDIT in message:
            return errors.OutOfCredit(message, **told)
        family = errors.Unavailable if reply.status >= 500 else REFUSALS.get(reply.status, errors.Rejected)
        return family(message, **told)

    def translate(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        prompt, _ = prompt_and_style(request)
        ratio = RATIO_OF[aspect_ratio(self.name, request, RATIO_OF) or "16:9"]
        return given(model=DEFAULT_MODEL, promptText=prompt, ratio=ratio, seed=request.get("seed"))

    def cancel_request(self, upstream_id: str, account: Account) -> Request:
        return Request("DELETE", _task_url(upstream_id, account), _headers(account))


def _root(account: Account) -> str:
    return account.base_url.removesuffix("/v1")


def _task_url(upstream_id: str, account: Account) -> str:
    return f"{_root(account)}/v1/tasks/{quote(upstream_id, safe='')}"


def _headers(account: Account) -> dict[str, str]:
    return {
        "Authorization": f"Bearer {account.token.reveal()}",
        "X-Runway-Version": VERSION,
        "Accept": "application/json",
    }


def _task_id(body: Any) -> str:
    if not isinstance(body, Mapping) or not isinstance(body.get("id"), str) or not body["id"]:
        raise errors.Malformed("no id in the body")
    return str(body["id"])


def _outcome(task: Mapping[str, Any]) -> Outcome:
    word = str(task.get("status") or "").upper()
    if word == "SUCCEEDED":
        output = task["output"] if isinstance(task.get("output"), list) else []
        urls = tuple(url for url in output if isinstance(url, str) and url)
        return Succeeded(urls) if urls else Failed(errors.Unavailable("SUCCEEDED, but without output"))
    if word == "FAILED":
        return Failed(_failure(task))
    if word == "CANCELLED":
        return Failed(errors.Rejected("the task was cancelled or deleted at Runway"))
    return Pending(word, _progress(task.get("progress")), known=word in PENDING_WORDS)


def _failure(task: Mapping[str, Any]) -> ProviderError:
    """The error of a failed task: `failure` for people, `failureCode`, which may be missing, for programs."""
    message, code = str(task.get("failure") or "the task failed"), str(task.get("failureCode") or "")
    for prefix, family, seconds in FAILURES:
        if f"{code or 'INTERNAL'}.".startswith(f"{prefix}."):
            return family(f"{message} ({code})" if code else message, wait_seconds=seconds)
    return errors.Rejected(f"{message} ({code})")


def _message(body: Any) -> str:
    """The words of an error body in one line, with the path of each issue."""
    if not isinstance(body, Mapping):
        return ""
    issues = body.get("issues")
    told = [str(body.get("error") or body.get("message") or "")]
    for issue in issues if isinstance(issues, list) else ():
        if isinstance(issue, Mapping):
            path = issue.get("path")
            place = ".".join(map(str, path)) if isinstance(path, list) else ""
            told.append(f"{place} {issue.get('message') or ''}".strip())
    return "; ".join(filter(None, told))


def _progress(progress: Any) -> float | None:
    usable = isinstance(progress, int | float) and 0 <= progress <= 1
    return float(progress) if usable else None


PROVIDER = Runway()
