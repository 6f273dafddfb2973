"""Webhook first, poll as the net: a provider whose callbacks stop is polled, and comes back, by itself."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner

from orchestrator import Orchestrator
from orchestrator.cli import main
from orchestrator.local.stack import Stack, StackOptions
from tests.conftest import usual_accounts
from tests.stack_kit import REPOSITORY, SECRETS, client_of, stack_in

FRAMES = "useapi_frames"
PATIENCE = 60.0


@pytest.fixture(scope="module")
def own_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stack_in(tmp_path_factory.mktemp("polling"), usual_accounts, artifacts="none") as made:
        yield made


@pytest.fixture(scope="module")
def own(own_stack: Stack) -> Iterator[Orchestrator]:
    with client_of(own_stack) as made:
        yield made


def run(own: Orchestrator, count: int, marker: str = "") -> None:
    prompts = [{"text_prompt": f"{uuid.uuid4().hex} {marker}"} for _ in range(count)]
    name = f"batch-{uuid.uuid4().hex}"
    assert own.enqueue_many(FRAMES, prompts, batch=name).wait(timeout=PATIENCE)["succeeded"] == count


def polls(stack: Stack) -> int:
    return int(requests.get(f"{stack.simulator_url}/__stats__", timeout=30).json()["total"]["polls"])


def missing() -> float:
    told = json.loads(CliRunner().invoke(main, ["status", "--json"]).output)
    return float(told["missing_callbacks"].get(FRAMES, 0.0))


def test_callback_disarms_its_poll(own, own_stack):
    run(own, 20)
    assert polls(own_stack) == 0
    assert own.flow.store.durations(f"{FRAMES}/")


def test_provider_goes_to_polling_and_back_by_itself(own, own_stack):
    run(own, 10, "[lost]")
    assert missing() > 0.5
    assert "it is polled instead" in CliRunner().invoke(main, ["status"]).output
    before = polls(own_stack)
    time.sleep(3.1)  # LEARN_SECONDS: what every process knows of it is that old at most
    run(own, 10, "[lost]")
    assert polls(own_stack) >= before + 10
    run(own, 30)
    assert missing() < 0.25
    assert "it is polled instead" not in CliRunner().invoke(main, ["status"]).output


def test_poll_only_jobs_are_polled_at_what_was_learned(own_stack, tmp_path, monkeypatch):
    """With no public URL nothing is called back. Its own worker, beside the stack's, asks for none."""
    assert Path(own_stack.folder).exists()
    polled = StackOptions(
        accounts=own_stack.options.accounts,
        artifacts="none",
        cwd=REPOSITORY,
        environ={**os.environ, **SECRETS},
        callbacks=False,
        simulator=False,
        flower=False,
    )
    with Stack(tmp_path / "polled", polled) as stack:
        monkeypatch.delenv("ORCHESTRATOR_PUBLIC_URL")
        for name, value in stack.environment.items():
            monkeypatch.setenv(name, value)
        with Orchestrator.from_env() as orchestrator:
            run(orchestrator, 60)
            stats = orchestrator.flow.store.stats()
            durations = orchestrator.flow.store.durations(f"{FRAMES}/")
    assert stats[f"{FRAMES}/polls"] >= 60
    assert f"{FRAMES}/callbacks" not in stats
    assert len(durations) == 60 and all(0.0 <= each < PATIENCE for each in durations)
