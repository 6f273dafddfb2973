"""The Helm chart, rendered by helm itself: every manifest is valid, strictly, and safe."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.helm_kit import find_helm, template
from tests.stack_kit import REPOSITORY

kubernetes_validate = pytest.importorskip("kubernetes_validate")

VERSION = "1.34"
CUSTOM = json.loads((REPOSITORY / "tests" / "data" / "kubernetes-custom.json").read_text())
SECRET = {"name": "a-secret", "key": "it"}
SCALED = {"enabled": True}
EVERYTHING: dict[str, Any] = {
    "publicUrl": "https://jobs.example.com",
    "secrets": {
        **dict.fromkeys(("brokerUrl", "secretKeys", "notifySecret", "apiKeys", "dashboardLogin"), SECRET),
        "tls": "certificates",
        "providerTokens": "tokens",
    },
    "artifacts": {"url": "file:///artifacts", "existingClaim": "pictures"},
    "image": {"repository": "registry.example.com/orchestrator", "pullSecrets": ["registry"]},
    "env": {"OTEL_TRACES_EXPORTER": "none"},
    "podAnnotations": {"team": "pictures"},
    "tolerations": [{"key": "spot", "operator": "Exists"}],
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "ingress": {"enabled": True, "host": "jobs.example.com", "tlsSecret": "tls", "className": "nginx"},
    "metrics": {"podMonitor": {"enabled": True, "labels": {"release": "prometheus"}}},
    "networkPolicy": {"internalFrom": [{"podSelector": {"matchLabels": {"team": "pictures"}}}]},
    "roles": {
        "api": SCALED, "flower": SCALED, "operations": SCALED,
        "worker": {"autoscaling": {**SCALED, "query": "sum(waiting)"}},
        "collector": {"autoscaling": {**SCALED, "query": "sum(waiting)"}},
    },
}  # fmt: skip
TRIGGERS = [
    {"trigger": "redis"},
    {"trigger": "redis", "redis": {"password": SECRET}},
    {"trigger": "rabbitmq"},
    {"trigger": "prometheus"},
]


@pytest.fixture(scope="module")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return find_helm(tmp_path_factory.mktemp("helm")) or pytest.skip("no helm here; see tests/helm_kit.py")


@pytest.fixture
def render(helm: Path, tmp_path: Path) -> Any:
    def rendered(values: dict[str, Any]) -> list[dict[str, Any]]:
        done = template(helm, values, tmp_path)
        assert done.returncode == 0, done.stderr
        return [each for each in yaml.safe_load_all(done.stdout) if each]

    return rendered


def check(manifest: dict[str, Any]) -> None:
    if manifest["kind"] in CUSTOM["$defs"]:
        jsonschema.validate(manifest, {**CUSTOM, "$ref": f"#/$defs/{manifest['kind']}"})
        return
    kubernetes_validate.validate(manifest, VERSION, strict=True)


def of_kind(manifests: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return {each["metadata"]["name"].split("-")[-1]: each for each in manifests if each["kind"] == kind}


@pytest.mark.parametrize("values", [{}, EVERYTHING])
@pytest.mark.parametrize("metrics", [True, False])
def test_every_manifest_is_valid(render, values, metrics):
    manifests = render(values if metrics else {**values, "metrics": {"enabled": False}})
    for manifest in manifests:
        check(manifest)
    names = [(each["kind"], each["metadata"]["name"]) for each in manifests]
    assert len(set(names)) == len(names)
    assert len(of_kind(manifests, "Deployment")) == (7 if values else 4)


@pytest.mark.parametrize("trigger", TRIGGERS)
def test_scaled_roles_are_scaled_by_what_is_named(render, trigger):
    manifests = render({**EVERYTHING, "autoscaling": trigger})
    for manifest in manifests:
        if manifest["apiVersion"].startswith("keda.sh"):
            check(manifest)
    scaled = of_kind(manifests, "ScaledObject")
    assert scaled.keys() == {"worker", "collector"}
    for role, made in scaled.items():
        assert {each["type"] for each in made["spec"]["triggers"]} == {trigger["trigger"]}
        assert "replicas" not in of_kind(manifests, "Deployment")[role]["spec"]  # KEDA's to say


def test_what_scales_by_prometheus_asks_for_metrics_that_exist(render):
    roles = {role: {"autoscaling": SCALED} for role in ("worker", "collector")}
    manifests = render({"roles": roles, "autoscaling": {"trigger": "prometheus"}})
    known = (REPOSITORY / "docs" / "metrics.md").read_text(encoding="utf-8")
    for made in of_kind(manifests, "ScaledObject").values():
        (trigger,) = made["spec"]["triggers"]
        named = re.findall(r"orchestrator_\w+", trigger["metadata"]["query"])
        assert named and all(f"`{name}`" in known for name in named)


def test_every_pod_is_confined_and_told_no_secret_but_by_file(render):
    for role, made in of_kind(render(EVERYTHING), "Deployment").items():
        pod = made["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        confined = container["securityContext"]
        assert pod["securityContext"]["runAsNonRoot"] and confined["readOnlyRootFilesystem"], role
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert confined["capabilities"] == {"drop": ["ALL"]} and not confined["allowPrivilegeEscalation"]
        assert pod["automountServiceAccountToken"] is False
        assert container["livenessProbe"] and container["startupProbe"] and container["resources"]["limits"]
        told = {each["name"]: each["value"] for each in container["env"]}
        assert told["ORCHESTRATOR_REDIS_URL_FILE"] == "/etc/orchestrator/secrets/redisUrl"
        assert "REMAP_SIGTERM" not in told  # see workers/leaving.py
        assert ("ORCHESTRATOR_API_KEYS_FILE" in told) == (role == "api")
        assert ("FLOWER_BASIC_AUTH_FILE" in told) == (role in ("flower", "operations"))
        stops = float(told.get("ORCHESTRATOR_STOP_SECONDS") or told.get("DRAIN_SECONDS") or 0)
        assert pod["terminationGracePeriodSeconds"] > stops + 10


def test_only_callbacks_are_reached_from_outside(render):
    manifests = render(EVERYTHING)
    (ingress,) = of_kind(manifests, "Ingress").values()
    (path,) = ingress["spec"]["rules"][0]["http"]["paths"]
    assert (path["path"], path["backend"]["service"]["name"]) == ("/callbacks/", "demo-orchestrator-receiver")
    policies = of_kind(manifests, "NetworkPolicy")
    assert policies.keys() == of_kind(manifests, "Deployment").keys()
    for role, policy in policies.items():
        opened = [rule for rule in policy["spec"]["ingress"] if not rule.get("from")]
        assert [rule["ports"][0]["port"] for rule in opened] == ([8000] if role == "receiver" else [])
    assert of_kind(render({}), "NetworkPolicy")["ticker"]["spec"]["policyTypes"] == ["Ingress", "Egress"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"replicas": 3}, "additional properties 'replicas' not allowed"),
        ({"roles": {"worker": {"replica": 3}}}, "additional properties 'replica' not allowed"),
        ({"secrets": {"redisUrl": {"name": ""}}}, "/secrets/redisUrl/name"),
        ({"publicUrl": "jobs.example.com"}, "/publicUrl"),
        ({"publicUrl": "https://jobs.example.com"}, "secrets.secretKeys.name: callbacks"),
        ({"roles": {"api": SCALED}}, "secrets.apiKeys.name"),
        ({"roles": {"flower": SCALED}}, "secrets.dashboardLogin.name"),
        ({"ingress": SCALED}, "ingress.host"),
        ({"roles": {"worker": {"autoscaling": SCALED}}, "autoscaling": {"trigger": "rabbitmq"}}, "brokerUrl"),
    ],
)
def test_wrong_values_are_refused_in_words(helm, tmp_path, values, said):
    done = template(helm, values, tmp_path)
    assert done.returncode != 0 and said in done.stderr, done.stderr
