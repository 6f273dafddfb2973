"""Metrics of a running stack, as a scraper sees them: real jobs, several processes, and a real Prometheus."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from orchestrator import Orchestrator, errors
from orchestrator.broker import QUEUES
from orchestrator.local.processes import free_port
from orchestrator.local.stack import Stack
from orchestrator.metrics.recorded import VERDICTS
from orchestrator.models import State
from tests.api_kit import serving
from tests.conftest import ACCOUNTS
from tests.metrics_kit import ALERTS, DASHBOARD, expressions, requires_prometheus
from tests.stack_kit import PATIENCE, REPOSITORY, SECRETS, TOKEN, eventually

pytestmark = pytest.mark.long
FRAMES = "useapi_frames"
WORDS = ("settled", "pending", "late", "duplicate", "unknown", "postponed", "too large")
SECRET_PROMPT = "a-prompt-that-no-metric-may-tell"
Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scraped(url: str) -> Series:
    answer = requests.get(url, timeout=PATIENCE)
    assert answer.status_code == 200
    return {
        (each.name, tuple(sorted(each.labels.items()))): each.value
        for family in text_string_to_metric_families(answer.text)
        for each in family.samples
    }


def total(series: Series, name: str, **labels: str) -> float:
    """The sum of what has these labels."""
    return sum(
        value
        for (called, its), value in series.items()
        if called == f"orchestrator_{name}" and labels.items() <= dict(its).items()
    )


def run_jobs(orchestrator: Orchestrator, count: int, batch: str) -> None:
    requests_ = ({"text_prompt": f"{SECRET_PROMPT} {batch} {number}"} for number in range(count))
    orchestrator.enqueue_many(FRAMES, requests_, batch=batch).wait(timeout=PATIENCE)


def refused(stack: Stack) -> int:
    url = f"{stack.receiver_url}/callbacks/{FRAMES}/forged"
    return requests.post(url, json={}, timeout=PATIENCE).status_code


@pytest.fixture(scope="module")
def worked(stack: Stack, orchestrator: Orchestrator) -> Stack:
    """The stack, after a first batch and a callback that it refused."""
    run_jobs(orchestrator, 12, "metrics-first")
    assert refused(stack) == 401
    return stack


def test_what_stands_in_redis_is_told_by_the_ticker(worked, orchestrator):
    told = scraped(worked.metrics_urls["ticker"])
    store = orchestrator.flow.store
    row = store.accounts.rows(FRAMES, time.time())[0]
    assert total(told, "redis_up") == 1
    jobs = total(told, "jobs", provider=FRAMES, state="succeeded")
    assert 12 <= jobs <= store.counts()[f"{FRAMES}/succeeded"]
    assert total(told, "attempts_total", verdict="succeeded") >= 12
    assert total(told, "slots_limit", account=ACCOUNTS[0]) == float(row["max_jobs"])
    assert total(told, "generations", state="confirmed") >= 12
    assert total(told, "spend") >= 12
    assert total(told, "redis_memory_bytes") > 0
    told_queues = {dict(labels)["queue"] for name, labels in told if name == "orchestrator_queue_messages"}
    assert told_queues == set(QUEUES)
    for other in ("worker", "receiver"):
        assert not total(scraped(worked.metrics_urls[other]), "jobs")


def test_stages_of_jobs_are_told_by_the_worker(worked):
    told = scraped(worked.metrics_urls["worker"])
    for stage in ("wait", "collect", "whole"):
        assert total(told, "stage_seconds_count", stage=stage) >= 12
    assert total(told, "refill_seconds_count") >= 12
    assert total(told, "http_seconds_count", call="submit", status="2xx") >= 12
    assert total(told, "tick_seconds_count") > 0
    assert total(told, "artifact_bytes_total") > 1000
    upstream = total(told, "stage_seconds_sum", stage="upstream")
    upstream += total(scraped(worked.metrics_urls["receiver"]), "stage_seconds_sum", stage="upstream")
    assert upstream > 12 * 0.3  # generations take 0.4 s


def test_public_port_tells_no_metrics(worked):
    assert requests.get(f"{worked.receiver_url}/metrics", timeout=PATIENCE).status_code == 404


def test_series_do_not_grow_with_jobs_and_batches(worked, orchestrator):
    before = scraped(worked.metrics_urls["ticker"]).keys()
    for number in range(3):
        run_jobs(orchestrator, 4, f"metrics-more-{number}")
    assert scraped(worked.metrics_urls["ticker"]).keys() == before


def test_labels_are_words_of_ours_alone(worked):
    """… so that their number is bounded, and no prompt, token, URL, job or batch is among them."""
    errors_of_ours = {name for name in vars(errors) if name[:1].isupper()}
    known = {
        "provider": {FRAMES},
        "account": set(ACCOUNTS),
        "state": {*State, "committed", "confirmed", "refunded", "at_risk"},
        "stage": {"wait", "upstream", "collect", "whole"},
        "call": {"submit", "poll", "search", "cancel"},
        "status": {"2xx", "3xx", "4xx", "429", "5xx", "none"},
        "verdict": {*VERDICTS, *WORDS, *errors_of_ours},
        "error": errors_of_ours,
        "reason": {*errors_of_ours, "spend cap", "daily cap"},
        "queue": set(QUEUES),
        "what": {"submit", "finish", "refused", "orchestrator.poll", "orchestrator.notify"},
    }
    for url in worked.metrics_urls.values():
        text = requests.get(url, timeout=PATIENCE).text
        assert not [word for word in (SECRET_PROMPT, TOKEN, "metrics-first", "://", "@") if word in text]
        for name, labels in scraped(url):
            for label, value in labels:
                if label == "le":
                    float(value)
                else:
                    assert value in known[label], (name, label, value)


def test_receivers_processes_are_one_and_a_killed_one_is_not_forgotten(worked):
    url = worked.metrics_urls["receiver"]

    def counted() -> float:
        return total(scraped(url), "callback_seconds_count", verdict="BadReference")

    before = counted()
    for _ in range(10):
        assert refused(worked) == 401
    assert {counted() for _ in range(6)} == {before + 10}  # whichever of them answers
    children = _children(worked.processes.pid("receiver"))
    assert len(children) == 2
    os.kill(children[0], signal.SIGKILL)
    eventually(lambda: len(set(_children(worked.processes.pid("receiver"))) - {children[0]}) == 2)
    assert {eventually(lambda: _answered(counted)) for _ in range(6)} == {before + 10}
    for _ in range(4):
        eventually(lambda: refused(worked) == 401)
    assert counted() >= before + 14


def test_processes_of_a_pool_are_one(worked, orchestrator, tmp_path):
    """A worker with a prefork pool beside the stack's own: each job is counted by one of them."""
    port, log = free_port(), tmp_path / "log"
    environ = {**os.environ, **SECRETS, **worked.environment, "ORCHESTRATOR_METRICS_PORT": str(port)}
    environ["PROMETHEUS_MULTIPROC_DIR"] = str(tmp_path)
    argv = (*("celery", "-A", "workers", "worker", "--loglevel=INFO"), "--pool=processes", "-c2", "-nfork@%h")

    def collected(url: str) -> float:
        return total(scraped(url), "stage_seconds_count", stage="whole")

    with open(log, "wb") as output:
        streams = {"stdout": output, "stderr": output}
        worker = subprocess.Popen([sys.executable, "-m", *argv], env=environ, cwd=REPOSITORY, **streams)
    try:
        eventually(lambda: "ready." in log.read_text(encoding="utf-8"), "the pool is ready")
        own, pool = worked.metrics_urls["worker"], f"http://127.0.0.1:{port}/metrics"
        before, batches = collected(own), itertools.count(1)

        def some_were_its() -> float:
            run_jobs(orchestrator, 10, f"metrics-pool-{next(batches)}")
            return collected(pool)

        eventually(some_were_its, "the pool had a job")
        assert collected(own) - before + collected(pool) == 10 * (next(batches) - 1)
        files = tmp_path.glob("orchestrator-metrics-*/histogram_*.db")
        assert {file.stem.rpartition("_")[2] for file in files} & set(map(str, _children(worker.pid)))
    finally:
        worker.terminate()
        worker.wait(PATIENCE)
    assert not list(tmp_path.glob("orchestrator-metrics-*"))


def test_http_api_tells_how_it_answered(worked, environment, tmp_path):
    port = free_port()
    with serving({**environment, "ORCHESTRATOR_METRICS_PORT": str(port)}, tmp_path) as api:
        assert api.ask("GET", "/providers").status_code == 200
        assert api.ask("GET", "/jobs/no-such-job").status_code == 404
        assert api.ask("GET", "/metrics").status_code == 404
        told = scraped(f"http://127.0.0.1:{port}/metrics")
        assert total(told, "api_seconds_count", status="2xx") >= 1
        assert total(told, "api_seconds_count", status="4xx") >= 2
        assert "no-such-job" not in str(told)


def _answered(ask) -> float:
    try:
        return ask()
    except requests.ConnectionError:  # taken by the one that was just killed
        return 0


def _children(pid: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True)
    return [int(each) for each in found.stdout.split()]


@pytest.fixture(scope="module")
def prometheus(worked: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real one that scrapes the stack and has our alerts."""
    folder = tmp_path_factory.mktemp("prometheus")
    targets = "".join(
        f'      - {{targets: ["127.0.0.1:{port}"], labels: {{role: {name}}}}}\n'
        for name, port in worked.metrics_ports.items()
    )
    (folder / "prometheus.yml").write_text(
        "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
        f"rule_files: [{ALERTS}]\n"
        f"scrape_configs:\n  - job_name: orchestrator\n    static_configs:\n{targets}",
        encoding="utf-8",
    )
    url = f"http://127.0.0.1:{free_port()}"
    arguments = (f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data")
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            ["prometheus", *arguments, f"--web.listen-address={url.removeprefix('http://')}"],
            stdout=log, stderr=log, cwd=folder,
        )  # fmt: skip
    try:
        eventually(lambda: _ready(url), (folder / "log").read_text(encoding="utf-8"))
        yield url
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _ready(url: str) -> bool:
    try:
        return requests.get(f"{url}/-/ready", timeout=PATIENCE).ok
    except requests.ConnectionError:
        return False


def ask(prometheus: str, expression: str) -> list[dict]:
    answer = requests.get(f"{prometheus}/api/v1/query", params={"query": expression}, timeout=PATIENCE).json()
    assert answer["status"] == "success", (expression, answer)
    return answer["data"]["result"]


@requires_prometheus
def test_real_prometheus_has_data_for_every_panel_and_takes_every_alert(prometheus, worked, orchestrator):
    everyone = str(len(worked.metrics_urls))
    eventually(lambda: [each["value"][1] for each in ask(prometheus, "sum(up)")] == [everyone])
    queries = expressions(DASHBOARD)
    assert len(queries) > 40
    missing = set(queries)

    def all_have_data() -> bool:
        run_jobs(orchestrator, 4, "metrics-prometheus")
        missing.difference_update([each for each in missing if ask(prometheus, each)])
        return not missing

    eventually(all_have_data, f"without data: {missing}")
    for expression in expressions(ALERTS):
        ask(prometheus, expression)
    rules = requests.get(f"{prometheus}/api/v1/rules", timeout=PATIENCE).json()["data"]["groups"][0]["rules"]
    assert len(rules) == len(expressions(ALERTS))
    assert {rule["health"] for rule in rules} <= {"ok", "unknown"}  # unknown: not evaluated yet
    jobs = ask(prometheus, f'orchestrator_jobs{{provider="{FRAMES}", state="succeeded"}}')
    assert float(jobs[0]["value"][1]) > 12
