"""`orchestrator demo`: the main job for real, on this machine alone, ending in a page of pictures."""

from __future__ import annotations

import secrets
import shutil
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import requests
from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestrator.client import Orchestrator
from orchestrator.demo.accounts import FRAMES_ACCOUNTS, FRAMES_SLOTS, accounts_file
from orchestrator.demo.script import Scripted, frames_jobs, mixed_jobs
from orchestrator.environment import environment, take_environment
from orchestrator.local.stack import Stack, StackOptions
from orchestrator.models import Job
from orchestrator.report.figures import Figures
from orchestrator.report.write import Wanted, write_report

BATCH = "demo"
PROVIDER = "useapi_frames"
# Twelve seconds of generation take three here.
SIMULATOR = ("--scale", "0.25", "--seed", "7")
PATIENCE_SECONDS = 90.0


def run(folder: Path, stay: bool, console: Console) -> bool:
    """Runs the demo into `folder`; True where every job ended as scripted. `stay`: until Ctrl-C."""
    for leftover in (folder / "run", folder / "pictures"):
        shutil.rmtree(leftover, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    own = {"DEMO_TOKEN": f"user:0-{secrets.token_hex(12)}", "DEMO_SIGNING_SECRET": secrets.token_hex(16)}
    options = StackOptions(
        accounts=folder / "run" / "accounts.toml",
        artifacts=f"file://{folder.resolve()}/pictures",
        cwd=Path.cwd(),
        environ={**environment(), **own},
        collectors=1,
        simulator_arguments=SIMULATOR,
    )
    stack = Stack(folder / "run", options)
    options.accounts.write_text(accounts_file(str(stack.simulator_url)), encoding="utf-8")
    console.print(
        "Starting Valkey, the provider simulator, a worker, a collector, the ticker, the receiver, "
        "Flower and the operations page …",
        soft_wrap=True,
    )
    with stack:
        _let_freepik_sign(str(stack.simulator_url), own)
        take_environment({**stack.environment, **own})
        with Orchestrator.from_env() as orchestrator:
            as_scripted = _play(orchestrator, stack, folder, console)
        if stay:
            console.print("\nFlower and the operations page stay open. Ctrl-C ends everything.")
            signal.pause()
    return as_scripted


def _play(orchestrator: Orchestrator, stack: Stack, folder: Path, console: Console) -> bool:
    user, password = stack.flower_login
    flower, page = (
        str(url).replace("http://", f"http://{user}:{password}@")
        for url in (stack.flower_url, stack.operations_url)
    )
    console.print(f"Flower: {flower}\nOperations page: {page}", soft_wrap=True)
    script, mixed = frames_jobs(), mixed_jobs()
    console.print(
        f"Enqueuing {len(script)} Frames jobs on {len(FRAMES_ACCOUNTS)} accounts of {FRAMES_SLOTS} slots "
        f"each, and {len(mixed)} jobs of every provider in one batch.", soft_wrap=True,
    )  # fmt: skip
    batch = orchestrator.enqueue_many(PROVIDER, (each.parameters for each in script), batch=BATCH)
    for each in mixed:
        orchestrator.enqueue(each.provider, each.parameters, batch=BATCH)
    try:
        batch.wait(timeout=PATIENCE_SECONDS, progress=True)
    except TimeoutError:
        console.print(f"Not over after {PATIENCE_SECONDS:.0f} s: {batch}", style="red")
    counted = _counted(orchestrator, stack)
    flow, gallery = orchestrator.flow, folder / "index.html"
    wanted = Wanted(title="Image orchestrator", more=list(counted.items()))
    written = write_report(flow.store, flow.exchange.providers, flow.clock(), BATCH, gallery, wanted)
    console.print(_table({**_figures(written.figures), **counted}))
    console.print(f"Pictures: {folder / 'pictures'}\nGallery:  {gallery.resolve().as_uri()}", soft_wrap=True)
    if written.note:
        console.print(written.note)
    console.print(f"Flower:   {flower}\nOperations page: {page}", soft_wrap=True)
    jobs = flow.store.jobs([job.id for job in batch.jobs()])
    return _as_scripted(jobs, script + mixed, counted["paid twice"], console)


def _let_freepik_sign(simulator: str, own: Mapping[str, str]) -> None:
    order = {"freepik_secret": {"key": own["DEMO_TOKEN"], "secret": own["DEMO_SIGNING_SECRET"]}}
    requests.post(f"{simulator}/__control__", json=order, timeout=5).raise_for_status()


def _figures(figures: Figures) -> dict[str, str]:
    share = figures.use[PROVIDER].share(len(FRAMES_ACCOUNTS) * FRAMES_SLOTS)
    return {
        "jobs": ", ".join(f"{count} {state.value}" for state, count in figures.states.items()),
        "seconds": f"{figures.timeline.end - figures.timeline.start:.1f}",
        "slots used": f"{share:.0%} of Frames",
    }


def _counted(orchestrator: Orchestrator, stack: Stack) -> dict[str, str]:
    """What the simulator counted beside what we counted."""
    simulator: Mapping[str, Any] = requests.get(f"{stack.simulator_url}/__stats__", timeout=5).json()["total"]
    events: Counter[str] = Counter()
    for word, count in orchestrator.flow.store.stats().items():
        events[word.partition("/")[2]] += count
    refusals = sum(count for word, count in simulator["refused"].items() if word.startswith("429"))
    return {
        "POSTs": f"{simulator['posts']} ({simulator['accepted']} accepted)",
        "429s": str(refusals),
        "paid twice": str(simulator["duplicates_by_reply_ref"]),
        "callbacks": f"{events['callbacks']} of {simulator['callbacks_sent']} sent",
        "polls": str(events["polls"]),
        "Frames in flight": f"at most {_most_in_flight(simulator)} of {FRAMES_SLOTS} an account",
    }


def _most_in_flight(simulator: Mapping[str, Any]) -> int:
    return max(int(simulator["max_concurrent"].get(f"{name}@example.com", 0)) for name in FRAMES_ACCOUNTS)


def _table(figures: Mapping[str, str]) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2))
    for name, value in figures.items():
        table.add_row(Text(name, "bold"), value)
    return table


def _as_scripted(jobs: Sequence[Job], script: Sequence[Scripted], paid_twice: str, console: Console) -> bool:
    wrong = [
        f"{each.prompt!r} is {job.state.value}, not {each.ends}: {job.reason}"
        for job, each in zip(jobs, script, strict=True)
        if job.state.value != each.ends
    ]
    if paid_twice != "0":
        wrong.append("a reference was submitted twice")
    for line in wrong:
        console.print(f"Not as scripted: {line}", style="red")
    if not wrong:
        console.print("Every job ended as scripted.", style="green")
    return not wrong
