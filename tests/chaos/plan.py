"""What is asked for and what is to go wrong, all of it drawn from a seed. Pure."""

from __future__ import annotations

import random
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.chaos.places import PLACES

# What becomes of a final callback, and of a submit: marker → share of the jobs.
CALLBACKS = {"[lost]": 0.20, "[double]": 0.20, "[early]": 0.10, "[out-of-order]": 0.10}
SUBMITS = {"[timeout:1]": 0.025, "[reset:1]": 0.025, "[5xx:1]": 0.03, "[5xx-refused:1]": 0.02}
# What goes wrong at the provider by itself: marker → (share, the end it must come to).
GENERATIONS = {
    "[failed:1]": (0.02, "succeeded"),
    "[empty:1]": (0.01, "succeeded"),
    "[weird]": (0.02, "succeeded"),
    "[expire]": (0.02, "succeeded"),
    "[moderated]": (0.02, "failed"),
    "[failed]": (0.01, "failed"),
}
TWICE_IS_TOO_OFTEN = "[failed:1]"  # each provider counts by itself, so of two it may fail twice
FORGED, CANCELLED, PORTABLE, PINNED = 0.05, 0.02, 0.06, 0.1
WAVES, WAVES_SHARE = 5, 0.6  # how often jobs are enqueued, within so much of the storm
SOON = 0.1  # of the storm after its wave, a job is cancelled
LANES = (  # batch, tenant, share
    ("autumn", "", 0.4),
    ("winter", "acme", 0.2),
    ("spring", "acme", 0.15),
    ("summer", "globex", 0.15),
    ("small", "", 0.1),
)
RATIOS = ("16:9", "1:1")
PAIRS = (("useapi_frames", "runway"), ("freepik_runway", "useapi_frames"), ("webhook_json", "runway"))
# Beside its slots: an unanswered submit holds one until the deadline, where nobody calls back.
LOAD = {"runway": 0.6}
FORGERIES = (
    "altered reference",
    "stranger's reference",
    "another provider's reference",
    "unknown provider",
    "another generation",
    "no JSON",
    "unsigned",
    "signed by a stranger",
    "replayed with another body",
)
SIGNING = ("freepik_runway",)
OUTSIDE = ("altered reference", "stranger's reference", "another provider's reference", "unknown provider")


@dataclass(frozen=True)
class Wish:
    """One job. `ends`: the state it must come to, if nobody cancels it.

    `at`: when it is enqueued, as a share of the storm.
    """

    number: int
    id: str
    wanted: str | tuple[str, ...]
    parameters: Mapping[str, Any]
    options: Mapping[str, Any]
    markers: tuple[str, ...]
    ends: str
    at: float


@dataclass(frozen=True)
class Strike:
    """A fault on our side. `what`: kill, kill-child, restart, or stop for so many `seconds`."""

    at: float
    what: str
    whom: str
    seconds: float = 0.0


@dataclass(frozen=True)
class Deed:
    """What a client or a stranger does to a job at a moment: `cancel`, or a kind of forgery."""

    at: float
    what: str
    number: int


@dataclass(frozen=True)
class Plan:
    """A whole run. `storm`: the seconds during which things are broken."""

    seed: int
    storm: float
    wishes: tuple[Wish, ...]
    strikes: tuple[Strike, ...]
    deeds: tuple[Deed, ...]

    def shares(self) -> dict[str, float]:
        """Marker → share of the jobs that carry it."""
        counted = Counter(marker for wish in self.wishes for marker in wish.markers)
        return {marker: count / len(self.wishes) for marker, count in sorted(counted.items())}


def draw(seed: int, jobs: int, storm: float, hard: bool) -> Plan:
    """`hard`: with servers that are killed, instead of being told to end, and for as long as it lasts."""
    wishes = tuple(_wish(seed, number, jobs) for number in range(jobs))
    dice = random.Random(f"{seed}/strikes")
    strikes = _strikes(dice, storm, hard)
    return Plan(seed, storm, wishes, strikes, _deeds(seed, wishes, storm))


def tag(number: int) -> str:
    """What is in the prompt of this job and of no other."""
    return f"job-{number:05d}"


def _wish(seed: int, number: int, jobs: int) -> Wish:
    dice = random.Random(f"{seed}/job/{number}")
    markers = [_one_of(dice, CALLBACKS), _one_of(dice, SUBMITS)]
    spoilt = _one_of(dice, {marker: share for marker, (share, _) in GENERATIONS.items()})
    markers = [marker for marker in (*markers, spoilt) if marker]
    prompt = " ".join((f"a lighthouse, {tag(number)}", *markers))
    wanted, parameters = _asked(dice, prompt)
    if spoilt == TWICE_IS_TOO_OFTEN and isinstance(wanted, tuple):
        markers.remove(spoilt)
        parameters = {"prompt": prompt.replace(f" {spoilt}", "")}
    lane = dice.choices(LANES, [share for *_, share in LANES])[0]
    options = {"batch": lane[0], "priority": dice.choice((0, 0, 0, 3, 9))}
    return Wish(
        number=number,
        id=str(uuid.UUID(int=dice.getrandbits(128), version=4)),
        wanted=wanted,
        parameters=parameters,
        options={**options, "tenant": lane[1]} if lane[1] else options,
        markers=tuple(markers),
        ends=GENERATIONS[spoilt][1] if spoilt else "succeeded",
        at=number * WAVES // jobs / WAVES * WAVES_SHARE,
    )


def _asked(dice: random.Random, prompt: str) -> tuple[str | tuple[str, ...], Mapping[str, Any]]:
    if dice.random() < PORTABLE:
        return dice.choice(PAIRS), {"prompt": prompt}
    loads = [place.slots * LOAD.get(place.provider, 1.0) for place in PLACES]
    place = dice.choices(PLACES, loads)[0]
    provider = place.provider
    if provider == "freepik_runway":
        return provider, {"prompt": prompt, "ratio": "1280:720"}
    if provider == "runway":
        return provider, {"model": "gen4_image", "promptText": prompt, "ratio": "1024:1024"}
    if provider == "webhook_json":
        return provider, {"prompt": prompt}
    pinned = {"email": place.seen_as} if dice.random() < PINNED else {}
    return provider, {"text_prompt": prompt, "aspect_ratio": dice.choice(RATIOS), **pinned}


def _one_of(dice: random.Random, shares: Mapping[str, float]) -> str:
    drawn = dice.random()
    for marker, share in shares.items():
        if drawn < share:
            return marker
        drawn -= share
    return ""


def _strikes(dice: random.Random, storm: float, hard: bool) -> tuple[Strike, ...]:
    """Everything is struck at least once; a worker every 10 to 20 s where it is hard."""
    gap = (10.0, 20.0) if hard else (storm / 4, storm / 3)
    strikes = [Strike(at, "kill", dice.choice(("worker", "worker-2"))) for at in _moments(dice, gap, storm)]
    rare = 1.0 if hard else storm / 70
    strikes += [Strike(at, "kill-child", "receiver") for at in _moments(dice, (20 * rare, 40 * rare), storm)]
    strikes += [Strike(at, "kill", "ticker") for at in _moments(dice, (30 * rare, 60 * rare), storm)]
    redis = "kill" if hard else "restart"
    strikes += [Strike(at, redis, "valkey") for at in _moments(dice, (45 * rare, 70 * rare), storm)]
    strikes += [
        Strike(at, "stop", dice.choice(("worker", "worker-2")), dice.uniform(2, 5))
        for at in _moments(dice, (35 * rare, 60 * rare), storm)
    ]
    strikes += [Strike(at, "kill", "collector") for at in _moments(dice, (30 * rare, 60 * rare), storm)]
    return tuple(sorted(strikes, key=lambda strike: strike.at))


def _moments(dice: random.Random, gap: tuple[float, float], until: float) -> list[float]:
    moments, at = [], dice.uniform(*gap) if gap[1] < until else until / 2
    while at < until:
        moments.append(at)
        at += dice.uniform(*gap)
    return moments


def _deeds(seed: int, wishes: tuple[Wish, ...], storm: float) -> tuple[Deed, ...]:
    dice = random.Random(f"{seed}/deeds")
    numbers = [wish.number for wish in wishes]
    deeds = [
        Deed((wishes[number].at + dice.uniform(0, SOON)) * storm, "cancel", number)
        for number in dice.sample(numbers, round(CANCELLED * len(numbers)))
    ]
    deeds += [
        Deed((wishes[number].at + dice.random()) * storm, dice.choice(FORGERIES), number)
        for number in dice.sample(numbers, round(FORGED * len(numbers)))
    ]
    return tuple(sorted(deeds, key=lambda deed: deed.at))
