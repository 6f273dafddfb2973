"""Settings that lose work: each is found, with its cure, and only faults keep a server from starting."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestrator import safety
from orchestrator.broker import make_app
from orchestrator.doctor import examine
from orchestrator.local.valkey import EmbeddedServer
from orchestrator.models import Account, Secret
from orchestrator.providers import registry
from orchestrator.safety import Finding
from orchestrator.settings import Settings
from orchestrator.store import Store
from tests.conftest import accounts_file
from tests.stack_kit import REPOSITORY, TOKEN

GOOD_REDIS = {
    "version": "9.1", "redis_version": "7.2.4", "eviction": "noeviction", "append_only": True,
    "fsync": "everysec", "write_error": False, "role": "master", "cluster": False,
}  # fmt: skip


def account(provider: str = "useapi_frames", **told: Any) -> Account:
    limits = {
        "max_jobs": 5, "base_url": "https://api.example.com", "fields": {}, "deadline_seconds": 1800.0,
        "poll_seconds": 10.0, "net_seconds": 60.0, "timeout_seconds": 30.0, "max_attempts": 5,
        "token": Secret(TOKEN), **told,
    }  # fmt: skip
    return Account(provider=provider, name="a", **limits)


def settings(*accounts: Account, **told: Any) -> Settings:
    whole = {
        "redis_url": None, "broker_url": None, "public_url": "https://jobs.example.com", "secret_keys": (),
        "artifacts_url": None, "max_waiting": 0, "folder": Path("."), **told,
    }  # fmt: skip
    return Settings(accounts=accounts, **whole)


def of_settings(*accounts: Account, **told: Any) -> list[Finding]:
    return list(safety.of_settings(settings(*accounts, **told), registry()))


def conf(**told: Any) -> dict[str, Any]:
    app = make_app("redis://127.0.0.1:1", "redis://127.0.0.1:1")
    try:
        return {**app.conf, **told}
    finally:
        app.close()


def test_what_is_well_is_no_finding():
    assert list(safety.of_redis(GOOD_REDIS)) == []
    assert list(safety.of_redis({})) == []  # a hosting firm that tells nothing
    assert list(safety.of_clock(-1.9)) == []
    assert list(safety.of_celery(conf(), (account(),))) == []
    assert of_settings(account(), redis_url="redis://:secret@redis.example.com:6379/0") == []
    local = account(base_url="http://127.0.0.1:9000")
    assert of_settings(local, public_url="http://localhost:8000", redis_url="redis://localhost/0") == []
    assert of_settings(account(), redis_url="unix:///run/redis.sock") == []
    assert of_settings(account(), broker_url="amqps://pictures:pw@rabbit.example.com") == []
    assert of_settings(account(), broker_url="amqp://pictures:pw@rabbit") == []


@pytest.mark.parametrize(
    ("fact", "verdict", "said"),
    [
        ({"redis_version": "6.2.14"}, "fault", "Redis is 6.2.14, the scripts need 7.0"),
        ({"cluster": True}, "fault", "use one server"),
        ({"role": "slave"}, "fault", "name the primary"),
        ({"eviction": "allkeys-lru"}, "fault", "set maxmemory-policy noeviction"),
        ({"append_only": False}, "warning", "set appendonly yes"),
        ({"fsync": "no"}, "warning", "set appendfsync everysec"),
        ({"write_error": True}, "warning", "is its disk full?"),
    ],
)
def test_a_redis_that_loses_jobs_is_found(fact, verdict, said):
    (finding,) = safety.of_redis({**GOOD_REDIS, **fact})
    assert finding.verdict == verdict and said in finding.text


@pytest.mark.parametrize(
    ("skew", "verdict", "said"),
    [
        (2.1, "warning", "2 s ahead of"),
        (-29.0, "warning", "29 s behind"),
        (31.0, "fault", "31 s ahead of"),
        (-300.0, "fault", "300 s behind"),
    ],
)
def test_clocks_that_differ_are_found(skew, verdict, said):
    (finding,) = safety.of_clock(skew)
    assert finding.verdict == verdict and said in finding.text


@pytest.mark.parametrize(
    ("told", "verdict", "said"),
    [
        ({"task_serializer": "pickle"}, "fault", "task_serializer is 'pickle'"),
        ({"result_serializer": "yaml"}, "fault", "result_serializer is 'yaml'"),
        ({"accept_content": ["json", "pickle"]}, "fault", "accept_content"),
        ({"task_always_eager": True}, "fault", "task_always_eager"),
        ({"worker_pool": "prefork"}, "fault", "task_reject_on_worker_lost"),
        ({"worker_prefetch_multiplier": 0}, "warning", "worker_prefetch_multiplier"),
        ({"task_annotations": {"*": {"acks_late": False}}}, "warning", "acks_late"),
        ({"result_expires": timedelta(minutes=29)}, "fault", "is 1740 s"),
        ({"broker_transport_options": {"visibility_timeout": 60}}, "warning", "set it above 90"),
    ],
)
def test_a_celery_that_loses_or_repeats_work_is_found(told, verdict, said):
    (finding,) = safety.of_celery(conf(**told), (account(),))
    assert finding.verdict == verdict and said in finding.text


@pytest.mark.parametrize(
    "told",
    [
        {"worker_pool": "prefork", "task_reject_on_worker_lost": True},
        {"result_expires": None},
        {"broker_transport_options": None},
        {"broker_transport_options": {"visibility_timeout": 3600}},
    ],
)
def test_a_celery_of_other_settings_may_be_well(told):
    assert list(safety.of_celery(conf(**told), (account(),))) == []


@pytest.mark.parametrize(
    ("told", "verdict", "said"),
    [
        ({"base_url": "http://api.example.com"}, "fault", "its token goes to http://api.example.com"),
        ({"base_url": "http://gpu-box:9000"}, "warning", "in clear"),
        ({"base_url": "http://10.0.0.7:9000"}, "warning", "in clear"),
        ({"deadline_seconds": 30.0, "net_seconds": 5.0}, "fault", "and made twice"),
        ({"deadline_seconds": 50.0}, "warning", "net_seconds is above deadline_seconds 50"),
        ({"queue_ahead": 2}, "warning", "queue_ahead is for runway"),
        ({"price": 3.0, "max_spend": 2.0}, "warning", "max_spend 2 is below its price 3"),
        ({"token": Secret("abc")}, "warning", "was it cut short?"),
        ({"provider": "freepik_runway"}, "warning", "no signing_secret"),
        ({"provider": "freepik_runway", "fields": {"signing_secret": Secret("x" * 24 + ",short")}},
         "warning", "may be guessed"),
    ],
)  # fmt: skip
def test_numbers_of_an_account_that_make_no_sense_are_found(told, verdict, said):
    (finding,) = of_settings(account(**told))
    assert finding.verdict == verdict and said in finding.text
    assert finding.text.startswith("account ") and TOKEN not in finding.text


def test_without_callbacks_it_is_the_poll_that_comes_too_late():
    (finding,) = of_settings(account(poll_seconds=2000.0), public_url=None)
    assert "poll_seconds is above deadline_seconds 1800" in finding.text


def test_an_account_that_queues_may_queue_ahead():
    assert of_settings(account("runway", queue_ahead=2)) == []


@pytest.mark.parametrize(
    ("told", "verdict", "said"),
    [
        ({"notify_hosts": frozenset({"a"})}, "warning", "ORCHESTRATOR_NOTIFY_SECRET: set it to"),
        ({"public_url": "http://jobs.example.com"}, "warning", "their references with them"),
        ({"redis_url": "redis://redis.example.com:6379/0"}, "fault", "without a password"),
        ({"broker_url": "redis://redis.example.com:6379/0"}, "fault", "without a password"),
        ({"redis_url": "rediss://redis.example.com:6379/0"}, "warning", "without a password"),
        ({"redis_url": "redis://redis:6379/0"}, "warning", "without a password"),
        ({"redis_url": "redis://192.168.3.4/0"}, "warning", "without a password"),
        ({"broker_url": "memory://"}, "fault", "of one process alone"),
        ({"redis_url": "sentinel://a.example.com,b.example.com?master=m"}, "fault", "without a password"),
        ({"redis_url": "rediss://:pw@redis.example.com?ssl_cert_reqs=none"}, "warning", "is not verified"),
        ({"broker_url": "amqp://rabbit"}, "fault", "the user guest"),
        ({"broker_url": "amqp://pictures:pw@rabbit.example.com"}, "fault", "in clear: give an amqps:// URL"),
    ],
)
def test_doors_that_stand_open_are_found(told, verdict, said):
    (finding,) = of_settings(account(), **told)
    assert finding.verdict == verdict and said in finding.text


# --- on a real server ---------------------------------------------------------------------------------


@pytest.fixture
def loose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A server that a test may set as it likes, and the environment of a product on it."""
    path = accounts_file(tmp_path / "accounts.toml", "https://simulator.example", **{"studio-1": 1})
    with EmbeddedServer.start(tmp_path / "valkey") as server:
        for name, value in {
            "ORCHESTRATOR_REDIS_URL": server.url,
            "ORCHESTRATOR_ACCOUNTS": str(path),
            "ORCHESTRATOR_ARTIFACTS": "none",
            "SIMULATOR_TOKEN": TOKEN,
        }.items():
            monkeypatch.setenv(name, value)
        for name in ("ORCHESTRATOR_PUBLIC_URL", "ORCHESTRATOR_BROKER_URL"):
            monkeypatch.delenv(name, raising=False)
        yield server


def configure(server: EmbeddedServer, **told: str) -> None:
    store = Store(server.url)
    for name, value in told.items():
        store._link.client.config_set(name.replace("_", "-"), value)
    store.close()


def test_a_real_server_tells_its_facts(loose):
    store = Store(loose.url)
    facts = store.server.facts()
    assert {**facts, "version": "9.1", "redis_version": "7.2.4"} == GOOD_REDIS
    assert abs(store.server.ahead_seconds(time.time)) < 1
    assert 99 < store.server.ahead_seconds(lambda: time.time() + 100) < 101
    configure(loose, appendfsync="no", maxmemory_policy="allkeys-lru")
    facts = store.server.facts()
    assert (facts["fsync"], facts["eviction"]) == ("no", "allkeys-lru")
    store.close()


def test_doctor_says_what_is_unsafe(loose):
    configure(loose, maxmemory_policy="volatile-lru", appendfsync="no")
    found = {(finding.verdict, finding.text.partition(":")[0]) for finding in examine()}
    assert ("fault", "Redis evicts keys by volatile-lru") in found
    assert ("warning", "Redis leaves it to the system when the file is written") in found


def serve(command: tuple[str, ...], patience: float = 30.0) -> tuple[int | None, str]:
    """Runs a server for at most so long; None: it was still running then."""
    with subprocess.Popen(
        [sys.executable, "-m", *command],
        env={**os.environ, "GUNICORN_CMD_ARGS": "--bind 127.0.0.1:0 --no-control-socket"},
        cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        try:
            output, _ = process.communicate(timeout=patience)
            return process.returncode, output
        except subprocess.TimeoutExpired:
            process.terminate()
            output, _ = process.communicate(timeout=30)
            return None, output


@pytest.mark.parametrize(
    "command", [("celery", "-A", "workers", "worker"), ("gunicorn", "webhooks.wsgi:app")]
)
def test_a_server_does_not_start_on_a_fault_and_says_the_cure(command, loose):
    configure(loose, maxmemory_policy="allkeys-lru")
    code, output = serve(command)
    assert code not in (None, 0)
    assert "set maxmemory-policy noeviction" in output
    assert "Traceback" not in output


def test_a_warning_keeps_nobody_from_starting_and_is_said(loose):
    configure(loose, appendfsync="no")
    code, output = serve(("gunicorn", "webhooks.wsgi:app"), patience=8.0)
    assert code is None, output
    assert "set appendfsync everysec" in output


def test_a_redis_that_is_away_for_a_moment_is_waited_for(loose):
    loose.kill()
    with subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "workers", "worker", "--loglevel=INFO"],
        env={**os.environ, "PYTHONUNBUFFERED": "1"}, cwd=REPOSITORY, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        time.sleep(3)
        assert process.poll() is None
        loose.restart()
        lines: list[str] = []
        while not lines or "ready." not in lines[-1]:
            lines.append(process.stdout.readline())
            assert lines[-1], lines
        process.terminate()
        process.communicate(timeout=30)
