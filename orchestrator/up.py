"""`orchestrator up`: the whole local stack until Ctrl-C; a part that dies is started again."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

from rich.console import Console

from orchestrator.build import read_settings
from orchestrator.environment import environment, take_environment
from orchestrator.errors import ConfigurationError
from orchestrator.local.stack import Stack, StackOptions
from orchestrator.settings import Settings

Ports = tuple[int, int, int, int]  # of the receiver, the API, Flower and the operations page
LOOK_SECONDS = 1.0
RESTARTS_PER_MINUTE = 5
SIMULATED = "simulated-accounts.toml"  # in the folder of what runs with the simulator
SIMULATED_ACCOUNT = """
[[accounts]]
provider = "useapi_frames"
name = "{name}"
token = "env:SIMULATOR_TOKEN"
email = "{name}@example.com"
max_jobs = 5
base_url = "{simulator}/v1/runwayml"
"""


def up_until_stopped(
    simulator: bool,
    workers: int,
    collectors: int,
    ports: Ports,
    console: Console,
) -> None:
    """Raises: ConfigurationError, LocalError; KeyboardInterrupt ends it."""
    if simulator:
        take_environment({"SIMULATOR_TOKEN": f"user:0-{secrets.token_hex(12)}"})
    elif not environment().get("ORCHESTRATOR_ACCOUNTS"):
        raise ConfigurationError(
            ["ORCHESTRATOR_ACCOUNTS is not set: name your accounts file, or try without one: up --simulator"]
        )
    stack = _stack(simulator, workers, collectors, ports)
    with stack:
        _announce(stack, console)
        _watch(stack, console)


def _stack(simulator: bool, workers: int, collectors: int, ports: Ports) -> Stack:
    environ = environment()
    port, api_port, flower_port, operations_port = ports
    folder = Path(environ.get("ORCHESTRATOR_FOLDER") or ".orchestrator")
    accounts = folder / SIMULATED if simulator else Path(environ["ORCHESTRATOR_ACCOUNTS"])
    settings = _settings_without_accounts() if simulator else read_settings()
    if not simulator and settings.redis_url is None:
        _refuse_simulated_jobs(folder)
    stack = Stack(
        folder,
        StackOptions(
            accounts=accounts,
            artifacts=environ.get("ORCHESTRATOR_ARTIFACTS") or "file://./artifacts",
            cwd=Path.cwd(),
            environ=environ,
            redis_url=settings.redis_url,
            public_url=None if simulator else settings.public_url,
            secret_keys=environ.get("ORCHESTRATOR_SECRET_KEYS"),
            callbacks=simulator or settings.public_url is not None,
            simulator=simulator,
            workers=workers,
            collectors=collectors,
            receiver_port=port,
            api_port=api_port,
            flower_port=flower_port,
            metrics_port=settings.metrics_address[1] if settings.metrics_address else None,
            operations_port=operations_port,
        ),
    )
    if simulator:
        rows = [SIMULATED_ACCOUNT.format(name=f"studio-{n}", simulator=stack.simulator_url) for n in (1, 2)]
        accounts.write_text("".join(rows), encoding="utf-8")
    return stack


def _refuse_simulated_jobs(folder: Path) -> None:
    """Raises: ConfigurationError where jobs that were meant for the simulator would be paid for."""
    if (folder / SIMULATED).exists():
        trouble = f"{folder} remembers the jobs of `up --simulator`: your accounts would pay for what waits"
        cure = "go to another folder, or name one in ORCHESTRATOR_FOLDER"
        done = f"Where `orchestrator status` says that nothing waits, deleting {folder / SIMULATED} will do"
        raise ConfigurationError([f"{trouble}; {cure}. {done}"])


def _settings_without_accounts() -> Settings:
    take_environment({"ORCHESTRATOR_ACCOUNTS": ""})
    return read_settings()


def _announce(stack: Stack, console: Console) -> None:
    user, password = stack.flower_login
    console.print(f"Receiver:  {stack.receiver_url}")
    if stack.api_url:
        names = ", ".join(dict.fromkeys(key.tenant for key in read_settings().api_keys))
        console.print(
            f"API:       {stack.api_url}  (keys of {names}; {stack.api_url}/openapi.json)", soft_wrap=True
        )
    console.print(f"Flower:    {stack.flower_url}  (user {user}, password {password})", soft_wrap=True)
    if stack.metrics_urls:
        told = ", ".join(f"{name} {port}" for name, port in stack.metrics_ports.items())
        console.print(f"Metrics:   {stack.metrics_urls['ticker']}  (ports: {told})", soft_wrap=True)
    console.print(f"Operations: {stack.operations_url}  (the same user and password)", soft_wrap=True)
    if stack.simulator_url:
        console.print(f"Simulator: {stack.simulator_url}")
        console.print(f"In another terminal: export ORCHESTRATOR_ACCOUNTS={stack.options.accounts} "
                      "SIMULATOR_TOKEN=simulated", soft_wrap=True)  # fmt: skip
    console.print(f"Logs:      {stack.folder / 'logs'}\nReady. Ctrl-C stops everything.", soft_wrap=True)


def _watch(stack: Stack, console: Console) -> None:
    restarts: list[float] = []
    while True:
        time.sleep(LOOK_SECONDS)
        for ended in sorted(stack.poll(), key=lambda each: each.name != "valkey"):  # the rest needs it
            restarts = [moment for moment in restarts if moment > time.monotonic() - 60] + [time.monotonic()]
            console.print(
                f"{ended.name} ended with code {ended.exit_code}; starting it again.", style="yellow"
            )
            if len(restarts) > RESTARTS_PER_MINUTE:
                raise ConfigurationError([f"{ended.name} keeps ending; its log says:\n{ended.log_tail}"])
            stack.restart(ended.name)
