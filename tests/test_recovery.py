"""Redis was lost: what others still tell is known again, and nothing is generated for it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis
import requests
from click.testing import CliRunner

from orchestrator import JobNotFound, Orchestrator
from orchestrator.artifacts import Artifacts
from orchestrator.cli import main
from orchestrator.errors import Unavailable
from orchestrator.exchange import Exchange
from orchestrator.flow import Flow
from orchestrator.local.stack import Stack
from orchestrator.local.valkey import EmbeddedServer
from orchestrator.models import Account, Callback, Message, Reply, Request, Secret, State
from orchestrator.operations import Filter, Operations
from orchestrator.providers import registry
from orchestrator.recovery import Recovered, Recovery
from orchestrator.signatures import Reference, sign_reference
from orchestrator.store import Store
from orchestrator.watch import Watch
from tests.conftest import ACCOUNT
from tests.stack_kit import TOKEN, client_of, eventually, stack_in

FRAMES, GENERIC = "useapi_frames", "webhook_json"
PATIENCE = 60.0
NOW = 1_700_000_000.0
KEY = Secret("a-key-of-the-tests-alone-0123456789")
ANOTHER_KEY = Secret("somebody-elses-key-0123456789-abcdef")
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 64
PAGE = 500  # of useapi's list


# --- what is believed, and of which attempt ------------------------------------------------------------


class World:
    """A store that knows nothing, accounts whose lists are the test's, and a folder of pictures."""

    def __init__(self, server: EmbeddedServer, folder: Path, keys: list[Secret]) -> None:
        self.store = Store(server.url)
        self.store._link.client.flushall()
        self.keys = keys
        self.lists: dict[str, list[Any]] = {}  # account → its tasks, newest first
        self.fails: dict[str, int] = {}  # account → from which task on its list is not told
        self.asked: list[dict[str, str]] = []
        self.sent: list[str] = []
        self.artifacts = Artifacts(f"file://{folder}")
        accounts = [
            Account(
                provider=FRAMES, name=name, token=Secret(TOKEN), max_jobs=5, base_url="https://frames.example",
                fields={"email": f"{name}@example.com"}, deadline_seconds=100.0, poll_seconds=10.0,
                net_seconds=60.0, timeout_seconds=30.0, max_attempts=5,
            )
            for name in ("a", "b")
        ]  # fmt: skip
        exchange = Exchange(
            SimpleNamespace(send=self.send), self.artifacts, registry(),  # type: ignore[arg-type]
            {(FRAMES, each.name): each for each in accounts}, keys, "https://jobs.example.com",
        )  # fmt: skip
        broker = SimpleNamespace(submit=self.submit, go_on=lambda submits, finishes: self.submit(submits))
        self.store.accounts.configure(accounts)
        watch = Watch(self.store, exchange, lambda: NOW, lambda: 0.5)
        self.flow = Flow(self.store, broker, exchange, watch, lambda: NOW, lambda: 0.5)  # type: ignore[arg-type]

    def submit(self, messages: Sequence[Message]) -> None:
        self.sent.extend(each.job_id for each in messages)

    def send(self, request: Request, timeout: float) -> Reply:
        assert request.method == "GET"
        self.asked.append(dict(request.query))
        account, first = request.query["email"].partition("@")[0], int(request.query["offset"])
        if first >= self.fails.get(account, first + 1):
            raise Unavailable(f"down for {account}@example.com")
        tasks = self.lists.get(account, [])
        return Reply(200, {}, {"tasks": tasks[first : first + int(request.query["limit"])]}, "")

    def reference(self, attempt: str, account: str = "a", key: Secret | None = None) -> str:
        keys = [key] if key else self.keys
        return sign_reference(FRAMES, Reference(attempt, account), keys) if keys else attempt

    def task(self, attempt: str, status: str = "RUNNING", account: str = "a", **more: Any) -> dict[str, Any]:
        made = {"taskId": f"up-{attempt}", "status": status, "replyRef": self.reference(attempt, account)}
        if status == "SUCCEEDED":
            made["artifacts"] = [{"url": f"https://x.cloudfront.net/{n}.png"} for n in range(1, 3)]
        return {**made, **more}

    def picture(self, folder: str, name: str) -> None:
        self.artifacts.put(f"{folder}/{name}", "", [PNG])

    def described(self, name: str, job: str, place: int, **more: Any) -> None:
        """A picture, and what stands beside it."""
        name = name.format(place=place)
        self.picture(*name.split("/"))
        about = {
            "job": job, "place": place, "places": 2, "batch": "", "custom_id": "line 7", "tenant": "",
            "provider": FRAMES, "account": "a", "attempt": 3, "prompt": "", "seed": None, "parameters": {},
            "created_at": None, "began_at": None, "ended_at": None, "url": "https://x/1.png",
            "file": f"{name.partition('/')[2]}.png", "media_type": "image/png", "bytes": len(PNG),
            "sha256": "ab" * 32,
        }  # fmt: skip
        self.artifacts.describe(name, json.dumps(about | more).encode())

    def hear(self, attempt: str, body: Any, account: str = "a") -> str:
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        reference = sign_reference(FRAMES, Reference(attempt, account), self.keys)
        return self.flow.receive(FRAMES, reference, {}, lambda: text)

    def recover(self, dry: bool = False) -> tuple[int, int, int, int]:
        self.told: Recovered = Recovery(self.flow).run(dry)
        return self.told.lists, self.told.callbacks, self.told.pictures, self.told.known


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with EmbeddedServer.start(tmp_path_factory.mktemp("valkey")) as started:
        yield started


@pytest.fixture
def world(server: EmbeddedServer, tmp_path: Path) -> Iterator[World]:
    made = World(server, tmp_path / "pictures", [KEY])
    yield made
    made.store.close()


@pytest.fixture
def without_keys(server: EmbeddedServer, tmp_path: Path) -> Iterator[World]:
    made = World(server, tmp_path / "pictures", [])
    yield made
    made.store.close()


@pytest.fixture
def job() -> str:
    return str(uuid.uuid4())


def test_an_open_generation_is_polled_from_now_on_and_never_submitted(world, job):
    world.lists["a"] = [world.task(f"{job}.3")]
    assert world.recover() == (1, 0, 0, 0)
    found = world.store.job(job)
    assert (found.state, found.attempts, found.account, found.due_at) == (State.SUBMITTED, 3, "a", NOW)
    assert world.store.attempt(f"{job}.3").upstream_id == f"up-{job}.3"
    assert world.recover() == (0, 0, 0, 1)
    assert world.sent == []


STATUSES = ["FAILED", "RUNNING", "SUCCEEDED"]  # the later, the more it says


@pytest.mark.parametrize("first", STATUSES)
@pytest.mark.parametrize("second", STATUSES)
@pytest.mark.parametrize("elsewhere", ["a", "b"])
def test_of_two_attempts_a_success_tells_and_else_what_may_still_become_one(
    first, second, elsewhere, world, job
):
    """Whichever account has it, and in whatever order they are listed."""
    tasks = [world.task(f"{job}.2", second), world.task(f"{job}.1", first, elsewhere)]
    if elsewhere == "a":
        world.lists["a"] = tasks
    else:
        world.lists = {"a": tasks[:1], "b": tasks[1:]}
    assert world.recover() == (1, 0, 0, 0)
    expected = 1 if STATUSES.index(first) > STATUSES.index(second) else 2
    assert world.store.job(job).attempts == expected
    assert world.store.job(job).account == ("a" if expected == 2 else elsewhere)


def test_every_page_of_a_long_list_is_read(world):
    jobs = [str(uuid.uuid4()) for _ in range(3 * PAGE)]
    world.lists["b"] = [world.task(f"{each}.1", account="b") for each in jobs]
    assert world.recover() == (3 * PAGE, 0, 0, 0)
    assert [each["offset"] for each in world.asked if each["email"].startswith("b")] == ["0", "500", "1000"]
    assert len(world.store.jobs(jobs)) == 3 * PAGE


def test_an_attempt_is_of_the_account_that_its_reference_names(world, job):
    """Two accounts with the same credentials are told the same list."""
    world.lists = {"a": [world.task(f"{job}.1", account="b")], "b": [world.task(f"{job}.1", account="b")]}
    assert world.recover() == (1, 0, 0, 0)
    assert world.store.job(job).account == "b"
    assert world.store.accounts.holders(FRAMES, "b") == [f"{job}.1"]


def test_what_is_not_ours_is_left_alone(world, job):
    other = world.reference(f"{job}.1", key=ANOTHER_KEY)
    world.lists["a"] = [
        world.task("x.1", replyRef=other), world.task("x.1", replyRef="order-77.1"),
        {"taskId": "by-hand", "status": "SUCCEEDED"}, {"status": "RUNNING"}, "nonsense", None,
    ]  # fmt: skip
    assert world.recover() == (0, 0, 0, 0)


@pytest.mark.parametrize("reference", ["order-77", "order-77.1", "1.5", ".1", "x.y.2"])
def test_without_keys_only_what_looks_like_ours_is_believed(reference, without_keys, job):
    without_keys.lists["a"] = [
        without_keys.task("z", replyRef=reference), without_keys.task(f"{job}.1"),
        without_keys.task("z", replyRef=f"{job}.0"),
    ]  # fmt: skip
    assert without_keys.recover() == (1, 0, 0, 0)
    assert without_keys.store.counts() == {f"{FRAMES}/submitted": 1}


@pytest.mark.parametrize(("fails_from", "told"), [(0, 0), (PAGE, PAGE)])
def test_an_account_that_fails_is_named_and_what_was_told_counts(fails_from, told, world, job):
    jobs = [str(uuid.uuid4()) for _ in range(2 * PAGE)]
    world.lists = {
        "a": [world.task(f"{each}.1") for each in jobs],
        "b": [world.task(f"{job}.1", account="b")],
    }
    world.fails["a"] = fails_from
    assert world.recover() == (told + 1, 0, 0, 0)
    assert world.told.troubles == (f"{FRAMES}/a: down for <e-mail>",)
    world.fails.clear()
    assert world.recover() == (2 * PAGE - told, 0, 0, told + 1)


def test_pictures_that_were_kept_are_a_result_in_their_order(world, job):
    for place in (1, 2, 10):
        world.picture("autumn", f"{job}-{place}")
    assert world.recover() == (0, 0, 1, 0)
    found = world.store.job(job)
    assert (found.state, found.batch) == (State.SUCCEEDED, "autumn")
    names = [Path(each["path"]).name for each in found.result["artifacts"]]
    assert names == [f"{job}-{place}.png" for place in (1, 2, 10)]
    assert world.store.batch("autumn")["succeeded"] == 1
    assert world.recover() == (0, 0, 0, 1)
    assert world.store.batch("autumn")["total"] == 1


def test_pictures_that_are_not_all_there_are_collected_once_more(world, job):
    world.picture("jobs", f"{job}-1")
    world.lists["a"] = [world.task(f"{job}.1", "SUCCEEDED")]  # of two pictures
    assert world.recover() == (1, 0, 0, 0)
    assert world.store.job(job).state is State.SUBMITTED


def test_pictures_that_are_all_there_are_not_asked_for_again(world, job):
    for place in (1, 2):
        world.picture("jobs", f"{job}-{place}")
    world.lists["a"] = [world.task(f"{job}.2", "SUCCEEDED")]
    assert world.recover() == (0, 0, 1, 0)
    result = world.store.job(job).result
    assert (result["provider"], result["account"], result["attempts"]) == (FRAMES, "a", 2)


def test_what_stands_beside_a_picture_tells_whose_it_is(world):
    """Also of a job whose id and whose picture's name a caller chose."""
    for place in (2, 1):
        world.described("pictures of/line 7-{place}", "order-77", place, batch="acme/autumn", tenant="acme")
    assert world.recover() == (0, 0, 1, 0)
    job = world.store.job("order-77")
    assert (job.batch, job.tenant, job.custom_id) == ("acme/autumn", "acme", "line 7")
    assert (job.provider, job.account) == (FRAMES, "a")
    assert world.store.counts() == {f"{FRAMES}/succeeded": 1}
    assert [(each["path"][-5:], each["sha256"]) for each in job.result["artifacts"]] == [
        ("1.png", "ab" * 32), ("2.png", "ab" * 32),
    ]  # fmt: skip
    assert job.result["attempts"] == 3


def test_what_stands_beside_another_picture_is_not_believed(world, tmp_path):
    world.described("x/line-{place}", "order-77", 1, file="another.png")
    world.described("x/row-{place}", "order-78", 1, batch="../etc")
    assert world.recover() == (0, 0, 0, 0)
    world.described("x/cut-{place}", "order-79", 1, bytes=999)  # the file was changed since
    assert world.recover() == (0, 0, 1, 0)
    assert world.store.job("order-79").result["artifacts"][0]["sha256"] is None


def test_files_of_others_are_left_alone(world, job, tmp_path):
    world.picture("holiday", "IMG-0001")
    world.picture("doctor", uuid.uuid4().hex)
    world.picture("jobs", "x-1")
    world.picture("jobs", f"{job}-0")
    for folder in ("jobs/deeper", "_hidden"):
        (tmp_path / "pictures" / folder).mkdir()
        (tmp_path / "pictures" / folder / f"{job}-1.png").write_bytes(PNG)
    (tmp_path / "pictures" / "jobs" / f"{job}-1.txt").write_text("no picture")
    (tmp_path / "pictures" / f"{job}-1.png").write_bytes(PNG)
    assert world.recover() == (0, 0, 0, 0)


def test_a_parked_callback_makes_its_attempt_known_and_settles_it(world, job):
    """Of several the outcome counts, though news that it is still running came later."""
    assert world.hear(f"{job}.1", world.task(f"{job}.1", "SUCCEEDED")) == "unknown"
    assert world.hear(f"{job}.1", world.task(f"{job}.1")) == "unknown"
    assert world.recover(dry=True) == (0, 1, 0, 0)
    with pytest.raises(JobNotFound):
        world.store.job(job)
    assert world.recover() == (0, 1, 0, 0)
    assert world.store.job(job).state is State.COLLECTING
    assert world.store.journal.recent(10, parked=True) == []
    assert world.recover() == (0, 0, 0, 0)


def test_a_parked_callback_that_leads_nowhere_stays_the_one_that_it_is(world, job):
    """Its job is known by another attempt."""
    world.hear(f"{job}.1", world.task(f"{job}.1", "FAILED", error={"reason": "INTERNAL"}))
    world.lists["a"] = [world.task(f"{job}.2")]
    before = world.store.journal.recent(10, parked=True)
    for _ in range(3):
        world.recover()
        assert world.told.left == 1
    assert world.store.journal.recent(10, parked=True) == before
    assert world.store.job(job).state is State.SUBMITTED


def test_how_long_a_generation_took_is_not_learned_from_a_parked_callback(world, job):
    world.hear(f"{job}.1", world.task(f"{job}.1", "SUCCEEDED"))
    world.recover()
    assert world.store.job(job).state is State.COLLECTING
    assert world.store.durations(f"{FRAMES}/") == []


def test_an_entry_of_the_journal_is_found_by_its_id_alone(world):
    for n in range(50):
        for word in ("settled", "unknown"):
            world.store.journal.note(Callback(FRAMES, "a", f"{word}-{n}.1", b"{}", NOW), word)
    for entry in [*world.store.journal.recent(50), *world.store.journal.recent(50, parked=True)]:
        assert world.store.journal.entry(entry.id) == entry


def test_a_dry_run_changes_nothing(world, job):
    other = str(uuid.uuid4())
    world.lists["a"] = [world.task(f"{job}.1")]
    world.picture("autumn", f"{other}-1")
    client = world.store._link.client
    before = sorted(client.keys("*"))
    assert world.recover(dry=True) == (1, 0, 1, 0)
    assert sorted(client.keys("*")) == before
    assert world.recover() == (1, 0, 1, 0)


def test_a_recovered_job_that_fails_is_not_replayed_since_nobody_knows_what_to_send(world, job):
    world.lists["a"] = [world.task(f"{job}.1")]
    world.recover()
    world.hear(f"{job}.1", world.task(f"{job}.1", "FAILED", error={"reason": "INTERNAL"}))
    assert world.store.begin_finish(job, NOW)
    world.store.end(job, NOW, State.FAILED, None, "no")
    operations = Operations(world.store, world.flow.broker, lambda: NOW, (FRAMES,))
    assert [found.id for found, _ in operations.dead(Filter())] == [job]
    assert operations.replay(Filter()) == 0
    assert world.sent == []


# --- through the whole product ------------------------------------------------------------------------

GENERIC_ACCOUNT = """
[[accounts]]
provider = "webhook_json"
name = "calls-back"
token = "env:SIMULATOR_TOKEN"
base_url = "{simulator}/v1/generic"
max_jobs = 4
timeout_seconds = 2
deadline_seconds = 60
submit_path = "/jobs"
headers = {{ X-Api-Key = "{{token}}" }}
body = {{ text = "{{prompt}}", notify = "{{callback_url}}", options = {{ size = "tall" }} }}
id_at = "job.id"
status_at = "job.state"
outputs_at = "job.images[*].url"
pending = ["waiting", "drawing"]
succeeded = ["done"]
failed = ["broken"]
"""


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[Stack]:
    """Generations take 0.4 s, slow ones 4 s."""

    def accounts(simulator: str) -> str:
        frames = [ACCOUNT.format(name=name, max_jobs=5, base_url=simulator) for name in ("one", "two")]
        return "".join([*frames, GENERIC_ACCOUNT.format(simulator=simulator)])

    with stack_in(tmp_path, accounts) as made:
        yield made


@pytest.fixture
def client(own_stack: Stack) -> Iterator[Orchestrator]:
    with client_of(own_stack) as made:
        yield made


def test_generations_that_ran_while_redis_was_lost_bring_their_pictures(own_stack, client):
    def accepted() -> int:
        return requests.get(f"{own_stack.simulator_url}/__stats__", timeout=30).json()["total"]["accepted"]

    def recover(*words: str) -> dict[str, Any]:
        done = CliRunner().invoke(main, ["recover", "--json", *words])
        assert done.exit_code == 0, (done.output, done.exception)
        return json.loads(done.output)

    def prompts(count: int, marker: str = "") -> list[dict[str, str]]:
        return [{"text_prompt": f"{uuid.uuid4().hex} {marker}"} for _ in range(count)]

    done = client.enqueue_many(FRAMES, prompts(3), batch="over")
    assert done.wait(timeout=PATIENCE)["succeeded"] == 3
    over = [job.id for job in done.jobs()]
    running = client.enqueue_many(FRAMES, prompts(4, "[slow]"), batch="open").jobs()
    silent = client.enqueue_many(FRAMES, prompts(2, "[slow] [lost]"), batch="open-too").jobs()
    told = client.enqueue_many(GENERIC, [{"prompt": f"{uuid.uuid4().hex} [slow]"}], batch="told").jobs()
    jobs = [*running, *silent, *told]
    before = len(over) + len(jobs)
    # An attempt is open before its POST is made, so the provider says when all are under way.
    eventually(lambda: accepted() == before)

    with redis.Redis.from_url(own_stack.redis_url) as raw:
        raw.flushall()
    with pytest.raises(JobNotFound):
        jobs[0].record  # noqa: B018
    planned = recover("--dry-run")
    assert (planned["lists"], planned["pictures"], planned["known"]) == (6, 3, 0)
    found = recover()
    assert (found["lists"], found["pictures"], found["troubles"]) == (6, 3, [])

    for job_id in over:
        (artifact,) = client.job(job_id).result(timeout=1).artifacts
        assert Path(artifact.path).read_bytes().startswith(b"\x89PNG")
    assert client.batch("over").counts()["succeeded"] == 3
    for job in [*running, *silent]:
        (artifact,) = job.result(timeout=PATIENCE).artifacts
        assert Path(artifact.path).exists()
    # The other provider has no list: its callback came, and was parked where it came too early.
    journal = client.flow.store.journal
    eventually(
        lambda: any("done" in entry.body for entry in [*journal.recent(50, True), *journal.recent(50)])
    )
    recover()
    assert len(told[0].result(timeout=PATIENCE).artifacts) == 1
    assert accepted() == before
    again = recover()
    assert (again["lists"], again["callbacks"], again["pictures"]) == (0, 0, 0)
    # And the product goes on as ever.
    assert client.enqueue_many(FRAMES, prompts(3)).wait(timeout=PATIENCE)["succeeded"] == 3
    assert accepted() == before + 3
