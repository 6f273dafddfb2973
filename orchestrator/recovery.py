"""After Redis was lost: what providers' lists, parked callbacks and the pictures kept still tell."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

from marshmallow import ValidationError

from orchestrator import sidecar
from orchestrator.errors import BadReference, CallbackRefused, NotFound, OrchestratorError
from orchestrator.events import warn
from orchestrator.models import Account, Artifact, Failed, Pending, Report, Succeeded
from orchestrator.naming import NO_BATCH
from orchestrator.schemas import NAME
from orchestrator.sidecar import Sidecar
from orchestrator.signatures import Reference, read_reference

if TYPE_CHECKING:
    from orchestrator.artifacts import Kept
    from orchestrator.flow import Flow
    from orchestrator.store import Heard

UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"  # ids that callers chose themselves look like anybody's
PICTURE = re.compile(rf"([^/]+)/({UUID})-([1-9]\d*)")  # as `naming` does by default: <batch>/<job>-<place>
ATTEMPT, UNSIGNED_ATTEMPT = re.compile(r"(.+)\.([1-9]\d*)"), re.compile(rf"({UUID})\.([1-9]\d*)")
PARKED_AT_ONCE = 20_000
RANKS = (Failed, Pending, Succeeded)  # of a job's attempts the last of these tells of it


@dataclass(frozen=True)
class Recovered:
    """How many jobs are known again, by where from."""

    lists: int
    callbacks: int
    pictures: int
    known: int  # that were known all the time
    left: int  # parked callbacks that still lead nowhere
    troubles: tuple[str, ...]  # what could not be asked, and why


@dataclass(frozen=True)
class Sighting:
    """An attempt that somebody else remembers."""

    attempt: str
    job: str
    number: int
    account: Account
    report: Report
    listed: bool  # else it was told by a callback

    @property
    def rank(self) -> tuple[int, int, bool]:
        """The higher, the more it says of its job: a success before all, then the later attempt."""
        return RANKS.index(type(self.report.outcome)), self.number, self.listed

    @property
    def pictures(self) -> int:
        outcome = self.report.outcome
        return len(outcome.artifact_urls) if isinstance(outcome, Succeeded) else 0


@dataclass(frozen=True)
class Collected:
    """What was kept of one job. `about`: the sidecar of one of its pictures, where it has one."""

    batch: str
    about: Sidecar | None
    pictures: dict[int, Artifact]  # by place


@dataclass
class Recovery:
    """Adopts what is found, so that it is looked after again. Generates nothing; safe to call twice."""

    flow: Flow
    _troubles: list[str] = field(default_factory=list)

    def run(self, dry: bool = False) -> Recovered:
        """`dry`: only say what would be known again."""
        self._troubles.clear()
        parked = self.flow.store.journal.recent(PARKED_AT_ONCE, parked=True)
        seen = _best([*self._listed(), *self._told(parked)])
        pictures = self._pictures()
        ids = list({**seen, **pictures})
        known = {job.id for job in self.flow.store.jobs(ids)}
        counts = {"lists": 0, "callbacks": 0, "pictures": 0}
        for job_id in ids:
            if job_id in known:
                continue
            sighting, kept = seen.get(job_id), pictures.get(job_id)
            # Where not all of them were kept, they are collected once more.
            if kept and (sighting is None or sighting.pictures <= len(kept.pictures)):
                source, adopted = "pictures", dry or self._keep(job_id, kept, sighting)
            elif sighting:
                source = "lists" if sighting.listed else "callbacks"
                adopted = dry or self._adopt(sighting)
            counts[source] += adopted
        left = sum(entry.word == "unknown" for entry in parked) if dry else self._hear_parked(parked)
        return Recovered(**counts, known=len(known), left=left, troubles=tuple(self._troubles))

    def _listed(self) -> Iterator[Sighting]:
        for account in self.flow.exchange.accounts.values():
            try:
                for attempt, report in self.flow.exchange.history(account):
                    owner = self._owner(account, report)
                    if sighting := self._sighting(attempt, owner, report, listed=True):
                        yield sighting
            except OrchestratorError as error:
                self._troubles.append(f"{account.provider}/{account.name}: {error}")

    def _told(self, parked: Iterable[Heard]) -> Iterator[Sighting]:
        """Of callbacks of attempts that were not known when they came."""
        for entry in parked:
            account = self.flow.exchange.accounts.get((entry.provider, entry.account))
            if account is None or entry.word != "unknown":
                continue
            with suppress(CallbackRefused, NotFound):
                report = _report_of(self.flow, entry)
                if sighting := self._sighting(entry.attempt, account, report, listed=False):
                    yield sighting

    def _owner(self, account: Account, report: Report) -> Account:
        """Whose attempt it is: one list may tell of several accounts with the same credentials."""
        if not self.flow.exchange.keys or not report.reference:
            return account
        reference = read_reference(account.provider, report.reference, self.flow.exchange.keys)
        return self.flow.exchange.accounts.get((account.provider, reference.account), account)

    def _sighting(self, attempt: str, account: Account, report: Report, listed: bool) -> Sighting | None:
        """None where it is no attempt of ours: without keys anybody's reference looks like one."""
        match = (ATTEMPT if self.flow.exchange.keys else UNSIGNED_ATTEMPT).fullmatch(attempt)
        return Sighting(attempt, match[1], int(match[2]), account, report, listed) if match else None

    def _pictures(self) -> dict[str, Collected]:
        """Job → what was kept of it; where that is in two places, the one that has most."""
        artifacts = self.flow.exchange.artifacts
        found: dict[tuple[str, str], Collected] = {}
        try:
            for picture in artifacts.kept() if artifacts else ():
                if read := _read(picture):
                    job_id, told = read
                    found.setdefault((job_id, told.batch), told).pictures.update(told.pictures)
        except OSError as error:
            self._troubles.append(f"the pictures that were kept: {error.strerror or type(error).__name__}")
        fullest = sorted(found.items(), key=lambda each: len(each[1].pictures))
        return {job_id: collected for (job_id, _), collected in fullest}

    def _keep(self, job_id: str, kept: Collected, sighting: Sighting | None) -> bool:
        told = kept.about
        result = {
            "job_id": job_id,
            "provider": sighting.account.provider if sighting else told.provider if told else "unknown",
            "account": sighting.account.name if sighting else told.account if told else "",
            "attempts": sighting.number if sighting else told.attempt if told else 0,
            "seconds": 0.0,
            "artifacts": [asdict(picture) for _, picture in sorted(kept.pictures.items())],
        }
        return self.flow.store.adopt_kept(
            kept.batch,
            result,
            self.flow.clock(),
            custom_id=told.custom_id if told else "",
            tenant=told.tenant if told else "",
        )

    def _adopt(self, sighting: Sighting) -> bool:
        provider, upstream_id = sighting.account.provider, sighting.report.upstream_id
        return self.flow.store.adopt(
            sighting.attempt, provider, sighting.account.name, upstream_id, self.flow.clock(), f"{provider}/"
        )

    def _hear_parked(self, parked: Iterable[Heard]) -> int:
        """Takes them once more, the earliest first. Gives how many still lead nowhere."""
        left = 0
        for entry in reversed(list(parked)):
            if entry.word != "unknown":
                continue
            try:
                left += hear_again(self.flow, entry) == "unknown"
            except (CallbackRefused, NotFound) as error:
                warn("recovery.callback_refused", attempt=entry.attempt, error=error)
                left += 1
        return left


def hear_again(flow: Flow, entry: Heard) -> str:
    """Take a callback of the journal once more; one that still leads nowhere stays as it is.

    Gives what it led to. Raises: CallbackRefused where it still is not to be believed; NotFound where its
    provider is not known any more.
    """
    report = _report_of(flow, entry)
    if entry.word == "unreadable" and report.reference is not None:
        # Nobody has compared yet whether the body tells of the attempt that it was sent for.
        if read_reference(entry.provider, report.reference, flow.exchange.keys) != Reference(
            entry.attempt, entry.account
        ):
            raise BadReference("the body tells of another attempt")
    if flow.store.attempt(entry.attempt) is None:
        return "unknown"
    word = flow.hear_again(entry)
    if entry.word in ("unknown", "unreadable"):
        flow.store.journal.forget_parked(entry.id)
    return word


def _report_of(flow: Flow, entry: Heard) -> Report:
    """Raises: CallbackRefused, NotFound."""
    if entry.provider not in flow.exchange.providers:
        raise NotFound(f"no provider {entry.provider!r}: its callback cannot be read")
    return flow.exchange.read_callback(entry.again(entry.at), "")


def _read(picture: Kept) -> tuple[str, Collected] | None:
    """Whose picture it is, and what it tells of the job; None where it is none of ours."""
    about = sidecar.read(picture.about)
    ours = about and (not about.batch or all(_is_name(part) for part in about.batch.split("/", 1)))
    if about and ours and about.file == (picture.artifact.path or "").rpartition("/")[2]:
        whole = about.bytes == picture.artifact.bytes
        known = replace(picture.artifact, url=about.url, sha256=about.sha256 if whole else None)
        return about.job, Collected(about.batch, about, {about.place: known})
    match = PICTURE.fullmatch(picture.name)
    if not match or not _is_name(match[1]):
        return None
    batch = "" if match[1] == NO_BATCH else match[1]
    return match[2], Collected(batch, None, {int(match[3]): picture.artifact})


def _is_name(folder: str) -> bool:
    try:
        return bool(NAME(folder))
    except ValidationError:
        return False


def _best(sightings: Iterable[Sighting]) -> Mapping[str, Sighting]:
    """Job → the attempt that says most of it."""
    found: dict[str, Sighting] = {}
    for sighting in sightings:
        if sighting.job not in found or sighting.rank > found[sighting.job].rank:
            found[sighting.job] = sighting
    return found
