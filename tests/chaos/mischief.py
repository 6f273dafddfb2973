"""What clients and strangers do meanwhile: enqueue in waves, cancel, forge. Each is tried until heard."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import requests

from orchestrator import Orchestrator
from orchestrator.errors import JobNotFound, StoreUnavailable
from orchestrator.intake import new_job
from orchestrator.models import Secret, attempt_id
from tests.chaos.forgery import FORGED_PICTURE, REFUSED, forge
from tests.chaos.plan import Deed, Plan, Wish

AGAIN_SECONDS = 0.3

Action = Callable[[], bool]  # False: try again


@dataclass
class Mischief:
    """A thread of its own. `begun`: the moment (monotonic) that the plan counts from."""

    client: Orchestrator
    plan: Plan
    receiver: str
    simulator: str
    keys: Sequence[Secret]
    begun: float
    cancelled: set[int] = field(default_factory=set)
    """Jobs of which we were told that they are cancelled."""
    perhaps: set[int] = field(default_factory=set)
    """Jobs of which we were not told whether they are."""
    refusals: Counter[str] = field(default_factory=Counter)
    accepted_forgeries: list[str] = field(default_factory=list)
    broken: str = ""
    _queue: list[tuple[float, int, Action]] = field(default_factory=list)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        order = itertools.count()
        for at in sorted({wish.at for wish in self.plan.wishes}):
            wishes = [wish for wish in self.plan.wishes if wish.at == at]
            self._queue.append((at * self.plan.storm, next(order), partial(self._enqueue, wishes)))
        for deed in self.plan.deeds:
            self._queue.append((deed.at, next(order), partial(self._do, deed)))
        heapq.heapify(self._queue)
        self._thread = threading.Thread(target=self._run, daemon=True, name="mischief")
        self._thread.start()

    @property
    def over(self) -> bool:
        return self._thread is not None and not self._thread.is_alive()

    @property
    def unsent(self) -> int:
        """How much of it nobody has heard yet."""
        return len(self._queue)

    def _run(self) -> None:
        try:
            while self._queue:
                at, order, action = heapq.heappop(self._queue)
                time.sleep(max(0.0, at - self._now()))
                if not self._heard(action):
                    heapq.heappush(self._queue, (self._now() + AGAIN_SECONDS, order, action))
        except Exception:
            self.broken = traceback.format_exc()

    def _heard(self, action: Action) -> bool:
        try:
            return action()
        except StoreUnavailable:
            return False

    def _now(self) -> float:
        return time.monotonic() - self.begun

    def _enqueue(self, wishes: Sequence[Wish]) -> bool:
        """Safe to call twice: the jobs have their ids already."""
        flow = self.client.flow
        jobs = [
            new_job(flow.exchange, wish.id, _wanted(wish), wish.parameters, wish.options, flow.clock())
            for wish in wishes
        ]
        flow.enqueue(jobs)
        return True

    def _do(self, deed: Deed) -> bool:
        wish = self.plan.wishes[deed.number]
        return self._cancel(wish) if deed.what == "cancel" else self._forge(deed, wish)

    def _cancel(self, wish: Wish) -> bool:
        try:
            self.client.flow.store.job(wish.id)
        except JobNotFound:
            return False  # its wave has not come yet
        try:
            if self.client.flow.cancel(wish.id):
                self.cancelled.add(wish.number)
        except StoreUnavailable:
            self.perhaps.add(wish.number)
            raise
        return True

    def _forge(self, deed: Deed, wish: Wish) -> bool:
        store = self.client.flow.store
        try:
            job = store.job(wish.id)
        except JobNotFound:
            return False
        attempt = store.attempt(attempt_id(job.id, job.attempts)) if job.attempts else None
        if attempt is None:
            return job.ended_at is not None  # it was never submitted
        url = f"{self.simulator}/artifacts/{FORGED_PICTURE}/0.png"
        forged = forge(deed.what, attempt, self.keys, url, time.time())
        if forged is None:
            return False
        address = f"{self.receiver}/callbacks/{forged.provider}/{forged.reference}"
        try:
            answer = requests.post(address, data=forged.body, headers=dict(forged.headers), timeout=5)
        except requests.RequestException:
            return False
        if answer.status_code == 503:
            return False
        if answer.status_code not in REFUSED:
            self.accepted_forgeries.append(f"{forged.kind} of {attempt.id}: {answer.status_code}")
        self.refusals[f"{forged.kind}: {answer.status_code}"] += 1
        return True


def _wanted(wish: Wish) -> str | list[str]:
    return wish.wanted if isinstance(wish.wanted, str) else list(wish.wanted)
