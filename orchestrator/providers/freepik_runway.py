"""Runway's image model through Freepik, now Magnific: by callback (signed where a secret is set), by poll."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any
from urllib.parse import quote, urlsplit

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
    Secret,
    Succeeded,
)
from orchestrator.provider import Parameters, Provider, aspect_ratio, given, ours, prompt_and_style
from orchestrator.signatures import verify_webhook, webhook_id, webhook_keys

# https://docs.freepik.com/api-reference/text-to-image/post-runway, also at docs.magnific.com (read 2026-11)
PATH = "/v1/ai/text-to-image/runway"
RATIOS = (
    "1920:1080 1080:1920 1024:1024 1360:768 1080:1080 1168:880 1440:1080 1080:1440 "
    "1808:768 2112:912 1280:720 720:1280 720:720 960:720 720:960 1680:720"
).split()
# Of these, the exact shapes with 720 pixels on the short side.
RATIO_OF = {
    "16:9": "1280:720",
    "9:16": "720:1280",
    "1:1": "720:720",
    "4:3": "960:720",
    "3:4": "720:960",
    "21:9": "1680:720",
}
PENDING_WORDS = {"CREATED", "IN_PROGRESS"}
FREEPIK_HEADER, MAGNIFIC_HEADER = "x-freepik-api-key", "x-magnific-api-key"

# Same page, and 403, 404 and 429 of Freepik's stock endpoints; 402 and 422 stand on no page. 404 on create
# means that the address is wrong. What the table does not know would be refused again.
REFUSALS: dict[int, type[ProviderError]] = {
    400: errors.Invalid,
    401: errors.Unauthorized,
    402: errors.OutOfCredit,
    403: errors.Unauthorized,
    404: errors.Broken,
    422: errors.Invalid,
}
NO_CREDIT = re.compile(
    r"(not (have )?enough|insufficient|out of|no( more)?|exceeded your)( \w+)? (credit|funds|balance)"
    r"|credits? (exhausted|exceeded|limit)|payment required",
    re.IGNORECASE,
)
# …?token=exp=<unix seconds>~hmac=<hex>; how long that is, stands on no page
EXPIRY = re.compile(r"[?&]token=exp=(\d{9,11})~")
QUOTA = re.compile(r"daily|per day|monthly|per month|quota", re.IGNORECASE)
MODERATION = re.compile(r"moderat|content policy|nsfw|unsafe|safety|prohibited content", re.IGNORECASE)


class SigningKey(StrEnum):
    """How the key of the signatures is made of the secret: Freepik's own samples disagree."""

    UTF8 = "utf8"  # its text, the Python, JavaScript and Java samples
    BASE64 = "base64"  # what it decodes to, the PHP sample


class RunwayParameters(Parameters):
    """https://docs.freepik.com/api-reference/text-to-image/post-runway"""

    prompt = fields.String(required=True, validate=validate.Length(1, 1000))
    ratio = fields.String(required=True, validate=validate.OneOf(RATIOS))
    seed = fields.Integer(strict=True, validate=validate.Range(0, 4294967295))

    # How the orchestrator hears of its own jobs:
    webhook_url = fields.Raw(validate=ours)


class FreepikRunway(Provider):
    name = "freepik_runway"
    docs_url = "https://docs.freepik.com/api-reference/text-to-image/post-runway"
    base_url = "https://api.freepik.com"
    schema = RunwayParameters
    prompt_parameter = "prompt"
    content_parameters = ("prompt",)
    calls_back = True
    signs = True
    artifact_hosts = (".freepik.com", ".magnific.com")  # cdn-magnific and ai-statics of freepik.com were seen
    account_fields = {"signing_secret": Secret, "signing_key": SigningKey, "header": str}  # noqa: RUF012

    def submit_request(
        self, parameters: Mapping[str, Any], account: Account, reference: str, callback_url: str | None
    ) -> Request:
        body = dict(parameters)
        if callback_url:
            body["webhook_url"] = callback_url  # the reference is in its path: there is no other place for it
        return Request("POST", f"{account.base_url}{PATH}", _headers(account), json=body)

    def poll_request(self, upstream_id: str, account: Account) -> Request:
        url = f"{account.base_url}{PATH}/{quote(upstream_id, safe='')}"
        return Request("GET", url, _headers(account))

    def read_report(self, body: Any) -> Report:
        task = _task(body)
        return Report(task["task_id"], _outcome(task))

    def read_error(self, reply: Reply) -> ProviderError:
        message = _message(reply.body) or reply.text or f"HTTP {reply.status}"
        return _family(reply.status, message)(message, http_status=reply.status)

    def artifact_dies_at(self, url: str, told_at: float) -> float:
        says = EXPIRY.search(url)
        return float(says[1]) if says else super().artifact_dies_at(url, told_at)

    def translate(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        prompt, _ = prompt_and_style(request)
        # It demands a ratio: 16:9 is what the others make where none is named.
        ratio = RATIO_OF[aspect_ratio(self.name, request, RATIO_OF) or "16:9"]
        return given(prompt=prompt, ratio=ratio, seed=request.get("seed"))

    def verify(self, headers: Mapping[str, str], raw_body: bytes, account: Account, now: float) -> None:
        """https://docs.freepik.com/webhooks: as Standard Webhooks, but for the making of the key.

        An account without a signing secret is content with the reference in the URL.
        """
        secret = account.fields.get("signing_secret")
        if secret is not None:
            encoded = account.fields.get("signing_key", SigningKey.UTF8) != SigningKey.UTF8
            verify_webhook(headers, raw_body, webhook_keys(secret, encoded), now)

    def delivery_id(self, headers: Mapping[str, str]) -> str | None:
        return webhook_id(headers) if "webhook-signature" in headers else None


def _headers(account: Account) -> dict[str, str]:
    host = urlsplit(account.base_url).hostname or ""
    usual = MAGNIFIC_HEADER if host == "magnific.com" or host.endswith(".magnific.com") else FREEPIK_HEADER
    return {account.fields.get("header") or usual: account.token.reveal(), "Accept": "application/json"}


def _task(body: Any) -> Mapping[str, Any]:
    """The task, which stands under `data` in answers and by itself in callbacks."""
    places = (body, body.get("data")) if isinstance(body, Mapping) else ()
    for task in places:
        if isinstance(task, Mapping) and isinstance(task.get("task_id"), str) and task["task_id"]:
            return task
    raise errors.Malformed("no task_id in the body")


def _outcome(task: Mapping[str, Any]) -> Outcome:
    word = str(task.get("status") or "").upper()
    if word == "COMPLETED":
        urls = _urls(task.get("generated"))
        return Succeeded(urls) if urls else Failed(errors.Unavailable("COMPLETED, but without pictures"))
    if word == "FAILED":  # there is no field for a reason, on moderated prompts neither
        return Failed(errors.BadOutput("the task failed; this provider gives no reason"))
    return Pending(word, known=word in PENDING_WORDS)


def _urls(generated: Any) -> tuple[str, ...]:
    """The pictures: plain URLs by the page, objects with a `url` as one client met them."""
    listed = generated if isinstance(generated, list) else []
    urls = [each.get("url") if isinstance(each, Mapping) else each for each in listed]
    return tuple(url for url in urls if isinstance(url, str) and url)


def _family(status: int, message: str) -> type[ProviderError]:
    if status == 429:
        return errors.QuotaSpent if QUOTA.search(message) else errors.TooMany
    if status >= 500:
        return errors.Unavailable
    if NO_CREDIT.search(message):
        return errors.OutOfCredit
    if status == 403 and MODERATION.search(message):
        return errors.Moderated
    return REFUSALS.get(status, errors.Rejected)


def _message(body: Any) -> str:
    """The human words of an error: `message`, and the `invalid_params`, under `problem` or by themselves."""
    if not isinstance(body, Mapping):
        return ""
    problem = body.get("problem")
    if not isinstance(problem, Mapping):
        problem = body
    listed = problem.get("invalid_params")
    named = [each for each in listed if isinstance(each, Mapping)] if isinstance(listed, list) else []
    faults = "; ".join(f"{each.get('name')}: {each.get('reason')}" for each in named)
    message = str(problem.get("message") or problem.get("title") or "")
    return f"{message} ({faults})" if message and faults else message or faults


PROVIDER = FreepikRunway()
