"""Who may use what: credentials at a provider with their limits, and keys to the HTTP API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Secret:
    """A text that does not show itself. Only `reveal` gives it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "********"


class WhenUncertain(StrEnum):
    """What becomes of a submit of which it is not known at its deadline whether it arrived."""

    RESUBMIT = "resubmit"  # it may be paid for twice
    HOLD = "hold"  # a dead letter: a person decides


@dataclass(frozen=True)
class Account:
    """One set of credentials at a provider, with its own limits."""

    provider: str
    name: str
    token: Secret = field(repr=False)
    max_jobs: int
    base_url: str
    fields: Mapping[str, Any] = field(repr=False)  # what only this provider knows, such as `email`
    deadline_seconds: float  # an attempt without an outcome for so long is lost
    poll_seconds: float  # pace of polling, at most, until it is learned
    net_seconds: float  # first poll where a callback is expected, until it is learned
    timeout_seconds: float  # of one HTTP call
    max_attempts: int  # failures a job may have
    min_poll_seconds: float = 1.0  # one generation is never asked after more often
    requests_per_second: float = 0.0  # pace of submits and polls together; 0: none
    burst: int = 0  # requests that may come at once; 0: a second's worth
    max_per_day: int = 0  # generations begun within any 24 hours; 0: no cap
    weight: float = 1.0  # how much of what could go to several accounts goes to this one
    price: float = 1.0  # of one generation, in any unit
    max_spend: float = 0.0  # what its generations may cost in all, those at risk included; 0: no cap
    when_uncertain: WhenUncertain = WhenUncertain.RESUBMIT
    max_moderated: int = 0  # prompts refused by moderation in an hour, from which on it rests; 0: never
    max_moderated_share: float = 0.0  # … if they also are so much of what was generated
    queue_ahead: int = 0  # jobs beyond max_jobs that may wait in the provider's own queue


@dataclass(frozen=True)
class ApiKey:
    """Who may use the HTTP API. What is enqueued by it is its tenant's."""

    tenant: str
    secret: Secret = field(repr=False)
