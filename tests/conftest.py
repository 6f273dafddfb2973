"""Real parts for every test: Valkey, a Celery worker, the ticker, gunicorn, Flower, the simulator.

One stack serves the whole session. Tests keep out of each other's way by their own batches and prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from orchestrator import Orchestrator
from orchestrator.local.stack import Stack
from tests.leftovers import changed, left_at, of_this_process
from tests.stack_kit import SECRETS, stack_in

SHARED = pytest.StashKey[Stack]()
ACCOUNTS = ("studio-1", "studio-2")
MAX_JOBS = 5
ACCOUNT = """
[[accounts]]
provider = "useapi_frames"
name = "{name}"
token = "env:SIMULATOR_TOKEN"
email = "{name}@example.com"
max_jobs = {max_jobs}
base_url = "{base_url}/v1/runwayml"
poll_seconds = 1
net_seconds = 3
timeout_seconds = 2
deadline_seconds = 20
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files whose tests mostly wait begin first, the longest of all: they wait beside each other."""
    items.sort(key=_minutes, reverse=True)


def _minutes(item: pytest.Item) -> float:
    long = item.get_closest_marker("long")
    return (long.args or (1,))[0] if long else 0


def accounts(simulator_url: str, **limits: int) -> str:
    """Accounts at the simulator: name → max_jobs."""
    rows = (
        ACCOUNT.format(name=name, max_jobs=max_jobs, base_url=simulator_url)
        for name, max_jobs in limits.items()
    )
    return "".join(rows)


def accounts_file(path: Path, simulator_url: str, **limits: int) -> Path:
    path.write_text(accounts(simulator_url, **limits), encoding="utf-8")
    return path


def usual_accounts(simulator_url: str) -> str:
    return accounts(simulator_url, **dict.fromkeys(ACCOUNTS, MAX_JOBS))


@pytest.fixture(scope="module", autouse=True)
def leaves_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each file ends what it began: the next one of this process finds the stack that all share as it was."""
    before = of_this_process()
    yield
    stack = request.config.stash.get(SHARED, None)
    left = left_at(stack) if stack else {}
    if stack:  # whatever trouble it was told to make ends, too
        requests.post(f"{stack.simulator_url}/__reset__", timeout=30).raise_for_status()
    left |= changed(before, {*stack.environment, *SECRETS} if stack else ())
    assert not left, f"{request.node.name} leaves behind: {left}"


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole product. Generations take 0.4 s; the simulator's clock runs at a tenth."""
    # A test process may publish and consume tasks of its own beside ours.
    folder = tmp_path_factory.mktemp("stack")
    environ = {**SECRETS, "WEB_CONCURRENCY": "2"}  # what holds for several processes holds for one
    with stack_in(folder, usual_accounts, environ, flower=True, worker_arguments=(), metrics_port=0) as made:
        request.config.stash[SHARED] = made
        yield made


@pytest.fixture(scope="session")
def environment(stack: Stack) -> Iterator[dict[str, str]]:
    """This process's environment is a client's of the stack."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**stack.environment, **SECRETS}.items():
            patch.setenv(name, value)
        yield stack.environment


@pytest.fixture(scope="session")
def orchestrator(environment: dict[str, str]) -> Iterator[Orchestrator]:
    with Orchestrator.from_env() as made:
        yield made


@pytest.fixture
def stats(stack: Stack):
    """The simulator's own count of what reached it."""

    def read() -> dict[str, object]:
        return requests.get(f"{stack.simulator_url}/__stats__", timeout=30).json()["total"]

    return read


@pytest.fixture
def control(stack: Stack):
    """Tells the simulator to misbehave."""

    def tell(**what: object) -> None:
        answer = requests.post(f"{stack.simulator_url}/__control__", json=what, timeout=30)
        assert answer.ok, answer.text

    return tell


@pytest.fixture(scope="session")
def stop_generations(stack: Stack) -> Callable[[str], None]:
    """Ends those of a prompt at the simulator: that of an attempt which was given up goes on there."""
    tasks, anybody = f"{stack.simulator_url}/v1/runwayml/tasks/", {"Authorization": "Bearer any"}

    def stop(words: str) -> None:
        for name in ACCOUNTS:
            asked = {"limit": 1000, "offset": 0, "email": f"{name}@example.com"}
            told = requests.get(tasks, params=asked, headers=anybody, timeout=30).json()["tasks"]
            for task in (each for each in told if words in each["options"].get("text_prompt", "")):
                requests.delete(tasks + task["taskId"], headers=anybody, timeout=30).raise_for_status()

    return stop
