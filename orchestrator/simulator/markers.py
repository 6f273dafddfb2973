"""Faults asked for in the prompt itself: `a lake [failed:2]` fails for its first two submissions.

A marker may carry a count, several may stand together, and a word in brackets that is none of these is
part of the picture. What each one does is decided where it happens, not here.
"""

from __future__ import annotations

import re
from enum import StrEnum

_BRACKETS = re.compile(r"\[([a-z0-9-]+)(?::(\d{1,9}))?\]")


class Marker(StrEnum):
    """The words that misbehave. The comment on each says what a client sees."""

    MODERATED = "moderated"  # the task fails with SAFETY.INPUT.TEXT
    MODERATED_422 = "moderated-422"  # refused at once with 422
    FAILED = "failed"  # the task fails with INTERNAL.BAD_OUTPUT.CODE01
    CREDITS = "credits"  # refused: out of credit
    SLOW = "slow"  # takes ten times as long
    LOST = "lost"  # no callback ever
    DOUBLE = "double"  # the final callback twice, at once
    EARLY = "early"  # the final callback overtakes the create reply
    UNAVAILABLE = "5xx"  # accepted, but the reply says 503
    UNAVAILABLE_REFUSED = "5xx-refused"  # 503, and not accepted
    TIMEOUT = "timeout"  # accepted, but the reply hangs
    RESET = "reset"  # accepted, but the connection closes without a reply
    UNAUTHORIZED = "unauthorized"  # refused: 401
    BROKEN = "broken"  # refused: the account is in error
    EMPTY = "empty"  # succeeds without artifacts
    WEIRD = "weird"  # status words nobody documented
    OUT_OF_ORDER = "out-of-order"  # a late progress callback after the final one
    NO_PICTURE = "no-picture"  # the artifact's URL answers 404
    FOREVER = "forever"  # never ends
    EXPIRE = "expire"  # the artifact URLs told first answer 403, those of a later question do not (runway)


_NONE: frozenset[Marker] = frozenset()
_KNOWN = {marker.value: marker for marker in Marker}


def read_markers(prompt: str, submission: int) -> frozenset[Marker]:
    """The markers of `prompt` that still act at its n-th submission, counted from 1."""
    if "[" not in prompt:
        return _NONE
    return frozenset(
        _KNOWN[word]
        for word, count in _BRACKETS.findall(prompt)
        if word in _KNOWN and (not count or submission <= int(count))
    )
