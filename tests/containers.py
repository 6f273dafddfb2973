"""`make containers`: docker-compose.yml on a real engine: 60 jobs, 60 more while every part is killed, down.

It is a project of its own beside yours, and removes its volumes at the end; only the published ports are the
same. `VALKEY_IMAGE`, `PYTHON_IMAGE` and the like are taken from the environment or .env.
"""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from typing import Any

import requests

from orchestrator.environment import environment
from tests.stack_kit import REPOSITORY, eventually

PROJECT = "orchestrator-check"
KILLED = ("worker", "collector", "receiver", "ticker", "redis", "flower")
OURS = {
    "ORCHESTRATOR_SECRETS": "./secrets",
    "ORCHESTRATOR_ACCOUNTS": "./deploy/demo/accounts.toml",
    "ORCHESTRATOR_PUBLIC_URL": "http://receiver:8000",
}
GALLERY = "http://127.0.0.1:8080"
AGAIN = (
    "orchestrator run /demo/prompts.jsonl --provider useapi_frames --quiet --batch again "
    "--out /artifacts/again.jsonl"
)
COUNT = (
    "import json, urllib.request as u; print(u.urlopen('http://127.0.0.1:9000/__stats__').read().decode())"
)
PATIENCE = 300.0
EXPECTED = {"succeeded": 58, "failed": 2}  # two are scripted to be refused by moderation


def run(*words: str, timeout: float = 1_200) -> str:
    """What a command prints. Ends the process, with what it said, where it fails."""
    done = subprocess.run(
        words, cwd=REPOSITORY, env={**environment(), **OURS}, capture_output=True, text=True, timeout=timeout
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(words[:6])} … failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def compose(*words: str) -> str:
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0
    command = ("docker", "compose") if plugin else ("docker-compose",)
    return run(*command, "--project-name", PROJECT, "--profile", "demo", *words)


def container(service: str) -> str:
    names = run("docker", "ps", "-aq", *_labelled("project", PROJECT), *_labelled("service", service))
    return names.split()[0]


def _labelled(kind: str, value: str) -> tuple[str, str]:
    return "--filter", f"label=com.docker.compose.{kind}={value}"


def state(service: str) -> dict[str, Any]:
    return json.loads(run("docker", "inspect", container(service)))[0]


def is_healthy(service: str) -> bool:
    return state(service)["State"].get("Health", {}).get("Status") == "healthy"


def outcomes(name: str) -> Counter[str]:
    lines = requests.get(f"{GALLERY}/{name}", timeout=30).text.splitlines()
    return Counter(json.loads(line)["state"] for line in lines)


def kill(service: str) -> None:
    """kill -9 of all that runs in its container but the init that waits for it."""
    before = state(service)["RestartCount"]
    subprocess.run(["docker", "exec", container(service), "sh", "-c", "kill -9 -1"], capture_output=True)
    eventually(lambda: state(service)["RestartCount"] > before, f"{service} is started again", PATIENCE)
    print(f"killed {service}: started again")


def main() -> None:
    run("sh", "deploy/secrets.sh")
    print("building, and starting everything …", flush=True)
    try:
        compose("build", "worker")
        compose("up", "--detach")
        eventually(lambda: state("producer")["State"]["Status"] == "exited", "the demo is over", PATIENCE)
        assert outcomes("outcomes.jsonl") == EXPECTED, outcomes("outcomes.jsonl")
        page = requests.get(GALLERY, timeout=30)
        print(f"60 jobs ended as scripted; their page has {len(page.content)} bytes", flush=True)
        again = compose("run", "--detach", "producer", "sh", "-c", AGAIN).split()[-1]
        for service in KILLED:
            kill(service)
        run("docker", "wait", again)
        assert outcomes("again.jsonl") == EXPECTED, outcomes("again.jsonl")
        told = json.loads(run("docker", "exec", container("simulator"), "python3", "-c", COUNT))["total"]
        assert told["duplicates_by_reply_ref"] == 0, "paid twice"
        for service in KILLED:
            eventually(lambda: is_healthy(service), f"{service} is healthy again", PATIENCE)  # noqa: B023
        print("60 more ended as scripted while each part was killed; none was paid for twice; all are well")
    finally:
        compose("down", "--volumes", "--timeout", "60")
    print("down; nothing is left")


if __name__ == "__main__":
    main()
