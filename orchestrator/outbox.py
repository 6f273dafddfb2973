"""What a person asks and tells of notices: which wait, which are dead, send them again, forget them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.models import Notice

if TYPE_CHECKING:
    from orchestrator.store import Store

PER_CALL = 200


@dataclass(frozen=True)
class Chosen:
    """Which notices; what is empty leaves none out."""

    ids: Collection[str] = ()
    host: str = ""  # that they go to, with its port where it has one
    job: str = ""
    batch: str = ""  # of the batch itself, and of its jobs

    def takes(self, notice: Notice) -> bool:
        of_batch = notice.about if notice.type.startswith("batch.") else notice.facts.get("batch", "")
        of_job = notice.about if notice.type.startswith("job.") else ""
        return (
            (not self.ids or notice.id in self.ids)
            and self.host in ("", notice.host)
            and self.job in ("", of_job)
            and self.batch in ("", of_batch)
        )


@dataclass(frozen=True)
class Outbox:
    """Every verb is safe to call twice, while everything runs."""

    store: Store
    clock: Callable[[], float]  # unix seconds

    def find(self, which: Chosen, dead: bool) -> Iterator[Notice]:
        """Those that are dead, or that wait; the oldest first."""
        ids = [each for each in self.store.notices.ids(dead) if not which.ids or each in which.ids]
        for first in range(0, len(ids), PER_CALL):
            found = self.store.notices.known(ids[first : first + PER_CALL])
            yield from (notice for notice in found if which.takes(notice))

    def replay(self, which: Chosen) -> int:
        """Let dead notices be sent again, under their ids. Gives how many."""
        return sum(self.store.notices.replay(ids, self.clock()) for ids in self._dead(which))

    def purge(self, which: Chosen) -> int:
        """Forget dead notices. Gives how many there were."""
        return sum(self.store.notices.purge(ids) for ids in self._dead(which))

    def _dead(self, which: Chosen) -> Iterator[Sequence[str]]:
        ids = [notice.id for notice in self.find(which, dead=True)]
        for first in range(0, len(ids), PER_CALL):
            yield ids[first : first + PER_CALL]
