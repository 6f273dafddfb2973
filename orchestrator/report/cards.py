"""One job as it is shown in the gallery. Pure, but for the question which files are local."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from orchestrator.models import Job
from orchestrator.report.thumbnails import Thumbnail


@dataclass(frozen=True)
class Picture:
    """One produced picture. Size and hash are as they were recorded when it was kept."""

    link: str | None  # of the whole picture, as seen from the page; None: a browser cannot follow it
    place: str  # where it is kept, in words
    thumbnail: Thumbnail
    media_type: str | None
    bytes: int | None
    sha256: str | None


@dataclass(frozen=True)
class Card:
    """One job. `prompt`, `error`, `custom_id` are a stranger's words."""

    job_id: str
    custom_id: str
    prompt: str
    provider: str
    account: str  # empty: the job never reached one
    state: str
    attempts: int
    seconds: float | None  # from enqueue to end; None: not ended
    error: str
    pictures: tuple[Picture, ...]

    @property
    def retried(self) -> bool:
        """Whether it took more than one attempt, however it ended."""
        return self.attempts > 1


def card(job: Job, prompt: str, pictures: tuple[Picture, ...]) -> Card:
    seconds = job.ended_at - job.created_at if job.ended_at else None
    message = str(job.error["message"]) if job.error else ""
    return Card(
        job.id, job.custom_id, prompt, job.provider, job.account, job.state.value, job.attempts, seconds,
        job.reason or message, pictures,
    )  # fmt: skip


def local_path(artifact: Mapping[str, Any]) -> str | None:
    """Where a kept picture is on this machine; None: it is elsewhere, or only its URL is known."""
    path = artifact["path"]
    return path if path and "://" not in path else None


def picture(artifact: Mapping[str, Any], thumbnail: Thumbnail, folder: Path) -> Picture:
    """`artifact`: as in a job's result. `folder`: where the page will be."""
    return Picture(
        link=_link(artifact, folder),
        place=artifact["path"] or "only its URL is known, which may have expired",
        thumbnail=thumbnail,
        media_type=artifact["media_type"],
        bytes=artifact["bytes"],
        sha256=artifact["sha256"],
    )


def _link(artifact: Mapping[str, Any], folder: Path) -> str | None:
    """Relative for a file beside or below the page, so that both may be moved together."""
    path = local_path(artifact)
    if path:
        file = Path(path).resolve()
        return quote(f"./{file.relative_to(folder)}") if file.is_relative_to(folder) else file.as_uri()
    if artifact["path"] or urlsplit(artifact["url"]).scheme not in ("http", "https"):
        return None
    return str(artifact["url"])
