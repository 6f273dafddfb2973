"""What generations cost: what becomes of each, and caps that nothing exceeds."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from click.testing import CliRunner

from orchestrator import Invalid, Orchestrator
from orchestrator.bill import of_accounts
from orchestrator.cli import main
from orchestrator.client import Batch
from orchestrator.local.valkey import EmbeddedServer
from orchestrator.models import Account, NewJob, Secret, Spend
from orchestrator.store import Store
from tests.conftest import ACCOUNTS
from tests.stack_kit import TOKEN, eventually

FRAMES = "useapi_frames"
NOW = 1_700_000_000.0
TODAY = int(NOW // 86_400)
URLS = ("https://pictures.example/1.png",)
ERROR = {"kind": "Unavailable", "message": "no", "http_status": 503}
PATIENCE = 60.0
A_WHILE = 2.0

# --- the ledger, on a store whose moments are the test's ----------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with EmbeddedServer.start(tmp_path_factory.mktemp("valkey")) as started:
        yield started


@pytest.fixture
def store(server: EmbeddedServer) -> Iterator[Store]:
    made = Store(server.url)
    made._link.client.flushall()
    have(made)
    yield made
    made.close()


def have(store: Store, **limits: Any) -> None:
    limits = {"max_jobs": 20, "price": 2.0, **limits}
    account = Account(
        provider=FRAMES, name="a", token=Secret("x"), base_url="https://x", fields={}, deadline_seconds=100.0,
        poll_seconds=10.0, net_seconds=60.0, timeout_seconds=30.0, max_attempts=5, **limits,
    )  # fmt: skip
    store.accounts.configure([account])


def enqueue(store: Store, *ids: str, batch: str = "autumn") -> None:
    store.enqueue([NewJob(each, FRAMES, {"text_prompt": each}, batch) for each in ids], NOW)


def begin(store: Store, job: str, taken: bool = True) -> str:
    enqueue(store, job)
    attempt = f"{job}.1"
    assert store.open(attempt, NOW)
    if taken:
        store.submitted(attempt, f"up-{job}", NOW, NOW + 10, f"{FRAMES}/frames", True)
    return attempt


def fail(store: Store, attempt: str, **told: Any) -> str:
    return store.settle(attempt, "failed", NOW, error=ERROR, counts="Unavailable", **told).word


def booked(store: Store) -> Spend:
    """What the account's book says; the batch's must say the same."""
    (spend,) = store.spend.by_day(FRAMES, "a").values()
    assert store.spend.of_batch("autumn") == {f"{FRAMES}/a": spend}
    assert store.spend.cost("autumn") == store.spend.cost_at(FRAMES, "a") == 2 * spend.most
    return spend


FATES: list[tuple[str, Callable[[Store, str], Any], Spend]] = [
    ("open", lambda store, attempt: None, Spend(committed=1)),
    ("succeeded", lambda store, attempt: store.settle(attempt, "succeeded", NOW, artifact_urls=URLS),
     Spend(confirmed=1)),
    ("failed there", fail, Spend(at_risk=1)),
    ("moderated", lambda store, attempt: fail(store, attempt, means="moderated"), Spend(confirmed=1)),
    ("lost", lambda store, attempt: store.settle(attempt, "lost", NOW, error=ERROR), Spend(at_risk=1)),
    ("cancelled", lambda store, attempt: store.cancel(attempt[:-2], NOW), Spend(at_risk=1)),
]  # fmt: skip


@pytest.mark.parametrize(("_", "close", "spend"), FATES, ids=[each[0] for each in FATES])
def test_a_generation_that_was_taken_ends_in_one_place_of_both_books(_, close, spend, store):
    attempt = begin(store, "j")
    close(store, attempt)
    close(store, attempt)
    assert booked(store) == spend


def test_what_the_provider_did_not_take_costs_nothing(store):
    attempt = begin(store, "j", taken=False)
    assert booked(store) == Spend(committed=1)
    fail(store, attempt)
    assert booked(store) == Spend(refunded=1)


@pytest.mark.parametrize("verdict", ["lost", "failed", "cancelled"])
def test_a_late_success_is_paid_for_once_whatever_was_thought_of_it(verdict, store):
    attempt = begin(store, "j", taken=False)
    if verdict == "cancelled":
        store.cancel("j", NOW)
    else:
        store.settle(attempt, verdict, NOW, error=ERROR, again_at=NOW + 60)
    for _ in range(3):
        store.settle(
            attempt, "succeeded", NOW + 5, artifact_urls=URLS, upstream_id="up-j", source="callbacks"
        )
    assert booked(store) == Spend(confirmed=1)


def test_a_refused_generation_that_was_taken_after_all_is_at_risk(store):
    attempt = begin(store, "j", taken=False)
    fail(store, attempt)
    store.submitted(attempt, "up-j", NOW, NOW + 10, f"{FRAMES}/frames", True)
    assert booked(store) == Spend(at_risk=1)


def test_a_refused_generation_that_fails_at_the_provider_is_at_risk(store):
    attempt = begin(store, "j", taken=False)
    fail(store, attempt)
    fail(store, attempt, upstream_id="up-j", source="callbacks")
    assert booked(store) == Spend(at_risk=1)


def test_days_are_told_apart_and_prices_stay_those_of_the_moment(store):
    store.settle(begin(store, "j"), "succeeded", NOW, artifact_urls=URLS)
    have(store, price=0.5)
    enqueue(store, "k")
    assert store.open("k.1", NOW + 86_399)  # its grant is held for a day
    assert store.spend.by_day(FRAMES, "a") == {TODAY: Spend(confirmed=1), TODAY + 1: Spend(committed=1)}
    assert store.spend.cost_at(FRAMES, "a") == 2.5
    bill = of_accounts(store, [FRAMES], NOW)
    assert (bill.cost, bill.spend.most, bill.delivered, bill.paid_per_delivered) == (2.5, 2, 0, None)


def admitted(store: Store, jobs: int = 12) -> int:
    """How many of so many jobs may be opened, by as many threads at once."""
    ids = [f"j{n}" for n in range(jobs)]
    enqueue(store, *ids)
    with ThreadPoolExecutor(jobs) as pool:
        return sum(bool(opened) for opened in pool.map(lambda each: store.open(f"{each}.1", NOW), ids))


def test_an_account_opens_no_more_than_its_cap_pays_for(store):
    have(store, max_spend=7.0)
    assert admitted(store) == 3
    assert store.spend.cost_at(FRAMES, "a") == 6
    (row,) = store.accounts.rows(FRAMES, NOW)
    assert row["closed_by"] == "spend cap"
    assert store.fill(FRAMES, NOW) == ()


def test_a_batch_opens_no_more_than_its_cap_pays_for(store):
    store.batches.limit("autumn", {"max_spend": 7.0}, NOW)
    assert admitted(store) == 3
    assert store.spend.cost("autumn") == 6
    assert (store.lanes.paused(), store.lanes.why_paused("autumn")) == ({"batch:autumn"}, "spend")


def test_a_cap_of_three_prices_admits_three(store):
    have(store, price=0.1, max_spend=0.3)
    assert admitted(store) == 3


def test_a_batch_goes_on_where_a_refund_leaves_room_again(store):
    """The account was full, as any may be: that must not end in waiting for a person."""
    store.batches.limit("autumn", {"max_spend": 2.0}, NOW)
    enqueue(store, "j", "k")
    assert store.open("j.1", NOW) and not store.open("k.1", NOW)
    settled = store.settle("j.1", "busy", NOW, error=ERROR, again_at=NOW)
    assert store.spend.cost("autumn") == 0
    assert store.lanes.paused() == set()
    assert {message.job_id for message in settled.grants} == {"j", "k"}


def test_a_batch_that_is_over_is_not_paused_for_anything(store):
    store.batches.limit("autumn", {"max_spend": 1.0}, NOW)
    enqueue(store, "j")
    assert not store.open("j.1", NOW)
    store.cancel("j", NOW)
    assert (store.lanes.paused(), store.lanes.why_paused("autumn")) == (set(), "")


# --- through the whole product ------------------------------------------------------------------------


@pytest.fixture
def run(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    monkeypatch.setenv("COLUMNS", "200")

    def command(*words: object) -> str:
        done = CliRunner().invoke(main, [str(word) for word in words])
        assert done.exit_code == 0, (words, done.output, done.exception)
        assert TOKEN not in done.output and "@" not in done.output
        return done.output

    return command


@pytest.fixture
def told(run: Callable[..., str]) -> Callable[..., Any]:
    return lambda *words: json.loads(run(*words, "--json"))


@pytest.fixture
def batch_name(orchestrator: Orchestrator) -> Iterator[str]:
    """Whatever is left of it is cancelled, and the accounts are as before."""
    name = f"batch-{uuid.uuid4().hex[:12]}"
    yield name
    orchestrator.operations.pause("batch", name)
    for job in orchestrator.batch(name).jobs():
        job.cancel()
    orchestrator.operations.resume("batch", name)
    for account in ACCOUNTS:
        orchestrator.operations.set_limits(account, {"max_spend": None, "price": None})


def prompts(count: int, markers: str = "") -> list[dict[str, str]]:
    return [{"text_prompt": f"{uuid.uuid4().hex} {markers}"} for _ in range(count)]


def settles_at(batch: Batch, succeeded: int) -> None:
    """Waits until so many succeeded, and a while longer in which no more may begin."""
    eventually(lambda: batch.counts()["succeeded"] >= succeeded)
    time.sleep(A_WHILE)
    assert batch.counts()["succeeded"] == succeeded


def test_a_batch_never_costs_more_than_its_cap(orchestrator, run, told, batch_name, stats):
    before = stats()["accepted"]

    def several(_: int) -> Batch:
        return orchestrator.enqueue_many(FRAMES, prompts(8), batch=batch_name, max_spend=7)

    with ThreadPoolExecutor(4) as pool:
        batch, *_ = pool.map(several, range(4))
    settles_at(batch, 7)
    assert stats()["accepted"] - before == 7
    assert orchestrator.flow.store.spend.cost(batch_name) == 7
    assert told("status")["batches_at_spend_cap"] == [batch_name]
    assert f"spend cap: `orchestrator cap batch {batch_name} AMOUNT` raises it" in run("status")
    waiting = next(job for job in batch.jobs() if job.state == "queued")
    assert "has reached its spend cap" in told("explain", waiting.id)["text"]

    # Resumed without more to spend, it is paused again, and nothing was begun.
    said = run("resume", "batch", batch_name)
    assert "it has cost 7 of the 7 that it may, and is paused again" in said
    eventually(lambda: told("status")["batches_at_spend_cap"] == [batch_name])
    assert stats()["accepted"] - before == 7

    said = run("cap", "batch", batch_name, 12)
    assert f"batch {batch_name} may cost 12 in all" in said
    assert f"`orchestrator resume batch {batch_name}`" in said
    run("resume", "batch", batch_name)
    settles_at(batch, 12)

    run("cap", "batch", batch_name, "none")
    assert "paused again" not in run("resume", "batch", batch_name)
    assert batch.wait(timeout=PATIENCE)["succeeded"] == 32
    bill = told("spend", "--batch", batch_name)
    assert (bill["total"]["confirmed"], bill["total"]["cost"], bill["delivered"]) == (32, 32, 32)
    assert (bill["paid_per_delivered"], bill["max_spend"]) == (1, None)


def test_an_account_never_costs_more_than_its_cap(orchestrator, run, told, batch_name, stats):
    spent = orchestrator.flow.store.spend.cost_at(FRAMES, "studio-1")
    run("accounts", "set", "studio-1", f"max_spend={spent + 3}")
    before = stats()["accepted"]
    pinned = [{**each, "email": "studio-1@example.com"} for each in prompts(9)]
    batch = orchestrator.enqueue_many(FRAMES, pinned, batch=batch_name)
    settles_at(batch, 3)
    assert stats()["accepted"] - before == 3
    (row,) = (row for row in told("accounts") if row["name"] == "studio-1")
    assert row["closed_by"] == "spend cap" and "max_spend=AMOUNT" in row["rest"]
    assert f"{FRAMES}/studio-1 rests: spend cap, until `orchestrator accounts set" in run("status")
    waiting = next(job for job in batch.jobs() if job.state == "queued")
    explained = told("explain", waiting.id)
    assert (explained["gate"], explained["opens_at"]) == ("rest", None) and "spend cap" in explained["text"]
    assert f"{spent + 3:g}" in run("spend", "--account", "studio-1")
    run("accounts", "set", "studio-1", "max_spend=")
    assert batch.wait(timeout=PATIENCE)["succeeded"] == 9


def test_the_bill_tells_what_became_of_each_generation(orchestrator, run, told, batch_name):
    before = told("spend")["total"]
    wanted = [
        *prompts(2),
        *prompts(1, "[failed:1]"),
        *prompts(1, "[5xx-refused:1]"),
        *prompts(1, "[moderated]"),
    ]
    counts = orchestrator.enqueue_many(FRAMES, wanted, batch=batch_name).wait(timeout=PATIENCE)
    assert (counts["succeeded"], counts["failed"]) == (4, 1)
    bill = told("spend", "--batch", batch_name)
    assert bill["total"] == {"committed": 0, "confirmed": 5, "refunded": 1, "at_risk": 1, "cost": 6}
    assert (bill["delivered"], bill["paid_per_delivered"]) == (4, 1.5)
    assert "4 jobs delivered: 1.5 generations paid for each, at most" in run("spend", "--batch", batch_name)

    whole = told("spend")
    assert {line["account"] for line in whole["accounts"]} == set(ACCOUNTS)
    assert whole["total"]["confirmed"] - before["confirmed"] == 5
    assert whole["delivered"] >= 4
    today = [line["days"][-1] for line in whole["accounts"] if line["days"]]
    assert sum(day["confirmed"] for day in today) >= 5
    of_one = told("spend", "--account", "studio-1")
    assert [line["account"] for line in of_one["accounts"]] == ["studio-1"] and of_one["delivered"] is None
    assert time.strftime("%Y-%m-%d", time.gmtime()) in run("spend", "--days", "1")


@pytest.mark.parametrize("amount", ["0", "-1", "nan", "inf", "much"])
def test_a_cap_that_is_no_amount_is_refused(amount, environment, orchestrator):
    done = CliRunner().invoke(main, ["cap", "batch", "--", "spring", amount])
    assert done.exit_code != 0 and isinstance(done.exception, SystemExit)
    assert orchestrator.flow.store.batch("spring") == {}
    if amount != "much":
        with pytest.raises(Invalid, match="max_spend"):
            orchestrator.enqueue_many(FRAMES, prompts(1), batch="spring", max_spend=float(amount))
        assert orchestrator.flow.store.batch("spring") == {}


def test_a_batch_may_have_its_cap_before_it_has_jobs(run, told, orchestrator, batch_name):
    assert "no job of a batch" in run("cap", "batch", batch_name, 2)
    assert told("forecast", batch_name)["remaining"] == 0
    batch = orchestrator.enqueue_many(FRAMES, prompts(5), batch=batch_name)
    settles_at(batch, 2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("spend", "--batch", "nobody"), "no batch 'nobody'"),
        (("spend", "--account", "nobody"), "no account 'nobody'"),
        (("spend", "--account", "studio-1", "--batch", "autumn"), "not both"),
        (("spend", "--days", "0"), "0 is not in the range"),
        (("cap", "batch", "", "5"), "which batch?"),
        (("cap", "batch", "a/b?", "5"), "batch = 'b?'"),
    ],
)
def test_a_mistake_ends_in_a_sentence(words, said, environment):
    done = CliRunner().invoke(main, list(words))
    assert done.exit_code != 0 and isinstance(done.exception, SystemExit), done.exception
    assert said in done.output
