"""What is written beside a kept picture: where it came from, as JSON. Pure.

Neither secrets nor e-mail addresses stand in it, nor what signs a URL.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.errors import without_emails
from orchestrator.models import Artifact, Job
from orchestrator.schemas import moment

if TYPE_CHECKING:
    from orchestrator.provider import Provider

HIDDEN = ("email",)


@dataclass(frozen=True)
class Sidecar:
    """Moments are ISO 8601 in UTC."""

    job: str
    place: int  # of the picture among those of its job, from 1
    places: int  # how many pictures the job has
    batch: str
    custom_id: str
    tenant: str
    provider: str
    account: str
    attempt: int  # the one that brought it
    prompt: str
    seed: int | None
    parameters: Mapping[str, Any]
    created_at: str | None
    began_at: str | None
    ended_at: str | None  # when its outcome was known
    url: str
    file: str  # name of the picture
    media_type: str | None
    bytes: int | None
    sha256: str | None


def sidecar(
    job: Job, provider: Provider, attempt: Mapping[str, str], place: int, artifact: Artifact
) -> Sidecar:
    """`attempt`: the record of the one that succeeded; empty where it is not known."""
    parameters = {name: _safe(value) for name, value in job.parameters.items() if name not in HIDDEN}
    prompt, seed = parameters.get(provider.prompt_parameter), parameters.get("seed")
    return Sidecar(
        job=job.id,
        place=place,
        places=len(job.artifact_urls),
        batch=job.batch,
        custom_id=job.custom_id,
        tenant=job.tenant,
        provider=job.provider,
        account=job.account,
        attempt=int(attempt.get("number", job.attempts)),
        prompt=prompt if isinstance(prompt, str) else "",
        seed=seed if isinstance(seed, int) else None,
        parameters=parameters,
        created_at=moment(job.created_at),
        began_at=_moment(attempt.get("opened")),
        ended_at=_moment(attempt.get("told") or attempt.get("closed")),
        url=_unsigned(artifact.url),
        file=(artifact.path or "").rpartition("/")[2],
        media_type=artifact.media_type,
        bytes=artifact.bytes,
        sha256=artifact.sha256,
    )


def written(about: Sidecar) -> bytes:
    """A field a line. Python's own `indent` would encode each of them without the help of C."""
    lines = [f' "{name}": {json.dumps(told, ensure_ascii=False)}' for name, told in vars(about).items()]
    return "\n".join(("{", ",\n".join(lines), "}")).encode("utf-8", "replace")


def read(text: bytes) -> Sidecar | None:
    """What was written; None where it was not written by us."""
    try:
        told = json.loads(text)
        about = Sidecar(**told)
    except (ValueError, TypeError, RecursionError):
        return None
    words = (about.job, about.batch, about.custom_id, about.provider, about.account, about.file, about.tenant)
    numbers = (about.place, about.places, about.attempt)
    right = all(isinstance(word, str) for word in words) and all(type(number) is int for number in numbers)
    return about if right and about.job and about.place > 0 else None


def _moment(seconds: str | None) -> str | None:
    return moment(float(seconds)) if seconds else None


def _safe(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _safe(each) for name, each in value.items() if name not in HIDDEN}
    if isinstance(value, list | tuple):
        return [_safe(each) for each in value]
    if not isinstance(value, str):
        return value
    if value.startswith("data:"):
        digest = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
        return f"{value.partition(',')[0][:100]},sha256={digest}"
    return without_emails(_unsigned(value) if "://" in value and " " not in value else value)


def _unsigned(url: str) -> str:
    """Without its query, which signs it, and without credentials."""
    scheme, colon, rest = url.partition("://")
    host, slash, path = rest.partition("?")[0].partition("#")[0].partition("/")
    return f"{scheme}{colon}{host.rpartition('@')[2]}{slash}{path}"
