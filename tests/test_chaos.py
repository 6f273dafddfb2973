"""The short chaos run, and that its accounts would tell: one thing at a time is made wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.models import Attempt, Secret, Spend, Tries
from orchestrator.signatures import verify_webhook
from tests.chaos.accounting import account_for, at_once
from tests.chaos.evidence import Evidence, Generation, Record, Try
from tests.chaos.forgery import forge
from tests.chaos.plan import CALLBACKS, FORGERIES, Plan, Wish, draw
from tests.stack_kit import REPOSITORY

pytestmark = pytest.mark.long

SEED = "3"
BATCH = "autumn"


def test_nothing_is_lost_or_paid_for_twice_whatever_is_killed(tmp_path: Path) -> None:
    file, folder = tmp_path / "accounts.json", tmp_path / "run"
    command = [sys.executable, "-m", "tests.chaos", "--short", "--seed", SEED]
    run = subprocess.run(
        [*command, "--json", str(file), "--folder", str(folder)],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found["sound"] and found["seed"] == int(SEED)
    assert set(found["strikes"]) == {
        "kill worker", "kill ticker", "kill-child receiver", "restart valkey", "stop worker",
        "kill collector",
    }  # fmt: skip
    assert all(not told.startswith("0 ") for told in found["faults"].values()), found["faults"]


# --- what is drawn ---------------------------------------------------------------------------------------


def test_the_same_seed_draws_the_same_run() -> None:
    assert draw(7, 50, 20.0, hard=False) == draw(7, 50, 20.0, hard=False) != draw(8, 50, 20.0, hard=False)


def test_faults_have_the_shares_that_are_asked_for() -> None:
    plan = draw(1, 4000, 300.0, hard=True)
    shares = plan.shares()
    for marker, share in CALLBACKS.items():
        assert shares[marker] == pytest.approx(share, abs=0.02)
    assert sum(shares[each] for each in ("[timeout:1]", "[reset:1]")) == pytest.approx(0.05, abs=0.01)
    assert sum(shares[each] for each in ("[5xx:1]", "[5xx-refused:1]")) == pytest.approx(0.05, abs=0.01)
    assert sum(deed.what in FORGERIES for deed in plan.deeds) == 200
    assert len({wish.id for wish in plan.wishes}) == 4000


@pytest.mark.parametrize(("storm", "hard"), [(18.0, False), (360.0, True)])
@pytest.mark.parametrize("seed", range(20))
def test_every_process_is_struck(storm, hard, seed) -> None:
    strikes = draw(seed, 20, storm, hard).strikes
    told = {f"{strike.what} {strike.whom.partition('-')[0]}" for strike in strikes}
    redis = "kill valkey" if hard else "restart valkey"
    assert told == {
        "kill worker", "kill-child receiver", "kill ticker", "kill collector", "stop worker", redis,
    }  # fmt: skip
    assert [strike.at for strike in strikes] == sorted(strike.at for strike in strikes)
    assert strikes[-1].at < storm


# --- what is forged --------------------------------------------------------------------------------------

KEYS = [Secret("a-key-of-the-receiver-itself")]


def attempt(provider: str, account: str, upstream_id: str | None = "u1", state: str = "submitted") -> Attempt:
    return Attempt(
        id="j.1", job_id="j", number=1, provider=provider, account=account, state=state, tries=Tries(),
        timing="", granted_at=1, opened_at=1, closed_at=0, submitted_at=1, looked_at=0, deadline_at=9,
        upstream_id=upstream_id, uncertain_since=0, denied=0, polls=0,
    )  # fmt: skip


@pytest.mark.parametrize("kind", FORGERIES)
@pytest.mark.parametrize(("provider", "account"), [("useapi_frames", "studio-1"), ("runway", "runway-1")])
def test_what_is_forged_is_a_real_attempt_where_signatures_do_not_matter(kind, provider, account) -> None:
    forged = forge(kind, attempt(provider, account), KEYS, "http://x/forged/0.png", 0)
    assert forged and forged.reference
    assert "webhook-signature" not in forged.headers
    if forged.kind == "another generation":
        assert json.loads(forged.body)["taskId"] != "u1"


def test_a_replay_has_a_true_signature_of_another_body() -> None:
    forged = forge(
        "replayed with another body", attempt("freepik_runway", "freepik-1"), KEYS, "http://x", 5.0
    )
    assert forged
    secret = b"a-signing-secret-of-freepik-1"
    verify_webhook(forged.headers, b'{"status": "IN_PROGRESS"}', [secret], 5.0)
    assert json.loads(forged.body)["status"] == "COMPLETED"


def test_a_forgery_waits_for_the_id_that_it_lies_about() -> None:
    waiting = attempt("useapi_frames", "studio-1", None, "open")
    assert forge("another generation", waiting, KEYS, "http://x", 0) is None
    given_up = forge("another generation", replace(waiting, state="closed"), KEYS, "http://x", 0)
    assert given_up and given_up.kind != "another generation"


# --- what is judged --------------------------------------------------------------------------------------

ARTIFACT = {"path": "/a/j-1.png", "bytes": 3, "sha256": "abc"}
TRY = Try(
    id="j0.1", number=1, provider="runway", account="runway-1", state="closed", verdict="succeeded",
    fate="confirmed", upstream_id="g1", granted_at=10.0, opened_at=10.1, closed_at=13.0,
)  # fmt: skip
RECORD = Record(
    number=0, id="j0", state="succeeded", batch=BATCH, error="", reason="", tries=(TRY,),
    artifacts=(ARTIFACT,), urls=("http://x/1.png",), celery=("SUCCESS", {"account": "a", "seconds": 3}),
    result={"account": "a", "seconds": 4},
)  # fmt: skip
MADE = Generation("g1", "runway", "runway-1", 0, "", 10.2, 12.9, "SUCCEEDED", "", False)
WISH = Wish(0, "j0", "runway", {}, {"batch": BATCH}, (), "succeeded", 0.0)
SOUND = Evidence(
    plan=Plan(1, 20.0, (WISH,), (), ()),
    records={0: RECORD},
    generations=[MADE],
    stats={},
    spend={"runway/runway-1": Spend(confirmed=1)},
    spend_of_batches={"runway/runway-1": Spend(confirmed=1)},
    counts={BATCH: {"succeeded": 1}},
    slots={"runway/runway-1": []},
    rests={},
    due_jobs=[],
    waiting=[],
    uncertain=[],
    files={"/a/j-1.png": (3, "abc"), "/a/j-1.json": (2, "")},
    askable=frozenset({"useapi_frames"}),
    free=frozenset({"useapi_preview"}),
    holding=frozenset({"runway-2"}),
    cancelled=frozenset(),
    perhaps_cancelled=frozenset(),
)


def off(evidence: Evidence) -> set[str]:
    return {line.name for line in account_for(evidence) if line.off}


def with_record(**changes: Any) -> Evidence:
    return replace(SOUND, records={0: replace(RECORD, **changes)})


def test_accounts_that_agree_are_not_off() -> None:
    assert off(SOUND) == set()


WRONG: Mapping[str, tuple[Evidence, str]] = {
    "a job without an end": (with_record(state="collecting"), "lost"),
    "a job without a record": (replace(SOUND, records={}), "lost"),
    "an end nobody asked for": (with_record(state="failed", error="Unavailable"), "ends"),
    "a cancel nobody asked for": (with_record(state="cancelled"), "ends"),
    "a cancel without effect": (replace(SOUND, cancelled=frozenset({0})), "ends"),
    "a counter that drifted": (replace(SOUND, counts={BATCH: {"succeeded": 2}}), "batch counters"),
    "a picture that is not there": (replace(SOUND, files={}), "pictures"),
    "a picture of another size": (
        replace(SOUND, files={"/a/j-1.png": (2, "abc"), "/a/j-1.json": (2, "")}),
        "pictures",
    ),
    "a picture with nothing beside it": (replace(SOUND, files={"/a/j-1.png": (3, "abc")}), "pictures"),
    "a task without a result": (with_record(celery=("STARTED", None)), "Celery results"),
    "a task with another result": (with_record(celery=("SUCCESS", {"x": 1})), "Celery results"),
    "a generation of nobody": (
        replace(SOUND, generations=[MADE, replace(MADE, id="g2", number=7)]),
        "accepted by runway",
    ),
    "an attempt that was taken twice": (
        replace(SOUND, generations=[MADE, replace(MADE, id="g2", created_at=10.5)]),
        "accepted by runway",
    ),
    "an id of no generation": (replace(SOUND, generations=[]), "accepted by runway"),
    "a payment that is in no book": (replace(SOUND, spend={"runway/runway-1": Spend()}), "spend"),
    "a payment refunded by us alone": (with_record(tries=(replace(TRY, fate="refunded"),)), "spend"),
    "a payment still committed": (
        replace(
            with_record(tries=(replace(TRY, fate="committed"),)),
            spend={"runway/runway-1": Spend(committed=1)},
            spend_of_batches={"runway/runway-1": Spend(committed=1)},
        ),
        "spend",
    ),
    "a forged callback that was taken": (
        replace(SOUND, forged_accepted=["unsigned of j0.1: 204"]),
        "forged accepted",
    ),
    "a forged picture": (with_record(urls=("http://x/forged/0.png",)), "forged accepted"),
    "a slot that nobody gives back": (replace(SOUND, slots={"runway/runway-1": ["j0.1"]}), "slots leaked"),
    "an attempt left open": (with_record(tries=(replace(TRY, state="open"),)), "attempts not closed"),
    "a job that is still due": (
        replace(SOUND, due_jobs=["job:j0"]),
        "due, waiting, uncertain, resting",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_accounts_tell(what: str) -> None:
    evidence, line = WRONG[what]
    assert line in off(evidence)


def test_too_many_at_once_are_told() -> None:
    more = [replace(MADE, id=f"g{n}", number=n) for n in range(2, 9)]
    assert "over the limit" in off(replace(SOUND, generations=[MADE, *more]))
    assert at_once([(0.0, 2.0), (1.0, 3.0), (2.0, 4.0)]) == 2
    assert at_once([]) == 0


UNEXPLAINED = "paid twice (others), unexplained"
ASKED = "paid twice (useapi_frames, can be asked)"
LOST = replace(
    TRY, verdict="lost", fate="at_risk", upstream_id="", closed_at=30.0, error='{"kind": "NoOutcome"}'
)
AGAIN = replace(TRY, id="j0.2", number=2, upstream_id="g2", granted_at=31.0, opened_at=31.1, closed_at=34.0)
MADE_AGAIN = replace(MADE, id="g2", created_at=31.2, ended_at=33.9)


def paid_twice(first: Try, generation: Generation = MADE, **changes: Any) -> Evidence:
    """A job that was generated at 10.2 s, and again at 31.2 s."""
    evidence = replace(with_record(tries=(first, AGAIN)), generations=[generation, MADE_AGAIN])
    return replace(evidence, **changes)


def test_a_second_payment_is_explained_by_the_policy_alone() -> None:
    assert not {UNEXPLAINED, ASKED} & off(paid_twice(LOST))
    late = replace(LOST, verdict="succeeded", fate="confirmed", upstream_id="g1")
    assert not {UNEXPLAINED, ASKED} & off(paid_twice(late))
    assert UNEXPLAINED in off(paid_twice(replace(late, error="")))
    assert UNEXPLAINED in off(paid_twice(replace(LOST, error="Unavailable")))
    assert UNEXPLAINED in off(paid_twice(replace(LOST, upstream_id="g1")))
    assert UNEXPLAINED in off(paid_twice(replace(LOST, account="runway-2")))
    assert UNEXPLAINED in off(paid_twice(replace(LOST, closed_at=32.0)))


def test_a_second_payment_where_the_provider_can_be_asked_is_told() -> None:
    frames = replace(MADE, provider="useapi_frames", account="studio-1", attempt="j0.1")
    assert ASKED in off(paid_twice(replace(LOST, provider="useapi_frames", account="studio-1"), frames))


def test_what_failed_or_was_empty_or_stopped_may_be_made_again() -> None:
    for changes in ({"status": "FAILED"}, {"empty": True}, {"status": "DELETED"}):
        assert not {UNEXPLAINED, ASKED} & off(
            paid_twice(replace(LOST, verdict="failed", error="BadOutput"), replace(MADE, **changes))
        )


def test_what_was_begun_just_before_redis_was_killed_is_excused() -> None:
    forgotten = replace(LOST, verdict="failed", error="Unavailable")
    assert UNEXPLAINED not in off(paid_twice(forgotten, lost_server_at=(11.0,)))
    assert UNEXPLAINED in off(paid_twice(forgotten, lost_server_at=(13.0,)))
