"""A real process is killed at every step of the flow, and the job still ends right, once.

The crashes come one after another, and what is killed is started again as a supervisor would; the jobs are
waited for together, since what was cut off is looked at only after a while.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
import requests

from orchestrator import Orchestrator
from orchestrator.broker import GENERATE
from orchestrator.canvas import task_options
from orchestrator.errors import JobNotFound
from orchestrator.intake import new_job
from orchestrator.local.stack import PYTHON, Commands, Stack, StackOptions
from orchestrator.models import Job, State
from tests.conftest import ACCOUNT
from tests.crashing import HAPPENED
from tests.stack_kit import REPOSITORY, TOKEN, eventually

pytestmark = pytest.mark.long

FRAMES, FREEPIK = "useapi_frames", "freepik_runway"
NAME, EMAIL = "studio-1", "studio-1@example.com"
PATIENCE = 180.0
CRASH_SECONDS = 45.0
LOOK_SECONDS = 0.1
LINKS = "tests.links"  # a queue that nobody consumes
CELERY = (*PYTHON, "celery", "-A", "tests.crashing")
COMMANDS = Commands(
    worker=(
        *CELERY,
        "worker",
        "--loglevel=INFO",
        "--hostname",
        "{host}",
        "--without-mingle",
        "--without-gossip",
    ),
    ticker=(*CELERY, "beat", "--loglevel=INFO", "--pidfile="),
    receiver=(*Commands().receiver, "tests.crashing:receiver"),
)
NOT_ASKABLE = """
[[accounts]]
provider = "freepik_runway"
name = "studio-1"
token = "env:SIMULATOR_TOKEN"
max_jobs = 10
base_url = "{base_url}"
timeout_seconds = 2
deadline_seconds = 5
"""


@dataclass(frozen=True)
class Crash:
    """Where a process is killed, and what the job may cost then."""

    name: str
    point: str
    markers: str = ""
    attempts: int = 1
    accepted: int = 1
    state: State = State.SUCCEEDED
    provider: str = FRAMES
    client: bool = False  # it is the caller's process that is killed
    wait_seconds: float = 0.0  # before the job may start
    bare: bool = False  # it comes as a message that was not recorded first, as from another app's chain


# What takes longest to be looked at again comes first.
CRASHES = (
    Crash("worker: picture fetched, not written", "before Artifacts.put"),
    Crash("worker: picture written, not described", "after Artifacts.put"),
    Crash("worker: picture described, no result yet", "after Artifacts.describe"),
    Crash("worker: Celery has the result, no end yet", "before Jobs.end"),
    Crash("receiver: settled, not published", "after Jobs.settle"),
    Crash("receiver: to be published after the answer", "after Broker.go_on"),
    Crash("worker: finish taken, not begun", "before Jobs.begin_finish"),
    Crash(
        "cancel: cancelled, not published", "before Broker.finish", "[forever]",
        accepted=0,  # and listed no more: the provider was asked to stop it
        state=State.CANCELLED, client=True,
    ),
    Crash("worker: opened, before the POST", "before Exchange.submit", attempts=2),
    Crash("worker: POST made, not recorded, no callback", "after Exchange.submit", "[lost]"),
    # Nobody can be asked, so once the deadline has passed it is begun again: the only place where it may be
    # paid for twice (README: what may be lost).
    Crash("not askable: opened, before the POST", "before Exchange.submit", attempts=2, provider=FREEPIK),
    Crash(
        "not askable: POST made, not recorded, no callback", "after Exchange.submit", "[lost:1]",
        attempts=2, accepted=2, provider=FREEPIK,
    ),
    Crash("worker: bare message, not recorded", "before Link.step", bare=True),
    Crash("tick: claimed a look, not published", "before Broker.poll", "[lost]"),
    Crash("poll: answered, not settled", "after Watch.look", "[lost]"),
    Crash("client: enqueued, not published", "before Broker.submit", client=True),
    Crash("worker: before open", "before Jobs.open"),
    Crash("tick: granted, not published", "before Broker.go_on", wait_seconds=1.0),
    Crash("worker: POST made, not recorded", "after Exchange.submit"),
    Crash("worker: recorded", "after Watch.submitted"),
    Crash("receiver: before settle", "before Jobs.settle"),
)  # fmt: skip


@dataclass(frozen=True)
class Ending:
    """What became of a job."""

    job: Job
    celery_state: str
    accepted: int
    pictures: int
    linked: bool


class Supervisor:
    """Starts again what ended, as a context manager."""

    def __init__(self, stack: Stack) -> None:
        self.stack, self._over, self._whole = stack, threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def wait_whole(self) -> None:
        time.sleep(2 * LOOK_SECONDS)  # what was killed just now is seen to be
        assert self._whole.wait(CRASH_SECONDS), "a part did not come back"

    def __enter__(self) -> Supervisor:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            for ended in self.stack.poll():
                self._whole.clear()
                self.stack.restart(ended.name)
            self._whole.set()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("crashes")


@pytest.fixture(scope="module")
def supervisor(folder: Path) -> Iterator[Supervisor]:
    """The stack, its parts armed, each started again as it ends."""
    plans = folder / "plans"
    plans.mkdir()
    options = StackOptions(
        accounts=folder / "accounts.toml",
        artifacts=f"file://{folder}/artifacts",
        cwd=REPOSITORY,
        environ={**os.environ, "SIMULATOR_TOKEN": TOKEN, "CRASH_FOLDER": str(plans)},
        flower=False,
        workers=2,
        simulator_arguments=("--scale", "0.1", "--seconds", "4", "--max-jobs", "30"),
        commands=COMMANDS,
    )
    made = Stack(folder / "run", options)
    frames = ACCOUNT.format(name=NAME, max_jobs=30, base_url=made.simulator_url)
    options.accounts.write_text(frames + NOT_ASKABLE.format(base_url=made.simulator_url), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch, made, Supervisor(made) as supervisor:
        for name, value in {**made.environment, "SIMULATOR_TOKEN": TOKEN}.items():
            patch.setenv(name, value)
        yield supervisor


@pytest.fixture(scope="module")
def own_stack(supervisor: Supervisor) -> Stack:
    return supervisor.stack


@pytest.fixture(scope="module")
def own(own_stack: Stack) -> Iterator[Orchestrator]:
    with Orchestrator.from_env() as made:
        yield made


@pytest.fixture(scope="module")
def plan(folder: Path) -> Callable[[str, str], Callable[[], None]]:
    """Asks for a crash where a text is met at a point. Gives what waits until it has happened."""

    def make(text: str, point: str) -> Callable[[], None]:
        asked = folder / "plans" / text
        growing = asked.with_suffix(HAPPENED)
        growing.write_text(point)
        growing.rename(asked)

        def wait() -> None:
            give_up_at = time.monotonic() + CRASH_SECONDS
            while asked.exists():
                assert time.monotonic() < give_up_at, f"nothing was killed {point}"
                time.sleep(0.02)

        return wait

    return make


@pytest.fixture(scope="module")
def as_client(own_stack: Stack) -> Callable[..., int]:
    """Runs a caller's process. Gives how it ended."""

    def run(*words: str) -> int:
        argv = (sys.executable, "-m", "tests.crashing", *words)
        environ = {**own_stack.options.environ, **own_stack.environment}
        return subprocess.run(argv, cwd=REPOSITORY, env=environ, timeout=CRASH_SECONDS).returncode

    return run


def accepted(stack: Stack, prompt: str) -> int:
    """How many generations the simulator began for a prompt."""
    answer = requests.get(
        f"{stack.simulator_url}/v1/runwayml/tasks/",
        params={"offset": 0, "limit": 1000, "email": EMAIL},
        headers={"Authorization": "Bearer any"},
        timeout=30,
    )
    tasks = answer.json()["tasks"]
    return sum(task["options"].get("text_prompt") == prompt for task in tasks)


@pytest.fixture(scope="module")
def endings(supervisor, own_stack, own, plan, as_client, folder) -> dict[str, Ending]:
    """Makes every crash happen, and waits for the jobs."""
    flow, asked, began = own.flow, {}, time.monotonic()
    for crash in CRASHES:
        job_id = str(uuid.uuid4())
        prompt = f"{job_id} {crash.markers}".strip()
        parameters = (
            {"text_prompt": prompt} if crash.provider == FRAMES else {"prompt": prompt, "ratio": "1024:1024"}
        )
        now = flow.clock()
        start_at = now + crash.wait_seconds if crash.wait_seconds else 0.0
        link = flow.broker.app.signature("tests.next", queue=LINKS, immutable=True)
        job = new_job(
            flow.exchange, job_id, crash.provider, parameters, {"batch": "crashes"}, now,
            start_at=start_at, task_options=task_options(link=link),
        )  # fmt: skip
        if crash.state is State.CANCELLED:
            flow.enqueue([job])
            while own.job(job_id).state != "submitted":
                time.sleep(0.05)
            happened = plan(job_id, crash.point)
            as_client("cancel", crash.provider, job_id)
        elif crash.client:
            happened = plan(job_id, crash.point)
            as_client("enqueue", crash.provider, job_id)
        elif crash.bare:
            happened = plan(job_id, crash.point)
            flow.broker.app.send_task(
                GENERATE, (crash.provider, parameters), {"batch": "crashes"}, task_id=job_id, link=link
            )
        else:
            happened = plan(job_id, crash.point)
            flow.enqueue([job])
        happened()
        asked[crash] = (job_id, prompt, time.monotonic())
        supervisor.wait_whole()  # the next one is killed by itself
        print(f"{time.monotonic() - began:6.1f} s  killed   {crash.name}")
    found: dict[str, Ending] = {}
    while left := [crash for crash in CRASHES if crash.name not in found]:
        time.sleep(0.1)
        for crash in left:
            job_id, prompt, crashed_at = asked[crash]
            seconds = time.monotonic() - crashed_at
            assert seconds < PATIENCE, crash
            known = own.flow.broker.app.AsyncResult(job_id)
            try:
                job = own.job(job_id).record
            except JobNotFound:  # it came bare, and is not recorded yet
                continue
            if job.ended_at and known.ready():
                print(f"{seconds:6.1f} s  to end   {crash.name}")
                pictures = len(list((folder / "artifacts").rglob(f"{job_id}-*.png")))
                found[crash.name] = Ending(
                    job, known.state, accepted(own_stack, prompt), pictures, linked=not crash.client
                )
    return found


@pytest.mark.parametrize("crash", CRASHES, ids=lambda crash: crash.name)
def test_killed_there_the_job_ends_right_once(crash, endings):
    ending = endings[crash.name]
    succeeded = crash.state is State.SUCCEEDED
    assert ending.job.state is crash.state
    assert ending.celery_state == ("SUCCESS" if succeeded else "REVOKED")
    assert ending.job.attempts == crash.attempts
    assert ending.pictures == (1 if succeeded else 0)
    if crash.provider == FRAMES:  # the other one lists nothing: see below
        assert ending.accepted == crash.accepted


def test_where_the_provider_cannot_be_asked_exactly_the_documented_number_is_paid_for(endings, own_stack):
    stats = requests.get(f"{own_stack.simulator_url}/__stats__", timeout=30).json()["apis"][FREEPIK]
    assert stats["accepted"] == sum(crash.accepted for crash in CRASHES if crash.provider == FREEPIK)


def test_after_all_crashes_the_batch_counts_and_no_slot_is_held(endings, own):
    counts = own.batch("crashes").counts()
    assert counts["total"] == len(CRASHES)
    assert (counts["succeeded"], counts["cancelled"]) == (len(CRASHES) - 1, 1)
    for provider in (FRAMES, FREEPIK):
        (row,) = own.flow.store.accounts.rows(provider, own.flow.clock())
        assert int(row["used"]) == 0


def test_what_a_job_is_linked_to_is_started_once(endings, own_stack):
    with redis.Redis.from_url(own_stack.redis_url) as server:
        messages = [json.loads(each)["headers"] for each in server.lrange(LINKS, 0, -1)]
    begun_by = Counter(headers["parent_id"] for headers in messages)
    # The caller that was killed had linked nothing.
    linked = [each.job.id for each in endings.values() if each.job.state is State.SUCCEEDED and each.linked]
    assert begun_by == dict.fromkeys(linked, 1)


def test_half_a_batch_that_was_enqueued_is_gone_on_with(endings, own, plan, as_client):
    happened = plan("halved", "after Link.step")
    assert as_client("enqueue_many", FRAMES, "halved", "0", "25") < 0
    happened()
    batch = own.batch("halved")
    known = batch.counts()["total"]
    assert known == 10  # whole steps, in their order
    assert as_client("enqueue_many", FRAMES, "halved", str(known), "25") == 0
    eventually(lambda: batch.counts()["succeeded"] == 25, seconds=PATIENCE)
    assert not batch.is_over  # for ten minutes, that who was killed may come back
    prompts = {job.record.parameters["text_prompt"] for job in batch.jobs()}
    assert prompts == {f"halved {n}" for n in range(25)}
