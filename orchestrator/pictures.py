"""The pictures of a job: fetched from its provider, kept in their place, asked for anew where a URL died.

Nothing here generates. When it is tried again, and when it is given up, `custody` decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from orchestrator.errors import CollectFailed
from orchestrator.events import log
from orchestrator.models import Account, Artifact, Job, Pending, Succeeded
from orchestrator.sidecar import sidecar, written

if TYPE_CHECKING:
    from orchestrator.artifacts import Artifacts
    from orchestrator.exchange import Exchange

GONE = (401, 403, 404, 410)  # what an artifact URL that has expired is answered with


@dataclass(frozen=True)
class Pictures:
    """Every verb is safe to call twice. Thread-safe."""

    exchange: Exchange

    def collect(self, job: Job, attempts: Sequence[Mapping[str, str]]) -> list[Artifact]:
        """Fetch and keep a job's pictures.

        `attempts`: the records of the job's attempts. Where a URL has expired, the provider is asked for
        fresh ones, once.
        Raises: CollectFailed.
        """
        place = self.exchange.artifacts
        if place is None:
            return [Artifact(url) for url in job.artifact_urls]
        account = self.exchange.accounts.get((job.provider, job.account))
        if account is None:
            raise CollectFailed(f"no account {job.account!r} in the accounts file of this process")
        try:
            return self._keep(place, job, account, attempts)
        except CollectFailed as failed:
            fresh_urls = self._fresh_urls(account, attempts) if failed.http_status in GONE else ()
            if not fresh_urls or fresh_urls == job.artifact_urls:
                raise
        log("artifacts.refreshed", job=job.id, account=account.name)
        try:
            return self._keep(place, replace(job, artifact_urls=fresh_urls), account, attempts)
        except CollectFailed as failed:
            failed.fresh_urls = fresh_urls
            raise

    def fresh_urls(self, job: Job, attempts: Sequence[Mapping[str, str]]) -> tuple[str, ...]:
        """What the provider calls a job's pictures now.

        Raises: Broken where its account is not known here; CollectFailed, with the cure.
        """
        account = self.exchange.account(job.provider, job.account)
        if urls := self._fresh_urls(account, attempts):
            return urls
        raise CollectFailed(
            f"{job.provider} gave no fresh URLs: it cannot be asked, has forgotten the generation, or "
            "does not answer just now: try again later"
        )

    def die_at(self, job: Job, urls: Sequence[str], told_at: float) -> float:
        """Until when pictures of a job can be fetched whose URLs were told then; unix seconds, at least."""
        account = self.exchange.accounts.get((job.provider, job.account))
        provider = self.exchange.provider_of(account) if account else self.exchange.providers[job.provider]
        return min(provider.artifact_dies_at(url, told_at) for url in urls)

    def _keep(
        self, place: Artifacts, job: Job, account: Account, attempts: Sequence[Mapping[str, str]]
    ) -> list[Artifact]:
        kept = []
        provider = self.exchange.provider_of(account)
        for number, url in enumerate(job.artifact_urls, 1):
            name = self.exchange.naming.name(job, number)
            with self.exchange.upstream.download(url, provider.artifact_hosts, account.base_url) as chunks:
                kept.append(place.put(name, url, chunks))
            about = sidecar(job, provider, _winner(attempts, account.name), number, kept[-1])
            place.describe(name, written(about))
        return kept

    def _fresh_urls(self, account: Account, attempts: Sequence[Mapping[str, str]]) -> tuple[str, ...]:
        """What the provider says now of the generation that succeeded, which need not be the last."""
        upstream_id = _winner(attempts, account.name).get("upstream_id")
        outcome = self.exchange.ask(account, upstream_id) if upstream_id else Pending()
        return outcome.artifact_urls if isinstance(outcome, Succeeded) else ()


def told_at(job: Job, attempts: Sequence[Mapping[str, str]]) -> float:
    """When the URLs of a job's pictures were told; unix seconds."""
    won = _winner(attempts, job.account)
    return float(won.get("told") or won.get("closed") or job.created_at)


def _winner(attempts: Sequence[Mapping[str, str]], account: str) -> Mapping[str, str]:
    """The record of the attempt at this account that succeeded, with its `number`; empty: none did."""
    won = [
        {**each, "number": str(number)}
        for number, each in enumerate(attempts, 1)
        if each.get("verdict") == "succeeded" and each.get("account") == account
    ]
    return won[-1] if won else {}
