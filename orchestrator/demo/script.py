"""What the demo asks for, and how each job is to end. Words in brackets are orders to the simulator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

JOBS = 60
ASPECT_RATIOS = ("16:9", "1:1", "3:4", "4:3", "9:16", "21:9")
STYLES = ("vivid", "nordic-minimal", "dreamscape", "muted-pastel", "terracotta", "light-anime")

SUBJECTS = (
    "a lighthouse in fog", "terraced hills after rain", "a night market on stilts",
    "a glacier at first light",
    "an orchard in bloom", "a harbour of paper boats", "a desert observatory", "a forest of glass",
    "a mountain railway", "a library under the sea", "wheat fields in wind", "a city of kites",
)  # fmt: skip
MOODS = ("seen from above", "at dusk", "in winter", "in the rain", "under two moons")

# job number → (marker, what the job must come to)
TROUBLE: dict[int, tuple[str, str]] = {
    4: ("[early]", "succeeded"),  # the callback overtakes the reply to the submit
    9: ("[double]", "succeeded"),  # the final callback comes twice
    14: ("[lost]", "succeeded"),  # no callback ever comes: the poll is the net
    17: ("[empty:1]", "succeeded"),  # SUCCEEDED without a picture is no success
    19: ("[failed:1]", "succeeded"),  # fails once for an internal reason, and is tried again
    23: ("[moderated]", "failed"),  # refused by moderation: never tried again
    28: ("[5xx:1]", "succeeded"),  # accepted, but answered 503: must not be paid for twice
    33: ("[5xx-refused:1]", "succeeded"),  # answered 503 and not accepted: must be tried again
    36: ("[moderated-422]", "failed"),  # refused at once
    38: ("[out-of-order]", "succeeded"),  # a progress callback after the final one
    42: ("[weird]", "succeeded"),  # status words nobody documented
    44: ("[lost]", "succeeded"),
}


# provider → the parameters of a prompt, in its own words
MIXED: dict[str, Callable[[str], dict[str, Any]]] = {
    "useapi_frames": lambda prompt: {"text_prompt": prompt, "aspect_ratio": "16:9"},
    "freepik_runway": lambda prompt: {"prompt": prompt, "ratio": "1280:720"},
    "runway": lambda prompt: {"model": "gen4_image", "promptText": prompt, "ratio": "1024:1024"},
    "useapi_preview": lambda prompt: {"text_prompt": prompt, "aspect_ratio": "4:3"},
    "webhook_json": lambda prompt: {"prompt": prompt},
}
MIXED_ROUNDS = 4


@dataclass(frozen=True)
class Scripted:
    """One job of the demo."""

    provider: str
    prompt: str
    parameters: Mapping[str, Any]
    ends: str  # the state it must come to


def frames_jobs() -> list[Scripted]:
    """The same sixty jobs every time."""
    return [_frames_job(number) for number in range(JOBS)]


def mixed_jobs() -> list[Scripted]:
    """Twenty jobs, of every provider in turn."""
    made = []
    for number in range(MIXED_ROUNDS * len(MIXED)):
        provider, parameters = list(MIXED.items())[number % len(MIXED)]
        prompt = f"{SUBJECTS[number * 5 % len(SUBJECTS)]}, {provider} {number // len(MIXED) + 1}"
        made.append(Scripted(provider, prompt, parameters(prompt), "succeeded"))
    return made


def _frames_job(number: int) -> Scripted:
    marker, ends = TROUBLE.get(number, ("", "succeeded"))
    prompt = f"{SUBJECTS[number % len(SUBJECTS)]}, {MOODS[number // len(SUBJECTS)]} {marker}".strip()
    parameters = {
        "text_prompt": prompt,
        "aspect_ratio": ASPECT_RATIOS[number * 7 % len(ASPECT_RATIOS)],
        "style": STYLES[number * 5 % len(STYLES)],
        "seed": 1000 + number,
    }
    return Scripted("useapi_frames", prompt, parameters, ends)
