"""The report's page: what a reader sees of a batch, and what a hostile prompt cannot do to it."""

from __future__ import annotations

import hashlib
import re
from base64 import b64decode, b64encode
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from orchestrator.bill import Bill
from orchestrator.report.cards import Card, Picture
from orchestrator.report.figures import Example, Failures, Figures
from orchestrator.report.page import STATES, Heading, size, write_card, write_page
from orchestrator.report.panels import panels, seconds

WEBP = b"RIFF....WEBPVP8 with bytes that base64 writes as + and /: \xfb\xef\xbe\xff\xff"
HOSTILE = (
    """</title></script></style><script>alert("x")</script><img src=x onerror='alert(1)'>"""
    """ {{ 7*7 }} " ' & ]]> -->"""
)
PICTURE = Picture(
    "./pictures/a.png", "/kept/pictures/a.png", WEBP, "image/png", 2_400_000, hashlib.sha256(WEBP).hexdigest()
)
CARD = Card(
    "job-a", "row-1", "A lighthouse in fog", "useapi", "studio-a", "succeeded", 1, 4.21, "", (PICTURE,)
)
FAILED = Card(
    "job-b", "", "A storm", "legnext", "north", "failed", 3, 12.0, "Refused: it shows a person.", ()
)
HEADING = Heading(
    "A run", "of a test", "", ("legnext", "useapi"), ("north",), tuple((state, 1) for state in STATES)
)
VOID = {"meta", "link", "img", "input", "br"}


class Page(HTMLParser):
    """A page taken apart: its elements with attributes, and the text inside each kind of element."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self._open[-1], data))

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def within(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]

    def cards(self) -> list[dict[str, str]]:
        return [item for item in self.all("li") if "card" in item["class"].split()]

    def pictures(self) -> list[dict[str, str]]:
        return [image for image in self.all("img") if "src" in image]


def write(*cards: Card, heading: Heading = HEADING, figures: Figures | None = None, more: tuple = ()) -> str:
    shown = panels(figures or Figures(0.0, 60.0), Bill((), 0, 0.0, 0.0), {}, len(cards), more)
    return "".join(write_page(heading, shown, [write_card(card) for card in cards]))


def page(*cards: Card, **more: object) -> Page:
    return Page(write(*cards, **more))


def shape(parsed: Page) -> list[tuple[str, list[str]]]:
    return [(tag, sorted(attributes)) for tag, attributes in parsed.elements]


def policy(source: str) -> str:
    (found,) = (meta["content"] for meta in Page(source).all("meta") if "http-equiv" in meta)
    return found


def test_every_figure_is_shown_in_the_order_given() -> None:
    shown = page(CARD, more=(("POSTs", "60"), ("429s", "7")))
    assert shown.within("dt")[8:10] == ["POSTs", "429s"]
    assert shown.within("dd")[8:10] == ["60", "7"]


def test_every_card_is_shown_in_the_order_given() -> None:
    cards = [replace(CARD, job_id=f"job-{n}", prompt=f"Prompt number {n}") for n in range(60)]
    shown = page(*cards)
    assert len(shown.cards()) == 60
    assert shown.within("h3") == [card.prompt for card in cards]
    assert [text for text in shown.within("dd") if text.startswith("job-")] == [card.job_id for card in cards]


def test_a_card_tells_account_attempts_seconds_and_its_names() -> None:
    shown = page(replace(CARD, attempts=2))
    assert shown.within("span")[-3:] == ["useapi / studio-a", "2 attempts", "4.2 s"]
    assert {"row-1", "job-a", PICTURE.sha256, PICTURE.place} <= set(shown.within("dd"))


def test_a_thumbnail_is_embedded_and_leads_to_the_whole_picture() -> None:
    shown = page(CARD)
    (image,) = shown.pictures()
    head, _, content = image["src"].partition(",")
    assert head == "data:image/webp;base64"
    assert b64decode(content, validate=True) == WEBP
    assert image["alt"] == CARD.prompt
    assert [each["href"] for each in shown.all("a")] == [PICTURE.link]


def test_several_pictures_of_a_job_are_told_apart() -> None:
    assert [image["alt"] for image in page(replace(CARD, pictures=(PICTURE,) * 2)).pictures()] == [
        "A lighthouse in fog (1 of 2)",
        "A lighthouse in fog (2 of 2)",
    ]


def test_a_picture_without_a_thumbnail_says_why_and_is_still_linked() -> None:
    shown = page(replace(CARD, pictures=(replace(PICTURE, thumbnail="The file cannot be read."),)))
    assert not shown.pictures()
    assert "The file cannot be read." in shown.within("span")
    assert [each["href"] for each in shown.all("a")] == [PICTURE.link]


def test_a_picture_that_a_browser_cannot_reach_is_no_link() -> None:
    shown = page(replace(CARD, pictures=(replace(PICTURE, link=None, place="s3://bucket/a.png"),)))
    assert not shown.all("a")
    assert "s3://bucket/a.png" in shown.within("dd")


def test_a_failed_job_shows_its_error_and_nothing_to_open() -> None:
    shown = page(FAILED)
    assert FAILED.error in shown.within("p")
    assert "failed" in shown.cards()[0]["class"].split()
    assert not shown.pictures() and not shown.all("a")


def test_an_error_is_shown_beside_the_pictures_there_are() -> None:
    shown = page(replace(FAILED, pictures=(PICTURE,)))
    assert FAILED.error in shown.within("p")
    assert len(shown.pictures()) == 1


def test_a_job_that_is_not_over_is_under_open() -> None:
    shown = page(replace(CARD, account="", state="collecting", attempts=0, seconds=None, pictures=()))
    assert shown.cards()[0]["class"].split() == ["card", "open"]
    assert shown.within("span")[-3:] == ["useapi", "0 attempts", "\u2013"]


def test_a_choice_that_would_leave_nothing_is_not_offered() -> None:
    states = tuple((state, int(state == "failed")) for state in STATES)
    choices = [
        field
        for field in page(CARD, heading=replace(HEADING, states=states)).all("input")
        if "value" in field
    ]
    assert [field["value"] for field in choices if "disabled" in field] == ["succeeded", "cancelled", "open"]


def test_hostile_words_are_shown_and_change_nothing() -> None:
    def made_of(text: str) -> str:
        picture = replace(PICTURE, link=text, place=text, media_type=text, sha256=text)
        card = Card(
            text, text, text, text, text, "failed", 2, 1.0, text, (picture, replace(picture, thumbnail=text))
        )
        heading = Heading(text, text, text, (text,), (text,), HEADING.states)
        figures = Figures(0.0, 60.0)
        figures.failures[text] = Failures(1, 1, [Example(text, text, text)])
        return write(card, replace(card, pictures=()), heading=heading, figures=figures, more=((text, text),))

    hostile = Page(made_of(HOSTILE))
    assert shape(hostile) == shape(Page(made_of("tame")))
    assert hostile.within("h1") == [HOSTILE]
    assert hostile.within("h3") == [HOSTILE, HOSTILE]
    assert hostile.pictures()[0]["alt"] == f"{HOSTILE} (1 of 2)"


def test_a_hostile_state_cannot_become_a_class() -> None:
    assert page(replace(CARD, state="failed hidden")).cards()[0]["class"].split() == ["card", "open"]


def test_the_page_loads_nothing() -> None:
    source = write(CARD, FAILED)
    loaded = [
        value
        for tag, attributes in Page(source).elements
        for name, value in attributes.items()
        if name in {"src", "srcset", "action", "poster", "background", "data", "xlink:href"}
        or (name == "href" and tag != "a")
    ]
    assert loaded
    assert all(reference.startswith("data:") for reference in loaded)
    assert not re.search(r"https?:|url\(|@import|\bimport\b|fetch\(|XMLHttp", source)


@pytest.mark.parametrize("tag", ["script", "style"])
def test_the_policy_allows_the_page_s_own_and_no_other(tag: str) -> None:
    source = write(replace(CARD, prompt=HOSTILE))
    (own,) = re.findall(rf"<{tag}>(.*?)</{tag}>", source, re.DOTALL)
    digest = b64encode(hashlib.sha256(own.encode()).digest()).decode()
    assert "default-src 'none'" in policy(source)
    assert f"{tag}-src 'sha256-{digest}'" in policy(source)
    assert "unsafe" not in policy(source)
    assert not [
        each for _, each in Page(source).elements if "style" in each or any(n.startswith("on") for n in each)
    ]


def test_charts_and_tables_are_described() -> None:
    shown = page(CARD)
    assert shown.all("svg")
    assert all(each["role"] == "img" and each["aria-label"] for each in shown.all("svg"))
    assert len(shown.all("caption")) == len(shown.all("table")) > 0


def test_a_run_without_jobs_says_so() -> None:
    shown = page(heading=replace(HEADING, states=tuple((state, 0) for state in STATES)))
    (notice,) = (item for item in shown.all("p") if item.get("class") == "none")
    assert "hidden" not in notice


def test_a_card_costs_little_beside_its_picture() -> None:
    assert len(write_card(CARD)) < 2_000


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "\u2013"), (0.0, "0.00 s"), (4.21, "4.2 s"), (99.94, "1 min 40 s"), (7325.0, "2 h 2 min")],
)
def test_seconds_are_as_exact_as_a_reader_needs(value: float | None, shown: str) -> None:
    assert seconds(value) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [(None, ""), (0, "0 B"), (999, "999 B"), (1_500, "1.5 kB"), (184_320, "184 kB"), (2_400_000, "2.4 MB")],
)
def test_sizes_are_said_in_the_unit_that_fits(count: int | None, shown: str) -> None:
    assert size(count) == shown
