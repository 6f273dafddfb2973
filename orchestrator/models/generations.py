"""What we and a provider tell each other of one generation: requests, replies, outcomes, callbacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.errors import ProviderError


@dataclass(frozen=True)
class Request:
    """One HTTP request to a provider."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    query: Mapping[str, str] = field(default_factory=dict)
    json: Any = None


@dataclass(frozen=True)
class Reply:
    """What a provider answered. `body` is parsed JSON, or None where it was none."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    body: Any
    text: str  # the first kilobytes, for error messages


@dataclass(frozen=True)
class Pending:
    """Not yet. `word` is the provider's own."""

    word: str = ""
    progress: float | None = None  # 0 to 1
    known: bool = True  # False: a word we have no translation for
    heard: bool = True  # False: the provider can be asked, and did not answer


@dataclass(frozen=True)
class Succeeded:
    """Done, with at least one artifact URL."""

    artifact_urls: tuple[str, ...]


@dataclass(frozen=True)
class Failed:
    """Over, without a picture."""

    error: ProviderError
    nameless: bool = False  # this holds only while no upstream id is known


@dataclass(frozen=True)
class Lost:
    """Silence until the deadline. `held`: a person decides whether to try again."""

    held: bool = False


Outcome = Pending | Succeeded | Failed | Lost


@dataclass(frozen=True)
class Submission:
    """What came back at once from submitting. The outcome may already be final."""

    upstream_id: str
    outcome: Outcome = Pending()


@dataclass(frozen=True)
class Report:
    """What a callback or a poll tells."""

    upstream_id: str
    outcome: Outcome
    reference: str | None = None  # the reference the provider echoed, where it echoes it


@dataclass(frozen=True)
class Callback:
    """One delivery from a provider to us that is genuine."""

    provider: str
    account: str
    attempt: str
    body: bytes
    at: float  # unix seconds
    delivery: str = ""  # what the provider calls it, which it calls no other; empty: nothing
