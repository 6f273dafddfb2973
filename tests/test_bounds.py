"""How much a provider may tell of one generation, and that what is beyond it buys none anew."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.bounds import ID_CHARACTERS, URL_CHARACTERS, URLS, bounded, is_id
from orchestrator.errors import AccountFull, Malformed, Rejected, Uncertain
from orchestrator.exchange import Exchange
from orchestrator.models import (
    Callback,
    Failed,
    Pending,
    Reply,
    Report,
    Request,
    Succeeded,
    Tries,
)
from orchestrator.providers import registry
from orchestrator.settlement import settlement
from tests.store_kit import account

FRAMES = account("studio-1", "useapi_frames", max_jobs=5)
ATTEMPT, ID = "j.1", "user:1-runwayml:a@example.com-task:0f6c"
IDS = [".", "..", "x" * (ID_CHARACTERS + 1), "/" * 1_000_000, "1\n2", "1\x1b[2J", "\ud83d", "1\u2028"]
URL = "https://d1.cloudfront.net/{}.png"
LONG = URL.format("x" * URL_CHARACTERS)


class Answers:
    """The provider: it gives one answer to whatever it is asked."""

    def __init__(self, body: Any) -> None:
        self.body = body

    def send(self, request: Request, timeout_seconds: float) -> Reply:
        return Reply(200, {}, self.body, "")


def exchange(body: Any = None) -> Exchange:
    accounts = {(FRAMES.provider, FRAMES.name): FRAMES}
    return Exchange(Answers(body), None, registry(), accounts, (), None)  # type: ignore[arg-type]


def task(upstream_id: str = ID, *urls: str) -> dict[str, Any]:
    artifacts = [{"url": url} for url in urls]
    status = "SUCCEEDED" if urls else "RUNNING"
    return {"taskId": upstream_id, "status": status, "artifacts": artifacts, "replyRef": ATTEMPT}


@pytest.mark.parametrize("told", [ID, "", "046b6c7f-0b8a-43b9-b35d-6489e6daee91", "...", "x" * ID_CHARACTERS])
def test_what_providers_call_a_generation_is_an_id(told):
    assert is_id(told)


@pytest.mark.parametrize("told", IDS, ids=range(len(IDS)))
def test_what_could_not_be_asked_for_is_none(told):
    assert not is_id(told)
    with pytest.raises(Uncertain, match="answered 200, but with an id of over 1,024 characters, of dots"):
        exchange(task(told)).submit(FRAMES, ATTEMPT, {"text_prompt": "a fox"})  # which is not repeated
    assert exchange(task(told)).ask(FRAMES, ID) == Pending(heard=False)
    assert exchange({"tasks": [task(told)]}).search(FRAMES, ATTEMPT, 0.0) == (False, None)  # nor is it denied
    assert exchange().running(FRAMES.provider, AccountFull("full", running={ATTEMPT: told})) == {}
    assert list(exchange({"tasks": [task(told)]}).history(FRAMES)) == []


@pytest.mark.parametrize("told", [".", "x" * (ID_CHARACTERS + 1), "1\\n2", "\\ud83d"])
def test_a_callback_with_such_an_id_cannot_be_read(told):
    body = f'{{"taskId": "{told}", "status": "RUNNING"}}'.encode()
    with pytest.raises(Malformed, match="an id of over 1,024 characters"):
        exchange().read_callback(Callback(FRAMES.provider, FRAMES.name, ATTEMPT, body, 0.0), "")


def test_where_it_is_an_id_it_is_found():
    made = exchange({"tasks": [task()]})
    assert made.search(FRAMES, ATTEMPT, 0.0) == (True, ID)
    assert [(attempt, report.upstream_id) for attempt, report in made.history(FRAMES)] == [(ATTEMPT, ID)] * 3


def test_of_too_many_pictures_the_first_are_taken_and_too_long_a_url_is_left_out(caplog):
    urls = [URL.format(number) for number in range(5_000)]
    assert exchange(task(ID, LONG, *urls)).ask(FRAMES, ID) == Succeeded(tuple(urls[:URLS]))
    assert exchange(task(ID, LONG, *urls[:3])).ask(FRAMES, ID) == Succeeded(tuple(urls[:3]))
    assert [record.message for record in caplog.records] == ["artifacts.left_out provider=useapi_frames"] * 2
    assert exchange(task(ID, *urls[:10])).ask(FRAMES, ID) == Succeeded(tuple(urls[:10]))
    assert exchange(task(ID, *urls)).submit(FRAMES, ATTEMPT, {"text_prompt": "a fox"}).outcome == Succeeded(
        tuple(urls[:URLS])
    )


@pytest.mark.parametrize("url", [LONG, "https://d1.cloudfront.net/\ud83d.png"])
def test_pictures_that_cannot_be_fetched_are_not_bought_again(url):
    """They are paid for, and the next ones would be no shorter."""
    outcome = bounded(Report(ID, Succeeded((url, url)))).outcome
    assert isinstance(outcome, Failed) and type(outcome.error) is Rejected
    assert "URLs of over 8,192 characters" in str(outcome.error)
    verdict, told = settlement(outcome, Tries(), 5, 0.0, lambda: 0.5)
    assert (verdict, told["again_at"]) == ("failed", None)
