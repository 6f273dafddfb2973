"""Talking with the providers: what one says is built and read by its file, sent by `upstream`.

It knows accounts and references, and nothing of jobs waiting, slots or Celery.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from orchestrator.bounds import NO_ID, Told, bounded, is_id
from orchestrator.errors import (
    AccountFull,
    BadReference,
    Broken,
    Malformed,
    OrchestratorError,
    ProviderError,
    Unavailable,
    Uncertain,
    masked,
)
from orchestrator.events import log, warn
from orchestrator.models import (
    Account,
    Callback,
    Outcome,
    Pending,
    Reply,
    Report,
    Request,
    Secret,
    Submission,
)
from orchestrator.naming import Naming
from orchestrator.observer import NOBODY, Observer
from orchestrator.provider import Provider
from orchestrator.retry import retry_after_seconds
from orchestrator.signatures import Reference, read_reference, sign_reference

if TYPE_CHECKING:
    from orchestrator.artifacts import Artifacts
    from orchestrator.upstream import Upstream

WORD_CHARACTERS = 40


@dataclass(frozen=True)
class Exchange:
    """One conversation with a provider per method. Thread-safe."""

    upstream: Upstream
    artifacts: Artifacts | None  # None: only URLs are kept
    providers: Mapping[str, Provider]
    accounts: Mapping[tuple[str, str], Account]
    keys: Sequence[Secret]  # the first signs, all verify
    public_url: str | None  # None: no callbacks are asked for
    naming: Naming = field(default_factory=Naming)  # what the pictures are called
    observer: Observer = NOBODY

    def account(self, provider: str, name: str) -> Account:
        """Raises: Broken, which rests the account, where this process has no credentials for it."""
        try:
            return self.accounts[provider, name]
        except KeyError:
            raise Broken(f"no account {name!r} of {provider} in the accounts file of this process") from None

    def provider_of(self, account: Account) -> Provider:
        return self.providers[account.provider].of(account)

    def expects_callback(self, account: Account) -> bool:
        return self.public_url is not None and self.provider_of(account).calls_back

    def may_repeat(self, account: Account) -> bool:
        """Whether a submit without an answer is simply made again."""
        return self.provider_of(account).repeatable_submit

    def timing(self, provider: str, parameters: Mapping[str, Any]) -> str:
        """Whose durations a job is measured by: `<provider>/<model>`."""
        return f"{provider}/{self.providers[provider].model(parameters)}"

    def min_poll_seconds(self, account: Account) -> float:
        """What the account allows, but at the provider's own address no less than it allows itself.

        Another address, such as the simulator's, has its own rules: there the account's word stands.
        """
        provider = self.providers[account.provider]
        own = urlsplit(account.base_url).hostname == urlsplit(provider.base_url).hostname
        return max(account.min_poll_seconds, provider.min_poll_seconds if own else 0.0)

    def submit(self, account: Account, attempt: str, parameters: Mapping[str, Any]) -> Submission:
        """Start a generation. Not safe to call twice: each call is paid for.

        Raises: ProviderError; Uncertain among them where it may have started and must not be repeated.
        """
        try:
            return self._submit(account, attempt, parameters)
        except Uncertain as uncertain:
            if not self.may_repeat(account):
                raise
            raise Unavailable(
                uncertain.message, http_status=uncertain.http_status, wait_seconds=uncertain.wait_seconds
            ) from None

    def _submit(self, account: Account, attempt: str, parameters: Mapping[str, Any]) -> Submission:
        provider = self.provider_of(account)
        reference = self._reference(account, attempt)
        callback_url = None
        if self.expects_callback(account):
            callback_url = f"{self.public_url}/callbacks/{provider.name}/{reference}"
        request = provider.submit_request(parameters, account, reference, callback_url)
        reply = self._send("submit", account, request)
        if 300 <= reply.status < 400:
            raise Broken(f"answered with a redirect ({reply.status}): is base_url right?")
        if reply.status < 400:
            return _read_submission(provider, reply)
        error = _read_error(provider, reply)
        if isinstance(error, Unavailable):
            raise Uncertain(error.message, http_status=reply.status, wait_seconds=error.wait_seconds)
        raise error

    def ask(self, account: Account, upstream_id: str) -> Outcome:
        """How a generation is doing. Trouble in asking is `Pending`: it says nothing of the generation."""
        provider = self.provider_of(account)
        request = provider.poll_request(upstream_id, account)
        if request is None:
            return Pending()
        try:
            reply = self._send("poll", account, request)
            if reply.status >= 400:
                raise _read_error(provider, reply)
            outcome = _read_report(provider, reply.body).outcome
        except OrchestratorError as error:
            told = getattr(error, "http_status", None) or error  # its words may repeat the prompt
            warn("poll.unanswered", account=account.name, upstream_id=upstream_id, error=told)
            return Pending(heard=False)
        _warn_of_unknown_word(provider, outcome)
        return outcome

    def can_search(self, account: Account) -> bool:
        return bool(self.provider_of(account).search_requests(account))

    def search(self, account: Account, attempt: str, since: float) -> tuple[bool, str | None]:
        """Whether the provider could say if it took an attempt since then, and the upstream id if it did.

        `since`: unix seconds.
        """
        provider = self.provider_of(account)
        requests = provider.search_requests(account)
        answered = bool(requests)
        for request in requests:
            try:
                reply = self._send("search", account, request)
                found = provider.read_search(reply.body, since) if reply.status < 400 else None
            except OrchestratorError:
                found = None
            answered = answered and found is not None
            for reference, upstream_id in (found or {}).items():
                if self._attempt_of(provider.name, reference) == attempt:
                    return (True, upstream_id) if is_id(upstream_id) else (False, None)
        return answered, None

    def running(self, provider: str, error: ProviderError) -> dict[str, str] | None:
        """Our attempts that the provider says it runs, attempt → upstream id; None where it does not say."""
        if not isinstance(error, AccountFull) or error.running is None:
            return None
        found = {self._attempt_of(provider, reference): each for reference, each in error.running.items()}
        return {attempt: each for attempt, each in found.items() if attempt and is_id(each)}

    def history(self, account: Account) -> Iterator[tuple[str, Report]]:
        """Our attempts among all that the provider still lists for an account, and how each is doing.

        Raises: ProviderError, Malformed.
        """
        provider, page = self.provider_of(account), 0
        while request := provider.history_request(account, page):
            reply = self._send("search", account, request)
            if reply.status >= 400:
                raise _read_error(provider, reply)
            reports = provider.read_history(reply.body)
            for report in reports:
                attempt = self._attempt_of(provider.name, report.reference or "")
                if attempt and is_id(report.upstream_id):
                    yield attempt, _taken(provider, report)
            page += 1

    def content(self, provider: str, parameters: Mapping[str, Any]) -> str:
        """Hash of what moderation will judge."""
        return self.providers[provider].content(parameters)

    def cancel(self, account: Account, upstream_id: str) -> bool:
        """Ask the provider to stop a generation, where it can. False where it did not answer.

        It may refuse; that is only logged.
        """
        provider = self.provider_of(account)
        request = provider.cancel_request(upstream_id, account)
        if request is None:
            return True
        try:
            reply = self._send("cancel", account, request)
        except ProviderError as error:
            warn("cancel.unanswered", account=account.name, upstream_id=upstream_id, error=error)
            return False
        log("attempt.cancelled", account=account.name, upstream_id=upstream_id, status=reply.status)
        return True

    def read_reference(self, provider: Provider, text: str) -> Reference:
        """Whom a callback is about. Raises: BadReference where we did not sign it for this provider."""
        return read_reference(provider.name, text, self.keys)

    def verify_callback(
        self,
        provider: Provider,
        reference: Reference,
        headers: Mapping[str, str],
        raw_body: bytes,
        now: float,
    ) -> None:
        """Let pass a callback that is genuine as its account sees it. Touches no network.

        Raises: CallbackRefused.
        """
        account = self.accounts.get((provider.name, reference.account))
        if account is not None:
            provider.of(account).verify(headers, raw_body, account, now)
        elif provider.signs:
            raise BadReference("its account is not known here")

    def read_callback(self, callback: Callback, text: str) -> Report:
        """What a callback tells. `text`: its reference as it came; '' where none is to be compared.

        Raises: KeyError for an unknown provider; CallbackRefused.
        """
        provider = self.providers[callback.provider]
        account = self.accounts.get((provider.name, callback.account))
        provider = provider.of(account) if account else provider
        try:
            report = _read_report(provider, json.loads(callback.body))
        except (ValueError, RecursionError) as error:
            raise Malformed("the body is not JSON") from error
        if text and report.reference is not None and report.reference != text:
            raise BadReference("the body tells of another attempt")
        _warn_of_unknown_word(provider, report.outcome)
        return report

    def _send(self, call: str, account: Account, request: Request) -> Reply:
        began_at, status = time.perf_counter(), None
        try:
            reply = self.upstream.send(request, account.timeout_seconds)
            status = reply.status
            return reply
        finally:
            self.observer.called(account.provider, call, status, time.perf_counter() - began_at)

    def _reference(self, account: Account, attempt: str) -> str:
        if not self.keys:
            return attempt  # nobody calls back without a key; the provider's lists still show it
        return sign_reference(account.provider, Reference(attempt, account.name), self.keys)

    def _attempt_of(self, provider: str, reference: str) -> str:
        """The attempt that a provider's list tells of; empty where it is none of ours."""
        try:
            return read_reference(provider, reference, self.keys).attempt_id
        except BadReference:
            return "" if self.keys else reference


def _read_submission(provider: Provider, reply: Reply) -> Submission:
    """Raises: Uncertain where it cannot be read, since the generation may have started."""
    submission = provider.read_submission(reply)
    if not is_id(submission.upstream_id):
        raise Uncertain(f"answered {reply.status}, but with {NO_ID}", http_status=reply.status)
    return _taken(provider, submission)


def _read_report(provider: Provider, body: Any) -> Report:
    """Raises: Malformed, also where it tells of what could not be asked for."""
    report = provider.read_report(body)
    if not is_id(report.upstream_id):
        raise Malformed(NO_ID)
    return _taken(provider, report)


def _taken(provider: Provider, told: Told) -> Told:
    taken = bounded(told)
    if taken is not told:
        warn("artifacts.left_out", provider=provider.name)
    return taken


def _read_error(provider: Provider, reply: Reply) -> ProviderError:
    error = provider.read_error(reply)
    asked = retry_after_seconds(reply.headers.get("retry-after"), datetime.now(UTC))
    if asked is not None:
        error.wait_seconds = max(asked, error.wait_seconds or 0.0)
    return error


def _warn_of_unknown_word(provider: Provider, outcome: Outcome) -> None:
    if isinstance(outcome, Pending) and not outcome.known:
        word = masked(outcome.word, WORD_CHARACTERS)
        warn("status.unknown", provider=provider.name, word=repr(word))
