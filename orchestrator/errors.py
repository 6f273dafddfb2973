"""Every error of the product. The family of an error is the decision it leads to.

OrchestratorError
├─ ConfigurationError                            at start; lists everything that is wrong
├─ ProviderError                                 provider, account, http status
│  ├─ Transient      Unavailable · BadOutput · NoOutcome          again after backoff; counts
│  │                 Unreachable                                  rest the account, again; does not count
│  ├─ Busy           AccountFull · TooMany                        back to the lane; does not count
│  ├─ AccountError   Unauthorized · OutOfCredit · QuotaSpent · Broken
│  │                                             rest the account, again elsewhere; does not count
│  ├─ Rejected       Invalid · Moderated · Unsupported · Held     give up
│  └─ Uncertain                                  the POST may have arrived: leave open
├─ CallbackRefused   BadReference · BadSignature · Stale · Malformed
├─ CollectFailed                                 a picture could not be fetched; collect again
│  ├─ BadPicture                                 what came is none: collect again, not for long
│  └─ StorageFailed                              it could not be kept: collect again, begin nothing meanwhile
├─ NotPublic                                     a host of our own network, which is not called
├─ StoreUnavailable                              Redis does not answer; nothing was recorded
├─ QueueFull                                     too many jobs wait already; nothing was recorded
├─ BadFile                                       a file cannot be taken as it is; nothing was begun
├─ Conflict                                      its name was given to something else; nothing was recorded
├─ BatchGoesOn                                   it is not over, as this would need it to be
├─ NotFound          JobNotFound                 nothing of this name is known
└─ JobFailed · JobCancelled

A `ProviderError` crosses processes as the small dict of `describe`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# Every part is bounded, so that a long text takes no longer than its length.
EMAIL = re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
MESSAGE_CHARACTERS = 1000
# Begins at the last :// of several, so that each is looked at once.
QUERY = re.compile(r"(://(?:(?!://)[^\s\"'?#\\])*)[?#][^\s\"'<>]*")


def without_queries(text: str) -> str:
    """A text without what follows the path of the URLs in it, which may be what opens them."""
    return QUERY.sub(r"\1?…", text) if "://" in text else text


def without_emails(text: str) -> str:
    """A text with each e-mail address masked."""
    return EMAIL.sub("<e-mail>", text) if "@" in text else text


def printable(text: str) -> str:
    """A text in one line, which tells a terminal nothing."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else " " for letter in text)


def masked(text: str, most: int = MESSAGE_CHARACTERS) -> str:
    """A stranger's words, fit to be kept and shown: short, one line, without e-mail addresses."""
    text = printable(without_emails(text[: 4 * most]))
    text = text if len(text) <= most else text[: most - 1] + "…"
    return text.encode("utf-8", "replace").decode()


class OrchestratorError(Exception):
    """Base of everything this package raises on purpose."""


class ConfigurationError(OrchestratorError):
    """The settings are wrong. `faults` has one sentence for each thing to mend."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        lines = "\n".join(f"  - {fault}" for fault in faults)
        super().__init__(f"{len(faults)} thing(s) to mend before this can start:\n{lines}")

    def __reduce__(self) -> tuple[type[ConfigurationError], tuple[list[str]]]:
        return type(self), (self.faults,)


class ProviderError(OrchestratorError):
    """Something a provider answered, or did not answer. E-mail addresses in the message are masked."""

    def __init__(
        self, message: str, *, http_status: int | None = None, wait_seconds: float | None = None
    ) -> None:
        self.message = masked(message)
        super().__init__(self.message)
        self.http_status = http_status
        self.wait_seconds = wait_seconds


class Transient(ProviderError):
    """May pass by itself."""


class Unavailable(Transient):
    """The provider failed, or failed the task for an internal reason."""


class Unreachable(Transient):
    """No connection was made: nothing can have arrived."""


class BadOutput(Transient):
    """The provider rejected its own output. Worth one more try: each is paid for."""


class NoOutcome(Transient):
    """Silence until the deadline. The generation may have been paid for."""


class Busy(ProviderError):
    """No slot upstream just now. Never a failure of the job."""


class AccountFull(Busy):
    """The account runs as many tasks as it may; the next freed slot is the cure.

    `running`: reference → upstream id of those that carry one; None where the provider does not name them.
    """

    def __init__(
        self,
        message: str,
        *,
        http_status: int | None = None,
        wait_seconds: float | None = None,
        running: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, http_status=http_status, wait_seconds=wait_seconds)
        self.running = running


class TooMany(Busy):
    """The provider itself throttles; time is the cure."""


class AccountError(ProviderError):
    """The account, not the job, is the trouble."""


class Unauthorized(AccountError):
    """The credentials were refused."""


class OutOfCredit(AccountError):
    """The account has no credit left."""


class QuotaSpent(AccountError):
    """The account's quota for a period is used up."""


class Broken(AccountError):
    """The provider's own link to the account is broken; a person has to mend it."""


class Rejected(ProviderError):
    """The same request would be refused again."""


class Invalid(Rejected):
    """A parameter is wrong."""


class Moderated(Rejected):
    """The provider's moderation refused the prompt."""


class Unsupported(Rejected):
    """The provider cannot do this, or not any more."""


class Held(Rejected):
    """Nobody knows whether the provider took it, and the account says that a person decides."""


class Uncertain(ProviderError):
    """The request may have arrived. It must not be repeated before that is known."""


class CallbackRefused(OrchestratorError):
    """A callback that is not to be believed."""


class BadReference(CallbackRefused):
    """The signed reference is missing, altered, or made with a key that is not ours."""


class BadSignature(CallbackRefused):
    """The provider's signature does not fit the body."""


class Stale(CallbackRefused):
    """Genuine, but outside the time window."""


class Malformed(CallbackRefused):
    """The body cannot be read."""


class CollectFailed(OrchestratorError):
    """A picture could not be fetched or kept. Collecting again costs nothing at the provider.

    `http_status`: what its URL was answered with, where that is the trouble. `fresh_urls`: what the provider
    calls the pictures now, where it was asked.
    """

    fresh_urls: tuple[str, ...] = ()

    def __init__(self, message: str, *, http_status: int | None = None) -> None:
        super().__init__(message)
        self.http_status = http_status


class BadPicture(CollectFailed):
    """What came is not what may be kept, and the next time it is likely the same."""


class StorageFailed(CollectFailed):
    """The picture was there, and the place it is kept in did not take it. `wide`: nor would it another."""

    def __init__(self, message: str, *, wide: bool) -> None:
        super().__init__(message)
        self.wide = wide


class NotPublic(OrchestratorError):
    """A stranger's URL leads to an address of our own network: it is not called."""


class StoreUnavailable(OrchestratorError):
    """Redis does not answer. Nothing was recorded; the same call may be made again."""


class QueueFull(OrchestratorError):
    """As many jobs wait as may. Nothing was recorded; the same call may be made later."""


class BadFile(OrchestratorError):
    """A file cannot be read, written, or taken as it is. The message says where, and the cure."""


class Conflict(OrchestratorError):
    """What the caller calls by this name was something else before. Nothing was recorded."""


class BatchGoesOn(OrchestratorError):
    """The batch is not over. Nothing was done."""


class NotFound(OrchestratorError):
    """Nothing of this name is known; the message names what is."""


class JobNotFound(NotFound):
    """No job has this id (or its record has expired)."""


class JobFailed(OrchestratorError):
    """The job ended without a picture. The message says why."""


class JobCancelled(OrchestratorError):
    """The job was cancelled."""


def describe(error: ProviderError) -> dict[str, Any]:
    """The error as small JSON: kind, message, http_status."""
    return {"kind": type(error).__name__, "message": error.message, "http_status": error.http_status}
