"""What a person asks of the running product and tells it, by the command line, for real effect."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from orchestrator import Orchestrator
from orchestrator.cli import main
from orchestrator.client import Batch
from orchestrator.local.valkey import EmbeddedServer
from orchestrator.operations import LIMITS
from orchestrator.retry import UNTIL_RESUMED
from orchestrator.views.accounts import print_accounts
from orchestrator.views.printing import amount, span
from tests.conftest import ACCOUNTS, MAX_JOBS, accounts_file
from tests.stack_kit import TOKEN, eventually

pytestmark = pytest.mark.long

FRAMES = "useapi_frames"
PATIENCE = 60.0
A_WHILE = 1.5  # what is let begin has begun, several times over
Run = Callable[..., str]


@pytest.fixture
def invoke(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("COLUMNS", "200")

    def command(*words: object) -> Result:
        return CliRunner().invoke(main, [str(word) for word in words])

    return command


@pytest.fixture
def run(invoke: Callable[..., Result]) -> Run:
    """The output of a command that must go well, and must tell no secret."""

    def command(*words: object) -> str:
        done = invoke(*words)
        assert done.exit_code == 0, (words, done.output, done.exception)
        assert TOKEN not in done.output and "@" not in done.output
        return done.output

    return command


@pytest.fixture
def told(run: Run) -> Callable[..., Any]:
    return lambda *words: json.loads(run(*words, "--json"))


@pytest.fixture(autouse=True)
def as_before(orchestrator: Orchestrator) -> Iterator[None]:
    """Other tests share the stack."""
    yield
    operations = orchestrator.operations
    operations.resume("provider", FRAMES)
    for name in ACCOUNTS:
        operations.set_limits(name, dict.fromkeys(LIMITS))
        operations.resume("account", name)


@pytest.fixture
def batch_name(orchestrator: Orchestrator) -> Iterator[str]:
    """Whatever is left of it is cancelled."""
    name = f"batch-{uuid.uuid4().hex[:12]}"
    yield name
    for job in orchestrator.batch(name).jobs():
        job.cancel()


@pytest.fixture
def enqueue(orchestrator: Orchestrator, batch_name: str) -> Callable[..., Batch]:
    def several(count: int, marker: str = "", batch: str = batch_name, **parameters: Any) -> Batch:
        prompts = [{"text_prompt": f"{uuid.uuid4().hex} {marker}", **parameters} for _ in range(count)]
        return orchestrator.enqueue_many(FRAMES, prompts, batch=batch)

    return several


def spans(orchestrator: Orchestrator, batch: Batch) -> list[tuple[float, float]]:
    """From when to when each of its attempts was open, in the order they were granted."""
    rows = [row for job in batch.jobs() for row in orchestrator.flow.store.attempts(job.record)]
    rows.sort(key=lambda row: float(row["granted"]))
    return [(float(row["opened"]), float(row["closed"])) for row in rows]


def at_once(spans: list[tuple[float, float]]) -> int:
    return max(sum(begun <= moment < ended for begun, ended in spans) for moment, _ in spans)


# --- accounts -----------------------------------------------------------------------------------------


def test_accounts_are_told_with_their_slots(run, told):
    rows = {row["name"]: row for row in told("accounts")}
    assert set(rows) == set(ACCOUNTS)
    assert (rows["studio-1"]["max_jobs"], rows["studio-1"]["slots"], rows["studio-1"]["rest"]) == (5, 5, None)
    assert "studio-2" in run("accounts")


def test_a_changed_limit_holds_and_outlives_every_process(run, told, enqueue, orchestrator):
    assert f"{FRAMES}/studio-1: max_jobs is 1\n" in run("accounts", "set", "studio-1", "max_jobs=1")
    (row,) = (row for row in told("accounts") if row["name"] == "studio-1")
    assert (row["max_jobs"], row["changed"]) == (1, ["max_jobs"])
    assert "max_jobs=1" in run("accounts")
    with Orchestrator.from_env() as later:  # tells Redis its accounts file once more
        (row,) = (row for row in later.flow.store.accounts.rows(FRAMES, 0) if row["name"] == "studio-1")
        assert row["max_jobs"] == "1"
    pinned = {"email": "studio-1@example.com"}
    batch = enqueue(3, **pinned)
    assert batch.wait(timeout=PATIENCE)["succeeded"] == 3
    assert at_once(spans(orchestrator, batch)) == 1

    said = run("accounts", "set", f"{FRAMES}/studio-1", "max_jobs=")
    assert f"max_jobs is {MAX_JOBS}, as the accounts file says" in said
    other = enqueue(3, batch=f"{batch.name}-after", **pinned)
    assert other.wait(timeout=PATIENCE)["succeeded"] == 3
    assert at_once(spans(orchestrator, other)) > 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("studio-1", "weight=2", "sloots=3"),
            "'sloots' is no limit that can be changed; known are max_jobs",
        ),
        (("studio-1", "weight=2", "max_jobs=0"), "max_jobs is 0.0; it must be int from 1"),
        (("studio-1", "weight=2", "max_jobs=2.5"), "max_jobs is 2.5; it must be int"),
        (("studio-1", "weight=2", "max_jobs=many"), "max_jobs is 'many'; it must be int"),
        (("studio-1", "weight=2", "burst=nan"), "burst is nan"),
        (("studio-1", "weight=2", "max_jobs"), "not of the form key=value"),
        (("studio-3", "weight=2"), "no account 'studio-3'; known are"),
        (("studio-1",), "Missing argument"),
    ],
)
def test_a_wrong_limit_is_named_and_nothing_is_changed(words, said, invoke, told):
    done = invoke("accounts", "set", *words)
    assert done.exit_code != 0 and isinstance(done.exception, SystemExit)
    assert said in done.output
    assert [row["changed"] for row in told("accounts")] == [[], []]


def test_a_rest_is_told_with_its_reason_and_the_command_that_ends_it(run, told, enqueue):
    (job,) = enqueue(1, "[credits:1]").jobs()
    job.result(timeout=PATIENCE)
    (resting,) = (row for row in told("accounts") if row["rest"])
    name = f"{FRAMES}/{resting['name']}"
    assert resting["rest_reason"] == "OutOfCredit"
    assert resting["rest_until"].startswith("2100-01-01T00:00:00")
    why = resting["rest_message"]["message"]
    for command in ("accounts", "status"):
        line = next(line for line in run(command).splitlines() if line.startswith(f"{name} rests"))
        assert f"until `orchestrator resume account {name}`: {why}" in line
    assert run("resume", "account", name) == f"account {name} takes work again\n"
    assert not any(row["rest"] for row in told("accounts"))


ROW = {
    "provider": FRAMES, "name": "studio-9", "max_jobs": 10, "used": 4, "slots": 10, "changed": [], "today": 0,
    "requests_per_second": 0, "burst": 0, "max_per_day": 0, "weight": 1,
}  # fmt: skip


# what is known of an account, what is shown; and what is not
SHOWN = [
    ({}, ["4/10"], ["of 10", "pace", "today", "weight", "rests", "changed"]),
    ({"slots": 6, "learned": 6.4}, ["4/6 of 10: bears 6"], []),
    ({"slots": 6, "elsewhere": 4}, ["4/6 of 10: 4 elsewhere"], []),
    ({"slots": 3, "learned": 5, "elsewhere": 4}, ["4/3 of 10: bears 5, 4 elsewhere, 2 ahead"], []),
    ({"slots": -2, "elsewhere": 12}, ["4/0 of 10: 12 elsewhere"], []),
    ({"requests_per_second": 2.5, "burst": 7}, ["2.5/s, 7 at once"], []),
    ({"requests_per_second": 2}, ["2/s"], ["at once"]),
    ({"max_per_day": 200, "today": 17}, ["17/200"], []),
    ({"weight": 0.5, "changed": ["weight"]}, ["weight=0.5"], []),
    ({"rest_until": 100.0, "rest_reason": "TooMany"}, [], ["TooMany"]),  # it is over
    ({"rest_until": 1060.0, "rest_since": 940.0, "rest_reason": "TooMany",
      "rest_message": {"kind": "TooMany", "message": "slow down"}},
     ["TooMany, since 1 min ago, until 1970-01-01 00:17:40 UTC: slow down"], ["resume"]),
    ({"rest_until": UNTIL_RESUMED, "rest_reason": "paused"},
     ["paused, until `orchestrator resume account"], []),
]  # fmt: skip


@pytest.mark.parametrize(("known", "shown", "hidden"), SHOWN)
def test_what_lowers_an_account_is_shown_and_nothing_else(known, shown, hidden, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    print_accounts([{**ROW, **known}], now=1000.0)
    output = capsys.readouterr().out
    assert all(words in output for words in shown), output
    assert not any(words in output for words in hidden), output


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        *((0, "0 s"), (59.6, "1 min"), (61, "1 min 1 s"), (3600, "1 h"), (3661, "1 h 1 min")),
        *((90_000, "1 d 1 h"), (-3, "0 s")),
    ],
)  # fmt: skip
def test_a_span_is_told_in_its_two_largest_units(seconds, words):
    assert span(seconds) == words


@pytest.mark.parametrize(
    ("money", "words"),
    [
        *((0, "0"), (3.0, "3"), (1_234.5, "1,234.5"), (1_000_000, "1,000,000")),
        *((0.004, "0.004"), (0.1 + 0.2, "0.3"), (0.3 - 0.1 - 0.2, "0")),
    ],
)  # fmt: skip
def test_an_amount_is_told_plainly_and_never_as_nothing(money, words):
    assert amount(money) == words


# --- pause, resume, drain, weigh ----------------------------------------------------------------------


def test_of_a_paused_batch_nothing_begins_until_it_is_resumed(run, told, enqueue, orchestrator, batch_name):
    enqueue(1).wait(timeout=PATIENCE)
    assert run("pause", "batch", batch_name) == f"batch {batch_name} is paused; 0 in flight go on\n"
    batch = enqueue(3)
    assert enqueue(2, batch=f"{batch_name}-other").wait(timeout=PATIENCE)["succeeded"] == 2
    time.sleep(A_WHILE)
    assert [job.record.attempts for job in batch.jobs()] == [1, 0, 0, 0]
    assert f"batch {batch_name} is paused" in run("status")
    waiting = batch.jobs()[-1].id
    explained = told("explain", waiting)
    assert (explained["gate"], explained["opens_at"], explained["before"]) == ("paused", None, 2)
    assert f"orchestrator resume batch {batch_name}" in run("explain", waiting)
    run("resume", "batch", batch_name)
    assert batch.wait(timeout=PATIENCE)["succeeded"] == 4
    assert f"batch:{batch_name}" not in told("status")["paused"]


def test_a_paused_account_leaves_its_work_to_others(run, told, enqueue, orchestrator):
    run("pause", "account", "studio-1")
    batch = enqueue(8)
    (waits,) = enqueue(1, batch=f"{batch.name}-pinned", email="studio-1@example.com").jobs()
    assert batch.wait(timeout=PATIENCE)["succeeded"] == 8
    assert {job.record.account for job in batch.jobs()} == {"studio-2"}
    assert told("explain", waits.id)["gate"] == "rest"
    assert "paused by a person" in run("accounts")
    run("resume", "account", "studio-1")
    assert waits.result(timeout=PATIENCE).account == "studio-1"


def test_a_paused_provider_begins_nothing(run, told, enqueue):
    run("pause", "provider", FRAMES)
    (job,) = enqueue(1).jobs()
    time.sleep(A_WHILE)
    assert job.record.attempts == 0
    assert told("explain", job.id)["gate"] == "paused"
    run("resume", "provider", FRAMES)
    job.result(timeout=PATIENCE)


def test_a_batch_is_drained_when_what_was_open_is_over(invoke, run, enqueue, orchestrator, batch_name):
    batch = enqueue(2, "[slow]")
    eventually(lambda: batch.counts()["submitted"] == 2)
    early = invoke("drain", "batch", batch_name, "--timeout", "0.1")
    assert early.exit_code == 1
    assert "is not drained after 0.1 s: 2 in flight" in early.output
    assert all(job.id in early.output for job in batch.jobs())
    enqueue(1)
    lines = run("drain", "batch", batch_name, "--timeout", PATIENCE).splitlines()
    assert len(lines) == 2
    assert lines[0] == f"batch {batch_name} is paused; 2 in flight"
    assert lines[1].startswith(f"batch {batch_name} is drained")
    counts = batch.counts()
    assert (counts["succeeded"], counts["queued"]) == (2, 1)


@pytest.mark.parametrize(("kind", "name"), [("account", "studio-1"), ("provider", FRAMES)])
def test_an_account_and_a_provider_are_drained_of_their_attempts(kind, name, run, enqueue, orchestrator):
    batch = enqueue(6, "[slow]")
    eventually(lambda: batch.counts()["submitted"] == 6)
    before = orchestrator.operations.in_flight(kind, name)
    assert f"{kind} {name} is paused; {before} in flight" in run("drain", kind, name)
    assert before > 0
    assert orchestrator.operations.in_flight(kind, name) == 0
    run("resume", kind, name)
    assert batch.wait(timeout=PATIENCE)["succeeded"] == 6


def test_a_batch_of_four_times_the_weight_begins_four_times_as_many(run, enqueue, orchestrator, batch_name):
    heavy, light = f"{batch_name}-heavy", f"{batch_name}-light"
    run("pause", "provider", FRAMES)
    batches = [enqueue(12, batch=light), enqueue(12, batch=heavy)]
    assert run("weigh", "batch", heavy, "4") == f"batch {heavy} has weight 4\n"
    run("resume", "provider", FRAMES)
    for batch in batches:
        assert batch.wait(timeout=PATIENCE)["succeeded"] == 12
    granted = sorted(
        (float(row["granted"]), job.record.batch)
        for batch in batches
        for job in batch.jobs()
        for row in orchestrator.flow.store.attempts(job.record)
    )
    first = [name for _, name in granted[: len(ACCOUNTS) * MAX_JOBS]]
    assert 7 <= first.count(heavy) <= 9
    run("weigh", "batch", heavy, "1")


def test_a_tenant_is_weighed_whatever_its_batches_are_called(run, orchestrator, batch_name):
    tenant = f"tenant-{batch_name}"
    run("pause", "provider", FRAMES)
    run("weigh", "tenant", tenant, "3")
    for batch in (batch_name, f"{batch_name}-2"):
        run("enqueue", FRAMES, "text_prompt=a fox", "--batch", batch, "--tenant", tenant)
    lanes = orchestrator.flow.store.lanes.waiting_for(FRAMES)
    assert [lane.share for lane in lanes if lane.owner.startswith(tenant)] == [1.5, 1.5]
    run("weigh", "tenant", tenant, "1")
    (other,) = orchestrator.batch(f"{tenant}/{batch_name}-2").jobs()
    other.cancel()


# --- explain and forecast -----------------------------------------------------------------------------


def test_a_job_is_explained_from_line_to_end(run, told, enqueue):
    run("accounts", "set", "studio-1", "max_jobs=1")
    first, second, third = enqueue(3, "[slow]", email="studio-1@example.com").jobs()
    eventually(lambda: told("explain", first.id)["gate"] == "provider")
    open_ = told("explain", first.id)
    assert open_["since"] < open_["opens_at"]
    line = told("explain", third.id)
    assert (line["gate"], line["before"]) == ("slots", 1)
    assert "about 1 job" in run("explain", third.id)
    second.cancel()
    third.cancel()
    first.result(timeout=PATIENCE)
    ended = told("explain", first.id)
    assert (ended["gate"], ended["text"]) == ("ended", "it is over: succeeded")


def test_a_job_after_a_failure_is_explained_by_its_backoff(run, told, enqueue):
    (job,) = enqueue(1, "[empty]").jobs()
    waits = eventually(lambda: (found := told("explain", job.id))["gate"] == "backoff" and found)
    assert "Unavailable" in waits["text"]
    assert waits["since"] < waits["opens_at"]


def test_a_forecast_reckons_from_what_was_measured(run, told, enqueue, batch_name):
    enqueue(10).wait(timeout=PATIENCE)
    enqueue(40, "[slow]")
    forecast = told("forecast", batch_name, "--more", "2,1")
    assert (forecast["remaining"], forecast["slots"]) == (40, 10)
    assert 0.4 <= forecast["slot_seconds"] < 10
    assert forecast["with_more"]["2"] < forecast["with_more"]["1"] < forecast["ends_at"]
    shown = run("forecast", batch_name, "--more", "3")
    assert "40 jobs not over yet" in shown and "with 3 accounts more" in shown and "in about" in shown
    assert "with 3" not in run("forecast", batch_name, "--more", "")


def test_of_a_paused_batch_nobody_can_say_when_it_ends(run, told, enqueue, batch_name):
    enqueue(10).wait(timeout=PATIENCE)
    run("pause", "batch", batch_name)
    enqueue(4)
    forecast = told("forecast", batch_name)
    assert (forecast["remaining"], forecast["ends_at"]) == (4, None)
    assert "the batch is paused" in forecast["notes"]
    assert "nobody can say" in run("forecast", batch_name)


# --- dead letters -------------------------------------------------------------------------------------


def test_dead_letters_are_listed_shown_and_replayed(run, told, enqueue, batch_name):
    batch = enqueue(3, "[moderated:1]")  # the provider's moderation would let it pass the next time
    assert batch.wait(timeout=PATIENCE)["failed"] == 3
    ids = {job.id for job in batch.jobs()}
    of_batch = ("--batch", batch_name)
    listed = told(
        "dead", "list", *of_batch, "--error", "moderated", "--provider", FRAMES, "--newer-than", "1h"
    )
    assert listed["count"] == 3
    assert {letter["id"] for letter in listed["dead"]} == ids
    table = run("dead", "list", *of_batch, "--limit", "2")
    assert "3 dead letters, the oldest 2 are shown" in table
    assert sum(job_id in table for job_id in ids) == 2
    for none in (("--older-than", "1d"), ("--error", "BadOutput")):
        assert run("dead", "list", *of_batch, *none) == "0 dead letters\n"
    one = min(ids)
    assert told("dead", "show", one)["failed_at"] is not None
    assert "Moderated" in run("dead", "show", one)

    # Not sent again: moderation refused it before.
    assert run("dead", "replay", one) == "1 job replayed\n"
    eventually(lambda: told("dead", "list", *of_batch)["count"] == 3)
    assert "was not sent again" in run("dead", "show", one)

    assert run("dead", "replay", *of_batch, "--even-if-moderated") == "3 jobs replayed\n"
    eventually(lambda: batch.counts()["succeeded"] == 3)
    assert told("dead", "list", *of_batch)["count"] == 0


def test_purged_dead_letters_stay_failed(run, told, enqueue, batch_name, invoke):
    batch = enqueue(2, "[moderated]")
    assert batch.wait(timeout=PATIENCE)["failed"] == 2
    one, other = (job.id for job in batch.jobs())
    assert run("dead", "purge", one) == "1 dead letter purged\n"
    assert [letter["id"] for letter in told("dead", "list", "--batch", batch_name)["dead"]] == [other]
    assert told("status", one)["state"] == "failed"
    gone = invoke("dead", "replay", one, other)
    assert gone.exit_code != 0
    assert f"no dead letter: {one}" in gone.output
    assert told("dead", "list", "--batch", batch_name)["count"] == 1, "one wrong id, and nothing is replayed"
    assert run("dead", "purge", "--batch", batch_name) == "1 dead letter purged\n"


# --- enqueue ------------------------------------------------------------------------------------------


def test_a_job_may_have_fewer_attempts(run, told, orchestrator, batch_name):
    words = (f"text_prompt={uuid.uuid4().hex} [empty]", "--batch", batch_name, "--max-attempts", 1)
    job_id = run("enqueue", FRAMES, *words).strip()
    assert orchestrator.batch(batch_name).wait(timeout=PATIENCE)["failed"] == 1
    assert told("status", job_id)["attempts"] == 1


def test_a_job_may_expire_while_it_waits(run, told, enqueue, batch_name):
    enqueue(1).wait(timeout=PATIENCE)
    run("pause", "batch", batch_name)
    words = ("text_prompt=a fox", "--batch", batch_name, "--tenant", "", "--expires", "0.5")
    job_id = run("enqueue", FRAMES, *words).strip()
    assert "expires_at" in run("status", job_id)
    eventually(lambda: told("status", job_id)["state"] == "cancelled")
    assert "expired" in told("status", job_id)["reason"]


def test_what_moderation_refused_is_sent_again_on_demand(run, told, batch_name, orchestrator):
    prompt = f"text_prompt={uuid.uuid4().hex} [moderated:1]"
    batch = orchestrator.batch(batch_name)
    run("enqueue", FRAMES, prompt, "--batch", batch_name)
    assert batch.wait(timeout=PATIENCE)["failed"] == 1
    run("enqueue", FRAMES, prompt, "--batch", batch_name, "--even-if-moderated")
    assert batch.wait(timeout=PATIENCE)["succeeded"] == 1


@pytest.mark.parametrize(("marker", "seconds", "state"), [("[moderated-422]", 60, "failed"), ("", 0, "")])
def test_who_waits_in_vain_is_told_which_job_it_was(marker, seconds, state, invoke, orchestrator):
    words = ("enqueue", FRAMES, f"text_prompt={uuid.uuid4().hex} {marker}", "--wait", str(seconds))
    done = invoke(*words)
    assert done.exit_code == 1 and not done.stdout
    job_id = re.match(rf"Error: job (\S+) (was )?{state}", done.stderr)[1]
    assert orchestrator.job(job_id).record.id == job_id
    done = invoke(*words, "--json")
    assert done.exit_code == 1 and json.loads(done.stdout)["state"].startswith(state)


def test_a_portable_request_is_translated(run, told):
    prompt = uuid.uuid4().hex
    job_id = run("enqueue", f"{FRAMES},", f"prompt={prompt}", "aspect_ratio=16:9", "seed=7").strip()
    parameters = told("status", job_id)["parameters"]
    assert (parameters["text_prompt"], parameters["aspect_ratio"], parameters["seed"]) == (prompt, "16:9", 7)


def test_of_several_providers_any_will_do(environment, monkeypatch, tmp_path, run, told):
    """At a server of its own, without workers: a stack with accounts at two providers."""
    path = accounts_file(tmp_path / "accounts.toml", "https://simulator.example", **{"studio-1": 1})
    more = 'provider = "runway"\nname = "direct"\ntoken = "env:SIMULATOR_TOKEN"\n'
    path.write_text(f"{path.read_text()}\n[[accounts]]\n{more}")
    with EmbeddedServer.start(tmp_path / "valkey") as server:
        for name in ("REDIS_URL", "BROKER_URL"):
            monkeypatch.setenv(f"ORCHESTRATOR_{name}", server.url)
        monkeypatch.setenv("ORCHESTRATOR_ACCOUNTS", str(path))
        words = (f"{FRAMES},runway", "prompt=a fox", "--tenant", "acme", "--batch", "autumn")
        ids = [run("enqueue", *words).strip() for _ in range(3)]
        views = [told("status", job_id) for job_id in ids]
        assert {view["provider"] for view in views[:2]} == {FRAMES, "runway"}  # a slot of each
        assert "waits_for" not in views[0]
        assert (views[2]["waits_for"], views[2]["tenant"]) == (["runway", FRAMES], "acme")
        assert told("explain", ids[2])["before"] == 0
        assert told("forecast", "acme/autumn")["slots"] == 2
        assert "not measured yet" in run("forecast", "acme/autumn")


# --- mistakes -----------------------------------------------------------------------------------------


MISTAKES = [
    (("pause", "batch", "nobody"), "no batch 'nobody'"),
    (("resume", "provider", "nobody"), "no provider 'nobody'; known are: freepik_runway"),
    (("pause", "account", "nobody"), "no account 'nobody'; known are: useapi_frames/studio-1"),
    (("pause", "job", "nobody"), "'job' is not one of 'account', 'provider', 'batch'"),
    (("drain", "batch", "nobody"), "no batch 'nobody'"),
    (("drain", "account", "studio-1", "--timeout", "-1"), "-1"),
    (("weigh", "batch", "autumn", "0"), "weight is 0.0; it must be from 0.01 to 1000"),
    (("weigh", "batch", "autumn", "much"), "'much' is not a valid float"),
    (("weigh", "tenant", "a/b", "2"), "tenant = 'a/b'"),
    (("explain", "nobody"), "no job has the id 'nobody'"),
    (("forecast", "nobody"), "no batch 'nobody'"),
    (("forecast", "nobody", "--more", "1,x"), "no list of numbers"),
    (("forecast", "nobody", "--more", "0"), "no list of numbers"),
    (("dead", "show", "nobody"), "no dead letter: nobody"),
    (("dead", "replay"), "say --all"),
    (("dead", "purge"), "say --all"),
    (("dead", "purge", "--provider", "nobody"), "no provider 'nobody'; known are"),
    (("dead", "list", "--older-than", "soon"), "'soon' is no duration; say 45s, 30m, 12h or 7d"),
    (("enqueue", "useapi_frames,nobody", "prompt=a"), "no provider 'nobody'"),
    (("enqueue", "useapi_frames,runway", "prompt=a"), "the accounts file has no account of runway"),
    (("enqueue", "useapi_frames,", "text_prompt=a"), "A portable request has no such field"),
    (("enqueue", ",", "prompt=a"), "no provider is named"),
    (("enqueue", FRAMES, "text_prompt=a", "--max-attempts", "0"), "max_attempts = 0"),
    (("enqueue", FRAMES, "text_prompt=a", "--expires", "0"), "expires = 0.0"),
    (("enqueue", FRAMES, "text_prompt=a", "--tenant", "a/b"), "tenant = 'a/b'"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "said"), MISTAKES)
def test_a_mistake_ends_in_a_sentence(words, said, invoke):
    done = invoke(*words)
    assert done.exit_code != 0
    assert isinstance(done.exception, SystemExit), done.exception
    assert said in done.output
