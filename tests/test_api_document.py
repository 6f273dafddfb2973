"""The OpenAPI document: sound, made without Redis, and true of what is served (schemathesis)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis.specs.openapi.checks import positive_data_acceptance, use_after_free

from orchestrator.providers import registry
from orchestrator.schemas import shown
from orchestrator.store import records
from tests.api_kit import ACME, Api, waiting
from tests.stack_kit import PATIENCE, REPOSITORY
from webhooks.api.app import document
from webhooks.api.document import json_schema
from webhooks.api.shapes import JobShown

LINES = "application/x-ndjson"


@schemathesis.serializer(LINES)
def _sent(_: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


@schemathesis.deserializer(LINES)
def _received(_: Any, response: Any) -> Any:
    """The schema is that of a line: any will do."""
    lines = response.text.splitlines()
    return json.loads(lines[-1])


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with waiting(tmp_path_factory.mktemp("api")) as made:
        yield made


@pytest.fixture(scope="module")
def known(api: Api) -> dict[str, str]:
    """What there is, by the name of the path's parameter."""
    parameters = {"text_prompt": "a fox"}
    job = api.ask("POST", "/jobs", json={"provider": "useapi_frames", "parameters": parameters}).json()
    assert api.upload(json.dumps(parameters), name="known", provider="useapi_frames").status_code == 201
    return {"job_id": job["id"], "name": "known"}


described = schemathesis.openapi.from_dict(document())


@described.parametrize()
@settings(
    max_examples=8, derandomize=True, deadline=None, database=None,
    phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck),
)  # fmt: skip
def test_what_is_served_is_what_the_document_says(case: Any, api: Api, known: dict[str, str]) -> None:
    # Of what a schema cannot say (what each model takes, what a line is, whether there is an account), 422 is
    # right.
    excluded = [positive_data_acceptance] if case.method == "POST" else []
    options = {"base_url": api.url, "headers": {"Authorization": f"Bearer {ACME}"}}
    case.call_and_validate(excluded_checks=excluded, **options)
    if case.path_parameters and case.meta.generation.mode.is_positive and not case.query.get("wait"):
        case.path_parameters = {name: known[name] for name in case.path_parameters}
        case.call_and_validate(excluded_checks=[*excluded, use_after_free], **options)


def test_the_document_is_openapi(api: Api) -> None:
    OpenAPIV31SpecValidator(document()).validate()
    assert requests.get(f"{api.url}/openapi.json", timeout=PATIENCE).json() == document()


def test_the_document_is_written_without_redis_or_settings() -> None:
    environ = {"PATH": os.environ["PATH"], "ORCHESTRATOR_REDIS_URL": "redis://192.0.2.1", "PYTHONPATH": "."}
    command = [sys.executable, "-c", "from orchestrator.cli import main; main()", "openapi"]
    told = subprocess.run(command, env=environ, cwd=REPOSITORY, capture_output=True, check=True)
    assert json.loads(told.stdout) == document()


def test_every_option_says_what_it_means() -> None:
    told = document()
    options = told["components"]["schemas"]["JobRequest"]["properties"]
    assert all("description" in options[name] for name in options if name not in ("provider", "parameters"))
    query = {each["name"]: each for each in told["paths"]["/batches"]["post"]["parameters"]}
    assert all("description" in {**each, **each["schema"]} for each in query.values())
    assert query["max_spend"]["schema"]["exclusiveMinimum"] == 0


@pytest.mark.parametrize("name", sorted(registry()))
def test_what_a_provider_takes_is_told_whole(name: str) -> None:
    told = json_schema(registry()[name].schema)
    Draft202012Validator.check_schema(told)
    assert "$ref" not in json.dumps(told)
    assert registry()[name].prompt_parameter in told["required"]


def test_a_job_of_every_field_is_shown_as_documented() -> None:
    """Whoever shows a job another field says here, and in `JobShown`, whether callers may see it."""
    row = {"provider": "runway", "parameters": "{}", "state": "queued", "batch": "", "created": "1"}
    told = shown(records.job("id", row, None))
    assert set(told) - set(JobShown().fields) == {"tenant"}
    assert set(JobShown().fields) <= set(told)
