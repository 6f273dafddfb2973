"""A submit that was not answered, looked for in its provider's lists: whose is what they show?"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.exchange import Exchange
from orchestrator.flow import Flow
from orchestrator.models import Message, NewJob, Reply, Request, Secret
from orchestrator.providers import registry
from orchestrator.signatures import Reference, sign_reference
from orchestrator.store import Store
from orchestrator.watch import SEARCH_SECONDS, Watch
from tests import store_kit
from tests.store_kit import DAY, NOW, PROVIDER, account, names

server, raw = store_kit.server, store_kit.raw

KEYS = [Secret("k" * 32)]
OLD, NEW = "task-old", "task-new"


class World:
    """The keyed job `j`, and a provider that answers each submit with 503, whose lists are the test's."""

    def __init__(self, url: str) -> None:
        self.store, self.now = Store(url), NOW
        self.tasks: list[dict[str, Any]] = []  # newest first
        self.granted: list[Message] = []
        self.while_asked: Callable[[], Any] = lambda: None
        self.searches = 0
        theirs = replace(account(max_jobs=2), deadline_seconds=DAY)
        exchange = Exchange(
            SimpleNamespace(send=self.send), None, registry(), {(PROVIDER, "a"): theirs},  # type: ignore[arg-type]
            KEYS, "https://jobs.example.com",
        )  # fmt: skip
        broker = SimpleNamespace(
            submit=self.granted.extend, go_on=lambda submits, finishes: self.granted.extend(submits)
        )
        clock, dice = lambda: self.now, lambda: 0.0
        watch = Watch(self.store, exchange, clock, dice)
        self.flow = Flow(self.store, broker, exchange, watch, clock, dice)  # type: ignore[arg-type]
        self.store.accounts.configure([theirs])

    def send(self, request: Request, timeout: float) -> Reply:
        if request.method == "POST":
            return Reply(503, {}, None, "")
        if request.url.endswith("/scheduler"):
            self.searches += 1
            self.while_asked()
            return Reply(200, {}, [], "")
        if request.url.endswith("/tasks/"):
            return Reply(200, {}, {"tasks": self.tasks}, "")
        return Reply(200, {}, {"taskId": request.url.rpartition("/")[2], "status": "RUNNING"}, "")

    def begin(self, *ids: str) -> list[str]:
        """Lets jobs be submitted, which is not answered. Gives their attempts."""
        jobs = [
            NewJob(each, PROVIDER, {"text_prompt": each}, batch="b", custom_id=each, fingerprint="f")
            for each in ids
        ]
        self.granted.clear()
        self.flow.enqueue(jobs)
        attempts = list(self.granted)
        for message in attempts:
            self.flow.submit(PROVIDER, message.job_id, message.attempt, message.parameters)
        return names(attempts)

    def task(self, attempt: str, upstream_id: str, made_at: float = NOW) -> dict[str, Any]:
        return {
            "taskId": upstream_id,
            "replyRef": sign_reference(PROVIDER, Reference(attempt, "a"), KEYS),
            "createdAt": datetime.fromtimestamp(made_at, UTC).isoformat().replace("+00:00", "Z"),
            "status": "RUNNING",
        }

    def call_back(self, attempt: str, upstream_id: str) -> str:
        task = self.task(attempt, upstream_id)
        return self.flow.receive(PROVIDER, task["replyRef"], {}, lambda: json.dumps(task).encode())

    def search(self, attempt: str) -> str | None:
        """As often as a provider is asked before it is believed. Gives what the attempt is called there."""
        for seconds in SEARCH_SECONDS:
            self.now += seconds
            self.flow.poll(attempt)
        known = self.store.attempt(attempt)
        return known.upstream_id if known else None


@pytest.fixture
def world(server, raw) -> Iterator[World]:
    raw.flushall()
    made = World(server.url)
    yield made
    made.store.close()


def forget(world: World, raw: Any, how: str) -> None:
    """The job `j` is cancelled while its generation goes on, and then not known any more."""
    world.flow.store.cancel("j", world.now)
    if how == "purged":
        assert world.store.batches.purge("b", ["j"]) == 1
    else:  # its records have lived long enough
        raw.delete(*raw.keys("orc:job:*"), *raw.keys("orc:attempt:*"), *raw.keys("orc:batch:*"))
        world.now += 7 * DAY


def test_what_was_taken_is_found_by_its_reference(world):
    (attempt,) = world.begin("j")
    world.tasks = [world.task(attempt, NEW, world.now)]
    assert world.search(attempt) == NEW


@pytest.mark.parametrize("how", ["purged", "expired"])
def test_generation_of_a_job_that_had_the_same_id_is_not_taken_for_one_of_the_new(how, world, raw):
    (first,) = world.begin("j")
    world.tasks = [world.task(first, OLD)]
    forget(world, raw, how)
    (second,) = world.begin("j")
    assert world.search(second) is None
    assert world.store.attempt(second).verdict == "failed"


def test_callback_of_a_job_that_was_purged_says_nothing_of_the_new_one(world, raw):
    (first,) = world.begin("j")
    forget(world, raw, "purged")
    (second,) = world.begin("j")
    assert world.call_back(first, OLD) == "unknown"
    assert world.store.attempt(second).upstream_id is None
    assert world.call_back(second, NEW) == "pending"
    assert world.store.attempt(second).upstream_id == NEW


@pytest.mark.parametrize("who", ["a callback", "another's 429"])
def test_denial_does_not_hold_where_the_name_is_told_meanwhile(who, world):
    (attempt, other) = world.begin("j", "other")

    def tell() -> None:
        if world.searches < len(SEARCH_SECONDS):
            return
        if who == "a callback":
            world.call_back(attempt, NEW)
        else:
            full = {"means": "full", "again_at": world.now + DAY, "rest_until": world.now + DAY}
            world.store.settle(other, "busy", world.now, listed={attempt: NEW}, **full)

    world.while_asked = tell
    assert world.search(attempt) == NEW
    known = world.store.attempt(attempt)
    assert known.verdict == "" and world.store.job("j").attempts == 1
    assert world.store.due_at("j") is not None
    assert world.store.settle(attempt, "failed", world.now, again_at=world.now).word == "settled"


def test_denial_of_what_nobody_named_is_believed(world):
    (attempt,) = world.begin("j")
    assert world.search(attempt) is None
    assert world.store.attempt(attempt).verdict == "failed" and world.searches == len(SEARCH_SECONDS)
