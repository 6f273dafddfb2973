"""How much a provider may tell of one generation; more could be neither kept nor asked for. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from orchestrator.errors import Rejected
from orchestrator.models import Failed, Report, Submission, Succeeded

Told = TypeVar("Told", Report, Submission)

ID_CHARACTERS = 1024  # the longest, of useapi, holds an e-mail address
URLS = 64  # the most pictures that a provider makes in one generation are ten
# What CloudFront takes: https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/cloudfront-limits.html
URL_CHARACTERS = 8192

NO_ID = f"an id of over {ID_CHARACTERS:,} characters, of dots alone, or with some that are not printable"
NO_URL = f"its pictures have URLs of over {URL_CHARACTERS:,} characters, or with halves of some"


def is_id(upstream_id: str) -> bool:
    """Whether it may stand in a path, a record and a log. Empty: none is needed."""
    return len(upstream_id) <= ID_CHARACTERS and upstream_id.isprintable() and upstream_id not in (".", "..")


def bounded(told: Told) -> Told:
    """The same, or with as many pictures as are taken. All are paid for, so that none is made anew."""
    if not isinstance(told.outcome, Succeeded):
        return told
    urls = tuple(url for url in told.outcome.artifact_urls if _is_url(url))[:URLS]
    if len(urls) == len(told.outcome.artifact_urls):
        return told
    return replace(told, outcome=Succeeded(urls) if urls else Failed(Rejected(NO_URL)))


def _is_url(url: str) -> bool:
    return len(url) <= URL_CHARACTERS and (url.isascii() or url.isprintable())  # half a character is not
