"""The door for callbacks beside the least that answers one, under the same gunicorn, in turns."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

from bench.callbacks import open_attempts
from bench.report import Report
from bench.rows import Row, gathered, ratios
from bench.stack import NOT_THE_CALLERS, REPOSITORY, Place, Setup
from bench.usage import Usage, spent, usage_of
from bench.workload import rounds_option, workload
from orchestrator import Orchestrator
from orchestrator.environment import environment, take_environment
from orchestrator.local.processes import Processes, free_port, http_answers
from orchestrator.local.valkey import EmbeddedServer

GUNICORN = (sys.executable, "-m", "gunicorn", "--config", "python:webhooks.gunicorn_conf")
BARE = "bench.bare:app"
ACCOUNTS, SLOTS = 10, 10_000
WARM_UP = 200
CONNECTIONS = 32
KINDS = ("bare", "progress", "final")
BATCH = "receiver"


@dataclass(frozen=True)
class Doors:
    """Both servers, and where they are."""

    ports: dict[str, int]
    groups: dict[str, int]
    client: Orchestrator


@workload
@click.option(
    "--callbacks", type=click.IntRange(100), default=5_000, show_default=True, help="Of a kind, a round."
)
@rounds_option(5)
@click.option("--rate", type=click.IntRange(1), default=500, show_default=True, help="Callbacks a second.")
@click.option("--rate-seconds", type=click.IntRange(1), default=5, show_default=True, help="At that rate.")
@click.option("--backlog", is_flag=True, help="Jobs wait, so that each final callback lets the next one run.")
def receiver(
    place: Place, callbacks: int, rounds: int, rate: int, rate_seconds: int, backlog: bool
) -> Report:
    """Verified callbacks a second, and their latency, beside a bare Flask answer."""
    calm = rate * rate_seconds
    finals = WARM_UP + rounds * (callbacks + calm)  # each settles its attempt, so each is sent once
    if finals > ACCOUNTS * SLOTS:
        raise click.ClickException(f"these are {finals} final callbacks: {ACCOUNTS * SLOTS} are the most")
    told: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    with _doors(-(-finals // ACCOUNTS)) as doors:
        attempts = list(open_attempts(doors.client, finals, BATCH))
        if backlog:
            list(open_attempts(doors.client, finals, "backlog"))
        unsent = iter(attempts)
        first = _of_kind([next(unsent) for _ in range(WARM_UP)], "final")
        for port in doors.ports.values():
            _load(port, first, None)
        for turn in range(rounds):
            fast = [next(unsent) for _ in range(callbacks)]
            slow = [next(unsent) for _ in range(calm)]
            for kind in KINDS[:: -1 if turn % 2 else 1]:
                port = doors.ports["bare" if kind == "bare" else "receiver"]
                before = usage_of(doors.groups, 0.0)
                found = _load(port, _of_kind(fast, kind), None)
                cpu = spent(before, usage_of(doors.groups, 0.0))
                calmly = _load(port, _of_kind(slow, kind), rate)
                told[kind].append(_figures(found, cpu, calmly, callbacks))
        taken = doors.client.batch(BATCH).counts()
    rows = _compared([gathered(kind, each) for kind, each in told.items()])
    refused = sum(int(each["refused"]) for of_kind in told.values() for each in of_kind)
    figures = {"callbacks": callbacks, "rounds": rounds, "settled": taken["collecting"], "refused": refused}
    return Report(figures, finals, {}, finals - taken["collecting"] + refused, 0, rows)


def _compared(rows: Sequence[Row]) -> list[Row]:
    """The rows, and in each what it is of the first."""
    bare = rows[0].figures
    return [
        Row(
            row.name,
            {
                "share_of_bare": ratios(row.figures["callbacks_per_second"], bare["callbacks_per_second"]),
                "cpu_times_bare": ratios(row.figures["door_cpu_us"], bare["door_cpu_us"]),
                **row.figures,
            },
        )
        for row in rows
    ]


def _of_kind(attempts: Sequence[Any], kind: str) -> list[str]:
    """The bare answer is asked what the door is: it reads none of it."""
    return [each.progress if kind == "progress" else each.final for each in attempts]


def _figures(
    found: dict[str, Any], cpu: dict[str, Usage], calmly: dict[str, Any], callbacks: int
) -> dict[str, float]:
    door = max(("bare", "receiver"), key=lambda name: cpu[name].cpu_seconds)
    statuses = {**found["statuses"]}
    return {
        "callbacks_per_second": callbacks / found["seconds"],
        "p50_ms": found["p50_ms"],
        "p99_ms": found["p99_ms"],
        "p50_ms_at_rate": calmly["p50_ms"],
        "p99_ms_at_rate": calmly["p99_ms"],
        "door_cpu_us": cpu[door].cpu_seconds * 1e6 / callbacks,
        "valkey_cpu_us": cpu["valkey"].cpu_seconds * 1e6 / callbacks,
        "load_busy_share": found["busy"],
        "refused": callbacks - statuses.get("204", 0),
    }


def _load(port: int, requests: Sequence[str], rate: int | None) -> dict[str, Any]:
    order = {"port": port, "requests": requests, "connections": CONNECTIONS, "rate": rate}
    command = [sys.executable, "-m", "bench.load"]
    said = subprocess.run(
        command, cwd=REPOSITORY, input=json.dumps(order), stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    told: dict[str, Any] = json.loads(said)
    return told


@contextmanager
def _doors(slots: int) -> Iterator[Doors]:
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        accounts = folder / "accounts.toml"
        accounts.write_text(Setup(ACCOUNTS, slots, "1").accounts_file("http://127.0.0.1:9"), encoding="utf-8")
        ports = {door: free_port() for door in ("receiver", "bare")}
        with EmbeddedServer.start(folder / "valkey") as server, Processes() as processes:
            take_environment(
                {
                    **NOT_THE_CALLERS,
                    "BENCH_TOKEN": "user:0-nobody",
                    "ORCHESTRATOR_REDIS_URL": server.url,
                    "ORCHESTRATOR_ACCOUNTS": str(accounts),
                    "ORCHESTRATOR_ARTIFACTS": "none",
                    "ORCHESTRATOR_SECRET_KEYS": secrets.token_urlsafe(32),
                    "ORCHESTRATOR_PUBLIC_URL": f"http://127.0.0.1:{ports['receiver']}",
                }
            )
            for door, port in ports.items():
                app = (BARE,) if door == "bare" else ()
                processes.start(
                    door, [*GUNICORN, "--bind", f"127.0.0.1:{port}", *app],
                    env=environment(), cwd=REPOSITORY, log=folder / f"{door}.log",
                    ready=partial(http_answers, port, "/healthz"), timeout_seconds=60,
                )  # fmt: skip
            groups = {**{door: processes.pid(door) for door in ports}, "valkey": server.pid}
            with Orchestrator.from_env() as client:
                yield Doors(ports, groups, client)
