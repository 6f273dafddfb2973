"""What people and programs ask while jobs wait, and how long that takes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from bench.stack import REPOSITORY
from orchestrator import Orchestrator
from orchestrator.environment import environment

STARTS = 3
CLI = (sys.executable, "-c", "from orchestrator.cli import main; main()")


def looks(client: Orchestrator, batch: str, ids: Sequence[str]) -> dict[str, float]:
    """Medians in ms: of calls, and of commands as they are typed, their Python's start included."""
    flow, insight = client.flow, client.insight
    providers = tuple(flow.exchange.providers)
    calls: dict[str, Callable[[str], Any]] = {
        "status": lambda _: flow.store.whole.look(providers, time.time()),
        "status_job": flow.store.job,
        "batch_counts": lambda _: client.batch(batch).counts(),
        "accounts": lambda _: [flow.store.accounts.rows(each, time.time()) for each in providers],
        "explain": insight.explain,
        "forecast": lambda _: insight.forecast(batch),
    }
    commands: dict[str, tuple[str, ...]] = {
        "status": ("status",),
        "status_job": ("status", ids[-1]),
        "accounts": ("accounts",),
        "explain": ("explain", ids[-1]),
        "forecast": ("forecast", batch),
    }
    asked = {f"{name}_ms": _median_ms(call, ids) for name, call in calls.items()}
    typed = {f"{name}_command_ms": _median_ms(_type, [words] * STARTS) for name, words in commands.items()}
    return {**asked, **typed}


def _type(words: tuple[str, ...]) -> None:
    subprocess.run([*CLI, *words], env=environment(), cwd=REPOSITORY, stdout=subprocess.DEVNULL, check=True)


def _median_ms(call: Callable[[Any], Any], arguments: Sequence[Any]) -> float:
    taken: list[float] = []
    for argument in arguments:
        begun = time.perf_counter()
        call(argument)
        taken.append(time.perf_counter() - begun)
    return median(taken) * 1000
