"""Why a job waits and what is in flight, on a real store whose moments are the test's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from orchestrator.client import Batch
from orchestrator.errors import Invalid, JobNotFound, NotFound
from orchestrator.insight import Explanation, Insight
from orchestrator.local.valkey import EmbeddedServer
from orchestrator.models import Account, NewJob, Secret, State
from orchestrator.operations import Filter, Operations
from orchestrator.store import Store

FRAMES, RUNWAY = "useapi_frames", "runway"
NOW = 1_700_000_000.0
DEADLINE, TIMEOUT = 100.0, 30.0


class Silent:
    """A broker that nobody listens to."""

    def submit(self, messages: Sequence[Any]) -> None: ...

    def finish(self, messages: Sequence[Any]) -> None: ...


class World:
    """A store with its clock, and what is asked and told of it."""

    def __init__(self, url: str) -> None:
        self.now = NOW
        self.store = Store(url)
        self.insight = Insight(self.store, lambda: self.now)
        self.operations = Operations(self.store, Silent(), lambda: self.now, (FRAMES, RUNWAY))  # type: ignore[arg-type]

    def have(self, provider: str = FRAMES, names: str = "a", **limits: Any) -> None:
        """Makes these the accounts, of one slot where nothing else is said."""
        self.store.accounts.configure(
            Account(
                provider=provider, name=name, token=Secret("x"), base_url="https://x", fields={},
                deadline_seconds=DEADLINE, poll_seconds=10.0, net_seconds=60.0, timeout_seconds=TIMEOUT,
                max_attempts=5, **{"max_jobs": 1, **limits},
            )
            for name in names
        )  # fmt: skip

    def enqueue(self, *ids: str, batch: str = "", **fields: Any) -> None:
        jobs = [NewJob(each, FRAMES, {"text_prompt": each}, batch, **fields) for each in ids]
        self.store.enqueue(jobs, self.now)

    def submit(self, job: str, number: int = 1) -> str:
        """Opens its attempt, which the provider takes."""
        attempt = f"{job}.{number}"
        assert self.store.open(attempt, self.now)
        self.store.submitted(attempt, f"up-{job}", self.now, self.now + 10, f"{FRAMES}/frames", True)
        return attempt

    def fail(self, attempt: str, **consequences: Any) -> None:
        error = {"kind": "Unavailable", "message": "no", "http_status": 503}
        self.store.settle(attempt, "failed", self.now, error=error, counts="Unavailable", **consequences)

    def end(self, job: str, state: State) -> None:
        assert self.store.begin_finish(job, self.now)
        result = {"artifacts": []} if state is State.SUCCEEDED else None
        self.store.end(job, self.now, state, result, "" if result else "no")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with EmbeddedServer.start(tmp_path_factory.mktemp("valkey")) as started:
        yield started


@pytest.fixture
def world(server: EmbeddedServer) -> Iterator[World]:
    """Empty, but for an account `a` of one slot."""
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
    made = World(server.url)
    made.have()
    yield made
    made.store.close()


def told(world: World, job: str) -> tuple[str, float | None, int | None]:
    explanation = world.insight.explain(job)
    return explanation.gate, explanation.opens_at, explanation.before


# --- the gates, in the order a job meets them ---------------------------------------------------------


def test_a_job_for_later_waits_for_its_start(world):
    world.enqueue("a", start_at=NOW + 50)
    assert told(world, "a") == ("start", NOW + 50, None)


def test_a_granted_job_waits_for_its_message(world):
    world.enqueue("a")
    gate, _, before = told(world, "a")
    assert (gate, before) == ("message", 0)


def test_a_job_at_the_provider_is_open_until_its_deadline(world):
    world.enqueue("a")
    world.now += 5
    world.submit("a")
    assert world.insight.explain("a") == Explanation(
        "provider",
        "a of useapi_frames works on it; without an outcome it is lost at its deadline",
        NOW + 5,
        NOW + 5 + DEADLINE,
    )


def test_a_submit_without_an_answer_is_uncertain(world):
    world.enqueue("a")
    world.store.open("a.1", NOW)
    gate, opens_at, _ = told(world, "a")
    assert gate == "uncertain"
    assert NOW < opens_at <= NOW + DEADLINE


def test_a_failed_attempt_waits_for_its_backoff(world):
    world.enqueue("a")
    world.now += 7
    world.fail(world.submit("a"), again_at=NOW + 60)
    explanation = world.insight.explain("a")
    assert (explanation.gate, explanation.since, explanation.opens_at) == ("backoff", NOW + 7, NOW + 60)
    assert "failure 1, Unavailable" in explanation.text


def test_a_job_in_line_waits_for_slots_and_for_who_is_before_it(world):
    world.enqueue("a", "b", "c", "d")
    assert told(world, "d") == ("slots", None, 2)  # nothing has ended: nobody can say how long


def test_when_a_slot_comes_is_reckoned_from_what_a_job_took(world):
    world.enqueue("a", "b", "c", "d")
    attempt = world.submit("a")
    world.now += 20
    world.store.settle(attempt, "succeeded", world.now, artifact_urls=("https://x/1.png",))
    world.end("a", State.SUCCEEDED)
    assert told(world, "d") == ("slots", world.now + 2 * 20, 1)


def test_of_several_accounts_at_rest_the_first_to_wake_is_named(world):
    world.have(names="ab")
    world.store.accounts.rest(FRAMES, "a", NOW, NOW + 90, "QuotaSpent", "{}")
    world.store.accounts.rest(FRAMES, "b", NOW, NOW + 30, "TooMany", "{}")
    world.enqueue("x")
    explanation = world.insight.explain("x")
    assert (explanation.gate, explanation.opens_at) == ("rest", NOW + 30)
    assert "all 2 accounts rest, b the shortest (TooMany)" in explanation.text


def test_an_account_whose_daily_cap_is_reached_takes_no_work(world):
    world.have(max_per_day=1)
    world.enqueue("x", "y")
    world.store.settle(world.submit("x"), "succeeded", NOW, artifact_urls=("https://x/1.png",))
    explanation = world.insight.explain("y")
    assert explanation.gate == "rest"
    assert "daily cap" in explanation.text


def test_the_pace_of_an_account_holds_the_next(world):
    world.have(max_jobs=5, requests_per_second=0.1)
    world.enqueue("x", "y")
    assert told(world, "y") == ("pace", pytest.approx(NOW + 10), 0)


def test_a_paused_batch_and_a_paused_provider_say_the_command(world):
    world.enqueue("x", "y", batch="autumn")
    world.operations.pause("batch", "autumn")
    explanation = world.insight.explain("y")
    assert (explanation.gate, explanation.opens_at) == ("paused", None)
    assert "`orchestrator resume batch autumn`" in explanation.text
    world.operations.resume("batch", "autumn")
    world.operations.pause("provider", FRAMES)
    assert "`orchestrator resume provider useapi_frames`" in world.insight.explain("y").text


def test_without_an_account_that_serves_it_a_job_says_so(world):
    world.enqueue("x", account="elsewhere")
    assert told(world, "x")[0] == "accounts"


def test_nothing_is_begun_while_storage_fails_and_a_job_says_so(world):
    world.have(max_jobs=2)
    world.enqueue("x")
    attempt = world.submit("x")
    world.store.settle(attempt, "succeeded", world.now, artifact_urls=("https://x/1.png",))
    assert world.insight.explain("x").text == "its pictures are fetched and kept"
    assert world.store.begin_finish("x", world.now)
    world.store.collecting.later(
        "x", world.now + 9, "the disk is full", world.now + 3600, storage_seconds=120
    )
    explained = world.insight.explain("x")
    assert (explained.gate, explained.opens_at) == ("collecting", world.now + 9)
    assert "not kept, tried once in vain: the disk is full; they can be fetched until 20" in explained.text
    world.enqueue("y")
    explained = world.insight.explain("y")
    assert explained.gate == "storage" and "the disk is full" in explained.text


def test_an_end_is_an_end(world):
    world.enqueue("x")
    world.fail(world.submit("x"))
    assert told(world, "x")[0] == "collecting"
    world.end("x", State.FAILED)
    assert world.insight.explain("x").text == "it is over: failed"
    with pytest.raises(JobNotFound):
        world.insight.explain("nobody")


# --- several providers --------------------------------------------------------------------------------


def choices() -> dict[str, dict[str, str]]:
    return {FRAMES: {"text_prompt": "x"}, RUNWAY: {"promptText": "x"}}


@pytest.fixture
def both(world: World) -> World:
    """Two providers, of one slot each, both in use; two batches wait for any of them."""
    world.have(RUNWAY)
    world.enqueue("busy-1", "busy-2", choices=choices())
    world.enqueue("a", "b", "c", batch="autumn", choices=choices())
    world.enqueue("d", "e", "f", batch="winter", choices=choices())
    return world


def test_who_waits_for_the_same_providers_is_before_a_job_once(both):
    assert told(both, "c") == ("slots", None, 4)


def test_who_waits_for_the_same_providers_delays_a_forecast_once(both):
    both.operations.weigh("batch", "winter", 1000)  # all of it first
    attempt = both.submit("busy-1")
    both.now += 10
    both.store.settle(attempt, "succeeded", both.now, artifact_urls=("https://x/1.png",))
    both.end("busy-1", State.SUCCEEDED)
    forecast = both.insight.forecast("autumn", (2,))
    assert (forecast.slots, forecast.slot_seconds) == (2, 10)
    work, half_a_job = 6 * 10, 5
    assert forecast.ends_at - both.now == pytest.approx(work / 2 + half_a_job, abs=0.1)
    assert forecast.with_more[2] - both.now == pytest.approx(work / 4 + half_a_job, abs=0.1)


def test_a_paused_provider_is_left_out_where_another_serves(both):
    both.operations.pause("provider", RUNWAY)
    gate, _, before = told(both, "c")
    assert (gate, before) == ("slots", 4)
    assert "all 1 slots" in both.insight.explain("c").text


# --- forecasts ----------------------------------------------------------------------------------------


def test_a_forecast_without_measurements_says_no_time(world):
    world.enqueue("a", "b", batch="autumn")
    forecast = world.insight.forecast("autumn")
    assert (forecast.remaining, forecast.slots, forecast.ends_at) == (2, 1, None)
    with pytest.raises(NotFound, match="no batch 'nobody'"):
        world.insight.forecast("nobody")


def test_a_forecast_notes_what_is_left_out(world):
    world.have(names="ab")
    world.enqueue("x", "y", "z", batch="autumn")
    world.operations.pause("account", "b")
    world.operations.pause("batch", "autumn")
    notes = " / ".join(world.insight.forecast("autumn").notes)
    assert "b is left out: b rests (paused)" in notes
    assert "the batch is paused" in notes


def test_an_estimate_reckons_with_daily_caps_and_tells_every_cap(world):
    world.have(max_per_day=3, price=2.0, max_spend=9.0)
    world.enqueue("x")
    attempt = world.submit("x")
    world.now += 10
    world.store.settle(attempt, "succeeded", world.now, artifact_urls=("https://x/1.png",))
    world.end("x", State.SUCCEEDED)
    told = world.insight.estimate([FRAMES], 8)
    assert told.cost == 16 and told.seconds == 2 * 86_400
    assert told.notes == (
        "the daily caps admit 2 more now, and 3 a day",
        "max_spend of the accounts pays for 3 more, and must be raised for the rest",
    )
    few = world.insight.estimate([FRAMES], 2)
    assert few.notes == () and few.seconds < 60


def test_an_estimate_leaves_out_who_takes_no_work(world):
    world.have(names="ab")
    world.operations.pause("account", "b")
    assert world.insight.estimate([FRAMES], 2).notes == ("b is left out: b rests (paused)",)
    world.operations.pause("provider", FRAMES)
    told = world.insight.estimate([FRAMES], 2)
    assert (told.slots, told.seconds) == (0, None) and f"{FRAMES} is paused" in told.notes


def test_slots_that_others_hold_are_none_and_not_less(world):
    world.have(max_jobs=5)
    world.enqueue("x", batch="autumn")
    attempt = world.submit("x")
    world.store.settle(
        attempt, "busy", NOW, again_at=NOW + 60, means="full", rest_until=NOW + 30, rest_reason="AccountFull"
    )
    world.operations.set_limits("a", {"max_jobs": 2})
    assert world.insight.forecast("autumn").slots == 0


# --- what a person tells ------------------------------------------------------------------------------


def test_a_granted_job_of_a_paused_batch_is_in_flight(world):
    world.have(max_jobs=2)
    world.enqueue("a", "b", "c", batch="autumn")
    world.enqueue("other", batch="winter")
    world.submit("b")
    world.operations.pause("batch", "autumn")
    assert world.operations.in_flight("batch", "autumn") == 2
    assert {job.id for job in world.operations.holders("batch", "autumn")} == {"a", "b"}
    assert world.operations.in_flight("batch", "winter") == 0
    assert world.operations.in_flight("account", f"{FRAMES}/a") == 2
    assert world.operations.in_flight("provider", RUNWAY) == 0


def test_a_whole_number_is_kept_as_one(world):
    world.operations.set_limits("a", {"max_per_day": 3.0, "weight": 2})
    (row,) = world.store.accounts.rows(FRAMES, NOW)
    assert (row["max_per_day"], row["weight"], row["changed"]) == ("3", "2.0", ["max_per_day", "weight"])


def test_what_cannot_be_a_limit_changes_nothing(world):
    with pytest.raises(Invalid, match=r"max_jobs is 0; it must be int from 1.*'sloots' is no limit"):
        world.operations.set_limits("a", {"weight": 3, "max_jobs": 0, "sloots": 1})
    (row,) = world.store.accounts.rows(FRAMES, NOW)
    assert row["changed"] == []


@pytest.mark.parametrize(
    ("kind", "name", "weight", "said"),
    [
        ("batch", "autumn", 0, "weight is 0; it must be from 0.01 to 1000"),
        ("batch", "autumn", float("nan"), "weight is nan"),
        ("tenant", "a/b", 2, "tenant = 'a/b': Must be 1 to 100 letters"),
    ],
)
def test_what_cannot_be_weighed_is_refused(kind, name, weight, said, world):
    with pytest.raises(Invalid, match=said):
        world.operations.weigh(kind, name, weight)


def test_an_account_name_that_several_providers_have_must_be_whole(world):
    world.have(RUNWAY)
    with pytest.raises(NotFound, match="say useapi_frames/a, runway/a"):
        world.operations.account("a")
    assert world.operations.account("runway/a") == (RUNWAY, "a")


def test_dead_letters_are_filtered_by_moment_and_by_word(world):
    for age, (job, batch) in enumerate((("old", "autumn"), ("new", "winter"))):
        world.now = NOW + 100 * age
        world.enqueue(job, batch=batch)
        world.fail(world.submit(job))
        world.end(job, State.FAILED)

    def dead(**which: Any) -> list[str]:
        return [job.id for job, _ in world.operations.dead(Filter(**which))]

    assert dead() == ["old", "new"]
    assert dead(before=NOW + 50) == ["old"]
    assert dead(after=NOW + 50) == ["new"]
    assert dead(batch="winter", error="unavailable") == ["new"]
    assert dead(provider=RUNWAY) == dead(jobs=("nobody",)) == dead(error="Moderated") == []


def test_resting_until_resumed_is_no_moment_to_wait_for(world):
    world.operations.pause("account", "a")
    world.enqueue("x")
    explanation = world.insight.explain("x")
    assert explanation.gate == "rest"
    assert explanation.opens_at is None  # nobody can say
    assert "`orchestrator resume account useapi_frames/a`" in explanation.text


def test_a_paused_batch_can_be_resumed_when_its_record_is_gone(world, server):
    world.enqueue("a", batch="autumn")
    world.operations.pause("batch", "autumn")
    with redis.Redis.from_url(server.url) as client:
        client.delete("orc:batch:autumn")  # as it is 7 days after its end
    world.operations.resume("batch", "autumn")
    assert not world.store.lanes.paused()
    with pytest.raises(NotFound, match="no batch 'autumn'"):
        world.operations.resume("batch", "autumn")


def test_whoever_waits_for_a_batch_waits_for_what_was_replayed(world):
    world.enqueue("a", batch="autumn")
    world.fail(world.submit("a"))
    world.end("a", State.FAILED)
    assert world.operations.replay(Filter(batch="autumn")) == 1
    with pytest.raises(TimeoutError):
        Batch(SimpleNamespace(store=world.store), "autumn").wait(timeout=0.2)
