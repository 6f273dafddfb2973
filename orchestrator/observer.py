"""What a process tells of its work while it does it: how long it took, and how it went. Numbers alone.

No job, batch, prompt, URL, or word of a provider's ever comes here: what is told becomes a metric's label.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.models import Artifact


class Observer:
    """Listens to nothing: of a process that serves no metrics. Thread-safe; never raises."""

    def opened(self, provider: str, waited: float | None, refilled: float) -> None:
        """An attempt is about to be submitted.

        `waited`: seconds since its job came, where it is its first; `refilled`: since it got its slot.
        """

    def closed(self, provider: str, verdict: str, error: str, seconds: float | None) -> None:
        """An attempt was settled. `error`: a class of ours, '' for none; `seconds`: since it was opened."""

    def called(self, provider: str, call: str, status: int | None, seconds: float) -> None:
        """A provider was asked. `call`: submit, poll, search or cancel; `status` None: it did not answer."""

    def heard(self, provider: str, verdict: str, seconds: float) -> None:
        """A callback was handled."""

    def collected(
        self, provider: str, seconds: float, whole_seconds: float, artifacts: Sequence[Artifact]
    ) -> None:
        """A job's pictures are kept. `whole_seconds`: since it was enqueued."""

    def not_collected(self, provider: str, error: str) -> None:
        """A job's pictures could not be kept this time."""

    def polled(self, late: float) -> None:
        """An attempt is asked after, so many seconds after its moment."""

    def ticked(self, seconds: float) -> None:
        """What was due was seen to."""

    def not_published(self, what: str) -> None:
        """A message could not be sent; the due list sends it again."""

    def answered(self, endpoint: str, status: int, seconds: float) -> None:
        """A request to the HTTP API was answered."""


NOBODY = Observer()
