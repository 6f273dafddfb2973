"""One run from an empty folder to its accounts."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import requests
from rich.console import Console

from orchestrator import Orchestrator
from orchestrator.environment import environment, take_environment
from orchestrator.errors import StoreUnavailable
from orchestrator.local.stack import Stack, StackOptions
from orchestrator.models import Secret
from tests.chaos.accounting import account_for
from tests.chaos.evidence import Evidence, due_jobs, read
from tests.chaos.mischief import Mischief
from tests.chaos.places import ALL_SLOTS, accounts_file, secrets, simulator_arguments
from tests.chaos.plan import Plan
from tests.chaos.report import Found
from tests.chaos.supervisor import Supervisor

REPOSITORY = Path(__file__).parent.parent.parent
LOOK_SECONDS = 0.2
COUNT_SECONDS = 1.0
CALM_SECONDS = 20.0  # for what follows the last end: late callbacks, cancelled generations that go on
NOT_THE_CALLERS = {
    "ORCHESTRATOR_BROKER_URL": "",
    "ORCHESTRATOR_PUBLIC_URL": "",
    "ORCHESTRATOR_MAX_WAITING": "0",
}


@dataclass(frozen=True)
class Pace:
    """`busy`: seconds that the jobs would need if nothing went wrong; `patience`: seconds for all of it."""

    busy: float
    deadline: float
    patience: float

    def seconds(self, jobs: int) -> str:
        """Of one generation, so that all slots are busy for as long as is asked."""
        middle = min(30.0, max(0.2, self.busy * ALL_SLOTS / jobs))
        return f"{middle / 2:.3f}-{middle * 3 / 2:.3f}"


def run(plan: Plan, pace: Pace, folder: Path, console: Console) -> Found:
    """Raises: LocalError where the stack does not start."""
    seconds = pace.seconds(len(plan.wishes))
    take_environment({**NOT_THE_CALLERS, **secrets()})
    options = StackOptions(
        accounts=folder / "accounts.toml",
        artifacts=f"file://{folder.resolve()}/artifacts",
        cwd=REPOSITORY,
        environ={**environment(), **secrets()},
        flower=False,
        workers=2,
        collectors=1,
        simulator_arguments=simulator_arguments(plan.seed, seconds),
    )
    stack = Stack(folder / "run", options)
    longest = float(seconds.partition("-")[2])
    text = accounts_file(str(stack.simulator_url), pace.deadline, 2 + 1.5 * longest)
    options.accounts.write_text(text, encoding="utf-8")
    with stack:
        take_environment(stack.environment)
        with Orchestrator.from_env() as client:
            return _storm(stack, client, plan, pace, console)


def _storm(stack: Stack, client: Orchestrator, plan: Plan, pace: Pace, console: Console) -> Found:
    begun = time.monotonic()
    keys = [Secret(key) for key in stack.environment["ORCHESTRATOR_SECRET_KEYS"].split(",")]
    simulator = str(stack.simulator_url)
    supervisor = Supervisor(stack, plan.strikes, begun, random.Random(f"{plan.seed}/supervisor"))
    mischief = Mischief(client, plan, stack.receiver_url, simulator, keys, begun)
    mischief.start()
    told_at = 0.0
    while time.monotonic() < begun + pace.patience:
        supervisor.step()
        time.sleep(LOOK_SECONDS)
        now = time.monotonic() - begun
        if now < told_at + COUNT_SECONDS:
            continue
        told_at, ended = now, _ended(client)
        if console.is_terminal:
            console.print(f"{now:4.0f} s  {ended} of {len(plan.wishes)} ended", end="\r")
        if mischief.over and supervisor.over and ended >= len(plan.wishes):
            break
    _wait_for_calm(client, simulator, supervisor)
    evidence = _evidence(client, plan, simulator, keys, mischief, supervisor)
    lines = account_for(evidence)
    seconds = time.monotonic() - begun
    return Found(evidence, lines, supervisor.done, supervisor.diary, seconds, mischief.broken)


def _ended(client: Orchestrator) -> int:
    try:
        counts = client.flow.store.counts()
    except StoreUnavailable:
        return 0
    return sum(n for word, n in counts.items() if word.endswith(("/succeeded", "/failed", "/cancelled")))


def _wait_for_calm(client: Orchestrator, simulator: str, supervisor: Supervisor) -> None:
    """Until nothing runs at the simulator, and nothing is due here."""
    until = time.monotonic() + CALM_SECONDS
    while time.monotonic() < until:
        supervisor.step()
        time.sleep(LOOK_SECONDS)
        apis = requests.get(f"{simulator}/__stats__", timeout=60).json()["apis"].values()
        if not any(api["tasks"].get("RUNNING") for api in apis) and not due_jobs(client):
            time.sleep(2.0)  # callbacks that are tried again
            return


def _evidence(
    client: Orchestrator, plan: Plan, simulator: str, keys: Sequence[Secret], mischief: Mischief,
    supervisor: Supervisor,
) -> Evidence:  # fmt: skip
    return read(
        client,
        plan,
        simulator,
        keys,
        cancelled=frozenset(mischief.cancelled),
        perhaps_cancelled=frozenset(mischief.perhaps),
        forged=dict(mischief.refusals),
        forged_accepted=tuple(mischief.accepted_forgeries),
        unsent=mischief.unsent,
        lost_server_at=tuple(supervisor.lost_server_at),
    )
