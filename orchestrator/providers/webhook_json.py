"""Any API of the shape submit → id → callback or poll, described in the accounts file: no code is needed.

Its callbacks are not signed as far as we know: only the signed reference in the callback URL protects them.
What the words of an answer mean is all in the account; `of` gives the provider that an account describes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from marshmallow import fields, validate

from orchestrator import errors
from orchestrator.errors import Malformed, ProviderError, Uncertain
from orchestrator.json_shapes import are_paths, filled, find, merged, placeholders, table_at, texts
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
from orchestrator.provider import Parameters, Provider, prompt_and_style

REQUIRED = ("submit_path", "outputs_at", "succeeded", "failed")
DEFAULTS: dict[str, Any] = {
    "submit_path": "",
    "submit_method": "POST",
    "headers": {"Authorization": "Bearer {token}"},
    "body": {"prompt": "{prompt}", "callback_url": "{callback_url}"},
    "parameters_at": "",
    "id_at": "id",
    "status_at": "status",
    "outputs_at": "",
    "error_at": "error",
    "pending": [],
    "succeeded": [],
    "failed": [],
    "refused": [],  # by moderation: never tried again
    "artifact_hosts": [],
}
WITHOUT_DEFAULT = {"api": str, "poll_path": str}
METHODS = ("POST", "PUT", "PATCH")
WORD_LISTS = ("pending", "succeeded", "failed", "refused")
PATHS = ("id_at", "status_at", "outputs_at", "error_at")
BODY_PLACEHOLDERS = {"prompt", "callback_url", "reference"}
HOST = re.compile(r"\.?[a-z0-9-]+(?:\.[a-z0-9-]+)+")

# https://www.rfc-editor.org/rfc/rfc9110#name-client-error-4xx (read 2026-11): where nobody has said more.
# 404 and 405 to a submit mean that the address is wrong, which no other job would survive.
REFUSALS: dict[int, type[ProviderError]] = {
    400: errors.Invalid,
    401: errors.Unauthorized,
    402: errors.OutOfCredit,
    403: errors.Unauthorized,
    404: errors.Broken,
    405: errors.Broken,
    408: errors.Unavailable,
    413: errors.Invalid,
    422: errors.Invalid,
    429: errors.TooMany,
}


class JsonParameters(Parameters):
    """The prompt, and whatever else this API takes: what is right is known to the API alone."""

    prompt = fields.String(required=True, validate=validate.Length(1))
    parameters = fields.Dict(keys=fields.String())
    api = fields.String()  # insists on an account of this API, where the accounts file has several


class WebhookJson(Provider):
    name = "webhook_json"
    docs_url = "docs/providers.md#an-api-without-code"
    base_url = ""  # each account names its own
    schema = JsonParameters
    prompt_parameter = "prompt"
    content_parameters = ("prompt", "parameters")  # images that go in may be among the parameters
    signs = False
    account_fields = WITHOUT_DEFAULT | {name: type(value) for name, value in DEFAULTS.items()}

    def __init__(self, told: Mapping[str, Any] | None = None) -> None:
        """`told`: what an account says of its API; None: no account has spoken yet."""
        self._known = told is not None
        self._told: Mapping[str, Any] = {**DEFAULTS, **(told or {})}
        self.calls_back = "callback_url" in set(placeholders(self._told["body"]))
        self.artifact_hosts = tuple(self._told["artifact_hosts"])

    def of(self, account: Account) -> Provider:
        return WebhookJson(account.fields)

    def account_faults(self, fields: Mapping[str, Any]) -> Sequence[str]:
        told = {**DEFAULTS, **fields}
        faults = [f"{name} is missing" for name in REQUIRED if not told[name]]
        faults += _faults_of_requests(told)
        faults += _faults_of_answers(told)
        return faults

    def check(self, parameters: Mapping[str, Any], accounts: Sequence[Account]) -> None:
        if "api" not in parameters and len({account.base_url for account in accounts}) > 1:
            names = ", ".join(sorted({str(account.fields.get("api", "?")) for account in accounts}))
            raise errors.Invalid(
                f"the accounts of webhook_json are of several APIs: say api = … (known: {names}); "
                "each account is to name its own"
            )
        for account in accounts:
            if parameters.get("api") in (None, account.fields.get("api")):
                told = {**DEFAULTS, **account.fields}
                _check_free(parameters.get("parameters", {}), table_at(told["body"], told["parameters_at"]))

    def translate(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        others = [f"{name} = {request[name]!r}" for name in ("aspect_ratio", "seed") if name in request]
        if others:
            raise errors.Unsupported(
                f"{self.name}: {', '.join(others)}: what its API calls this is unknown; it takes prompt "
                "and style. Leave the rest out, or leave webhook_json out"
            )
        prompt, _ = prompt_and_style(request)
        return {"prompt": prompt}

    def pins(self, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"api": parameters["api"]} if "api" in parameters else {}

    def submit_request(
        self, parameters: Mapping[str, Any], account: Account, reference: str, callback_url: str | None
    ) -> Request:
        """Raises: Unsupported where nothing would ever tell how the job ends."""
        if callback_url is None and "poll_path" not in self._told:
            raise errors.Unsupported(
                "its account has no poll_path, and no callback is asked for: set ORCHESTRATOR_PUBLIC_URL"
            )
        values = {"prompt": parameters["prompt"], "callback_url": callback_url, "reference": reference}
        body, place = self._told["body"], self._told["parameters_at"]
        given = parameters.get("parameters", {})
        free = {name: each for name, each in given.items() if not _is_ours(table_at(body, place), name)}
        return Request(
            self._told["submit_method"],
            f"{account.base_url}{self._told['submit_path']}",
            self._headers(account),
            json=merged(filled(body, values), place, free),
        )

    def read_submission(self, reply: Reply) -> Submission:
        try:
            upstream_id = self._id(reply.body)
        except Malformed as malformed:
            raise Uncertain(f"answered {reply.status} without an id", http_status=reply.status) from malformed
        if not find(reply.body, self._told["status_at"]):
            return Submission(upstream_id)
        return Submission(upstream_id, self._outcome(reply.body))

    def poll_request(self, upstream_id: str, account: Account) -> Request | None:
        if "poll_path" not in self._told:
            return None
        path = self._told["poll_path"].replace("{id}", quote(upstream_id, safe=""))
        return Request("GET", f"{account.base_url}{path}", self._headers(account))

    def read_report(self, body: Any) -> Report:
        if not self._known:
            raise Malformed("no account says how to read this")
        return Report(self._id(body), self._outcome(body))

    def read_error(self, reply: Reply) -> ProviderError:
        message = self._message(reply.body) or reply.text or f"HTTP {reply.status}"
        other = errors.Unavailable if reply.status >= 500 else errors.Rejected
        return REFUSALS.get(reply.status, other)(message, http_status=reply.status)

    def _headers(self, account: Account) -> dict[str, str]:
        token = account.token.reveal()
        return {name: text.replace("{token}", token) for name, text in self._told["headers"].items()}

    def _id(self, body: Any) -> str:
        found = next(iter(find(body, self._told["id_at"])), None)
        # As a part of the poll path, dots would lead elsewhere.
        if isinstance(found, str | int) and not isinstance(found, bool) and str(found) not in ("", ".", ".."):
            return str(found)
        raise Malformed(f"no id at {self._told['id_at']!r} in the body")

    def _outcome(self, body: Any) -> Outcome:
        found = next(iter(find(body, self._told["status_at"])), None)
        word = str(found) if isinstance(found, str | int | float) else ""
        if self._is(word, "succeeded"):
            urls = tuple(texts(find(body, self._told["outputs_at"])))
            return Succeeded(urls) if urls else Failed(errors.Unavailable(f"{word}, but without outputs"))
        if self._is(word, "refused"):
            return Failed(errors.Moderated(self._message(body) or word))
        if self._is(word, "failed"):
            # Nothing says why: one more try, since each may be paid for.
            return Failed(errors.BadOutput(self._message(body) or word))
        return Pending(word, known=self._is(word, "pending"))

    def _is(self, word: str, kind: str) -> bool:
        return word.casefold() in {each.casefold() for each in self._told[kind]}

    def _message(self, body: Any) -> str:
        return next(texts(find(body, self._told["error_at"])), "")


def _faults_of_requests(told: Mapping[str, Any]) -> Iterator[str]:
    """What would make a wrong request."""
    if told["submit_method"] not in METHODS:
        yield f"submit_method is {told['submit_method']!r}; it must be one of {', '.join(METHODS)}"
    for name in ("submit_path", "poll_path"):
        if told.get(name, "/")[:1] not in ("", "/"):
            yield f"{name} is {told[name]!r}; it must begin with /"
    if placeholders(told["submit_path"]):
        yield "submit_path can hold no placeholder"
    if "poll_path" in told and placeholders(told["poll_path"]) != ["id"]:
        yield f"poll_path is {told['poll_path']!r}; it must hold {{id}} once, and no other placeholder"
    if not all(isinstance(text, str) for text in told["headers"].values()):
        yield "headers must be a table of texts"
    if "token" not in placeholders(told["headers"]):
        yield "headers do not hold {token}: it would never be sent"
    for name in set(placeholders(told["headers"])) - {"token"}:
        yield f"headers hold {{{name}}}; only {{token}} is filled in there"
    for name in sorted(set(placeholders(told["body"])) - BODY_PLACEHOLDERS):
        yield f"body holds {{{name}}}; filled in there are {', '.join(sorted(BODY_PLACEHOLDERS))}"
    if "prompt" not in placeholders(told["body"]):
        yield "body does not hold {prompt}"
    if "callback_url" not in placeholders(told["body"]) and "poll_path" not in told:
        yield "nothing would tell how a job ends: give poll_path, or put {callback_url} into body"
    if table_at(told["body"], told["parameters_at"]) is None:
        yield f"parameters_at is {told['parameters_at']!r}; it must name a table of body, as in input.options"


def _faults_of_answers(told: Mapping[str, Any]) -> Iterator[str]:
    """What would misread an answer."""
    for name in PATHS:
        if not are_paths(told[name]) and not (name in REQUIRED and not told[name]):
            yield f"{name} is {told[name]!r}; it must be a path such as images[*].url, or several parted by |"
    for name in (*WORD_LISTS, "artifact_hosts"):
        if not all(isinstance(word, str) and word for word in told[name]):
            yield f"{name} must be a list of texts"
            return
    words = [word.casefold() for name in WORD_LISTS for word in told[name]]
    for word in sorted({word for word in words if words.count(word) > 1}):
        yield f"the word {word!r} stands in two of {', '.join(WORD_LISTS)}, or twice in one"
    for host in told["artifact_hosts"]:
        if not HOST.fullmatch(host):
            yield f"artifact_hosts has {host!r}; give cdn.example.com, or .example.com for all below it"


def _check_free(parameters: Mapping[str, Any], ours: Mapping[str, Any] | None) -> None:
    """Raises: Invalid where a job's own parameter would replace what we fill in."""
    taken = sorted(name for name in parameters if _is_ours(ours, name))
    if taken:
        raise errors.Invalid(f"parameters: the orchestrator sets {', '.join(taken)} itself: leave it out")


def _is_ours(template: Mapping[str, Any] | None, name: str) -> bool:
    return template is not None and name in template and bool(placeholders(template[name]))


PROVIDER = WebhookJson()
