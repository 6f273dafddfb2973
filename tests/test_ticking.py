"""The ticker: it asks for a tick where something is due, and grants what is free by itself."""

from __future__ import annotations

import os
import signal
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from orchestrator.broker import SUBMIT_QUEUE, TICK_QUEUE
from orchestrator.build import build, read_settings
from orchestrator.flow import Flow
from orchestrator.intake import new_job
from orchestrator.local.processes import Command, Processes
from orchestrator.local.valkey import EmbeddedServer
from tests import store_kit
from tests.stack_kit import PATIENCE, REPOSITORY, SECRETS, eventually

server, raw = store_kit.server, store_kit.raw

FRAMES = "useapi_frames"
ACCOUNTS = """
[[accounts]]
provider = "useapi_frames"
name = "studio"
token = "env:SIMULATOR_TOKEN"
email = "studio@example.com"
max_jobs = 1
"""
OTHERS_QUEUE = "of.others"
TICKER = f"""
from workers import app
app.conf.beat_schedule = {{
    "other": {{"task": "other", "schedule": 0.1, "options": {{"queue": "{OTHERS_QUEUE}"}}}}
}}
app.Beat(loglevel="INFO").run()
"""


@pytest.fixture
def environ(server: EmbeddedServer, raw: redis.Redis, tmp_path: Path) -> dict[str, str]:
    raw.flushall()
    accounts = tmp_path / "accounts.toml"
    accounts.write_text(ACCOUNTS)
    return {
        **SECRETS,
        "ORCHESTRATOR_REDIS_URL": server.url,
        "ORCHESTRATOR_ACCOUNTS": str(accounts),
        "ORCHESTRATOR_ARTIFACTS": "none",
    }


@pytest.fixture
def flow(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Flow]:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    built = build(read_settings(), lean=True)
    yield built.flow
    built.close()


def enqueue(flow: Flow, number: int, start_at: float = 0.0) -> None:
    for _ in range(number):
        parameters = {"text_prompt": uuid.uuid4().hex}
        job = new_job(
            flow.exchange, str(uuid.uuid4()), FRAMES, parameters, {}, flow.clock(), start_at=start_at
        )
        flow.enqueue([job])


def test_a_tick_is_asked_for_only_where_something_is_due(flow, raw):
    now = time.time()

    def at(seconds: float) -> Flow:
        return replace(flow, clock=lambda: now + seconds)

    assert not at(0).remind(1.0)
    enqueue(flow, 1, start_at=now + 100)
    assert not at(98.9).remind(1.0)
    assert raw.llen(TICK_QUEUE) == 0
    assert at(99.1).remind(1.0)
    assert at(500).remind()
    assert raw.llen(TICK_QUEUE) == 2
    assert at(0).remind(1.0, anyway=True)
    assert raw.llen(TICK_QUEUE) == 3


def test_a_slot_that_became_free_unseen_is_granted_without_a_tick(flow, raw):
    enqueue(flow, 2)
    assert raw.llen(SUBMIT_QUEUE) == 1
    assert not flow.remind()
    assert raw.llen(SUBMIT_QUEUE) == 1
    raw.hset(f"orc:account:{FRAMES}/studio", "max_jobs", 2)
    assert not flow.remind()
    assert raw.llen(SUBMIT_QUEUE) == 2
    assert raw.llen(TICK_QUEUE) == 0


def test_what_a_killed_ticker_granted_and_did_not_publish_is_seen_to_by_a_tick(flow, raw):
    enqueue(flow, 2)
    raw.hset(f"orc:account:{FRAMES}/studio", "max_jobs", 2)
    assert flow.store.fill_all([FRAMES], flow.clock())
    later = replace(flow, clock=lambda: time.time() + store_kit.BEGIN_PATIENCE + 1)
    assert later.remind()
    assert raw.llen(SUBMIT_QUEUE) == 1
    later.tick()
    assert raw.llen(SUBMIT_QUEUE) == 3  # what nobody took is sent again as well


def test_tickers_go_on_though_one_is_killed_and_send_what_others_have_them_send(environ, raw, tmp_path):
    raw.zadd("orc:due", {"job:of-nobody": 1.0})  # no worker is there to see to it

    def started(name: str) -> Command:
        log = tmp_path / name
        return Command(
            name, (sys.executable, "-c", TICKER), {**os.environ, **environ}, REPOSITORY, log,
            ready=lambda: "ticker.started" in log.read_text(), timeout_seconds=PATIENCE,
        )  # fmt: skip

    def asked() -> int:
        return raw.llen(TICK_QUEUE)

    with Processes() as processes:
        for name in ("one", "two"):
            processes.launch(started(name))
        for name in ("one", "two"):
            processes.wait(name)
        eventually(lambda: asked() >= 4 and raw.llen(OTHERS_QUEUE) >= 4)
        processes.kill("one", signal.SIGKILL)
        eventually(processes.poll)
        then = asked()
        eventually(lambda: asked() >= then + 2)
        assert [ended.name for ended in processes.poll()] == ["one"]
