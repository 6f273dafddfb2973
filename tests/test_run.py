"""`orchestrator run` from file to file on the real stack: what it writes, and what it survives."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import redis
from click.testing import CliRunner, Result
from rich.console import Console

from orchestrator import Orchestrator, files
from orchestrator.batches import Terms
from orchestrator.cli import main
from orchestrator.errors import Invalid, NotFound, StoreUnavailable
from orchestrator.files import running
from orchestrator.files.running import Running, how_to_go_on
from orchestrator.intake import keyed_id
from orchestrator.local.stack import Stack
from orchestrator.standing import Standing, standing
from orchestrator.views.progress import Progress, line, picture
from orchestrator.views.quiet import Quiet
from tests.stack_kit import PATIENCE, REPOSITORY, TOKEN, eventually

pytestmark = pytest.mark.long

FRAMES = "useapi_frames"
COMMAND = (sys.executable, "-c", "from orchestrator.cli import main; main()")
Told = dict[str, Any]


@pytest.fixture
def name(orchestrator: Orchestrator) -> Iterator[str]:
    """Of a batch; whatever is left of it is cancelled."""
    made = f"batch-{uuid.uuid4().hex[:12]}"
    yield made
    for job in orchestrator.batch(made).jobs():
        job.cancel()


@pytest.fixture
def write(tmp_path: Path, name: str) -> Callable[..., Path]:
    """A file of requests, called as the batch; each prompt is unique, with a marker behind it."""

    def lines(count: int, markers: dict[int, str] | None = None, **more: Any) -> Path:
        path = tmp_path / f"{name}.jsonl"
        with path.open("w") as file:
            for number in range(1, count + 1):
                marker = (markers or {}).get(number, "")
                file.write(json.dumps({"text_prompt": f"{name} {number} {marker}", **more}) + "\n")
        return path

    return lines


@pytest.fixture
def run(environment: dict[str, str], tmp_path: Path) -> Callable[..., Result]:
    def command(source: Any, *words: object, out: str = "out.jsonl") -> Result:
        told = ["run", source, "--provider", FRAMES, "--out", tmp_path / out, *words]
        done = CliRunner().invoke(main, [str(word) for word in told])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
        assert TOKEN not in done.output and "Traceback" not in done.output
        return done

    return command


@pytest.fixture
def start(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """The command as a process of its own."""
    begun: list[subprocess.Popen[str]] = []

    def command(source: Path, *words: str) -> subprocess.Popen[str]:
        environ = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        told = [*COMMAND, "run", str(source), "--provider", FRAMES, "--out", str(tmp_path / "out.jsonl")]
        process = subprocess.Popen(
            [*told, *words], env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        begun.append(process)
        return process

    yield command
    for process in begun:
        process.kill()
        process.communicate()


@pytest.fixture
def written(tmp_path: Path) -> Callable[[], list[Told]]:
    """The outcomes, each custom_id once."""

    def outcomes() -> list[Told]:
        found = [json.loads(each) for each in (tmp_path / "out.jsonl").read_text().splitlines()]
        assert len({each["custom_id"] for each in found}) == len(found)
        return found

    return outcomes


@pytest.fixture
def raw(stack: Stack) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(stack.redis_url, decode_responses=True) as client:
        yield client


def states(outcomes: list[Told]) -> Counter[str]:
    return Counter(each["state"] for each in outcomes)


# --- outcomes ------------------------------------------------------------------------------------------


def test_each_request_has_one_outcome_that_tells_all_of_it(run, write, written, name, orchestrator, stats):
    before = stats()["posts"]
    done = run(write(5, {2: "[moderated-422]", 3: "[failed:1]"}), "--json")
    summary = json.loads(done.stdout)
    assert done.exit_code == 1 and done.stdout.startswith("{")
    told = {each["custom_id"]: each for each in written()}
    assert list(sorted(told)) == ["1", "2", "3", "4", "5"]
    good, refused, again = told["1"], told["2"], told["3"]
    (artifact,) = good["artifacts"]
    assert Path(good["path"]).read_bytes().startswith(b"\x89PNG") and len(good["sha256"]) == 64
    assert artifact["media_type"] == "image/png" and artifact["bytes"] > 1000 and "?" not in artifact["url"]
    assert good["state"] == "succeeded" and good["error"] is None and good["seconds"] > 0
    assert good["job"] == keyed_id(name, "1") and good["cost"] == 1 and good["attempts"] == 1
    assert refused["state"] == "failed" and refused["error"] == "Moderated" and refused["message"]
    assert again["state"] == "succeeded" and again["attempts"] == 2 and again["cost"] == 2
    assert stats()["posts"] - before == 6
    cost = orchestrator.flow.store.spend.cost(name)
    assert (summary["accepted"], summary["succeeded"], summary["failed"]) == (5, 4, 1)
    assert summary["is_sound"] and summary["cost"] == cost and summary["unfinished"] == 0


def test_all_well_ends_with_0_and_the_same_again_does_nothing(run, write, written, stats):
    source = write(4)
    assert run(source).exit_code == 0
    before, content = stats()["posts"], written()
    again = run(source)
    assert again.exit_code == 0 and stats()["posts"] == before and written() == content
    assert "4 accepted = 4 succeeded + 0 failed + 0 cancelled" in again.stderr and not again.stdout


@pytest.mark.parametrize("out", ["out.csv", "out.parquet", "out.jsonl.gz"])
def test_other_formats_hold_the_same_and_are_taken_up_again(out, run, write, stats, tmp_path):
    source = write(4, {2: "[moderated-422]"})
    assert run(source, out=out).exit_code == 1
    before = stats()["posts"]
    assert run(source, out=out).exit_code == 1 and stats()["posts"] == before
    assert sorted(each.name for each in tmp_path.iterdir() if each != source) == [out]
    if out == "out.csv":
        rows = list(csv.DictReader((tmp_path / out).read_text().splitlines()))
    elif out == "out.parquet":
        rows = pyarrow.parquet.read_table(tmp_path / out).to_pylist()
    else:
        return
    assert {(row["custom_id"], row["state"]) for row in rows} == {
        ("1", "succeeded"), ("2", "failed"), ("3", "succeeded"), ("4", "succeeded"),
    }  # fmt: skip
    assert all(Path(row["path"]).exists() for row in rows if row["state"] == "succeeded")


def test_standard_input_and_output_make_a_pipe(environment, name):
    lines = "".join(json.dumps({"text_prompt": f"{name} {n}", "custom_id": f"n{n}"}) + "\n" for n in range(3))
    words = ["run", "-", "--provider", FRAMES, "--out", "-", "--batch", name, "--tenant", "acme"]
    done = CliRunner().invoke(main, words, input=lines)
    assert done.exit_code == 0, done.output
    told = [json.loads(each) for each in done.stdout.splitlines()]
    assert {each["job"] for each in told} == {keyed_id(f"acme/{name}", f"n{n}") for n in range(3)}


def test_python_is_given_what_the_command_prints(orchestrator, write, tmp_path):
    source = files.Source(str(write(3)), [FRAMES], parameters={"seed": 4}, options={"priority": 5})
    plan = files.check_file(orchestrator, source)
    assert (plan.jobs, plan.cost, plan.slots) == (3, 3.0, 10.0)
    summary = files.run(orchestrator, source, tmp_path / "out.jsonl")
    assert summary.all_succeeded and summary.accepted == 3
    record = orchestrator.batch(source.full_name).jobs()[0].record
    assert record.parameters["seed"] == 4 and record.priority == 5 and record.custom_id == "1"


def test_failed_ones_run_again_and_their_outcomes_are_replaced(run, write, written, stats):
    source = write(4, {2: "[failed:1]", 3: "[moderated-422]"})
    assert run(source, "--max-attempts", 1).exit_code == 1
    assert states(written()) == {"succeeded": 2, "failed": 2}
    before = stats()["posts"]
    assert run(source, "--max-attempts", 1, "--retry-failed").exit_code == 1
    told = {each["custom_id"]: each for each in written()}
    assert told["2"]["state"] == "succeeded" and told["2"]["attempts"] == 2
    assert told["3"]["state"] == "failed"  # what moderation refused is not sent again
    assert stats()["posts"] - before == 1


@pytest.mark.parametrize("out", ["out.jsonl", "out.csv.gz"])
def test_check_prices_what_has_no_outcome_yet_and_changes_nothing(out, run, write, tmp_path):
    source = write(3, {2: "[failed:1]"})
    assert run(source, "--max-attempts", 1, out=out).exit_code == 1
    more = write(5, {2: "[failed:1]"})
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    told = json.loads(run(more, "--check", "--json", "--max-spend", 4, out=out).stdout)
    assert (told["jobs"], told["written"], told["cost"]) == (5, 3, 2)
    assert told["notes"] == ["its spend cap of 4 admits 1 more: then the batch is paused"]
    again = run(more, "--check", "--retry-failed", out=out).stdout
    assert "5 jobs, all of them well; 2 have their outcome already\ncost 3 at most" in again
    assert "batch has 3 jobs already" not in again
    assert "batch has 3 jobs already" in run(more, "--check", out="another.jsonl").stdout
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == before


def test_failed_jobs_of_another_file_of_the_batch_are_left_alone(run, write, name, orchestrator, tmp_path):
    theirs = write(1, {1: "[failed:2]"}, custom_id="theirs").rename(tmp_path / "theirs.jsonl")
    assert run(theirs, "--batch", name, "--max-attempts", 1, out="their-out.jsonl").exit_code == 1
    ours = write(1, {1: "[failed:1]"}, custom_id="ours")
    assert run(ours, "--max-attempts", 1).exit_code == 1
    assert run(ours, "--max-attempts", 1, "--retry-failed").exit_code == 0
    known = orchestrator.job(keyed_id(name, "theirs")).record
    assert (known.state.value, known.attempts) == ("failed", 1)


def test_what_a_person_replayed_since_takes_the_place_of_its_failure(run, write, written, name, orchestrator):
    source = write(2, {2: "[failed:1]"})
    assert run(source, "--max-attempts", 1).exit_code == 1
    CliRunner().invoke(main, ["dead", "replay", "--batch", name])
    assert orchestrator.batch(name).wait(timeout=PATIENCE)["succeeded"] == 2
    assert run(source, "--max-attempts", 1).exit_code == 0
    assert states(written()) == {"succeeded": 2}


# --- before anything is spent ----------------------------------------------------------------------------


def test_every_fault_is_told_before_anything_is_begun(run, write, stats, tmp_path, name, orchestrator):
    source = write(30)
    lines = [
        *source.read_text().splitlines(),
        '{"text_prompt": 5}',
        "no json",
        '{"custom_id": "3", "seed": 0}',
    ]
    source.write_text("\n".join(lines))
    before = stats()["posts"]
    errors = tmp_path / "errors.jsonl"
    done = run(source, "--errors", errors)
    assert done.exit_code == 2 and stats()["posts"] == before
    assert "3 of 33 records cannot be sent; nothing was begun" in done.stderr
    assert "line 31: useapi_frames: text_prompt = 5: Not a valid string." in done.stderr
    assert [json.loads(each)["place"] for each in errors.read_text().splitlines()] == [
        "line 31", "line 32", "line 33",
    ]  # fmt: skip
    assert not (tmp_path / "out.jsonl").exists() and not orchestrator.batch(name).counts()["total"]


def test_check_says_what_it_would_take_and_begins_nothing(run, write, stats, tmp_path):
    before = stats()["posts"]
    told = json.loads(run(write(7), "--check", "--json").stdout)
    assert (told["jobs"], told["cost"], told["slots"]) == (7, 7.0, 10.0)
    assert stats()["posts"] == before and not (tmp_path / "out.jsonl").exists()


# words beside a good file and --out, and what is said
MISUSES = [
    (("--provider", "nobody"), "no provider 'nobody'"),
    (("--provider", "runway,nobody"), "no provider 'nobody'; known are"),
    (("--batch", "a/b"), "batch = 'a/b'"),
    (("--set", "seed"), "not of the form key=value"),
    (("--set", "nope=1"), "nope"),
    (("--max-attempts", "0"), "max_attempts = 0"),
    (("--json", "--out", "-"), "both write to standard output"),
    (("--out", "out.txt"), "its name must say what it is"),
    (("--errors", "none/errors"), "cannot write it"),
    (("--weight", "0"), "weight is 0.0; it must be from"),
    (("--max-spend", "-5"), "max_spend is -5.0; it must be above 0, and 1,000,000,000 at most"),
    (("--max-failures", "0"), "max_failures is 0"),
    (("--max-failure-share", "2"), "max_failure_share is 2.0"),
    (("--notify-url", "ftp://x"), "notify_url = 'ftp://x"),
]


@pytest.mark.parametrize(("words", "said"), MISUSES, ids=[said for _, said in MISUSES])
def test_misuse_ends_in_a_sentence(words, said, run, write, stats):
    before = stats()["posts"]
    for more in ((), ("--check",)):
        done = run(write(2), *words, *more)
        assert done.exit_code == 2 and said in done.stderr
    assert stats()["posts"] == before


def test_terms_are_refused_before_the_file_is_read_and_none_of_them_is_agreed_on(run, name, orchestrator):
    done = run("none.jsonl", "--batch", name, "--weight", 3, "--max-spend", 5, "--max-failures", 0)
    assert done.exit_code == 2 and "max_failures is 0" in done.stderr
    with pytest.raises(Invalid):
        orchestrator.batches.agree(name, "", Terms(weight=3, max_spend=5, max_failures=0))
    assert orchestrator.flow.store.batch(name) == {}


def test_requests_are_never_taken_for_outcomes(run, write):
    source = write(3)
    content = source.read_text()
    assert "name another --out" in run(source, out=source.name).stderr
    other = source.with_name("other.jsonl")
    other.write_text(content)
    assert "is no outcome" in run(source, out=other.name).stderr
    assert source.read_text() == other.read_text() == content


def test_faults_never_take_the_place_of_requests_or_outcomes(run, write, tmp_path):
    source, out, link = write(2), tmp_path / "out.jsonl", tmp_path / "link.jsonl"
    content = source.read_text()
    link.symlink_to(source)
    misuses = [(source,), (link,), (source, "--check"), (out,), (out, "--check")]
    for errors, *more in misuses:
        done = run(source, "--errors", errors, *more)
        lost = "outcomes" if errors == out else "requests"
        assert done.exit_code == 2 and f"would overwrite the {lost}: name another --errors" in done.stderr
    assert source.read_text() == content and not out.exists()


def test_line_that_was_changed_is_told_before_anything_is_begun(run, write, written, stats, tmp_path):
    source = write(3)
    assert run(source).exit_code == 0
    source.write_text(source.read_text().replace(" 2 ", " two ") + json.dumps({"text_prompt": "new"}))
    before = stats()["posts"]
    done = run(source)
    assert done.exit_code == 2 and "line 2: custom_id = '2' asked for something else" in done.stderr
    assert "a record that has none is called by its number" in done.stderr
    (tmp_path / "out.jsonl").unlink()  # then Redis knows it still
    done = run(source)
    assert done.exit_code == 2 and "line 2: custom_id = '2' asked for something else" in done.stderr
    assert stats()["posts"] == before


def test_outcomes_of_another_file_are_refused(run, write, stats):
    source = write(3)
    assert run(source).exit_code == 0
    source.write_text("".join(source.read_text().splitlines(keepends=True)[:2]))
    done = run(source)
    assert done.exit_code == 2 and "custom_id = '3' is not in this file and batch" in done.stderr
    assert run(source, "--batch", "another").exit_code == 2


# --- interrupted -----------------------------------------------------------------------------------------


def test_killed_three_times_and_resumed_each_job_has_one_outcome_and_one_post(
    start, write, written, stats, name, orchestrator, tmp_path
):
    before, source, out = stats()["posts"], write(300), tmp_path / "out.jsonl"
    for share in (1, 60, 150):
        process = start(source)
        eventually(lambda share=share: out.exists() and out.read_bytes().count(b"\n") >= share)
        process.kill()
        process.wait()
        if share == 60:
            with out.open("ab") as file:
                file.write(b'{"custom_id": "torn')
    last = start(source, "--json")
    stdout, stderr = last.communicate(timeout=2 * PATIENCE)
    assert last.returncode == 0, stderr
    summary = json.loads(stdout)
    assert summary["accepted"] == summary["succeeded"] == 300 and summary["is_sound"]
    assert len(written()) == 300
    assert stats()["posts"] - before == 300
    assert orchestrator.batch(name).counts()["total"] == 300


def test_killed_while_it_enqueues_the_rest_is_enqueued_by_the_next(
    start, write, written, stats, orchestrator, name
):
    before, source = stats()["posts"], write(1_500)
    orchestrator.operations.pause("provider", FRAMES)  # so that nothing is begun meanwhile
    try:
        process = start(source)
        eventually(lambda: orchestrator.batch(name).counts()["total"])
        process.kill()
        process.wait()
        first = start(source)
        eventually(lambda: orchestrator.batch(name).counts()["total"] == 1_500)
        first.send_signal(signal.SIGINT)
        _, stderr = first.communicate(timeout=PATIENCE)
    finally:
        for job in orchestrator.batch(name).jobs():
            job.cancel()
        orchestrator.operations.resume("provider", FRAMES)
    assert first.returncode == 130 and "what was enqueued goes on; run the same again" in stderr
    last = start(source)
    _, stderr = last.communicate(timeout=PATIENCE)
    assert last.returncode == 1, stderr
    assert states(written()) == {"cancelled": 1_500} and stats()["posts"] == before
    assert {each["error"] for each in written()} == {"Cancelled"}


def test_what_was_written_is_not_made_again_where_its_record_has_expired(
    run, write, written, raw, name, stats
):
    source = write(3)
    assert run(source).exit_code == 0
    forget(raw, name, *(each["job"] for each in written()))
    before, content = stats()["posts"], written()
    assert run(source).exit_code == 0
    assert stats()["posts"] == before and written() == content


def test_what_ended_and_expired_before_it_was_written_is_told_and_not_made_again(
    run, write, written, raw, name, stats, tmp_path
):
    source = write(3)
    assert run(source).exit_code == 0
    out = tmp_path / "out.jsonl"
    whole = out.read_text().splitlines(keepends=True)
    out.write_text("".join(whole[:2]))
    raw.delete(f"orc:job:{json.loads(whole[2])['job']}")
    before = stats()["posts"]
    assert run(source).exit_code == 1
    assert stats()["posts"] == before
    (forgotten,) = (each for each in written() if each["state"] == "failed")
    assert forgotten["error"] == "Forgotten" and "another custom_id" in forgotten["message"]


def forget(raw: redis.Redis, batch: str, *jobs: str) -> None:
    """As if their time had passed."""
    raw.delete(*(f"orc:job:{each}" for each in jobs), *raw.keys(f"orc:*:{batch}"))
    raw.zrem("orc:due", *(f"job:{each}" for each in jobs))


def test_second_command_on_the_same_outcomes_is_refused(start, run, write, tmp_path, name):
    first = start(write(2, {1: "[forever]"}))
    eventually(lambda: (tmp_path / "out.jsonl").exists() and (tmp_path / "out.jsonl").stat().st_size)
    done = run(tmp_path / f"{name}.jsonl")
    assert done.exit_code == 2 and "another `orchestrator run` writes it" in done.stderr
    assert first.poll() is None


# --- held up ---------------------------------------------------------------------------------------------


def test_queue_that_is_full_is_waited_for(start, write, written, monkeypatch, stats):
    monkeypatch.setenv("ORCHESTRATOR_MAX_WAITING", "7")
    before = stats()["posts"]
    process = start(write(60))
    _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, stderr
    assert len(written()) == 60 and stats()["posts"] - before == 60


def test_batch_at_its_cap_is_told_with_the_cure_and_goes_on_once_that_is_raised(run, write, written, name):
    source = write(8)
    done = run(source, "--max-spend", 3)
    assert done.exit_code == 1 and len(written()) == 3
    assert f"batch {name} has reached its spend cap" in done.stderr
    assert f"`orchestrator cap batch {name} AMOUNT`" in done.stderr
    assert f"`orchestrator resume batch {name}`; then run the same again" in done.stderr
    assert "8 accepted = 3 succeeded + 0 failed + 0 cancelled, 5 not over" in done.stderr
    assert "has reached its spend cap" in run(source, "--max-spend", 3, "--quiet").stderr
    CliRunner().invoke(main, ["cap", "batch", name, "20"])
    CliRunner().invoke(main, ["resume", "batch", name])
    assert run(source, "--max-spend", 20).exit_code == 0
    assert len(written()) == 8


def test_run_that_waits_while_paused_goes_on_when_it_is_resumed(start, write, written, name, orchestrator):
    process = start(write(4), "--max-spend", "2", "--wait-paused")
    eventually(lambda: orchestrator.flow.store.lanes.why_paused(name) == "spend")
    assert process.poll() is None
    orchestrator.operations.cap(name, None)
    orchestrator.operations.resume("batch", name)
    _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, stderr
    assert len(written()) == 4
    assert "run the same again" not in stderr


def test_paused_file_is_run_again_but_not_one_that_somebody_cancels():
    assert "resume batch b`; then run the same again" in how_to_go_on("b", "a person")
    assert "as many again fail; then run the same again" in how_to_go_on("b", "failures")
    assert "run the same again" not in how_to_go_on("b", "a person", is_waited_for=True)
    assert "run the same again" not in how_to_go_on("b", "cancel")  # it would enqueue what is left


def test_redis_that_is_away_is_waited_for_and_not_for_ever(monkeypatch):
    monkeypatch.setattr(running, "LOOK_SECONDS", 0.0)
    said: list[str] = []
    one = Running(None, None, None, None, "b", False, lambda: None, said.append)  # type: ignore[arg-type]
    answers: list[Any] = [StoreUnavailable("Redis does not answer"), StoreUnavailable("it"), 7]

    def step() -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return int(answer)

    assert one._patiently(step) == 7
    assert said == ["Redis does not answer: trying again for 300 s"]
    monkeypatch.setattr(running, "REDIS_PATIENCE_SECONDS", 0.0)
    answers[:] = [StoreUnavailable("it"), StoreUnavailable("it")]
    with pytest.raises(StoreUnavailable):
        one._patiently(step)


def test_lost_redis_is_told(orchestrator, write, raw, name, tmp_path, monkeypatch):
    monkeypatch.setattr(running, "LOOK_SECONDS", 0.2)
    orchestrator.operations.pause("provider", FRAMES)
    try:
        source = files.Source(str(write(3)), [FRAMES])

        class Losing(Quiet):
            def look(self) -> None:
                if jobs := orchestrator.batch(name).jobs():
                    for job in jobs:
                        job.cancel()
                    forget(raw, name, *(job.id for job in jobs))

        with pytest.raises(NotFound, match="are not known any more: was Redis lost"):
            files.run(orchestrator, source, tmp_path / "out.jsonl", display=Losing())
    finally:
        orchestrator.operations.resume("provider", FRAMES)


# --- how it is shown ---------------------------------------------------------------------------------------


def some(**more: Any) -> Standing:
    counts = {"succeeded": 1_200, "failed": 30, "submitted": 10, "queued": 8_760}
    fields: dict[str, Any] = dict(
        batch="autumn", at=1_000.0, total=10_000, counts=counts, used=10, slots=10.0, ends_at=1_900.0,
        cost=1_234.5, max_spend=5_000.0, paused="", is_filled=False,
        notes=("studio-2 is left out: it rests",),
    )  # fmt: skip
    return Standing(**{**fields, **more})


def test_line_tells_all_there_is(orchestrator):
    assert line(some(), 9.4) == (
        "autumn: 1230 of 10000 ended (12.3%), 1200 succeeded, 30 failed, 10 submitted, 8760 queued, "
        "9.4 jobs/s, slots 10/10, ends in about 15 min, cost 1,234.5 of 5,000, studio-2 is left out: it rests"
    )
    assert "no telling when it ends" in line(some(ends_at=None), None)


@pytest.mark.parametrize(
    ("ended", "total", "share"),
    [(99_996, 100_000, "99.9%"), (100_000, 100_000, "100%"), (399, 400, "99%"), (0, 3, "0%"), (1, 3, "33%")],
)
def test_share_is_never_told_too_high(ended, total, share):
    assert f"{ended} of {total} ended ({share})" in line(some(total=total, counts={"succeeded": ended}), None)


@pytest.mark.parametrize("width", [80, 160])
def test_picture_fits_its_terminal(width):
    console = Console(file=StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(picture(some(), 9.4))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "1,230/10,000  12.3%" in text and "9.4 jobs/s" in text and "it rests" in text
    assert len(text.splitlines()) == 4 and max(map(len, text.splitlines())) <= width


def test_watch_follows_a_batch_to_its_end_and_tells_how_it_went(orchestrator, name, environment):
    good = orchestrator.enqueue_many(FRAMES, [{"text_prompt": f"{name} {n}"} for n in range(12)], batch=name)
    done = CliRunner().invoke(main, ["watch", name, "--every", "0.2"])
    assert done.exit_code == 0 and f"{name}: 12 of 12 ended (100%), 12 succeeded" in done.stdout
    assert good.counts()["succeeded"] == 12
    orchestrator.enqueue_many(FRAMES, [{"text_prompt": f"{name} [moderated-422]"}], batch=name)
    done = CliRunner().invoke(main, ["watch", name, "--json", "--every", "0.2"])
    last = json.loads(done.stdout.splitlines()[-1])
    assert done.exit_code == 1 and (last["succeeded"], last["failed"], last["total"]) == (12, 1, 13)
    assert "13 of 13" in CliRunner().invoke(main, ["watch", name, "--once"]).stdout
    assert "no batch" in CliRunner().invoke(main, ["watch", "nobody"]).stderr


def test_top_tells_accounts_lanes_rates_failures_and_callbacks(orchestrator, name, environment, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    prompts = [{"text_prompt": f"{name} {n}"} for n in range(40)]
    batch = orchestrator.enqueue_many(
        FRAMES, [*prompts, {"text_prompt": f"{name} [moderated-422]"}], batch=name
    )
    orchestrator.operations.set_limits("studio-1", {"max_jobs": 1})
    try:
        told = json.loads(CliRunner().invoke(main, ["top", "--once", "--json", "--every", "1"]).stdout)
        assert {lane["batch"] for lane in told["lanes"]} == {name}
        assert told["providers"][FRAMES]["per_second"]["submits"] > 0
        assert {row["name"] for row in told["accounts"]} == {"studio-1", "studio-2"}
    finally:
        orchestrator.operations.set_limits("studio-1", {"max_jobs": None})
    batch.wait(timeout=PATIENCE)
    told = json.loads(CliRunner().invoke(main, ["top", "--once", "--json"]).stdout)
    assert told["errors"][0]["batch"] == name and told["errors"][0]["error"] == "Moderated"
    assert told["callbacks"]
    shown = CliRunner().invoke(main, ["top", "--once"]).stdout
    for word in ("Jobs", "Per second", "Accounts", "studio-1", "Latest failures", "Latest callbacks", name):
        assert word in shown


def test_progress_off_a_terminal_is_a_line_now_and_then(orchestrator, name, environment):
    orchestrator.enqueue_many(FRAMES, [{"text_prompt": f"{name} {n}"} for n in range(3)], batch=name)
    console = Console(file=StringIO(), width=200)
    progress = Progress(orchestrator.insight, console, every=0.2)
    progress.running(name, 3)
    assert progress.until_over().all_succeeded
    progress.close()
    progress.close()
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines[-1] == f"{name}: 3 of 3 ended (100%), 3 succeeded, cost 3" and lines.count(lines[-1]) == 1


def test_progress_that_cannot_look_is_no_trouble(orchestrator):
    progress = Progress(orchestrator.insight, Console(file=StringIO()))
    progress.running("nobody", 3)
    progress.look()
    progress.close()
    with pytest.raises(NotFound, match="no batch 'nobody'"):
        standing(orchestrator.insight, "nobody")
