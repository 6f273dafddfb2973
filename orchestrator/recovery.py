"""After Redis was lost: what providers' lists, parked callbacks and the pictures kept still tell."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from orchestrator.errors import CallbackRefused, OrchestratorError
from orchestrator.models import Account, Artifact

if TYPE_CHECKING:
    from orchestrator.flow import Flow

PICTURE = re.compile(r"(.+)-(\d+)\Z")  # as `exchange` names them: <job>-<place>
PARKED_AT_ONCE = 10_000

logger = logging.getLogger("orchestrator")


@dataclass(frozen=True)
class Recovered:
    """How many jobs are known again, by where from."""

    lists: int
    callbacks: int
    pictures: int
    known: int  # that were known all the time
    troubles: tuple[str, ...]  # what could not be asked, and why


@dataclass
class Recovery:
    """Adopts what is found, so that it is looked after again. Generates nothing; safe to call twice."""

    flow: Flow

    def run(self) -> Recovered:
        troubles: list[str] = []
        known = 0
        pictures = 0
        for adopted in self._pictures():
            pictures, known = pictures + adopted, known + (not adopted)
        lists = 0
        for account in self.flow.exchange.accounts.values():
            try:
                lists += sum(self._listed(account))
            except OrchestratorError as error:
                troubles.append(f"{account.provider}/{account.name}: {error}")
        return Recovered(lists, self._callbacks(), pictures, known, tuple(troubles))

    def _listed(self, account: Account) -> Iterator[bool]:
        """Of several attempts of a job the last stands first in a list, newest first."""
        for attempt, report in self.flow.exchange.history(account):
            yield self._adopt(attempt, account.provider, account.name, report.upstream_id)

    def _callbacks(self) -> int:
        """Callbacks of attempts that were not known when they came: they are, now."""
        adopted = 0
        journal = self.flow.store.journal
        for entry in journal.recent(PARKED_AT_ONCE, parked=True):
            account = self.flow.exchange.accounts.get((entry.provider, entry.account))
            if account is None or entry.word != "unknown":
                continue
            report = self.flow.exchange.report_of(entry.provider, account, entry.body)
            if report is None:
                continue
            adopted += self._adopt(entry.attempt, entry.provider, entry.account, report.upstream_id)
            try:
                if self.flow.hear_again(entry) != "unknown":
                    journal.forget_parked(entry.id)
            except CallbackRefused as error:
                logger.warning("recovery.callback_refused attempt=%s error=%s", entry.attempt, error)
        return adopted

    def _pictures(self) -> Iterator[bool]:
        artifacts = self.flow.exchange.artifacts
        found: dict[tuple[str, str], list[Artifact]] = {}
        for folder, name, artifact in artifacts.kept() if artifacts else ():
            if match := PICTURE.match(name):
                found.setdefault((folder, match[1]), []).append(artifact)
        now = self.flow.clock()
        for (folder, job_id), pictures in found.items():
            batch = "" if folder == "jobs" else folder
            result = {
                "job_id": job_id,
                "provider": "unknown",
                "account": "",
                "attempts": 0,
                "seconds": 0.0,
                "artifacts": [asdict(picture) for picture in pictures],
            }
            yield self.flow.store.adopt_kept(job_id, batch, result, now)

    def _adopt(self, attempt: str, provider: str, account: str, upstream_id: str) -> bool:
        timing = f"{provider}/"
        return self.flow.store.adopt(attempt, provider, account, upstream_id, self.flow.clock(), timing)
