"""When to try again. Pure functions of (error, failures so far); the caller brings the dice."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime

from orchestrator.errors import (
    AccountError,
    AccountFull,
    BadOutput,
    BadPicture,
    Busy,
    CollectFailed,
    Moderated,
    NoOutcome,
    ProviderError,
    QuotaSpent,
    StorageFailed,
    TooMany,
    Transient,
    Unreachable,
)

BACKOFF_BASE_SECONDS = 2.0
BACKOFF_CAP_SECONDS = 300.0
# Failures of one class that a job may have, where that is fewer than it may have in all: each of these may
# have been paid for.
BUDGETS: dict[type[ProviderError], int] = {BadOutput: 2, NoOutcome: 2}
FETCH_CAP_SECONDS = 600.0
STORAGE_CAP_SECONDS = 30.0
STORAGE_GATE_SECONDS = 120  # nothing is begun for so long after a picture could not be kept: above the cap
BAD_PICTURE_ATTEMPTS = 16  # about three quarters of an hour of trying
BUSY_SECONDS = (10.0, 30.0)  # the useapi seed: "wait in a loop for at least 10..30 seconds"
QUOTA_REST_SECONDS = 3600.0
UNTIL_RESUMED = 4102444800.0  # 2100-01-01: only a person ends such a rest


@dataclass(frozen=True)
class Again:
    """Try again after `seconds`. `counts`: it was a failure of the job."""

    seconds: float
    counts: bool


@dataclass(frozen=True)
class GiveUp:
    """The same request would fail again, or the budget is spent."""


def decide(
    error: ProviderError, failures: Mapping[str, int], max_attempts: int, dice: float
) -> Again | GiveUp:
    """What becomes of a job whose attempt ended with `error`.

    `failures`: earlier failures of the job, by class. `dice`: uniform in [0, 1).
    """
    if isinstance(error, Busy | AccountError | Unreachable):
        return Again(0.0, counts=False)
    so_far, of_its_class = sum(failures.values()), failures.get(type(error).__name__, 0)
    budget = BUDGETS.get(type(error), max_attempts)
    if isinstance(error, Transient) and so_far + 1 < max_attempts and of_its_class + 1 < budget:
        return Again(error.wait_seconds or backoff_seconds(so_far, dice), counts=True)
    return GiveUp()


def backoff_seconds(failures: int, dice: float, cap: float = BACKOFF_CAP_SECONDS) -> float:
    """Exponential with full jitter: uniform in [0, min(cap, 2·2^failures)); 0 failures: below 2 s."""
    return dice * float(min(cap, BACKOFF_BASE_SECONDS * 2 ** min(failures, 30)))


def collect_again_seconds(
    error: CollectFailed, failures: int, seconds_left: float, dice: float
) -> float | None:
    """When to collect again; None: it is given up. `seconds_left`: of the life of the pictures' URLs.

    What could be fetched lives still, whatever its provider says: it is tried until it is kept.
    """
    if isinstance(error, StorageFailed):
        return backoff_seconds(failures, dice, STORAGE_CAP_SECONDS)
    if seconds_left <= 0 or (isinstance(error, BadPicture) and failures + 1 >= BAD_PICTURE_ATTEMPTS):
        return None
    return backoff_seconds(failures, dice, FETCH_CAP_SECONDS)


def rest_seconds(error: ProviderError, dice: float) -> float | None:
    """How long the account rests because of `error`; None: it does not; inf: until it is resumed."""
    if isinstance(error, QuotaSpent):
        return error.wait_seconds or QUOTA_REST_SECONDS
    if isinstance(error, AccountError):
        return float("inf")
    if isinstance(error, Busy | Unreachable):
        low, high = BUSY_SECONDS
        return error.wait_seconds or low + dice * (high - low)
    return None


def verdict(error: ProviderError) -> str:
    """How a closed attempt is counted: busy, refused (the account was), or failed."""
    if isinstance(error, Busy):
        return "busy"
    return "refused" if isinstance(error, AccountError) else "failed"


def means(error: ProviderError) -> str:
    """What an error tells of the account beyond that it rests: full, too many, moderated, or nothing."""
    words: dict[type[ProviderError], str] = {
        AccountFull: "full",
        TooMany: "too many",
        Moderated: "moderated",
    }
    return words.get(type(error), "")


def retry_after_seconds(value: str | None, now: datetime) -> float | None:
    """The Retry-After header in seconds, from a number or an HTTP date; None where it says nothing."""
    if not value:
        return None
    try:
        return max(0.0, float(value)) if math.isfinite(float(value)) else None
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - now).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None
