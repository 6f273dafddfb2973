"""What is told to Prometheus: names, labels and sums, without a stack."""

from __future__ import annotations

import inspect
import json
import logging
import re
import socket
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from types import SimpleNamespace

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.api_keys import VARIABLE as API_KEYS
from orchestrator.errors import ConfigurationError
from orchestrator.local.stack import Stack, StackOptions
from orchestrator.local.valkey import EmbeddedServer
from orchestrator.metrics.measured import Measured, status_class
from orchestrator.metrics.place import VARIABLE, prepare_folder
from orchestrator.metrics.recorded import Recorded, families
from orchestrator.metrics.serving import serve
from orchestrator.models import Artifact, Spend
from orchestrator.observer import NOBODY, Observer
from orchestrator.settings import Settings, metrics_address
from orchestrator.store import Store
from orchestrator.store.whole import Whole
from tests import store_kit
from tests.metrics_kit import ALERTS, DASHBOARD, expressions, names_in, promtool, requires_promtool
from tests.stack_kit import REPOSITORY
from tests.store_kit import NOW, PROVIDER
from webhooks.metrics import on_starting

server, raw, store = store_kit.server, store_kit.raw, store_kit.store

ACCOUNT = {
    "provider": PROVIDER, "name": "a", "used": 3, "slots": 4, "max_jobs": "5", "learned": "4.2", "today": 7,
    "max_per_day": "9", "max_spend": "20", "opens_at": NOW + 60, "closed_by": "OutOfCredit",
}  # fmt: skip
WHOLE = Whole(
    at=NOW,
    jobs={f"{PROVIDER}/queued": 8, f"{PROVIDER}/succeeded": 2, "no-provider-of-ours/queued": 1},
    events={f"{PROVIDER}/submits": 6, f"{PROVIDER}/busy": 4},
    missing={PROVIDER: 0.25},
    paused=frozenset({f"provider:{PROVIDER}", "batch:one", "batch:two"}),
    accounts=(ACCOUNT,),
    spend={(PROVIDER, "a"): (Spend(1, 2, 3, 4), 7.0)},
    lanes={PROVIDER: (2, 8)},
    due=5,
    first_due_at=NOW - 3,
    uncertain=1,
    dead_letters=2,
    collecting=1,
    first_dies_at=NOW + 100,
    storage_fails=True,
    notices=3,
    dead_notices=4,
    memory_bytes=1000,
    memory_limit_bytes=4000,
)


class Answers:
    """The broker's queues, and Redis through the real collector."""

    def waiting(self) -> dict[str, int]:
        return {"orchestrator.submit": 3}


def used_observer() -> Measured:
    """One that was told of everything once."""
    made = Measured()
    made.opened(PROVIDER, 2.0, 0.01)
    made.closed(PROVIDER, "busy", "TooMany", None)
    made.closed(PROVIDER, "succeeded", "", 12.0)
    made.called(PROVIDER, "submit", 200, 0.2)
    made.heard(PROVIDER, "settled", 0.004)
    made.collected(PROVIDER, 0.5, 15.0, [Artifact("u", bytes=10), Artifact("v", bytes=5)])
    made.not_collected(PROVIDER, "StorageFailed")
    made.polled(0.1)
    made.ticked(0.02)
    made.not_published("submit")
    made.answered("jobs.Jobs", 201, 0.01)
    return made


def exported(store: Store | None = None) -> dict[str, Metric]:
    """Every family that the product tells, by the name it is told under."""

    def told(family: Metric) -> str:
        return family.name + ("_total" if family.type == "counter" else "")

    found: list[Metric] = [*used_observer().registry.collect(), *families(WHOLE, [PROVIDER])]
    if store:
        found += Recorded(store, Answers(), [PROVIDER], lambda: NOW).collect()
    return {
        told(family): family for family in reversed(found)
    }  # the first of a name counts: it has all labels


def samples(found: Iterable[Metric]) -> dict[tuple[str, ...], float]:
    return {
        (each.name.removeprefix("orchestrator_"), *each.labels.values()): each.value
        for family in found
        for each in family.samples
    }


def test_table_of_the_docs_is_what_is_exported(store):
    """Name, kind, labels and meaning of every metric, in any order."""
    page = (REPOSITORY / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| `(orchestrator_\w+)` \| (\w+) \| ([^|]*) \| (.*) \|$", page, re.MULTILINE))
    told = {
        (
            name,
            family.type,
            ", ".join(
                dict.fromkeys(label for each in family.samples for label in each.labels if label != "le")
            ),
            family.documentation,
        )
        for name, family in exported(store).items()
    }
    assert {row[0] for row in rows} == {row[0] for row in told}
    assert rows == told


@pytest.mark.parametrize("path", [ALERTS, DASHBOARD], ids=lambda path: path.name)
def test_metrics_that_are_asked_for_are_told(path, store):
    known = {
        f"{name}{suffix}"
        for name, family in exported(store).items()
        for suffix in (["_bucket", "_count", "_sum"] if family.type == "histogram" else [""])
    }
    asked = {name for expression in expressions(path) for name in names_in(expression)}
    assert len(asked) > 10
    assert asked <= known, sorted(asked - known)


def test_every_alert_says_what_to_do():
    rules = ALERTS.read_text(encoding="utf-8")
    tested = ALERTS.with_name("alerts_test.yml").read_text(encoding="utf-8")
    assert rules.count("- alert:") == rules.count("runbook: ") == rules.count("summary: ") > 10
    assert set(re.findall(r"- alert: (\w+)", rules)) == set(re.findall(r'alertname="(\w+)"', tested))


@requires_promtool
@pytest.mark.parametrize(
    "arguments",
    ["check config prometheus.yml", "check rules alerts.yml", "test rules alerts_test.yml"],
)
def test_promtool_takes(arguments):
    told = subprocess.run([promtool(), *arguments.split()], cwd=ALERTS.parent, capture_output=True, text=True)
    assert told.returncode == 0, told.stdout + told.stderr


def test_dashboard_is_what_grafana_imports():
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    rows = [panel["title"] for panel in dashboard["panels"] if panel["type"] == "row"]
    assert len(rows) == 8
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    places = [tuple(panel["gridPos"][each] for each in "xy") for panel in dashboard["panels"]]
    assert len(places) == len(set(places))


def test_whole_is_told_in_numbers():
    told = samples(families(WHOLE, [PROVIDER]))
    assert told["jobs", PROVIDER, "queued"] == 8
    assert told["jobs", PROVIDER, "failed"] == 0
    assert not [key for key in told if "no-provider-of-ours" in key]
    assert told["slots_used", PROVIDER, "a"] == 3
    assert told["slots_limit", PROVIDER, "a"] == 5
    assert told["slots_learned", PROVIDER, "a"] == 4.2
    assert told["account_resting", PROVIDER, "a", "OutOfCredit"] == 1
    assert told["generations", PROVIDER, "a", "at_risk"] == 4
    assert told["spend", PROVIDER, "a"] == 7
    assert told["spend_limit", PROVIDER, "a"] == 20
    assert told["attempts_total", PROVIDER, "busy"] == 4
    assert told["submits_total", PROVIDER] == 6
    assert told["waiting_jobs", PROVIDER] == 8
    assert told["lanes", PROVIDER] == 2
    assert told["due_lag_seconds",] == 3
    assert told["first_url_dies_timestamp_seconds",] == NOW + 100
    assert told["provider_paused", PROVIDER] == 1
    assert told["batches_paused",] == 2
    assert told["redis_memory_limit_bytes",] == 4000


def test_what_a_process_did_is_told_in_numbers():
    told = samples(used_observer().registry.collect())
    assert told["stage_seconds_sum", PROVIDER, "wait"] == 2
    assert told["stage_seconds_sum", PROVIDER, "upstream"] == 12
    assert told["stage_seconds_sum", PROVIDER, "whole"] == 15
    assert told["attempt_errors_total", PROVIDER, "TooMany"] == 1
    assert told["artifacts_total", PROVIDER] == 2
    assert told["artifact_bytes_total", PROVIDER] == 15
    assert told["http_seconds_count", PROVIDER, "submit", "2xx"] == 1


def test_measured_hears_all_that_an_observer_is_told():
    told = {name for name, each in vars(Observer).items() if inspect.isfunction(each)}
    assert told <= vars(Measured).keys()
    for name in told:
        assert inspect.signature(getattr(Measured, name)) == inspect.signature(getattr(Observer, name))
    assert type(NOBODY) is Observer


@pytest.mark.parametrize(
    ("status", "word"),
    [(200, "2xx"), (302, "3xx"), (404, "4xx"), (429, "429"), (503, "5xx"), (None, "none"), (999, "none")],
)
def test_status_is_told_by_its_class(status, word):
    assert status_class(status) == word


def test_reads_do_not_grow_with_jobs(store, raw):
    """What is read of Redis for a scrape, in commands, with one waiting job and with two hundred."""

    def commands() -> int:
        before = raw.info("stats")["total_commands_processed"]
        store.whole.look([PROVIDER], NOW)
        return raw.info("stats")["total_commands_processed"] - before

    store.enqueue(store_kit.new("first", "second"), NOW)
    store.whole.look([PROVIDER], NOW)
    few = commands()
    store.enqueue(store_kit.new(*(f"job-{number}" for number in range(200))), NOW)
    assert commands() == few
    found = store.whole.look([PROVIDER], NOW)
    assert found.lanes[PROVIDER] == (1, 201)
    assert found.jobs[f"{PROVIDER}/queued"] == 202
    assert found.accounts[0]["used"] == 1
    assert found.memory_bytes > 0


def test_redis_that_does_not_answer_is_told(tmp_path):
    with EmbeddedServer.start(tmp_path / "valkey") as gone:
        url = gone.url
    with_nobody = Recorded(Store(url), Answers(), [PROVIDER], lambda: NOW)
    told = samples(with_nobody.collect())
    assert told == {("redis_up",): 0, ("queue_messages", "orchestrator.submit"): 3}


COUNTING = """
import sys
from orchestrator.metrics.measured import Measured
made = Measured()
made.heard("runway", "settled", 0.5)
print("counted", flush=True)
sys.stdin.read()
"""
ASKING = """
from pathlib import Path
import os
from prometheus_client import CollectorRegistry, generate_latest
from orchestrator.metrics.shared import Shared
registry = CollectorRegistry()
Shared(registry, Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]))
print(generate_latest(registry).decode())
"""


def test_what_a_killed_process_counted_goes_on_counting(tmp_path):
    """… in one file, however many processes came and went."""
    environ = {VARIABLE: str(tmp_path), "PATH": "", "PYTHONPATH": str(REPOSITORY)}

    def asked() -> float:
        told = subprocess.run([sys.executable, "-c", ASKING], env=environ, capture_output=True, text=True)
        assert told.returncode == 0, told.stderr
        found = samples(text_string_to_metric_families(told.stdout))
        return found["callback_seconds_count", "runway", "settled"]

    children = []
    for _ in range(3):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        children.append(subprocess.Popen([sys.executable, "-c", COUNTING], env=environ, **pipes))
    try:
        for child in children:
            assert child.stdout.readline() == b"counted\n"
        assert asked() == 3
        assert len(list(tmp_path.glob("histogram_*.db"))) == 3
        for child in children[:2]:
            child.kill()
            child.wait()
        assert asked() == 3
        assert asked() == 3
        assert sorted(path.name for path in tmp_path.glob("histogram_*.db")) == sorted(
            [f"histogram_{children[2].pid}.db", "histogram_ended.db"]
        )
    finally:
        for child in children:
            child.kill()
            child.communicate()


def test_folders_that_killed_processes_left_are_removed(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / f"orchestrator-metrics-{ended.pid}-x").mkdir()
    (tmp_path / "somebody-elses").mkdir()
    first = prepare_folder()
    second = prepare_folder()  # as a gunicorn that starts its successor
    assert {path.name for path in tmp_path.iterdir()} == {first.name, second.name, "somebody-elses"}
    assert first.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("port", ["0", "65536", "http", "9464.5", "-1"])
def test_port_that_is_none_is_refused(port, monkeypatch):
    monkeypatch.setenv("ORCHESTRATOR_METRICS_PORT", port)
    with pytest.raises(ConfigurationError, match=rf"METRICS_PORT: is '{re.escape(port)}'; it must be a port"):
        Settings.from_environ({})
    assert metrics_address() is None


def test_metrics_are_for_this_machine_unless_a_host_is_named(monkeypatch):
    for name in ("METRICS_HOST", "METRICS_PORT", "ACCOUNTS"):
        monkeypatch.delenv(f"ORCHESTRATOR_{name}", raising=False)
    assert Settings.from_environ({}).metrics_address is None
    monkeypatch.setenv("ORCHESTRATOR_METRICS_PORT", "9464")
    assert Settings.from_environ({}).metrics_address == metrics_address() == ("127.0.0.1", 9464)
    monkeypatch.setenv("ORCHESTRATOR_METRICS_HOST", "0.0.0.0")
    assert metrics_address() == ("0.0.0.0", 9464)


def test_port_that_is_taken_stops_nothing_but_metrics(monkeypatch, caplog):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        flow = SimpleNamespace(observer=Measured())
        built = SimpleNamespace(settings=SimpleNamespace(metrics_address=("127.0.0.1", port)), flow=flow)
        serve(built)
        monkeypatch.setenv("ORCHESTRATOR_METRICS_PORT", str(port))
        on_starting(SimpleNamespace(log=SimpleNamespace(error_log=logging.getLogger("gunicorn.error"))))
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    for record in caplog.records:
        assert f"metrics.not_served address=127.0.0.1:{port}" in record.message


def test_processes_of_one_machine_have_ports_of_their_own(tmp_path):
    environ = {API_KEYS: "a:b"}
    options = StackOptions(tmp_path / "a.toml", "none", tmp_path, environ, workers=2, collectors=1)
    assert Stack(tmp_path, options).metrics_urls == {}
    options = replace(options, metrics_port=9464)
    assert Stack(tmp_path, options).metrics_ports == {
        "ticker": 9464, "worker": 9465, "worker-2": 9466, "collector": 9467, "receiver": 9468, "api": 9469,
    }  # fmt: skip


def test_nothing_is_imported_where_no_metrics_are_asked_for():
    """prometheus_client takes time and memory; and gunicorn's master must not import what opens sockets."""
    code = "import sys, orchestrator.start, webhooks.gunicorn_conf; print('prometheus_client' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY)
    assert told.stdout == "False\n", told.stderr
    code = "import sys, webhooks.gunicorn_conf; print('ssl' in sys.modules, 'flask' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY)
    assert told.stdout == "False False\n", told.stderr
