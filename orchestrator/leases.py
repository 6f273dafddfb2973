"""The leases of the finishes that run in this process: made longer while it lives, and checked at the end.

Whoever stands still for longer than a lease lasts (stopped, frozen, swapped out) finds that the job is
another's by then, and leaves it to that one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event, Lock, Thread, get_ident
from typing import TYPE_CHECKING

from orchestrator.errors import StoreUnavailable
from orchestrator.events import warn

if TYPE_CHECKING:
    from orchestrator.models import Job
    from orchestrator.store import Store

LOOK_SECONDS = 5.0  # between two looks at what is to be made longer
FITS_NONE = "lost"  # instead of a token that is gone
LONGEST_SECONDS = 3_600.0  # a finish that hangs is another's after that, though its process lives


@dataclass
class Lease:
    """The right to finish one job, as this process knows it. Thread-safe."""

    job: Job = field(repr=False)  # as it stood when the finish began
    attempts: Sequence[Mapping[str, str]] = field(repr=False)  # their records then, first to last
    kept_until: float  # unix seconds: it is not made longer after that
    again: bool = False  # the finish was begun before
    token: str = ""  # as the store gave it: until when it lasts, in unix seconds; empty: it is another's
    renew_at: float = 0.0  # half of it is over then
    lock: Lock = field(default_factory=Lock)

    def take(self, token: str, now: float) -> None:
        self.token = token
        self.renew_at = (now + float(token)) / 2 if token else 0.0

    def settled(self) -> str:
        """Its token, which stays as it is from now on: it is not made longer any more. Safe to call twice."""
        with self.lock:
            self.kept_until = 0.0
            return self.token


class Leases:
    """Thread-safe."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._held: dict[tuple[str, int], Lease] = {}  # by job, and by the thread that finishes it
        self._starting = Lock()
        self._some = Event()
        self._keeper: Thread | None = None

    def begin(self, job_id: str) -> Lease | None:
        """The lease of a finish, for one caller; None where another has it, or nothing is to be finished."""
        now = self._clock()
        begun = self._store.begin_finish(job_id, now)
        if begun is None:
            return None
        lease = self._held[job_id, get_ident()] = Lease(
            begun.job, begun.attempts, now + LONGEST_SECONDS, begun.again
        )
        lease.take(begun.token, now)
        self._some.set()
        self._see_to_keeper()
        return lease

    def may_end(self, lease: Lease) -> bool:
        """Whether a finish may tell its end: no other has begun it. The store is asked where one may have.

        From then on the lease stays as it is.
        """
        with lease.lock:
            if lease.token and self._clock() >= lease.renew_at:
                self._renew(lease)
            lease.kept_until = 0.0
            return bool(lease.token)

    def end(self, job_id: str) -> str:
        """The token to end a job with; a lost one fits none. Empty: this thread finishes nothing of it."""
        lease = self._held.pop((job_id, get_ident()), None)
        return (lease.token or FITS_NONE) if lease else ""

    def drop(self, lease: Lease) -> None:
        """Nothing is ended by it. Safe to call twice."""
        for place, held in list(self._held.items()):
            if held is lease:
                self._held.pop(place, None)

    def let_go(self, job_id: str) -> None:
        """Let another worker take a finish at once: this one is about to end. Safe to call twice."""
        for lease in [held for (held_id, _), held in list(self._held.items()) if held_id == job_id]:
            with lease.lock:
                self._store.collecting.let_go(job_id, lease.token)
                lease.take("", 0.0)

    def renew(self) -> None:
        """Make longer what is half over. The process's own thread calls it now and then."""
        for lease in list(self._held.values()):
            with lease.lock:
                now = self._clock()
                if now >= lease.kept_until:
                    # It may still end the job: its token, however old, is what another's is told from.
                    if now >= float(lease.token or 0) + LONGEST_SECONDS:
                        self.drop(lease)
                elif lease.token and now >= lease.renew_at:
                    try:
                        self._renew(lease)
                    except StoreUnavailable:
                        warn("collect.not_held", job=lease.job.id)

    def _renew(self, lease: Lease) -> None:
        now = self._clock()
        lease.take(self._store.collecting.hold(lease.job.id, now, lease.token), now)
        if not lease.token:
            warn("collect.not_held", job=lease.job.id, then="it is another's")

    def _see_to_keeper(self) -> None:
        if self._keeper and self._keeper.is_alive():
            return
        with self._starting:
            if not (self._keeper and self._keeper.is_alive()):
                self._keeper = Thread(target=self._keep, name="leases", daemon=True)
                self._keeper.start()

    def _keep(self) -> None:
        while self._some.wait():
            time.sleep(LOOK_SECONDS)
            self.renew()
            self._some.clear()
            if self._held:
                self._some.set()
