"""What the demo asks for, and how each job is to end. The markers are orders to the simulator."""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True)
class Scripted:
    """One job of the demo."""

    parameters: dict[str, str | int]
    ends: str  # the state it must come to


def scripted_jobs() -> list[Scripted]:
    """The same sixty jobs every time."""
    return [_job(number) for number in range(JOBS)]


def _job(number: int) -> Scripted:
    marker, ends = TROUBLE.get(number, ("", "succeeded"))
    prompt = f"{SUBJECTS[number % len(SUBJECTS)]}, {MOODS[number // len(SUBJECTS)]} {marker}".strip()
    return Scripted(
        {
            "text_prompt": prompt,
            "aspect_ratio": ASPECT_RATIOS[number * 7 % len(ASPECT_RATIOS)],
            "style": STYLES[number * 5 % len(STYLES)],
            "seed": 1000 + number,
        },
        ends,
    )
