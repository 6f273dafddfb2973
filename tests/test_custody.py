"""Storage that fails: no new generation, nothing lost, nothing paid for twice, and clear words."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import CliRunner

from orchestrator import Orchestrator
from orchestrator.broker import FINISH_QUEUE
from orchestrator.cli import main
from orchestrator.client import Batch
from orchestrator.errors import NotFound
from orchestrator.local.stack import COLLECT, Stack
from orchestrator.models import Job
from orchestrator.recovery import Recovery
from orchestrator.sidecar import read
from tests.conftest import accounts
from tests.stack_kit import SECRETS, client_of, eventually, stack_in

pytestmark = pytest.mark.long

PROVIDER = "useapi_frames"
SLOTS = 4
JOBS = 5 * SLOTS
PATIENCE = 120.0
NAMED = {**SECRETS, "ORCHESTRATOR_ARTIFACT_NAME": "{batch}/{date}/{custom_id}-{place}"}


def one_account(simulator_url: str) -> str:
    return accounts(simulator_url, **{"studio-1": SLOTS})


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A disk of four megabytes, where this user may mount one; else a folder."""
    place = tmp_path_factory.mktemp("disk")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)], capture_output=True)
    yield place
    if place.is_mount():
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture(scope="module")
def own_stack(disk: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """With a collector, as `up` has one."""
    folder, artifacts = tmp_path_factory.mktemp("custody"), f"file://{disk}/kept"
    with stack_in(folder, one_account, NAMED, artifacts=artifacts, collectors=1) as made:
        yield made


@pytest.fixture(scope="module")
def client(own_stack: Stack) -> Iterator[Orchestrator]:
    with client_of(own_stack, NAMED) as made:
        yield made


@pytest.fixture
def posts(own_stack: Stack) -> Callable[[], int]:
    """Generations that the simulator was asked for: what is paid for."""

    def count() -> int:
        answer = requests.get(f"{own_stack.simulator_url}/__stats__", timeout=10)
        return int(answer.json()["total"]["accepted"])

    before = count()
    return lambda: count() - before


def enqueued(client: Orchestrator, count: int) -> Batch:
    name = f"batch-{uuid.uuid4().hex[:8]}"
    for number in range(count):
        client.enqueue(PROVIDER, {"text_prompt": f"{name} {number}", "seed": 7}, batch=name,
                       custom_id=f"line {number}")  # fmt: skip
    return client.batch(name)


def slots_in_use(client: Orchestrator) -> int:
    return sum(row["used"] for row in client.flow.store.accounts.rows(PROVIDER, time.time()))


def troubled(client: Orchestrator) -> list[Job]:
    store = client.flow.store
    return store.jobs([job_id for job_id, _ in store.collecting.troubled()])


def told(*words: str) -> Any:
    ran = CliRunner().invoke(main, [*words, "--json"])
    assert ran.exit_code == 0, ran.output
    return json.loads(ran.output)


def assert_kept_whole(batch: Batch, disk: Path) -> None:
    for job in batch.jobs():
        for place, artifact in enumerate(job.result(timeout=PATIENCE).artifacts, 1):
            path = Path(str(artifact.path))
            assert path.is_relative_to(disk / "kept" / batch.name)
            assert path.name == f"{job.record.custom_id}-{place}.png"
            assert hashlib.sha256(path.read_bytes()).hexdigest() == artifact.sha256
            about = read(path.with_suffix(".json").read_bytes())
            assert about is not None
            assert (about.job, about.custom_id, about.batch) == (job.id, job.record.custom_id, batch.name)
            assert (about.file, about.sha256, about.seed) == (path.name, artifact.sha256, 7)
    assert not list(disk.rglob("*.part"))


# --- ways to fail, each with what mends it -------------------------------------------------------------


def in_the_way(disk: Path) -> Callable[[], Any]:
    """A file stands where the folder of all pictures should."""
    root, aside = disk / "kept", disk / "aside"
    if root.exists():
        root.rename(aside)
    root.write_text("in the way")

    def mend() -> None:
        root.unlink()
        if aside.exists():
            aside.rename(root)

    return mend


def full(disk: Path) -> Callable[[], Any]:
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(4096))
    return ballast.unlink


def read_only(disk: Path) -> Callable[[], Any]:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    return lambda: subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)


@pytest.mark.parametrize(
    ("fails", "words"),
    [
        (in_the_way, "a file stands where a folder should be; move it away from"),
        (full, "no space is left; make room in"),
        (read_only, "it is mounted read-only; mount"),
    ],
)
def test_nothing_is_begun_and_nothing_lost_while_storage_fails(fails, words, client, disk, posts, own_stack):
    if fails is not in_the_way and not disk.is_mount():
        pytest.skip("this user may not mount")
    mend = fails(disk)
    try:
        batch = enqueued(client, JOBS)
        # What was begun before the trouble was known is collected; the rest is not begun.
        eventually(
            lambda: client.flow.store.collecting.storage() and not slots_in_use(client), seconds=PATIENCE
        )
        begun = posts()
        eventually(lambda: client.flow.store.collecting.count() == begun, seconds=PATIENCE)
        assert SLOTS <= begun < JOBS
        assert_told(client, batch, begun, words)
        eventually(lambda: all(job.collect_failures > 3 for job in troubled(client)), seconds=PATIENCE)
        assert (posts(), batch.counts()["queued"]) == (begun, JOBS - begun)
    finally:
        mend()
    assert batch.wait(timeout=PATIENCE)["succeeded"] == JOBS
    assert posts() == JOBS
    assert_kept_whole(batch, disk)
    assert told("collecting") == {"storage": None, "jobs": []}


def assert_told(client: Orchestrator, batch: Batch, begun: int, words: str) -> None:
    """Every way to ask says what is wrong, and the cure."""
    found = told("collecting")
    assert words in found["storage"] and len(found["jobs"]) == begun
    assert all(words in each["reason"] and each["urls_die_at"] and each["again_at"] for each in found["jobs"])
    assert [each["urls_die_at"] for each in found["jobs"]] == sorted(
        each["urls_die_at"] for each in found["jobs"]
    )
    status = told("status")
    assert (status["not_kept"], status["storage"]) == (begun, found["storage"])
    (waiting, *_) = [job for job in batch.jobs() if job.state == "queued"]
    explained = told("explain", waiting.id)
    assert explained["gate"] == "storage" and words in explained["text"]
    explained = told("explain", found["jobs"][0]["job"])
    assert explained["gate"] == "collecting" and words in explained["text"]
    shown = CliRunner().invoke(main, ["collecting"]).output
    assert words in shown and "its URL dies in 23 h" in shown
    assert "No generation is begun while pictures cannot be kept" in shown
    assert "Traceback" not in shown


def test_trouble_with_one_batch_does_not_hold_up_others(client, disk, posts):
    stuck = f"stuck-{uuid.uuid4().hex[:8]}"
    (disk / "kept").mkdir(exist_ok=True)
    (disk / "kept" / stuck).write_text("in the way")
    job = client.enqueue(PROVIDER, {"text_prompt": stuck}, batch=stuck)
    eventually(lambda: job.record.collect_failures, seconds=PATIENCE)
    others = enqueued(client, JOBS)
    assert others.wait(timeout=PATIENCE)["succeeded"] == JOBS
    assert client.flow.store.collecting.storage() == "" and job.state == "collecting"
    (disk / "kept" / stuck).unlink()
    job.result(timeout=PATIENCE)
    assert posts() == JOBS + 1


def test_jobs_are_finished_by_the_collector_alone(client, own_stack):
    assert COLLECT == FINISH_QUEUE
    queues = client.flow.broker.app.control.inspect(timeout=10).active_queues()
    taken = {host.partition("@")[0]: {each["name"] for each in queues[host]} for host in queues}
    assert taken["collector"] == {FINISH_QUEUE} and FINISH_QUEUE not in taken["worker"]


def test_what_was_kept_is_known_again_by_what_stands_beside_it(client, disk, posts):
    batch = enqueued(client, SLOTS)
    assert batch.wait(timeout=PATIENCE)["succeeded"] == SLOTS
    before = {job.id: (job.record.custom_id, job.record.result["artifacts"]) for job in batch.jobs()}
    client.flow.store._link.client.flushall()
    client.flow.store.accounts.configure(client._built.settings.accounts)
    Recovery(client.flow).run()
    assert batch.counts()["succeeded"] == SLOTS
    for job in batch.jobs():
        custom_id, artifacts = before[job.id]
        record = job.record
        assert (record.custom_id, record.provider, record.account) == (custom_id, PROVIDER, "studio-1")
        assert [(each["path"], each["sha256"]) for each in record.result["artifacts"]] == [
            (each["path"], each["sha256"]) for each in artifacts
        ]
    # It is the same job, by the same name: it is not generated again.
    again = client.enqueue(PROVIDER, {"text_prompt": f"{batch.name} 0", "seed": 7}, batch=batch.name,
                           custom_id="line 0")  # fmt: skip
    assert again.id in before and posts() == SLOTS


def test_fresh_urls_are_asked_for_by_hand(client, posts):
    job = client.enqueue(PROVIDER, {"text_prompt": uuid.uuid4().hex})
    result = job.result(timeout=PATIENCE)
    assert told("refresh", job.id) == {"id": job.id, "urls": [each.url for each in result.artifacts]}
    assert posts() == 1
    with pytest.raises(NotFound):
        client.job("nobody").refresh()
