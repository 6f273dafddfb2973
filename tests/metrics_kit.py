"""What the tests of metrics share: the expressions of dashboard and alerts, and Prometheus' tools."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.stack_kit import REPOSITORY

ALERTS = REPOSITORY / "deploy" / "prometheus" / "alerts.yml"
DASHBOARD = REPOSITORY / "deploy" / "grafana" / "orchestrator.json"
EVERY_PROVIDER, WINDOW = ".*", "10s"  # for Grafana's variables

requires_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
requires_prometheus = pytest.mark.skipif(not shutil.which("prometheus"), reason="prometheus is not installed")


def promtool() -> str:
    return str(shutil.which("promtool"))


def expressions(path: Path) -> list[str]:
    """Every PromQL expression of a file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        targets = [each for panel in json.loads(text)["panels"] for each in panel.get("targets", ())]
        found = [each["expr"] for each in targets]
        return [
            each.replace("$provider", EVERY_PROVIDER).replace("$__rate_interval", WINDOW) for each in found
        ]
    blocks = re.findall(r"^        expr: (?:\|\n((?:          .*\n)+)|(.*)\n)", text, re.MULTILINE)
    return [" ".join(several.split()) or one for several, one in blocks]


def names_in(expression: str) -> set[str]:
    return set(re.findall(r"\borchestrator_\w+", expression))
