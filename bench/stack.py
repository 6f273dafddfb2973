"""A local stack for one workload: fresh, in a folder of its own, with accounts at the simulator."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from bench.usage import Usage, usage_of
from orchestrator import Orchestrator
from orchestrator.environment import environment, take_environment
from orchestrator.local.stack import Stack, StackOptions
from orchestrator.simulator.options import Seconds

FRAMES, GENERIC = "useapi_frames", "webhook_json"
PROMPTED = {FRAMES: "text_prompt", GENERIC: "prompt"}  # what each calls its prompt
REPOSITORY = Path(__file__).parent.parent
ACCOUNT = """
[[accounts]]
provider = "{provider}"
name = "{name}"
token = "env:BENCH_TOKEN"
max_jobs = {slots}
"""
OF_PROVIDER = {
    FRAMES: """\
email = "{name}@example.com"
base_url = "{simulator}/v1/runwayml"
""",
    GENERIC: """\
base_url = "{simulator}/v1/generic"
submit_path = "/jobs"
poll_path = "/jobs/{{id}}"
headers = {{ X-Api-Key = "{{token}}" }}
body = {{ text = "{{prompt}}", notify = "{{callback_url}}" }}
id_at = "job.id"
status_at = "job.state"
outputs_at = "job.images[*].url"
pending = ["waiting", "drawing"]
succeeded = ["done"]
failed = ["broken"]
""",
}
NOT_THE_CALLERS = {"ORCHESTRATOR_BROKER_URL": "", "ORCHESTRATOR_PUBLIC_URL": ""}
PROMPT_CHARACTERS = 200
LONGEST_SECONDS = 60.0  # what is reckoned with where the simulator draws from a curve


@dataclass(frozen=True)
class Place:
    """What every workload may be told. `folder` None: a temporary one, gone afterwards."""

    scale: float = 1.0
    workers: int = 1
    worker_arguments: tuple[str, ...] = ()
    folder: Path | None = None


@dataclass(frozen=True)
class Setup:
    """The accounts and what the simulator does. `seconds` as the simulator takes it, before scaling.

    `progress`: callbacks before the final one. `numbers`: what each account says beside its slots, such as
    `net_seconds`. `provider`: at Frames an account has 10 slots at most, at the other as many as it says.
    `pictures` off: none are fetched, their URLs are the results. `most_slots`: how many the simulator allows
    an account, where that is more than ours.
    """

    accounts: int
    slots: int
    seconds: str
    progress: int = 2
    callbacks: bool = True
    pictures: bool = True
    provider: str = FRAMES
    most_slots: int = 0
    numbers: Mapping[str, float] = field(default_factory=dict)

    @property
    def all_slots(self) -> int:
        return self.accounts * self.slots

    @property
    def simulated_slots(self) -> int:
        """Of an account of the simulator. Where the token alone names it, all of ours are the same."""
        return max(self.slots if self.provider == FRAMES else self.all_slots, self.most_slots)

    @property
    def names(self) -> list[str]:
        return [f"bench-{number}" for number in range(1, self.accounts + 1)]

    @property
    def emails(self) -> list[str]:
        return [f"{name}@example.com" for name in self.names]

    def patience(self, jobs: int, scale: float) -> float:
        """Seconds after which jobs that have not ended are given up: far beyond what they need."""
        longest = Seconds.parse(self.seconds).high or LONGEST_SECONDS
        return 120 + 4 * longest * scale * jobs / self.all_slots

    def simulator_arguments(self, scale: float) -> tuple[str, ...]:
        """What the simulator is started with, its port aside."""
        return (
            *("--max-jobs", str(self.simulated_slots), "--progress", str(self.progress)),
            *("--seconds", self.seconds, "--scale", str(scale)),
        )

    def accounts_file(self, simulator: str) -> str:
        more = "".join(f"{name} = {number}\n" for name, number in self.numbers.items())
        account = ACCOUNT + OF_PROVIDER[self.provider]
        return "".join(
            account.format(provider=self.provider, name=name, slots=self.slots, simulator=simulator) + more
            for name in self.names
        )


class Running:
    """A stack that runs, a client of it, and what can be asked of it."""

    def __init__(self, setup: Setup, place: Place, stack: Stack, client: Orchestrator) -> None:
        self.setup = setup
        self.place = place
        self.stack = stack
        self.client = client

    @property
    def stats_url(self) -> str:
        return f"{self.stack.simulator_url}/__stats__"

    def stats(self) -> dict[str, Any]:
        """The simulator's own count."""
        figures: dict[str, Any] = requests.get(self.stats_url, timeout=30).json()["total"]
        return figures

    def control(self, **orders: Any) -> None:
        """Tells the simulator what to do beside its work."""
        requests.post(f"{self.stack.simulator_url}/__control__", json=orders, timeout=30).raise_for_status()

    def forget(self) -> None:
        """The simulator counts anew. Nothing may be open."""
        requests.post(f"{self.stack.simulator_url}/__reset__", timeout=30).raise_for_status()

    def usage(self, aside: float = 0.0) -> dict[str, Usage]:
        """CPU and memory by process so far; `aside`: CPU seconds that measuring has cost this process."""
        workers = ["worker", *(f"worker-{number}" for number in range(2, self.place.workers + 1))]
        groups = {
            name: self.stack.processes.pid(name) for name in (*workers, "receiver", "ticker", "simulator")
        }
        if self.stack.server:
            groups["valkey"] = self.stack.server.pid
        return usage_of(groups, aside)

    def patience(self, jobs: int) -> float:
        """Seconds after which jobs that have not ended are given up: far beyond what they need."""
        return self.setup.patience(jobs, self.place.scale)


@contextmanager
def started(setup: Setup, place: Place) -> Iterator[Running]:
    """Everything but Flower; this process becomes a client of it. Raises: `LocalError` and its kinds."""
    with folder_of(place) as folder:
        take_environment({**NOT_THE_CALLERS, "BENCH_TOKEN": f"user:0-{secrets.token_hex(12)}"})
        options = StackOptions(
            accounts=folder / "accounts.toml",
            artifacts=f"file://{folder.resolve()}/artifacts" if setup.pictures else "none",
            cwd=REPOSITORY,
            environ=environment(),
            callbacks=setup.callbacks,
            flower=False,
            workers=place.workers,
            simulator_arguments=setup.simulator_arguments(place.scale),
            worker_arguments=place.worker_arguments,
        )
        stack = Stack(folder / "run", options)
        options.accounts.write_text(setup.accounts_file(str(stack.simulator_url)), encoding="utf-8")
        with stack:
            take_environment(stack.environment)
            with Orchestrator.from_env() as client:
                yield Running(setup, place, stack, client)


@contextmanager
def folder_of(place: Place) -> Iterator[Path]:
    """The folder of a run: the one that is asked for, or one that is gone afterwards."""
    if place.folder is None:
        with tempfile.TemporaryDirectory(prefix="bench-") as made:
            yield Path(made)
    else:
        place.folder.mkdir(mode=0o700, parents=True, exist_ok=False)
        yield place.folder
