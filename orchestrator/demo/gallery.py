"""The page a run ends with: every job as a card, the run as figures, in one file that needs nothing else.

It turns values into a text and does no more: it must not know the store, the clock, the network, or where
the page is going to be kept. Prompts, errors and media types are a stranger's words and are shown as such:
autoescape writes them, and a content security policy runs no script but the template's own.
"""

from __future__ import annotations

import hashlib
import math
import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined, Template

_TEMPLATE = "gallery.html"
_BAR_HEIGHT = 100.0  # of the longest job, in units of the chart
_BAR_LEAST = 3.0  # of the shortest, so that it can still be seen


@dataclass(frozen=True)
class Picture:
    """One produced picture. `bytes` and `sha256` are shown as given, not checked against `content`."""

    media_type: str
    content: bytes  # embedded in the page, so a third larger there
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Card:
    """One job, as it is shown."""

    job_id: str
    prompt: str
    provider: str
    account: str | None  # None: the job never reached one
    state: str
    attempts: int
    seconds: float | None  # from enqueue to end; None: not ended
    error: str | None  # a sentence for a reader
    pictures: tuple[Picture, ...]

    @property
    def retried(self) -> bool:
        """Whether it took more than one attempt, however it ended."""
        return self.attempts > 1


@dataclass(frozen=True)
class _Bar:
    """One job in the chart of durations."""

    number: int  # of its card, from 1
    height: float
    tone: str
    words: str


def render(title: str, subtitle: str, figures: Sequence[tuple[str, str]], cards: Sequence[Card]) -> str:
    """The whole page as HTML, cards and figures in the order given.

    `figures` are (label, value) pairs, both ready to be read. Write the answer as UTF-8. It is about 4/3 of
    the pictures' bytes long, so hand in previews where a run has thousands of large ones.

    Safe to call twice: the same arguments give the same page.
    """
    return _template().render(
        title=title,
        subtitle=subtitle,
        figures=figures,
        cards=cards,
        choices=_choices(cards),
        bars=_bars(cards),
        longest=max((card.seconds or 0.0 for card in cards), default=0.0),
    )


@cache
def _template() -> Template:
    source = files(__package__).joinpath(_TEMPLATE).read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, auto_reload=False
    )
    environment.filters.update(
        address=_address, columns=_columns, lead=_lead, seconds=_seconds, size=_size, times=_times
    )
    environment.globals["script_hash"] = _script_hash(source)
    return environment.from_string(source)


def _script_hash(source: str) -> str:
    """What the content security policy calls the template's one script, which must hold no template tags."""
    script = re.search(r"<script>(.*?)</script>", source, re.DOTALL)
    if script is None:
        raise ValueError(f"{_TEMPLATE} has no script")
    return "sha256-" + b64encode(hashlib.sha256(script[1].encode()).digest()).decode("ascii")


def _choices(cards: Sequence[Card]) -> list[tuple[str, str, int]]:
    """The filter: (value, label, how many cards it leaves)."""
    return [
        ("all", "All", len(cards)),
        ("succeeded", "Succeeded", sum(card.state == "succeeded" for card in cards)),
        ("failed", "Failed", sum(card.state == "failed" for card in cards)),
        ("retried", "Retried", sum(card.retried for card in cards)),
    ]


def _bars(cards: Sequence[Card]) -> list[_Bar]:
    """The chart of durations, the longest job at full height."""
    longest = max((card.seconds or 0.0 for card in cards), default=0.0) or 1.0
    return [
        _Bar(
            number,
            round(max((card.seconds or 0.0) / longest * _BAR_HEIGHT, _BAR_LEAST), 1),
            _tone(card),
            f"{_seconds(card.seconds)}, {_times(card.attempts, 'attempt')}, {card.state}",
        )
        for number, card in enumerate(cards, start=1)
    ]


def _tone(card: Card) -> str:
    if card.state == "succeeded":
        return "retried" if card.retried else "succeeded"
    return "failed" if card.state == "failed" else "other"


def _address(picture: Picture) -> str:
    """The picture as a `data:` URI."""
    return (
        f"data:{quote(picture.media_type, safe='/+.;=-')};base64,{b64encode(picture.content).decode('ascii')}"
    )


def _columns(pictures: Sequence[Picture]) -> int:
    """Columns of the mosaic, as near to a square as the number of pictures allows."""
    return math.ceil(math.sqrt(len(pictures)))


def _lead(pictures: Sequence[Picture]) -> int:
    """Columns the first picture spans, so that the mosaic has no hole."""
    return 1 + -len(pictures) % _columns(pictures)


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "\N{EN DASH}"
    return f"{seconds:,.0f}\N{NO-BREAK SPACE}s" if seconds >= 100 else f"{seconds:.1f}\N{NO-BREAK SPACE}s"


def _size(count: int) -> str:
    """Bytes as a person says them, in decimal units."""
    amount, units = float(count), ["B", "kB", "MB", "GB"]
    while amount >= 1000 and len(units) > 1:
        amount, units = amount / 1000, units[1:]
    places = 1 if amount < 10 and units[0] != "B" else 0
    return f"{amount:.{places}f}\N{NO-BREAK SPACE}{units[0]}"


def _times(count: int, noun: str) -> str:
    return f"{count:,}\N{NO-BREAK SPACE}{noun}{'' if count == 1 else 's'}"
