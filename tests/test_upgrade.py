"""The release before this one and this one, on the same Redis: what one leaves, the other goes on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import requests

from orchestrator import Batch, Orchestrator
from orchestrator.errors import ConfigurationError
from orchestrator.local.stack import PYTHON, Commands, Stack, StackOptions
from orchestrator.store import Store
from orchestrator.store.server import FORMAT
from tests import store_kit
from tests.conftest import usual_accounts
from tests.stack_kit import PATIENCE, QUICK, REPOSITORY, SECRETS, client_of, eventually

server, raw, store = store_kit.server, store_kit.raw, store_kit.store

pytestmark = pytest.mark.long

PREVIOUS = "f37a44a"  # 0.1.0
FRAMES = "useapi_frames"
OPENED = "attempt.opened"
CELERY = (*PYTHON, "celery", "-A", "workers")  # as both releases have it
WORKER = (*CELERY, "worker", "--loglevel=INFO")
# Of the release before, which does not say that it ticks, as a stack waits for.
TICKER = ("sh", "-c", 'echo ticker.started; exec "$@"', "sh", *CELERY, "beat", "--pidfile=")
ENQUEUE = """
import json, sys
import orchestrator
name, prompts = json.loads(sys.argv[1])
with orchestrator.Orchestrator.from_env() as client:
    batch = client.enqueue_many("useapi_frames", prompts, batch=name)
    print(json.dumps([orchestrator.__file__, len(batch.jobs())]))
"""
RESULTS = """
import json, sys
import orchestrator
with orchestrator.Orchestrator.from_env() as client:
    batch = client.batch(json.loads(sys.argv[1]))
    pictures = [len(job.result(timeout=60).artifacts) for job in batch]
    print(json.dumps([orchestrator.__file__, batch.counts(), sum(pictures)]))
"""


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages of the release before."""
    packages = ("orchestrator", "workers", "webhooks")
    told = subprocess.run(["git", "archive", PREVIOUS, *packages], cwd=REPOSITORY, capture_output=True)
    if told.returncode:
        pytest.skip("this copy has no history: `git fetch --unshallow --tags` brings it")
    folder = tmp_path_factory.mktemp("before")
    with tarfile.open(fileobj=BytesIO(told.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


@contextmanager
def release(cwd: Path, folder: Path, **options: Any) -> Iterator[Stack]:
    """Worker, ticker and receiver of the packages in `cwd`."""
    made = Stack(
        folder / cwd.name,
        StackOptions(
            accounts=folder / "accounts.toml",
            artifacts=f"file://{folder}/artifacts",
            cwd=cwd,
            environ={**os.environ, **SECRETS},
            flower=False,
            commands=Commands(worker=(*WORKER, "--hostname", f"{cwd.name}-{{host}}"), ticker=TICKER),
            **options,
        ),
    )
    if made.simulator_url:
        made.options.accounts.write_text(usual_accounts(made.simulator_url), encoding="utf-8")
    with made:
        yield made


@pytest.fixture(scope="module")
def old(before: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with release(before, tmp_path_factory.mktemp("upgrade"), simulator_arguments=QUICK) as made:
        yield made


@pytest.fixture(scope="module")
def client(old: Stack) -> Iterator[Orchestrator]:
    """This release's producer."""
    with client_of(old) as made:
        yield made


@pytest.fixture(scope="module")
def in_old(old: Stack, before: Path) -> Callable[..., Any]:
    """Runs a producer's script of the release before; gives what it prints, but for where it stands."""

    def run(script: str, told: Any) -> Any:
        done = subprocess.run(
            [sys.executable, "-c", script, json.dumps(told)],
            cwd=before, env={**os.environ, **SECRETS, **old.environment}, capture_output=True, text=True,
            timeout=PATIENCE,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        where, *printed = json.loads(done.stdout)
        assert Path(where).is_relative_to(before)
        return printed

    return run


def prompts(number: int, markers: str = "") -> list[dict[str, str]]:
    return [{"text_prompt": f"{uuid.uuid4().hex} {markers}"} for _ in range(number)]


def test_one_release_follows_the_other_while_jobs_run(old, client, in_old, tmp_path_factory):
    """Old workers alone, then both, then new workers alone; in each of these times producers of both."""

    def enqueued_by_both(name: str, markers: str = "") -> list[Batch]:
        mine = client.enqueue_many(FRAMES, prompts(8, markers), batch=f"new {name}")
        assert in_old(ENQUEUE, (f"old {name}", prompts(8, markers))) == [8]
        return [mine, client.batch(f"old {name}")]

    batches = enqueued_by_both("of old workers")
    for batch in batches:
        assert batch.wait(timeout=PATIENCE)["succeeded"] == 8
    shared = {"redis_url": old.redis_url, "secret_keys": old.environment["ORCHESTRATOR_SECRET_KEYS"]}
    folder = old.options.accounts.parent
    with release(REPOSITORY, folder, simulator=False, **shared) as new:
        batches += enqueued_by_both("of both")
        batches += enqueued_by_both("handed over", "[slow] [429:1]")
        eventually(lambda: OPENED in new.log("worker").read_text())
        for part in ("worker", "ticker", "receiver"):
            old.kill(part, signal.SIGTERM)
        batches += enqueued_by_both("of new workers")
        for batch in batches:
            assert batch.wait(timeout=PATIENCE)["succeeded"] == 8
            counts, pictures = in_old(RESULTS, batch.name)
            assert (counts["succeeded"], pictures) == (8, 8)
            assert sum(len(job.result(timeout=PATIENCE).artifacts) for job in batch) == 8
    assert OPENED in old.log("worker").read_text()
    told = requests.get(f"{old.simulator_url}/__stats__", timeout=30).json()["total"]
    assert (told["accepted"], told["duplicates_by_prompt"]) == (8 * len(batches), 0)


# --- how far apart releases may be --------------------------------------------------------------------


def test_what_is_kept_has_the_format_of_the_newest_release(store: Store, raw):
    for kept, then in ((None, FORMAT), (FORMAT, FORMAT), (FORMAT - 1, FORMAT), (FORMAT + 1, FORMAT + 1)):
        raw.delete("orc:format")
        if kept is not None:
            raw.set("orc:format", kept)
        for _ in range(2):
            store.server.agree_on_format()
        assert int(raw.get("orc:format")) == then


@pytest.mark.parametrize(
    ("kept", "cure"),
    [(FORMAT + 2, "install the release that the others run"), (FORMAT - 2, "by the releases in between")],
)
def test_a_release_that_is_too_far_away_does_not_start_and_changes_nothing(kept, cure, store: Store, raw):
    raw.set("orc:format", kept)
    with pytest.raises(ConfigurationError, match=f"format {kept}, .*{cure}"):
        store.server.agree_on_format()
    assert int(raw.get("orc:format")) == kept
