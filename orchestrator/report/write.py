"""Reads a batch, writes its page. Jobs are read in chunks and written as they come: memory stays flat."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from orchestrator import bill
from orchestrator.models import Job
from orchestrator.report.cards import Picture, card, local_path, picture
from orchestrator.report.figures import Figures
from orchestrator.report.page import STATES, Heading, group, write_card, write_page
from orchestrator.report.panels import panels
from orchestrator.report.thumbnails import CURE, PILLOW, Thumbnail, Thumbnails, thumbnails
from orchestrator.views.printing import at, counted

if TYPE_CHECKING:
    from orchestrator.provider import Provider
    from orchestrator.store import Store

PIECE_CHARACTERS = 1 << 16
HALVES = "replace"  # a prompt may hold half of a surrogate pair, which no file can
NO_PILLOW = f"no thumbnails: they need Pillow ({CURE})"
ELSEWHERE = "Kept elsewhere."
UNWANTED = ""  # of thumbnails: nothing need be said


@dataclass(frozen=True)
class Wanted:
    """How the page is to be."""

    title: str = ""  # empty: the batch's name
    limit: int = 5_000  # jobs in the gallery; the figures are of all
    thumbnails: bool = True
    more: Sequence[tuple[str, str]] = ()  # figures beside our own, as (label, value)


@dataclass(frozen=True)
class Written:
    """What was written."""

    path: Path
    bytes: int
    jobs: int
    shown: int  # of them, in the gallery
    thumbnails: int
    note: str  # what the gallery lacks, and why; empty: nothing
    figures: Figures


def write_report(
    store: Store, providers: Mapping[str, Provider], now: float, batch: str, path: Path, wanted: Wanted
) -> Written:
    """Write the page of a batch; what was at `path` is replaced once the page is complete.

    Raises: NotFound; OSError where nothing can be written there.
    """
    costs = bill.of_batch(store, providers, now, batch)
    known = store.batch(batch)
    figures = Figures(known["created"], known["ended"] if _is_over(known) else now)
    with _replacing(path) as page, _spool() as spool:
        with thumbnails() as made:
            gallery = _Gallery(spool, path.resolve().parent, wanted, made)
            for ids in store.batches.ids(batch):
                jobs = store.jobs(ids)
                told = [(job, prompt_of(job, providers)) for job in jobs]
                for (job, prompt), attempts in zip(told, store.attempts_of(jobs), strict=True):
                    figures.add(job, attempts, prompt)
                gallery.add(told)
        accepted = max(int(known["total"]), figures.jobs)
        note = gallery.note(figures.jobs)
        heading = Heading(
            title=wanted.title or batch,
            subtitle=_subtitle(known, now),
            note=note,
            providers=tuple(sorted(gallery.providers)),
            accounts=tuple(sorted(gallery.accounts)),
            states=tuple((state, gallery.states[state]) for state in STATES),
        )
        slots = {name: _slots(store, name, now) for name in figures.use}
        spool.seek(0)
        cards = iter(partial(spool.read, PIECE_CHARACTERS), "")
        page.writelines(write_page(heading, panels(figures, costs, slots, accepted, wanted.more), cards))
    return Written(path, path.stat().st_size, figures.jobs, gallery.shown, gallery.thumbnails, note, figures)


def prompt_of(job: Job, providers: Mapping[str, Provider]) -> str:
    provider = providers.get(job.provider)
    return str(job.parameters.get(provider.prompt_parameter, "")) if provider else ""


class _Gallery:
    """Cards on their way into a file."""

    def __init__(self, file: IO[str], folder: Path, wanted: Wanted, made: Thumbnails) -> None:
        self._file, self._folder, self._wanted, self._made = file, folder, wanted, made
        self.shown = self.thumbnails = 0
        self.providers: set[str] = set()
        self.accounts: set[str] = set()
        self.states: Counter[str] = Counter()

    def add(self, jobs: Sequence[tuple[Job, str]]) -> None:
        """Write the cards of jobs with their prompts, until there are enough."""
        jobs = jobs[: self._wanted.limit - self.shown]
        artifacts = [(job.result or {}).get("artifacts", []) for job, _ in jobs]
        small = self._small([each for several in artifacts for each in several])
        for (job, prompt), several in zip(jobs, artifacts, strict=True):
            pictures = tuple(self._picture(each, next(small)) for each in several)
            made = card(job, prompt, pictures)
            self._file.write(write_card(made))
            self.providers.add(made.provider)
            self.accounts.update([made.account] if made.account else [])
            self.states[group(made.state)] += 1
        self.shown += len(jobs)

    def note(self, jobs: int) -> str:
        """What is not here that a reader may look for."""
        notes = []
        if self.shown < jobs:
            notes.append(f"the first {self.shown:,} of {counted(jobs, 'job')} (--limit)")
        if self._wanted.thumbnails and not PILLOW:
            notes.append(NO_PILLOW)
        return "; ".join(notes)

    def _small(self, artifacts: Sequence[Mapping[str, Any]]) -> Iterator[Thumbnail]:
        """A thumbnail for each, in order."""
        if not (self._wanted.thumbnails and PILLOW):
            return (UNWANTED for _ in artifacts)
        paths = [local_path(each) for each in artifacts]
        made = self._made.of([path for path in paths if path])
        return (next(made) if path else ELSEWHERE for path in paths)

    def _picture(self, artifact: Mapping[str, Any], thumbnail: Thumbnail) -> Picture:
        self.thumbnails += isinstance(thumbnail, bytes)
        return picture(artifact, thumbnail, self._folder)


def _is_over(known: Mapping[str, float]) -> bool:
    ended = sum(known.get(state, 0) for state in ("succeeded", "failed", "cancelled"))
    return "ended" in known and "filling" not in known and ended >= known["total"]


def _slots(store: Store, provider: str, now: float) -> float:
    """Of all accounts of a provider, those in its own queue among them."""
    rows = store.accounts.rows(provider, now)
    return sum(float(row.get("max_jobs", 0)) + float(row.get("queue_ahead", 0)) for row in rows)


def _subtitle(known: Mapping[str, float], now: float) -> str:
    if _is_over(known):
        return f"Enqueued from {at(known['created'])} on, over at {at(known['ended'])}"
    return f"Enqueued from {at(known['created'])} on; it goes on, and stood so at {at(now)}"


def _spool() -> IO[str]:
    return tempfile.TemporaryFile("w+", encoding="utf-8", errors=HALVES)


@contextmanager
def _replacing(path: Path) -> Iterator[IO[str]]:
    """A file that takes the place of what is at `path` once it is complete."""
    growing = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with growing.open("w", encoding="utf-8", errors=HALVES) as file:
            yield file
        growing.replace(path)
    finally:
        growing.unlink(missing_ok=True)
