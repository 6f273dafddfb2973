"""What the tests that have a stack of their own share: to start one, to be its client, and to wait."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Orchestrator
from orchestrator.local.stack import Stack, StackOptions

REPOSITORY = Path(__file__).parent.parent
TOKEN = "user:1-a-token-that-must-never-show"
SECRETS = {"SIMULATOR_TOKEN": TOKEN}
QUICK = ("--scale", "0.1", "--seconds", "4")  # generations take 0.4 s
PATIENCE = 60.0


@contextmanager
def stack_in(
    folder: Path,
    accounts: Callable[[str], str],
    secrets: Mapping[str, str] = SECRETS,
    *,
    simulator_arguments: tuple[str, ...] = QUICK,
    flower: bool = False,
    **options: Any,
) -> Iterator[Stack]:
    """The product in a folder. `accounts` gives the accounts file, told the simulator's address."""
    made = Stack(
        folder / "run",
        StackOptions(
            accounts=folder / "accounts.toml",
            artifacts=options.pop("artifacts", f"file://{folder}/artifacts"),
            cwd=REPOSITORY,
            environ={**os.environ, **secrets},
            simulator_arguments=simulator_arguments,
            flower=flower,
            **options,
        ),
    )
    made.options.accounts.write_text(accounts(str(made.simulator_url)), encoding="utf-8")
    with made:
        yield made
        for name in made.processes.names():
            made.kill(name)  # a graceful end takes seconds, and shows nothing here


@contextmanager
def client_of(stack: Stack, secrets: Mapping[str, str] = SECRETS) -> Iterator[Orchestrator]:
    """Makes this process's environment a client's of the stack."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**stack.environment, **secrets}.items():
            patch.setenv(name, value)
        with Orchestrator.from_env() as made:
            yield made


def eventually(check: Callable[[], Any], what: str = "", seconds: float = PATIENCE) -> Any:
    """What `check` gives once that is true."""
    give_up_at = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < give_up_at, f"not within {seconds:g} s: {what or check}"
        time.sleep(0.02)
    return found
