"""The page: every job as a card, the batch as figures, in one file that needs nothing else.

It turns values into a text and does no more: it must not know the store, the clock, the network, or where
the page is going to be kept. Prompts, errors and custom ids are a stranger's words and are shown as such:
autoescape writes them, and a content security policy runs no script and no style but the page's own.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from orchestrator.report.cards import Card
from orchestrator.report.panels import Panels, seconds
from orchestrator.views.printing import counted

STATES = ("succeeded", "failed", "cancelled", "open")


@dataclass(frozen=True)
class Heading:
    """What is said first, and of the gallery as a whole."""

    title: str
    subtitle: str
    note: str  # on the gallery: which jobs it shows, or why it has no thumbnails
    providers: tuple[str, ...]
    accounts: tuple[str, ...]
    states: tuple[tuple[str, int], ...]  # of the jobs in the gallery, by filter


def write_card(card: Card) -> str:
    """One job, as HTML."""
    return _environment().get_template("card.html").render(card=card)


def write_page(heading: Heading, panels: Panels, cards: Iterable[str]) -> Iterator[str]:
    """The whole page as HTML, piece by piece. `cards`: what `write_card` gave, in any pieces.

    Safe to call twice: the same arguments give the same page.
    """
    template = _environment().get_template("page.html")
    style, script = _text("page.css"), _text("page.js")
    return template.generate(
        heading=heading, panels=panels, cards=map(Markup, cards), style=Markup(style), script=Markup(script),
        style_hash=_hash(style), script_hash=_hash(script),
    )  # fmt: skip


def group(state: str) -> str:
    """Which filter a job of this state is under."""
    return state if state in STATES else "open"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(_text), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, auto_reload=False,
    )  # fmt: skip
    environment.filters.update(address=_address, counted=counted, group=group, seconds=seconds, size=size)
    return environment


@cache
def _text(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """What the content security policy calls a script or a style."""
    return "sha256-" + b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _address(thumbnail: bytes) -> str:
    """A thumbnail as a `data:` URI."""
    return f"data:image/webp;base64,{b64encode(thumbnail).decode('ascii')}"


def size(count: int | None) -> str:
    """Bytes as a person says them, in decimal units."""
    if count is None:
        return ""
    amount, units = float(count), ["B", "kB", "MB", "GB"]
    while amount >= 1000 and len(units) > 1:
        amount, units = amount / 1000, units[1:]
    places = 1 if amount < 10 and units[0] != "B" else 0
    return f"{amount:.{places}f} {units[0]}"
