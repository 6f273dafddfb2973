"""The gallery: what a reader sees of a run, and what a hostile prompt cannot do to it."""

from __future__ import annotations

import hashlib
import re
from base64 import b64decode, b64encode
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from orchestrator.demo.gallery import Card, Picture, render

PNG = b"\x89PNG\r\n\x1a\n with bytes that base64 writes as + and /: \xfb\xef\xbe\xff\xff"
HOSTILE = (
    """</title></script><script>alert("x")</script><img src=x onerror='alert(1)'> {{ 7*7 }} " ' & ]]> -->"""
)
PICTURE = Picture("image/png", PNG, len(PNG), hashlib.sha256(PNG).hexdigest())
CARD = Card("job-a", "A lighthouse in fog", "useapi", "studio-a", "succeeded", 1, 4.21, None, (PICTURE,))
FAILED = Card("job-b", "A storm", "legnext", "north", "failed", 3, 12.0, "Refused: it shows a person.", ())
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


def page(*cards: Card, figures: tuple[tuple[str, str], ...] = ()) -> Page:
    return Page(render("A run", "of a demo", figures, cards))


def with_pictures(count: int) -> Card:
    return replace(CARD, pictures=(PICTURE,) * count)


def shape(parsed: Page) -> list[tuple[str, list[str]]]:
    return [(tag, sorted(attributes)) for tag, attributes in parsed.elements]


def test_every_figure_is_shown_in_the_order_given() -> None:
    shown = page(CARD, figures=(("jobs", "60"), ("429s", "7"), ("slot utilisation", "96.4 %")))
    assert shown.within("dt")[:3] == ["jobs", "429s", "slot utilisation"]
    assert shown.within("dd")[:3] == ["60", "7", "96.4 %"]


def test_every_card_is_shown_in_the_order_given() -> None:
    cards = [replace(CARD, job_id=f"job-{n}", prompt=f"Prompt number {n}") for n in range(60)]
    shown = page(*cards)
    assert len(shown.cards()) == 60
    assert shown.within("h3") == [card.prompt for card in cards]
    assert [text for text in shown.within("dd") if text.startswith("job-")] == [card.job_id for card in cards]


def test_a_card_tells_account_attempts_and_seconds() -> None:
    facts = page(replace(CARD, attempts=2)).within("dd")
    assert facts == ["useapi / studio-a", "2\u00a0attempts", "4.2\u00a0s", "job-a"]


def test_a_picture_is_embedded_byte_for_byte_and_described_by_its_prompt() -> None:
    (image,) = page(CARD).pictures()
    head, _, content = image["src"].partition(",")
    assert head == "data:image/png;base64"
    assert b64decode(content, validate=True) == PNG
    assert image["alt"] == CARD.prompt


def test_several_pictures_of_a_job_are_told_apart() -> None:
    assert [image["alt"] for image in page(with_pictures(2)).pictures()] == [
        "A lighthouse in fog (1 of 2)",
        "A lighthouse in fog (2 of 2)",
    ]


@pytest.mark.parametrize("count", range(1, 18))
def test_a_mosaic_has_no_hole(count: int) -> None:
    (style,) = (item["style"] for item in page(with_pictures(count)).all("div") if "style" in item)
    columns, lead = map(int, re.findall(r"\d+", style))
    assert 1 <= lead <= columns
    assert (count - 1 + lead) % columns == 0


def test_a_failed_job_shows_its_error_and_nothing_to_open() -> None:
    shown = page(FAILED)
    assert FAILED.error in shown.within("p")
    assert "failed" in shown.cards()[0]["class"].split()
    assert not shown.pictures()
    assert not [button for button in shown.all("button") if button.get("class") == "open"]


def test_an_error_is_shown_beside_the_pictures_there_are() -> None:
    shown = page(replace(FAILED, pictures=(PICTURE,)))
    assert FAILED.error in shown.within("p")
    assert len(shown.pictures()) == 1


def test_a_job_that_never_reached_an_account_still_has_a_card() -> None:
    waiting = replace(CARD, account=None, state="cancelled", attempts=0, seconds=None, pictures=())
    shown = page(waiting)
    assert shown.within("dd") == ["useapi", "0\u00a0attempts", "\u2013", "job-a"]
    assert "cancelled" in shown.within("strong")


def test_the_filter_counts_what_it_leaves() -> None:
    shown = page(CARD, replace(CARD, attempts=2), FAILED)
    assert shown.within("b") == ["3", "2", "1", "2"]  # all, succeeded, failed, retried
    retried = [item for item in shown.cards() if "retried" in item["class"].split()]
    assert len(retried) == 2  # the failed one took three attempts


def test_a_choice_that_would_leave_nothing_is_not_offered() -> None:
    choices = [field for field in page(CARD).all("input") if field["type"] == "radio"]
    assert [field["value"] for field in choices if "disabled" in field] == ["failed", "retried"]


def test_hostile_words_are_shown_and_change_nothing() -> None:
    def made_of(text: str) -> str:
        picture = replace(PICTURE, media_type=text, sha256=text)
        failed = Card(text, text, text, text, text, 2, 1.0, text, ())
        return render(text, text, [(text, text)], [replace(failed, pictures=(picture,)), failed])

    hostile = Page(made_of(HOSTILE))
    assert shape(hostile) == shape(Page(made_of("tame")))
    assert hostile.within("h1") == [HOSTILE]
    assert hostile.within("h3") == [HOSTILE, HOSTILE]
    assert hostile.pictures()[0]["alt"] == HOSTILE


def test_a_hostile_state_cannot_become_a_class() -> None:
    assert page(replace(CARD, state="retried hidden")).cards()[0]["class"].split() == ["card"]


def test_the_page_refers_to_nothing_outside_itself() -> None:
    source = render("A run", "", [("jobs", "2")], [CARD, FAILED])
    references = [
        value
        for _, attributes in Page(source).elements
        for name, value in attributes.items()
        if name in {"src", "srcset", "href", "action", "poster", "background", "cite", "data", "xlink:href"}
    ]
    assert references
    assert all(reference.startswith(("data:", "#")) for reference in references)
    assert not re.search(r"https?:|url\(|@import|\bimport\b|fetch\(|XMLHttp", source)


def test_the_policy_allows_the_template_s_script_and_no_other() -> None:
    source = render("A run", "", [], [replace(CARD, prompt=HOSTILE)])
    (script,) = re.findall(r"<script>(.*?)</script>", source, re.DOTALL)
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = (meta["content"] for meta in Page(source).all("meta") if "http-equiv" in meta)
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy


def test_a_run_of_a_thousand_jobs_costs_little_beside_its_pictures() -> None:
    source = render("A run", "", [], [CARD] * 1000)
    assert len(Page(source).cards()) == 1000
    assert len(source) < 2_000 * 1000


def test_a_run_without_jobs_says_so() -> None:
    shown = page()
    (notice,) = (item for item in shown.all("p") if item.get("class") == "none")
    assert "hidden" not in notice
    assert not shown.all("svg")


def test_the_same_run_gives_the_same_page() -> None:
    assert render("A run", "", [], [CARD, FAILED]) == render("A run", "", [], [CARD, FAILED])


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0, "0.0\u00a0s"),
        (99.94, "99.9\u00a0s"),
        (1234.5, "1,234\u00a0s"),  # tenths say nothing there
    ],
)
def test_seconds_are_as_exact_as_a_reader_needs(seconds: float, shown: str) -> None:
    assert shown in page(replace(CARD, seconds=seconds)).within("dd")


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0\u00a0B"),
        (999, "999\u00a0B"),
        (1_500, "1.5\u00a0kB"),
        (184_320, "184\u00a0kB"),
        (2_400_000, "2.4\u00a0MB"),
    ],
)
def test_sizes_are_said_in_the_unit_that_fits(count: int, shown: str) -> None:
    (button,) = (
        item
        for item in page(replace(CARD, pictures=(replace(PICTURE, bytes=count),))).all("button")
        if "data-size" in item
    )
    assert button["data-size"] == shown
