"""The command line as a person uses it: a process of its own, in a folder of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
import requests

from orchestrator.cli import main
from orchestrator.local.processes import free_port
from orchestrator.up import SIMULATED
from tests.stack_kit import REPOSITORY

pytestmark = pytest.mark.long

COMMAND = (sys.executable, "-c", "from orchestrator.cli import main; main()")
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(environment: dict[str, str], tmp_path: Path) -> Run:
    def command(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environ = {**os.environ, "COLUMNS": "200", "PYTHONPATH": str(REPOSITORY), **variables}
        return subprocess.run(
            [*COMMAND, *words], env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=120
        )

    return command


def prompt(marker: str = "") -> str:
    return f"text_prompt={uuid.uuid4().hex} {marker}"


def test_enqueue_waits_and_prints_the_path_of_the_picture(run):
    done = run("enqueue", "useapi_frames", prompt(), "seed=12", "--wait", "60")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).read_bytes().startswith(b"\x89PNG")


def test_status_tells_a_job_whole_and_takes_no_prompt_for_markup(run):
    job_id = run("enqueue", "useapi_frames", prompt("[double]")).stdout.strip()
    told = run("status", job_id).stdout
    assert "[double]" in told and "useapi_frames" in told
    assert json.loads(run("status", job_id, "--json").stdout)["id"] == job_id


def test_status_tells_jobs_and_accounts(run):
    told = json.loads(run("status", "--json").stdout)
    assert {row["name"] for row in told["accounts"]} == {"studio-1", "studio-2"}
    assert "Accounts" in run("status").stdout


def test_doctor_finds_everything_well(run):
    done = run("doctor")
    assert done.returncode == 0, done.stdout
    assert "✗" not in done.stdout and "worker(s) answer" in done.stdout


# words, environment, what is said
MISTAKES = [
    (("enqueue", "nobody", "a=b"), {}, "no provider 'nobody'"),
    (("enqueue", "useapi_frames", "seed"), {}, "not of the form key=value"),
    (("enqueue", "useapi_frames", "seed=abc"), {}, "seed = 'abc': Not a valid integer"),
    (("status", "nobody"), {}, "no job has the id 'nobody'"),
    (("resume", "account", "nobody"), {}, "known are: useapi_frames/studio-1, useapi_frames/studio-2"),
    (("status",), {"ORCHESTRATOR_REDIS_URL": "redis://127.0.0.1:1"}, "Redis does not answer"),
    (("status",), {"ORCHESTRATOR_REDIS_URL": "bar"}, "must begin with redis://"),
    (("status",), {"ORCHESTRATOR_ACCOUNTS": "/nowhere"}, "cannot read /nowhere"),
    (("up",), {"ORCHESTRATOR_ACCOUNTS": ""}, "up --simulator"),
    (("doctor",), {"ORCHESTRATOR_SECRET_KEYS": "short"}, "openssl rand"),
]


@pytest.mark.parametrize(("words", "variables", "said"), MISTAKES)
def test_mistake_ends_in_a_sentence_and_never_in_a_traceback(words, variables, said, run):
    done = run(*words, **variables)
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert said in output
    assert "Traceback" not in output


SERVERS = ("demo", "up", "simulate")  # they run until they are stopped


def commands(group: click.Group, path: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{path}{name} ")
        else:
            yield path + name, command


def test_every_command_speaks_json_to_programs():
    silent = [
        name for name, command in commands(main) if not any("--json" in each.opts for each in command.params)
    ]
    assert silent == [*SERVERS, "openapi"]  # which is JSON anyway


@pytest.mark.parametrize(
    "command",
    [("celery", "-A", "workers", "worker"), ("gunicorn", "--bind", "127.0.0.1:0", "webhooks.wsgi:app")],
)
def test_wrong_settings_end_a_server_in_a_sentence(command, environment):
    environ = {**os.environ, "ORCHESTRATOR_REDIS_URL": "bar"}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        env=environ,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
    )
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert "must begin with redis://" in output
    assert "Traceback" not in output


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def family(pid: int) -> set[int]:
    """The process and all its descendants."""
    found = {pid}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == pid:
            found |= family(int(stat.parent.name))
    return found


def test_up_with_your_accounts_does_not_take_up_simulated_jobs(run, tmp_path):
    (tmp_path / SIMULATED).touch()
    done = run("up", ORCHESTRATOR_REDIS_URL="", ORCHESTRATOR_FOLDER=str(tmp_path))
    assert done.returncode != 0
    assert f"{tmp_path} remembers the jobs of `up --simulator`" in done.stderr
    assert {each.name for each in tmp_path.iterdir()} == {SIMULATED}, "something was started"


@pytest.fixture
def up(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """`orchestrator up --simulator`, ready."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")}
    ports = [word for name in ("", "flower-", "operations-") for word in (f"--{name}port", str(free_port()))]
    words = ("up", "--simulator", *ports)
    with subprocess.Popen(
        [*COMMAND, *words],
        env={**kept, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1", "COLUMNS": "200"},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        told = ""
        while "Ready" not in told:
            line = process.stdout.readline()
            assert line, told
            told += line
        process.told = told  # type: ignore[attr-defined]
        yield process
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_up_leaves_no_orphan_however_it_ends(number, up):
    receiver = re.search(r"Receiver:\s+(\S+)", up.told)[1]
    assert requests.get(f"{receiver}/readyz", timeout=30).status_code == 200
    started = family(up.pid)
    assert len(started) >= 7  # itself, guard, server, simulator, worker, ticker, receiver, Flower
    up.send_signal(number)
    give_up_at = time.monotonic() + 30
    while any(lives(pid) for pid in started - {up.pid}):
        assert time.monotonic() < give_up_at, [pid for pid in started if lives(pid)]
        time.sleep(0.1)
    up.wait(timeout=10)


def test_up_starts_again_what_dies(up, tmp_path):
    receiver = re.search(r"Receiver:\s+(\S+)", up.told)[1]
    (worker,) = [
        pid
        for pid in family(up.pid)
        if "worker@" in Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    ]
    os.kill(worker, signal.SIGKILL)
    while "starting it again" not in up.stdout.readline():
        assert requests.get(f"{receiver}/healthz", timeout=30).ok


def test_demo_ends_as_scripted_with_pictures_and_a_gallery(tmp_path):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")}
    done = subprocess.run(
        [*COMMAND, "demo", "--exit"],
        env={**kept, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "200"},
        cwd=tmp_path, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "78 succeeded, 2 failed" in done.stdout
    assert len(list((tmp_path / "demo-output" / "pictures" / "demo").glob("*.png"))) >= 78
    gallery = (tmp_path / "demo-output" / "index.html").read_text()
    assert gallery.count("data:image/webp") == gallery.count('href="./pictures/demo/') >= 78
