"""Runway's free preview images through useapi.net: one GET that is held until the picture is there.

Runway retired it in September 2025, so a job is refused, with the call that replaces it, unless an account
says `allow_retired = true`. It is free: a submit whose answer is lost is simply made again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from marshmallow import fields, validate

from orchestrator import errors
from orchestrator.errors import ProviderError, Uncertain, Unsupported
from orchestrator.models import Account, Failed, Reply, Report, Request, Submission, Succeeded
from orchestrator.provider import Parameters, Provider, aspect_ratio, given, prompt_and_style

# https://useapi.net/docs/api-runwayml-v1/get-runwayml-text_to_image_preview (read 2026-11)
STYLES = (
    "cinematic abandoned abstract_sculpture advertising anime architectural cartoon cine_lens claymation "
    "concept_art digital_art duotone_artistic_photo forestpunk frost graphic_novel graphite "
    "impressionist_painting isometric_3d low_poly_3d macro_photography marker_drawing moody_film pixel_art "
    "retro_photography sci-fi_art stickers storyboard actor_casting thriller 35mm 3d_cartoon 3d_render "
    "80s_vaporwave"
).split()
ASPECT_RATIOS = "21:9 1:1 9:16 16:9 4:3 3:4".split()

# What comes nearest among the styles of Frames, by the look their names promise. Empty: what Frames makes of
# a prompt without a style. A style that is not here has nothing like it there.
FRAMES_STYLES = {
    "cinematic": "",
    "cine_lens": "",
    "35mm": "",
    "advertising": "vivid",
    "anime": "light-anime",
    "graphite": "sketch",
    "marker_drawing": "sketch",
    "storyboard": "sketch",
    "moody_film": "high-contrast-cool",
    "thriller": "high-contrast-cool",
    "3d_cartoon": "3d-cartoon",
}
FRAMES_PROMPT_CHARACTERS = 1000
SAME_AT_FRAMES = ("aspect_ratio", "seed", "email")
NOT_AT_FRAMES = ("negative_prompt", "prompt_weight")
RETIRED = "Runway retired this endpoint in September 2025"

# The page names 400, 401 and 403; the others are those of useapi's other pages and scripts.
REFUSALS: dict[int, type[ProviderError]] = {
    400: errors.Invalid,
    401: errors.Unauthorized,
    402: errors.Broken,
    403: errors.Unauthorized,  # where it is not the moderation's
    404: errors.Unsupported,  # now it is really gone
    410: errors.Unsupported,
    412: errors.OutOfCredit,
    422: errors.Moderated,
    596: errors.Broken,
}
NO_CREDIT = "not have enough credits"
# On no page of useapi's. The URLs are Runway's own: signed until a midnight that is 24 to 48 hours off.
ARTIFACT_SECONDS = 24 * 3600.0


class PreviewParameters(Parameters):
    """https://useapi.net/docs/api-runwayml-v1/get-runwayml-text_to_image_preview."""

    text_prompt = fields.String(required=True, validate=validate.Length(1))
    prompt_weight = fields.Integer(strict=True, validate=validate.Range(1, 30))
    negative_prompt = fields.String(validate=validate.Length(1))
    seed = fields.Integer(strict=True, validate=validate.Range(1, 4294967294))
    style = fields.String(validate=validate.OneOf(STYLES))
    aspect_ratio = fields.String(validate=validate.OneOf(ASPECT_RATIOS))
    email = fields.Email()


class UseapiPreview(Provider):
    name = "useapi_preview"
    docs_url = "https://useapi.net/docs/api-runwayml-v1/get-runwayml-text_to_image_preview"
    base_url = "https://api.useapi.net/v1/runwayml"
    schema = PreviewParameters
    prompt_parameter = "text_prompt"
    content_parameters = ("text_prompt",)
    calls_back = False
    signs = False
    synchronous = True
    repeatable_submit = True
    artifact_hosts = (".cloudfront.net", ".runwayml.com", ".useapi.net")
    artifact_seconds = ARTIFACT_SECONDS
    account_fields = {"email": str, "allow_retired": bool}  # noqa: RUF012
    # A generation takes 10 to 60 s, and a thread of a worker for as long.
    account_defaults = {"max_jobs": 2, "timeout_seconds": 90, "price": 0}  # noqa: RUF012

    def check(self, parameters: Mapping[str, Any], accounts: Sequence[Account]) -> None:
        if not any(_allows(account) for account in accounts):
            raise Unsupported(
                f"{RETIRED} ({self.docs_url}). {replacement(parameters)} "
                "To use it all the same, say allow_retired = true on an account of useapi_preview."
            )

    def translate(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        prompt, style = prompt_and_style(request, STYLES)
        ratio = aspect_ratio(self.name, request, ASPECT_RATIOS)
        return given(text_prompt=prompt, aspect_ratio=ratio, style=style, seed=request.get("seed"))

    def pins(self, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        if "email" not in parameters:
            return {}
        return {"email": parameters["email"], "allow_retired": True}

    def submit_request(
        self, parameters: Mapping[str, Any], account: Account, reference: str, callback_url: str | None
    ) -> Request:
        """Raises: Broken, which sends the job elsewhere, on an account that does not say `allow_retired`."""
        if not _allows(account):
            raise errors.Broken(f"{RETIRED}, and this account does not say allow_retired = true")
        query = {name: str(value) for name, value in parameters.items()}
        if "email" in account.fields:
            query["email"] = account.fields["email"]
        headers = {"Authorization": f"Bearer {account.token.reveal()}", "Accept": "application/json"}
        return Request("GET", f"{account.base_url}/text_to_image_preview/", headers, query)

    def read_submission(self, reply: Reply) -> Submission:
        if not isinstance(reply.body, Mapping):
            raise Uncertain(f"answered {reply.status} without an object", http_status=reply.status)
        url = reply.body.get("url")
        if isinstance(url, str) and url:
            return Submission("", Succeeded((url,)))
        message = _message(reply.body) or "answered without a picture"
        family = errors.Moderated if _is_moderated(reply.body) else errors.Unavailable
        return Submission("", Failed(family(message, http_status=reply.status)))

    def poll_request(self, upstream_id: str, account: Account) -> None:
        return None

    def read_report(self, body: Any) -> Report:
        raise errors.Malformed("this provider neither calls back nor is polled")

    def read_error(self, reply: Reply) -> ProviderError:
        message = _message(reply.body) or reply.text or f"HTTP {reply.status}"
        if reply.status == 429:
            running = isinstance(reply.body, Mapping) and "runningTasks" in reply.body
            return (errors.AccountFull if running else errors.TooMany)(message, http_status=429)
        if NO_CREDIT in message:
            return errors.OutOfCredit(message, http_status=reply.status)
        if reply.status == 403 and _is_moderated(reply.body):
            return errors.Moderated(message, http_status=403)
        other = errors.Unavailable if reply.status >= 500 else errors.Rejected
        return REFUSALS.get(reply.status, other)(message, http_status=reply.status)


def replacement(parameters: Mapping[str, Any]) -> str:
    """The call of `useapi_frames` that comes nearest, and a sentence for each thing it leaves out."""
    call: dict[str, Any] = {"text_prompt": parameters["text_prompt"]}
    lost = [f"{name} (Frames has none)" for name in NOT_AT_FRAMES if name in parameters]
    style = parameters.get("style", "cinematic")
    if style not in FRAMES_STYLES:
        lost.append(f"style {style!r} (Frames has nothing like it: describe it in text_prompt)")
    elif FRAMES_STYLES[style]:
        call["style"] = FRAMES_STYLES[style]
    call |= {name: parameters[name] for name in SAME_AT_FRAMES if name in parameters}
    length = len(call["text_prompt"])
    if length > FRAMES_PROMPT_CHARACTERS:
        lost.append(f"what text_prompt has beyond {FRAMES_PROMPT_CHARACTERS} characters: shorten it")
    left_out = f" Left out: {'; '.join(lost)}." if lost else ""
    return f'Instead: orchestrator.enqueue("useapi_frames", {call!r}), which spends credits.{left_out}'


def _allows(account: Account) -> bool:
    return account.fields.get("allow_retired") is True


def _is_moderated(body: Any) -> bool:
    return isinstance(body, Mapping) and ("moderation_category" in body or "reason" in body)


def _message(body: Any) -> str:
    """The human words: `error` in error bodies, `message` in the moderation's."""
    return str(body.get("error") or body.get("message") or "") if isinstance(body, Mapping) else ""


PROVIDER = UseapiPreview()
