"""docker-compose.yml and what belongs to it, read as text: what must hold of every service, engine or not."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.broker import QUEUES
from orchestrator.demo.script import frames_jobs
from orchestrator.environment import IN_FILE, SECRETS
from tests.stack_kit import REPOSITORY

COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ROLES = {name: each for name, each in SERVICES.items() if "build" in each}
SERVERS = {name: each for name, each in ROLES.items() if name != "producer"}  # it ends by itself
DOCKERFILE = (REPOSITORY / "deploy" / "Dockerfile").read_text()
HELD = "/run/secrets/"
REFUSAL = "make the secrets first: sh deploy/secrets.sh"


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_can_do_as_little_as_possible(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["logging"]["options"]["max-size"]
    assert "privileged" not in service and "network_mode" not in service


@pytest.mark.parametrize("name", SERVERS)
def test_every_server_is_looked_after(name):
    service = SERVERS[name]
    assert service["restart"] == "unless-stopped" and service["init"] is True
    assert service["healthcheck"]["test"][:4] == ["CMD", "python3", "-IS", "deploy/healthcheck.py"]
    if "heartbeat" in service["healthcheck"]["test"]:
        assert service["environment"]["ORCHESTRATOR_HEARTBEAT"].startswith("/tmp/")


def test_only_the_receiver_is_open_to_the_outside():
    outside = [name for name, each in SERVICES.items() if "outer" in each["networks"]]
    assert outside == ["receiver"]
    for name, service in SERVICES.items():
        for port in service.get("ports", ()):
            assert name == "receiver" or port.startswith("127.0.0.1:"), name
    assert SERVICES["redis"]["networks"] == ["inner"] and COMPOSE["networks"]["inner"]["internal"] is True


@pytest.mark.parametrize("name", SERVICES)
def test_secrets_come_from_files_that_the_service_is_given(name):
    service = SERVICES[name]
    told = {key: str(value) for key, value in service.get("environment", {}).items()}
    assert not set(SECRETS) & set(told)
    files = {key.removesuffix(IN_FILE): path for key, path in told.items() if key.endswith(IN_FILE)}
    assert set(files) - {"GF_SECURITY_ADMIN_PASSWORD_"} <= set(SECRETS)
    given = {f"{HELD}{each}" for each in service.get("secrets", ())}
    assert set(files.values()) <= given
    assert {each.removeprefix(HELD) for each in given} <= set(COMPOSE["secrets"])


def test_without_its_secrets_it_says_what_to_do():
    for secret in COMPOSE["secrets"].values():
        assert secret["file"].startswith(f"${{ORCHESTRATOR_SECRETS:?{REFUSAL}}}/")


def test_worker_and_collector_share_all_queues_between_them():
    def option(service: str, name: str) -> set[str]:
        (found,) = (word for word in SERVICES[service]["command"] if word.startswith(f"--{name}="))
        return set(found.partition("=")[2].split(","))

    assert option("worker", "exclude-queues") == option("collector", "queues") < set(QUEUES)


def test_demo_asks_for_what_the_local_demo_asks_for():
    lines = (REPOSITORY / "deploy" / "demo" / "prompts.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [each.parameters for each in frames_jobs()]


def test_any_builder_takes_the_dockerfile():
    assert "# syntax" not in DOCKERFILE and "<<" not in DOCKERFILE and "--mount" not in DOCKERFILE
    assert re.search(r"^ARG PYTHON_IMAGE=python:3\.\d+-slim$", DOCKERFILE, re.M)
    assert re.search(r"^USER 10001:10001$", DOCKERFILE, re.M)


def test_image_has_the_versions_that_are_tested():
    def pins(path: str) -> set[str]:
        text = (REPOSITORY / path).read_text()
        return set(re.findall(r"^([a-z0-9._-]+==\S+)", text, re.M))

    tested = {pin.partition("==")[0]: pin for pin in pins("requirements.lock")}
    differ = {
        pin for pin in pins("deploy/requirements.lock") if tested.get(pin.partition("==")[0], pin) != pin
    }
    assert not differ
    assert "pytest" not in (REPOSITORY / "deploy" / "requirements.lock").read_text()


@pytest.mark.skipif(not shutil.which("openssl"), reason="deploy/secrets.sh needs openssl")
def test_secrets_are_made_once_each_their_own_and_are_private(tmp_path):
    (tmp_path / "deploy").mkdir()
    shutil.copy(REPOSITORY / "deploy" / "secrets.sh", tmp_path / "deploy")

    def made() -> dict[str, str]:
        subprocess.run(["sh", "deploy/secrets.sh"], cwd=tmp_path, check=True, capture_output=True, timeout=60)
        files = [path for path in (tmp_path / "secrets").rglob("*") if path.is_file()]
        return {path.name: path.read_text() for path in [*files, tmp_path / ".env"]}

    first = made()
    assert set(COMPOSE["secrets"]) <= set(first)
    assert len(set(first.values())) == len(first)
    assert first["redis_password"].strip() in first["redis_url"]
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    (tmp_path / ".env").write_text("ORCHESTRATOR_SECRETS=elsewhere")
    assert made() == {**first, ".env": "ORCHESTRATOR_SECRETS=elsewhere"}


def test_no_secret_can_be_committed_or_reach_the_image():
    ignored = (REPOSITORY / ".gitignore").read_text().split()
    assert {".env", "/secrets/", "/accounts.toml"} <= set(ignored)
    shipped = [line for line in (REPOSITORY / ".dockerignore").read_text().split("\n") if line[:1] not in "#"]
    assert shipped[0] == "*", "nothing but what is named"
    assert not any("secrets" in line or "accounts" in line for line in shipped)
    for line in shipped[1:]:
        path = line.lstrip("!")
        assert "*" in path or Path(REPOSITORY / path).exists(), path
    assert os.access(REPOSITORY / "deploy" / "healthcheck.py", os.R_OK)
