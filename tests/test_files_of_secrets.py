"""Secrets that stand in files: `<NAME>_FILE` names the file that holds the value of NAME."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.accounts_file import ProviderFacts
from orchestrator.environment import SECRETS, environment, take_environment
from orchestrator.errors import ConfigurationError
from orchestrator.settings import Settings

KEY = "0123456789abcdef0123456789abcdef"
URL = "redis://:a-password-that-must-never-show@redis:6379/0"
FRAMES = {"useapi_frames": ProviderFacts("https://api.useapi.net/v1/runwayml", {"email": str})}
ACCOUNT = '[[accounts]]\nprovider = "useapi_frames"\nname = "studio-1"\ntoken = "env:USEAPI_TOKEN"\n'


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("ORCHESTRATOR_", "FLOWER_", "USEAPI_")):
            monkeypatch.delenv(name)


@pytest.fixture
def held(monkeypatch, tmp_path):
    """Puts the value of a variable into a file, and names that by the environment."""

    def hold(name: str, value: str | bytes) -> Path:
        path = tmp_path / name.lower()
        path.write_bytes(value if isinstance(value, bytes) else value.encode())
        monkeypatch.setenv(f"{name}_FILE", str(path))
        return path

    return hold


def faults() -> list[str]:
    with pytest.raises(ConfigurationError) as refused:
        Settings.from_environ(FRAMES)
    assert "a-password" not in str(refused.value)
    return refused.value.faults


def test_every_secret_may_stand_in_a_file(held):
    held("ORCHESTRATOR_REDIS_URL", f"{URL}\n")
    held("ORCHESTRATOR_BROKER_URL", "amqp://someone:hidden@rabbit//\n")
    held("ORCHESTRATOR_SECRET_KEYS", f"{KEY},{KEY[::-1]}\r\n")
    held("ORCHESTRATOR_NOTIFY_SECRET", "whsec_d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3c=\n")
    held("ORCHESTRATOR_API_KEYS", f"acme:{KEY}\n")
    held("FLOWER_BASIC_AUTH", "person:a-long-password\n")
    settings = Settings.from_environ(FRAMES)
    assert settings.redis_url == URL
    assert settings.broker_url == "amqp://someone:hidden@rabbit//"
    assert [key.reveal() for key in settings.secret_keys] == [KEY, KEY[::-1]]
    assert settings.notify_secret.reveal().startswith("whsec_")
    assert [key.secret.reveal() for key in settings.api_keys] == [KEY]
    assert environment()["FLOWER_BASIC_AUTH"] == "person:a-long-password"


def test_what_stands_in_a_file_is_checked_like_what_does_not(held):
    held("ORCHESTRATOR_REDIS_URL", "http://redis")
    assert any("must begin with redis://" in fault for fault in faults())


def test_a_token_of_the_accounts_file_may_stand_in_a_file(held, monkeypatch, tmp_path):
    accounts = tmp_path / "accounts.toml"
    accounts.write_text(ACCOUNT)
    monkeypatch.setenv("ORCHESTRATOR_ACCOUNTS", str(accounts))
    path = held("USEAPI_TOKEN", "user:1-token\n")
    assert Settings.from_environ(FRAMES).accounts[0].token.reveal() == "user:1-token"
    path.write_text("\n")
    assert faults() == [f"USEAPI_TOKEN_FILE: {path} is empty"]
    monkeypatch.delenv("USEAPI_TOKEN_FILE")
    assert "the environment variable USEAPI_TOKEN, which is not set" in faults()[0]


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_that_is_given_twice_is_refused(held, monkeypatch, name):
    held(name, "one")
    monkeypatch.setenv(name, "another")
    assert f"{name} and {name}_FILE are both set: unset one of them" in faults()


def test_a_variable_that_is_empty_is_not_given(held, monkeypatch):
    held("ORCHESTRATOR_REDIS_URL", URL)
    monkeypatch.setenv("ORCHESTRATOR_REDIS_URL", "")
    monkeypatch.setenv("ORCHESTRATOR_SECRET_KEYS_FILE", "")
    assert Settings.from_environ(FRAMES).redis_url == URL


def test_a_file_that_cannot_be_read_is_named(held, monkeypatch, tmp_path):
    empty, bytes_ = held("ORCHESTRATOR_REDIS_URL", "\n"), held("ORCHESTRATOR_SECRET_KEYS", b"\xff\xfe")
    monkeypatch.setenv("ORCHESTRATOR_API_KEYS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("FLOWER_BASIC_AUTH_FILE", str(tmp_path))
    told = faults()
    assert f"ORCHESTRATOR_REDIS_URL_FILE: {empty} is empty" in told
    assert f"ORCHESTRATOR_SECRET_KEYS_FILE: cannot read {bytes_}: it is not text" in told
    assert f"ORCHESTRATOR_API_KEYS_FILE: cannot read {tmp_path / 'none'}: No such file or directory" in told
    assert f"FLOWER_BASIC_AUTH_FILE: cannot read {tmp_path}: Is a directory" in told
    assert environment()["ORCHESTRATOR_REDIS_URL_FILE"] == str(empty), "left for whoever complains"


def test_child_processes_are_given_a_secret_once(held):
    held("ORCHESTRATOR_REDIS_URL", URL)
    handed_on = environment()
    assert handed_on["ORCHESTRATOR_REDIS_URL"] == URL
    assert "ORCHESTRATOR_REDIS_URL_FILE" not in handed_on


def test_who_takes_another_environment_forgets_the_file(held, monkeypatch):
    held("ORCHESTRATOR_REDIS_URL", URL)
    monkeypatch.setenv("ORCHESTRATOR_REDIS_URL", "")  # set, for monkeypatch to put it back
    take_environment({"ORCHESTRATOR_REDIS_URL": "redis://elsewhere"})
    assert Settings.from_environ(FRAMES).redis_url == "redis://elsewhere"


def test_the_heartbeat_needs_a_folder(monkeypatch, tmp_path):
    assert Settings.from_environ(FRAMES).heartbeat is None
    monkeypatch.setenv("ORCHESTRATOR_HEARTBEAT", str(tmp_path / "beat"))
    assert Settings.from_environ(FRAMES).heartbeat == tmp_path / "beat"
    monkeypatch.setenv("ORCHESTRATOR_HEARTBEAT", str(tmp_path / "none" / "beat"))
    assert faults() == [
        f"ORCHESTRATOR_HEARTBEAT: there is no folder {tmp_path / 'none'}: make it, or name another file"
    ]
