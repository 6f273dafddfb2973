"""The environment. Only here is `os.environ`.

Secrets may stand in files: `NAME_FILE` names one that holds the value of `NAME`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.api_keys import VARIABLE as API_KEYS
from orchestrator.models import Secret

IN_FILE = "_FILE"
SECRETS = (
    *("ORCHESTRATOR_REDIS_URL", "ORCHESTRATOR_BROKER_URL", "ORCHESTRATOR_SECRET_KEYS"),
    *("ORCHESTRATOR_NOTIFY_SECRET", API_KEYS, "FLOWER_BASIC_AUTH"),
)


def environment() -> dict[str, str]:
    """The environment, for handing on to child processes; secrets that stand in files are read from there.

    One that cannot be read is left as it is: `Settings.from_environ` says so.
    """
    told = dict(os.environ)
    for name in SECRETS:
        value = value_of(name, [])
        if value and told.get(name + IN_FILE):
            del told[name + IN_FILE]
            told[name] = value
    return told


def take_environment(names: Mapping[str, str]) -> None:
    """Make this process a client of what these variables name."""
    for name in names:
        os.environ.pop(name + IN_FILE, None)
    os.environ.update(names)


def logs_are_json() -> bool:
    """Whether lines of logs are JSON. Known before the settings are: what is wrong with them is logged."""
    return os.environ.get("ORCHESTRATOR_LOG_FORMAT", "").strip() == "json"


def wants_traces() -> bool:
    """Whether OpenTelemetry's own variables ask for traces."""
    told = os.environ.get
    if told("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if exporter := told("OTEL_TRACES_EXPORTER"):
        return exporter != "none"
    return bool(told("OTEL_EXPORTER_OTLP_ENDPOINT") or told("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))


def value_of(name: str, faults: list[str]) -> str:
    """What a variable holds, or the file that `<name>_FILE` names; '' for neither."""
    value, path = os.environ.get(name, "").strip(), os.environ.get(name + IN_FILE, "")
    if not path:
        return value
    if value:
        faults.append(f"{name} and {name}{IN_FILE} are both set: unset one of them")
        return ""
    return in_file(f"{name}{IN_FILE}", path, faults)


def in_file(where: str, path: str, faults: list[str]) -> str:
    try:
        value = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        faults.append(f"{where}: cannot read {path}: {reason}")
        return ""
    if not value:
        faults.append(f"{where}: {path} is empty")
    return value


def secret(key: str, value: Any, where: str, allow_plain: bool, faults: list[str]) -> Secret:
    """The secret behind `env:NAME` or `file:PATH`; what is wrong with it is added to `faults`."""
    text = value if isinstance(value, str) else ""
    kind, _, rest = text.partition(":")
    if kind == "env" and rest:
        before = len(faults)
        value = value_of(rest, faults)
        if not value and len(faults) == before:
            faults.append(f"{where}: {key} is to come from the environment variable {rest}, which is not set")
        return Secret(value)
    if kind == "file" and rest:
        return Secret(in_file(f"{where}: {key}", rest, faults))
    if not text:
        faults.append(f'{where}: {key} is missing: give "env:NAME" or "file:PATH"')
    elif not allow_plain:
        faults.append(
            f'{where}: {key} is written out: give "env:NAME" or "file:PATH", '
            "or set allow_plain_secrets = true on this account"
        )
    return Secret(text)
