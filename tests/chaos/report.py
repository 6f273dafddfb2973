"""What a run found: a table for people, JSON for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tests.chaos.accounting import Line, tell
from tests.chaos.evidence import Evidence

JOBS_TOLD = 10


@dataclass(frozen=True)
class Found:
    """`strikes`: what was done to the processes. `seconds`: the whole of it, start and end apart."""

    evidence: Evidence
    lines: Sequence[Line]
    strikes: Mapping[str, int]
    diary: Sequence[str]
    seconds: float
    trouble: str = ""

    @property
    def sound(self) -> bool:
        return not self.trouble and not any(line.off for line in self.lines)


def faults(evidence: Evidence) -> dict[str, str]:
    """Fault → how often it happened, and what share of its kind that was."""
    stats = list(evidence.stats.values())
    staged, spoiled, refused = Counter[str](), Counter[str](), Counter[str]()
    for api in stats:
        staged.update(api["staged"])
        spoiled.update(api["spoiled"])
        refused.update(api["refused"])
    callbacks = sum(
        1 for each in evidence.generations if each.attempt and each.status in ("SUCCEEDED", "FAILED")
    )
    posts = sum(api["posts"] for api in stats)
    found = {f"callbacks {word}": _share(count, callbacks) for word, count in sorted(staged.items())}
    found["submits accepted, unanswered"] = _share(spoiled["timeout"] + spoiled["reset"], posts)
    found["submits answered 5xx"] = _share(spoiled["5xx"] + refused["5xx"], posts)
    found["callbacks forged"] = _share(sum(evidence.forged.values()), len(evidence.plan.wishes))
    found["jobs cancelled"] = _share(len(evidence.cancelled), len(evidence.plan.wishes))
    return found


def as_json(found: Found) -> dict[str, Any]:
    return {
        "seed": found.evidence.plan.seed,
        "jobs": len(found.evidence.plan.wishes),
        "seconds": round(found.seconds, 1),
        "sound": found.sound,
        "trouble": found.trouble,
        "faults": faults(found.evidence),
        "strikes": dict(found.strikes),
        "forged": dict(found.evidence.forged),
        "lines": [asdict(line) for line in found.lines],
    }


def show(found: Found, console: Console) -> None:
    happened = Table("what went wrong", "how often", box=None, title_justify="left")
    for name, told in faults(found.evidence).items():
        happened.add_row(name, told)
    for name, count in sorted(found.strikes.items()):
        happened.add_row(name, str(count))
    accounts = Table("account", "ours, or expected", "theirs, or found", "", box=None)
    for line in found.lines:
        mark = (
            Text("off", "red")
            if line.off
            else Text("ok" if line.theirs and line.ours != "-" else "", "green")
        )
        accounts.add_row(Text(line.name, "bold"), line.ours, line.theirs, mark)
    console.print(happened, "", accounts)
    if found.trouble:
        console.print(found.trouble, style="red", soft_wrap=True)
    for text in details(found):
        console.print(text, soft_wrap=True)


def details(found: Found) -> list[str]:
    """What is off, then all that is known of the first jobs concerned."""
    numbers: list[int] = []
    told = []
    for line in found.lines:
        for number, text in line.off:
            told.append(f"{line.name}: {f'job-{number:05d}: ' if number >= 0 else ''}{text}")
            if number >= 0 and number not in numbers:
                numbers.append(number)
    for number in numbers[:JOBS_TOLD]:
        told += tell(found.evidence, number)
    return told


def _share(count: int, of: int) -> str:
    return f"{count} of {of} ({count / of:.0%})" if of else "0"
