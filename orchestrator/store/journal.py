"""The journal of callbacks: those that were genuine, what they said, and what that led to."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial

from orchestrator.errors import NotFound, Stale
from orchestrator.models import Callback
from orchestrator.store.link import PREFIX, Link

RECENT, PARKED = f"{PREFIX}callbacks", f"{PREFIX}parked"
KEPT_RECENT = 2_000
KEPT_PARKED = 10_000  # of attempts that are not known: what a lost Redis may have to be rebuilt from
KEPT_BYTES = 64 * 2**10  # of one body, as text
PARKED_ID = "p"  # the ids of parked ones begin with it: the two streams count by themselves
PER_CALL = 200
CLOCKS_APART_SECONDS = 60.0  # at most, of Redis and ours
DELIVERY_SECONDS = 3600  # how long a delivery is remembered, so that it is taken once


@dataclass(frozen=True)
class Heard:
    """One callback that was genuine."""

    id: str
    at: float  # unix seconds
    provider: str
    account: str
    attempt: str
    word: str  # what it led to: pending settled late duplicate mismatch unknown unreadable
    body: str

    def again(self, at: float) -> Callback:
        """As if it came then."""
        return Callback(self.provider, self.account, self.attempt, self.body.encode(), at)


@dataclass(frozen=True)
class Progress:
    """What a callback before the final one led to."""

    word: str  # pending | duplicate | mismatch | unknown | nameless: its upstream id is to be recorded first
    account: str = ""  # of a nameless attempt
    timing: str = ""  # whose durations it is measured by: `<provider>/<model>`


class Journal:
    """Thread-safe."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def note(self, callback: Callback, word: str) -> None:
        """Note a callback that led to nothing but this. Of another the step notes it that takes it."""
        self._link.step("note", word, *told_of(callback))

    def hear(self, callback: Callback, upstream_id: str, says_whose: bool) -> Progress:
        """Take a callback before the final one.

        `says_whose`: its body names the attempt, so that it may bring the upstream id; until that is recorded
        nothing is taken. The very same again is a duplicate. Raises: Stale, where its delivery brought
        something else before.
        """
        word, *learns = self._link.step(
            "hear", callback.attempt, callback.provider, upstream_id, int(says_whose), *told_of(callback)
        )
        return Progress(word_of(word), *learns)

    def recent(self, limit: int, parked: bool = False, before: str = "") -> list[Heard]:
        """The latest first; `parked`: those of attempts that are not known, or that could not be read.

        `before`: only those before the one of this id.
        """
        key, last = PARKED if parked else RECENT, f"({before.removeprefix(PARKED_ID)}" if before else "+"
        found = self._link.call(lambda: self._link.client.xrevrange(key, last, count=limit))
        return [_heard(place, fields, parked) for place, fields in found]

    def of_job(self, job_id: str, since: float) -> list[Heard]:
        """Those of a job's attempts that are kept still, the oldest first; none is older than `since`."""
        found: list[Heard] = []
        for key in (RECENT, PARKED):
            first = str(max(0, round((since - CLOCKS_APART_SECONDS) * 1000)))
            while rows := self._link.call(partial(self._link.client.xrange, key, first, count=PER_CALL)):
                found += [
                    _heard(place, fields, key == PARKED) for place, fields in rows if _is_of(fields, job_id)
                ]
                first = f"({rows[-1][0]}"
        return sorted(found, key=lambda entry: entry.at)

    def count(self, parked: bool = False) -> int:
        return int(self._link.call(lambda: self._link.client.xlen(PARKED if parked else RECENT)))

    def entry(self, entry_id: str) -> Heard:
        """Raises: NotFound."""
        parked = entry_id.startswith(PARKED_ID)
        key, place = PARKED if parked else RECENT, entry_id.removeprefix(PARKED_ID)
        if found := self._link.call(lambda: self._link.client.xrange(key, place, place)):
            return _heard(found[0][0], found[0][1], parked)
        raise NotFound(f"no callback {entry_id!r} in the journal, which keeps the latest {KEPT_RECENT}")

    def forget_parked(self, entry_id: str) -> None:
        self._link.call(lambda: self._link.client.xdel(PARKED, entry_id.removeprefix(PARKED_ID)))


def _is_of(fields: dict[str, str], job_id: str) -> bool:
    return fields["attempt"].rpartition(".")[0] == job_id


def _heard(place: str, fields: dict[str, str], parked: bool) -> Heard:
    entry_id = f"{PARKED_ID}{place}" if parked else place
    return Heard(id=entry_id, at=float(fields.pop("at")), **fields)


def told_of(callback: Callback) -> tuple[str | float, ...]:
    """What a step is told of a callback, as lua/journal.lua takes it."""
    delivery, brings = "", ""
    if callback.delivery:
        delivery = f"{PREFIX}delivery:{callback.provider}:{_digest(callback.delivery.encode())}"
        brings = _digest(f"{callback.account}\n{callback.attempt}\n".encode() + callback.body)
    return (
        delivery,
        brings,
        DELIVERY_SECONDS,
        KEPT_RECENT,
        KEPT_PARKED,
        callback.at,
        callback.provider,
        callback.account,
        callback.attempt,
        _kept(callback.body),
    )


def _kept(body: bytes) -> str:
    text = body[:KEPT_BYTES].decode("utf-8", "replace")  # which makes three bytes of one that is wrong
    return text.encode()[:KEPT_BYTES].decode("utf-8", "ignore")


def word_of(word: str) -> str:
    """What a step says of a callback. One that is sent again, since its answer was lost, is a duplicate.

    Raises: Stale where its delivery was taken already with something else in it.
    """
    if word == "replay":
        raise Stale("this delivery was taken already")
    return "duplicate" if word == "again" else word


def _digest(what: bytes) -> str:
    return hashlib.sha256(what).hexdigest()
