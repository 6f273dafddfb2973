"""Talking with the providers: what one says is built and read by its file, sent by `upstream`.

It knows accounts and references, and nothing of jobs waiting, slots or Celery.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from orchestrator.errors import (
    BadReference,
    Broken,
    CollectFailed,
    Malformed,
    OrchestratorError,
    ProviderError,
    Unavailable,
    Uncertain,
)
from orchestrator.models import (
    Account,
    Artifact,
    Job,
    Outcome,
    Pending,
    Reply,
    Report,
    Secret,
    Submission,
)
from orchestrator.provider import Provider
from orchestrator.retry import retry_after_seconds
from orchestrator.signatures import Reference, read_reference, sign_reference

if TYPE_CHECKING:
    from orchestrator.artifacts import Artifacts
    from orchestrator.upstream import Upstream

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Exchange:
    """One conversation with a provider per method. Thread-safe."""

    upstream: Upstream
    artifacts: Artifacts | None  # None: only URLs are kept
    providers: Mapping[str, Provider]
    accounts: Mapping[tuple[str, str], Account]
    keys: Sequence[Secret]  # the first signs, all verify
    public_url: str | None  # None: no callbacks are asked for

    def account(self, provider: str, name: str) -> Account:
        """Raises: Broken, which rests the account, where this process has no credentials for it."""
        try:
            return self.accounts[provider, name]
        except KeyError:
            raise Broken(f"no account {name!r} of {provider} in the accounts file of this process") from None

    def expects_callback(self, account: Account) -> bool:
        return self.public_url is not None and self._provider(account).calls_back

    def may_repeat(self, account: Account) -> bool:
        """Whether a submit without an answer is simply made again."""
        return self._provider(account).repeatable_submit

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
        provider = self._provider(account)
        reference = self._reference(account, attempt)
        callback_url = None
        if self.expects_callback(account):
            callback_url = f"{self.public_url}/callbacks/{provider.name}/{reference}"
        request = provider.submit_request(parameters, account, reference, callback_url)
        reply = self.upstream.send(request, account.timeout_seconds)
        if reply.status < 400:
            return provider.read_submission(reply)
        error = _read_error(provider, reply)
        if isinstance(error, Unavailable):
            raise Uncertain(error.message, http_status=reply.status, wait_seconds=error.wait_seconds)
        raise error

    def ask(self, account: Account, upstream_id: str) -> Outcome:
        """How a generation is doing. Trouble in asking is `Pending`: it says nothing of the generation."""
        provider = self._provider(account)
        request = provider.poll_request(upstream_id, account)
        if request is None:
            return Pending()
        try:
            reply = self.upstream.send(request, account.timeout_seconds)
            if reply.status >= 400:
                raise _read_error(provider, reply)
            outcome = provider.read_report(reply.body).outcome
        except OrchestratorError as error:
            logger.warning("poll.unanswered account=%s error=%s", account.name, error)
            return Pending()
        warn_of_unknown_word(provider, outcome)
        return outcome

    def search(self, account: Account, attempt: str) -> tuple[bool, str | None]:
        """Whether the provider could say if it took an attempt, and the upstream id if it did."""
        provider = self._provider(account)
        requests = provider.search_requests(account)
        answered = bool(requests)
        for request in requests:
            try:
                reply = self.upstream.send(request, account.timeout_seconds)
                found = provider.read_search(reply.body) if reply.status < 400 else None
            except OrchestratorError:
                found = None
            answered = answered and found is not None
            for reference, upstream_id in (found or {}).items():
                if self._is_of(provider, attempt, reference):
                    return True, upstream_id
        return answered, None

    def cancel(self, account: Account, upstream_id: str) -> None:
        """Ask the provider to stop a generation, where it can. It may refuse; that is only logged."""
        provider = self._provider(account)
        request = provider.cancel_request(upstream_id, account)
        if request is None:
            return
        try:
            reply = self.upstream.send(request, account.timeout_seconds)
            logger.info("attempt.cancelled account=%s status=%s", account.name, reply.status)
        except ProviderError as error:
            logger.warning("cancel.unanswered account=%s error=%s", account.name, error)

    def read_callback(
        self, provider: Provider, text: str, headers: Mapping[str, str], raw_body: bytes, now: float
    ) -> tuple[Reference, Report]:
        """Who a callback is about, and what it tells. Touches no network.

        Raises: CallbackRefused.
        """
        reference = read_reference(provider.name, text, self.keys)
        account = self.accounts.get((provider.name, reference.account))
        if account is not None:
            provider = provider.of(account)
            provider.verify(headers, raw_body, account, now)
        elif provider.signs:
            raise BadReference("its account is not known here")
        try:
            report = provider.read_report(json.loads(raw_body))
        except (ValueError, RecursionError) as error:
            raise Malformed("the body is not JSON") from error
        if report.reference is not None and report.reference != text:
            raise BadReference("the body tells of another attempt")
        warn_of_unknown_word(provider, report.outcome)
        return reference, report

    def collect(self, job: Job) -> list[Artifact]:
        """Fetch and keep a job's pictures. Generates nothing; safe to call twice.

        Raises: CollectFailed.
        """
        if self.artifacts is None:
            return [Artifact(url) for url in job.artifact_urls]
        kept = []
        account = self.accounts.get((job.provider, job.account))
        if account is None:
            raise CollectFailed(f"no account {job.account!r} in the accounts file of this process")
        hosts = self._provider(account).artifact_hosts
        for place, url in enumerate(job.artifact_urls, 1):
            with self.upstream.download(url, hosts, account.base_url) as chunks:
                kept.append(self.artifacts.put(job.batch or "jobs", f"{job.id}-{place}", url, chunks))
        return kept

    def _provider(self, account: Account) -> Provider:
        return self.providers[account.provider].of(account)

    def _reference(self, account: Account, attempt: str) -> str:
        if not self.keys:
            return attempt  # nobody calls back without a key; the provider's lists still show it
        return sign_reference(account.provider, Reference(attempt, account.name), self.keys)

    def _is_of(self, provider: Provider, attempt: str, reference: str) -> bool:
        if reference == attempt:
            return True
        try:
            return read_reference(provider.name, reference, self.keys).attempt_id == attempt
        except BadReference:
            return False


def _read_error(provider: Provider, reply: Reply) -> ProviderError:
    error = provider.read_error(reply)
    asked = retry_after_seconds(reply.headers.get("retry-after"), datetime.now(UTC))
    if asked is not None:
        error.wait_seconds = asked
    return error


def warn_of_unknown_word(provider: Provider, outcome: Outcome) -> None:
    if isinstance(outcome, Pending) and not outcome.known:
        logger.warning("status.unknown provider=%s word=%r", provider.name, outcome.word)
