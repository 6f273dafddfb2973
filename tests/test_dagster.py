"""The Dagster example with the real package, which deploy/examples/dagster/README.md says how to install."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Orchestrator
from tests.stack_kit import REPOSITORY, eventually

# Only looked for: imported in here, its warnings would be errors.
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("dagster") is None, reason="could not import 'dagster': see its example"
)

EXAMPLE = REPOSITORY / "deploy" / "examples" / "dagster"
PROVIDER, BATCH, JOBS = "useapi_frames", "seasons:autumn", 3
SECONDS = 180.0
# On an instance that is kept, as a deployment's is.
RUN = """
import json
from dagster import DagsterInstance, materialize
from pictures import Pictures, seasons

done = materialize(
    [seasons], partition_key="autumn", resources={"pictures": Pictures(patience_seconds=120)},
    instance=DagsterInstance.get(),
)
(event,) = done.get_asset_materialization_events()
(check,) = done.get_asset_check_evaluations()
metadata = {name: each.value for name, each in event.materialization.metadata.items()}
print(json.dumps([done.success, check.passed, event.partition, metadata]))
"""


@pytest.fixture
def launch(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts a run of Dagster that materialises the example's autumn."""
    env = {
        **os.environ,
        "DAGSTER_HOME": str(tmp_path),
        "PYTHONPATH": str(REPOSITORY),
        "DAGSTER_DISABLE_TELEMETRY": "1",
    }
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        log = (tmp_path / f"run-{len(started)}.log").open("w")
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", RUN],
                env=env, cwd=EXAMPLE, stdout=subprocess.PIPE, stderr=log, text=True,
            )
        )  # fmt: skip
        log.close()
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.communicate()


def test_a_run_that_is_killed_and_made_again_pays_for_nothing_twice(
    launch: Callable[[], subprocess.Popen[str]],
    orchestrator: Orchestrator,
    stats: Callable[[], dict[str, Any]],
    tmp_path: Path,
) -> None:
    posts = stats()["posts"]
    orchestrator.operations.pause("provider", PROVIDER)
    try:
        killed = launch()
        enqueued = lambda: orchestrator.batch(BATCH).counts()["total"] == JOBS  # noqa: E731
        eventually(lambda: enqueued() or killed.poll(), seconds=SECONDS)
        assert killed.poll() is None, (tmp_path / "run-0.log").read_text()
        killed.kill()
        killed.wait()
    finally:
        orchestrator.operations.resume("provider", PROVIDER)
    orchestrator.batch(BATCH).wait(timeout=SECONDS)  # nobody of Dagster is needed for that
    for number in (1, 2):
        told, _ = launch().communicate(timeout=SECONDS)
        assert told, (tmp_path / f"run-{number}.log").read_text()
        success, passed, partition, metadata = json.loads(told)
        assert (success, passed, partition) == (True, True, "autumn")
        assert (metadata["batch"], metadata["succeeded"], metadata["failed"]) == (BATCH, JOBS, 0)
        pictures = metadata["pictures"]
        assert sorted(pictures) == [str(n) for n in range(JOBS)]
        assert all(Path(path).is_file() for several in pictures.values() for path in several)
    assert orchestrator.batch(BATCH).counts()["total"] == JOBS
    assert stats()["posts"] == posts + JOBS
