"""What Flower may know and what its rows say, whatever comes in between; without a Flower."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator import Orchestrator, errors, rows
from orchestrator.models import NewJob, Secret
from tests.stack_kit import TOKEN

FRAMES = "useapi_frames"


@pytest.fixture(scope="module")
def redaction(environment: dict[str, str]) -> Any:
    from workers.dashboard.redaction import Redaction

    return Redaction([TOKEN, "abc"])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("to ada@example.org", "to <e-mail>"),
        (f"it is {TOKEN}.", "it is ********."),
        ("https://cdn.example/a.png?sig=1#x, next", "https://cdn.example/a.png?… next"),
        ("redis://:pass-word@host/0", "redis://********@host/0"),
        ("Authorization: Bearer ey.some-thing", "Authorization: ******** ********"),
        ("{'api_key': 'k-1', 'size': 3}", "{'api_key': ********, 'size': 3}"),
        ('{"password": "it is long"}', '{"password": ********}'),
        ("token=t-1234&x", "token=********"),
        ("first line\n  second\n", "first line\n  second"),
        ("an alphabet, and no token", "an alphabet, and no token"),
    ],
)
def test_a_text_is_shown_without(text: str, shown: str, redaction: Any) -> None:
    assert redaction.text(text) == shown


def test_json_is_shown_without_what_its_names_say_is_secret(redaction: Any) -> None:
    told = {"token": "x1", "to": ["ada@example.org"], "count": 3, "none": None, "nested": {"secret": "y"}}
    assert redaction.deep(told) == {
        "token": "********", "to": ["<e-mail>"], "count": 3, "none": None, "nested": {"secret": "********"},
    }  # fmt: skip


def test_of_what_workers_hold_only_the_words_are_redacted(redaction: Any) -> None:
    held = [{"hostname": "worker@a.example.org", "args": ["ada@example.org"], "kwargs": {}}]
    assert redaction.requests(held) == [
        {"hostname": "worker@a.example.org", "args": "['<e-mail>']", "kwargs": "{}"}
    ]


def test_every_secret_of_the_settings_is_known(environment: dict[str, str]) -> None:
    from workers.dashboard.secrets import secrets_of

    account = SimpleNamespace(
        token=Secret("token-1"), fields={"signing_secret": Secret("sign-1"), "email": "x"}
    )
    settings: Any = SimpleNamespace(
        accounts=(account,),
        secret_keys=(Secret("key-1"),),
        notify_secret=Secret("whsec_1,whsec_2"),
        api_keys=(SimpleNamespace(secret=Secret("api-1")),),
        redis_url="redis://:p%40ss@host/0",
        broker_url=None,
    )
    found = set(secrets_of(settings, ["user:login-1"])) - {""}
    known = "token-1 sign-1 key-1 whsec_1 whsec_2 api-1 p%40ss p@ss login-1"
    assert found == set(known.split())


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ("JobFailed('Moderated: no')", "Moderated: no"),
        ('JobFailed("Invalid: it\'s wrong")', "Invalid: it's wrong"),
        ("JobFailed('Moderated: it is cut o", None),
        ("JobFailed('it is cut o)", "it is cut o"),
        ("ValueError('no')", None),
        ("", None),
    ],
)
def test_the_reason_of_a_failure_is_read_of_an_event(event: str, reason: str | None) -> None:
    assert rows.raised(event) == reason


def test_a_failure_is_one_line_without_a_traceback(redaction: Any) -> None:
    event = {
        "exception": "JobFailed('Held: ada@example.org\\nwaits')",
        "traceback": "Traceback …",
        "uuid": "x",
    }
    shown = redaction.event(event)
    assert shown["exception"].startswith("Held: <e-mail> waits. Cure: ")
    assert (shown["traceback"], "\n" in shown["exception"]) == (None, False)


def test_every_failure_that_may_end_a_job_has_a_cure() -> None:
    def leaves(kind: type) -> Iterator[str]:
        below = kind.__subclasses__()
        if below:
            for each in below:
                yield from leaves(each)
        else:
            yield kind.__name__

    ends = {*leaves(errors.Transient), *leaves(errors.Rejected)}
    assert ends <= rows.CURES.keys()
    assert "generates nothing" in rows.trouble(f"useapi_frames {rows.NOT_KEPT}: disk full")


@pytest.mark.parametrize("text", ["", "{}", "{'job': 'x'", "{'jobs': 1}", "__import__('os')", "{'job': f()}"])
def test_arguments_of_other_tasks_are_no_facts(text: str) -> None:
    assert rows.facts_read(text) == {}


def test_facts_are_read_as_they_were_written_and_told_in_a_line() -> None:
    text = rows.facts("queued", provider=FRAMES, account="", attempt=2, batch="autumn", custom_id=None)
    read = rows.facts_read(text)
    assert read == {"job": "queued", "provider": FRAMES, "attempt": 2, "batch": "autumn"}
    assert rows.facts_told(read) == f"queued · autumn · attempt 2 · {FRAMES}"


# --- what it starts with -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "told",
    [
        "",
        "user",
        "user:2short",
        "a:b,user:2short",
        "user:long-enough-a,",
        ":only-a-password",
        "user:lång-enough-a",
    ],
)
def test_a_login_that_will_not_do_is_refused_without_being_shown(
    told: str, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from workers.dashboard.app import logins_of

    monkeypatch.setenv("FLOWER_BASIC_AUTH", told)
    with pytest.raises(SystemExit, match="FLOWER_BASIC_AUTH must be user:password") as refused:
        logins_of(SimpleNamespace(basic_auth=told.split(",") if told else None, auth=""))
    assert "2short" not in str(refused.value)


@pytest.mark.parametrize(
    ("basic_auth", "auth", "variables", "logins"),
    [
        (["a:long-enough-a", "b:long-enough-b"], "", {}, ["a:long-enough-a", "b:long-enough-b"]),
        (None, "", {"FLOWER_BASIC_AUTH": "a:long-enough-a"}, ["a:long-enough-a"]),
        (None, ".*@example.org", {}, []),
        (None, "", {"FLOWER_UNAUTHENTICATED_API": "true"}, []),
    ],
)
def test_a_login_may_be_several_another_way_or_none_on_purpose(
    basic_auth: list[str] | None,
    auth: str,
    variables: dict[str, str],
    logins: list[str],
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from workers.dashboard.app import logins_of

    for name in ("FLOWER_BASIC_AUTH", "FLOWER_UNAUTHENTICATED_API"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert logins_of(SimpleNamespace(basic_auth=basic_auth, auth=auth)) == logins


def test_rows_are_kept_in_a_private_folder_or_nowhere(environment: dict[str, str], tmp_path: Any) -> None:
    from workers.dashboard.app import kept_in

    assert kept_in(tmp_path / "new" / "rows") == f"{tmp_path}/new/rows"
    assert (tmp_path / "new").stat().st_mode & 0o077 == 0
    (tmp_path / "new" / "theirs").touch()
    (tmp_path / "new").chmod(0o755)
    with pytest.raises(SystemExit, match="FLOWER_DB"):
        kept_in(tmp_path / "new" / "rows")


def test_what_a_worker_says_of_its_broker_holds_no_password() -> None:
    from workers.dashboard.redaction import Redaction

    broker = {"hostname": "one", "transport_options": {"sentinel_kwargs": {"password": "sesame-open"}}}
    told = Redaction([]).stats({"broker": broker, "consumer": {"broker": broker}, "pool": {"threads": 32}})
    assert "sesame-open" not in str(told)
    assert told["pool"] == {"threads": 32} and told["consumer"]["broker"]["hostname"] == "one"


# --- rows ----------------------------------------------------------------------------------------------


@pytest.fixture
def table(environment: dict[str, str], redaction: Any, tmp_path: Any) -> Any:
    from tornado.ioloop import IOLoop

    from workers import app
    from workers.dashboard.table import Table

    loop = IOLoop(make_current=False)
    made = Table(
        app,
        io_loop=loop,
        db=str(tmp_path / "rows"),
        persistent=True,
        max_tasks_in_memory=100,
        redaction=redaction,
    )
    yield made
    loop.close()


def fields(state: str, word: str) -> dict[str, Any]:
    told = rows.facts(word, provider=FRAMES)
    return {"name": "orchestrator.generate", "state": state, "kwargs": told, "received": 5.0}


def event(kind: str, **more: Any) -> dict[str, Any]:
    times = {"timestamp": 9.0, "local_received": 9.0, "clock": 1}
    return {
        "type": f"task-{kind}",
        "uuid": "one",
        "hostname": "w@h",
        "name": "orchestrator.generate",
        **times,
        **more,
    }


def test_a_record_that_is_older_than_an_event_changes_nothing(table: Any) -> None:
    table.show({"one": fields("STARTED", "submitted")}, {})
    marks, _ = table.marks()
    table._take(event("succeeded", result="1 artifact(s)"))
    table.show({"one": fields("RETRY", "queued")}, marks)
    assert table.state.tasks["one"].state == "SUCCESS"


def test_a_record_is_believed_over_what_a_row_said_before(table: Any) -> None:
    table._take(event("failed", exception="no"))
    marks, settled = table.marks()
    assert settled == set()
    table.show({"one": fields("RETRY", "queued")}, marks)  # it was replayed
    assert table.state.tasks["one"].state == "RETRY"
    table.show({"one": fields("SUCCESS", "succeeded")}, table.marks()[0])
    assert table.marks()[1] == {"one"}
    table._take(event("received", kwargs=rows.facts("submitting", attempt=2)))
    assert table.marks()[1] == set()  # something happens to it again: it is looked at


def test_a_message_does_not_take_the_batch_from_a_row(table: Any) -> None:
    table.show({"one": fields("PENDING", "queued") | {"kwargs": rows.facts("queued", batch="autumn")}}, {})
    table._take(event("received", kwargs=rows.facts("submitting", attempt=1)))
    assert rows.facts_read(table.state.tasks["one"].kwargs) == {
        "job": "submitting",
        "attempt": 1,
        "batch": "autumn",
    }


def test_what_another_tells_of_a_worker_s_task_is_no_sign_that_the_worker_lives(table: Any) -> None:
    told = event("succeeded", result="1 artifact(s)", told_by_another=True)
    table._take(told)
    assert table.state.tasks["one"].state == "SUCCESS"
    assert table.state.tasks["one"].worker.hostname == "w@h"
    assert not table.state.workers["w@h"].alive
    beats = {"timestamp": 9.0, "local_received": 9.0, "freq": 2.0}
    table._take({"type": "worker-heartbeat", "hostname": "w@h", "clock": 1, **beats})
    table._take({**event("succeeded", told_by_another=True), "uuid": "two", "local_received": 99.0})
    assert list(table.state.workers["w@h"].heartbeats) == [9.0]
    assert table.state.tasks["two"].state == "SUCCESS"


def test_a_job_that_redis_does_not_know_does_not_stay_started(table: Any) -> None:
    table.show({"one": fields("STARTED", "submitted")}, {})
    table.miss(["one"], table.marks()[0])
    assert table.state.tasks["one"].state == "UNKNOWN"


def test_no_more_rows_are_kept_than_may_be(table: Any) -> None:
    table.show({str(number): fields("PENDING", "queued") for number in range(250)}, {})
    assert len(table.state.tasks) == len(table.state.search_engine.documents) == 100


def test_rows_are_read_as_they_were_kept_and_a_file_that_cannot_be_is_set_aside(table: Any) -> None:
    table.show({"one": fields("STARTED", "submitted")}, {})
    table.state.counter["w@h"]["task-received"] = 3
    table.save_state()
    read = table.load_state()
    assert (read.tasks["one"].state, read.counter["w@h"]["task-received"]) == ("STARTED", 3)
    with open(table.db, "r+b") as file:
        file.truncate(os.path.getsize(table.db) // 2)
    assert table.load_state() is None
    assert os.listdir(os.path.dirname(table.db)) == ["rows.unreadable"]
    assert table.load_state() is None


# --- what is read of Redis -----------------------------------------------------------------------------


def test_of_many_that_wait_a_few_of_each_lane_are_read(orchestrator: Orchestrator) -> None:
    store, now = orchestrator.flow.store, 1.0
    names = [f"{os.urandom(4).hex()}-{number}" for number in range(2)]
    for name in names:
        store.lanes.pause("batch", name, now)
        jobs = [NewJob(f"{name}-{number}", FRAMES, {}, batch=name) for number in range(50)]
        store.enqueue(jobs, now)
    try:
        found = store.open_jobs.waiting([FRAMES], 20)
        for name in names:
            ours = [job for job in found if job.startswith(name)]
            assert 0 < len(ours) <= 10
            assert ours == [f"{name}-{number}" for number in range(len(ours))]
        assert store.open_jobs.waiting([], 0) == []
    finally:
        for name in names:
            orchestrator.batches.cancel(name)


def test_a_row_shows_no_more_of_a_job_than_the_command_line(orchestrator: Orchestrator) -> None:
    from workers.dashboard.record import row_of

    prompt = f"a fox {os.urandom(4).hex()}"
    job = orchestrator.enqueue(
        FRAMES, {"text_prompt": prompt, "email": "studio-1@example.com"}, custom_id="7"
    )
    job.result(timeout=60)
    row = row_of(job.record)
    assert (row["state"], row["exception"], row["traceback"]) == ("SUCCESS", None, None)
    assert rows.facts_read(row["kwargs"])["custom_id"] == "7"
    assert row["result"].startswith("1 artifact(s): image/png")
    assert row["runtime"] == pytest.approx(job.record.ended_at - job.record.created_at)
    assert "example.com" not in json.dumps(row)
