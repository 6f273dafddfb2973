"""The API's app: its doors, health, and the document that is made of them. No callback comes here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flask_smorest
from flask import Flask, Response
from werkzeug.exceptions import HTTPException

from orchestrator.build import Built
from orchestrator.client import Orchestrator
from orchestrator.errors import ConfigurationError
from orchestrator.models import ApiKey
from orchestrator.providers import registry
from orchestrator.schemas import PortableRequest
from webhooks.api.batches import batches
from webhooks.api.document import CONFIGURATION, make_exact, plugin
from webhooks.api.jobs import MAX_JOB_BYTES, jobs
from webhooks.api.keys import Keys
from webhooks.api.problems import ProblemShown, answered, handle_problems
from webhooks.api.providers import providers
from webhooks.api.shapes import PORTABLE
from webhooks.hardened import harden
from webhooks.health import health
from webhooks.measured import measure


class Api(flask_smorest.Api):
    DEFAULT_ERROR_RESPONSE_NAME = None
    ERROR_SCHEMA = ProblemShown

    def handle_http_exception(self, error: HTTPException) -> Response:
        return answered(error)

    def _register_pagination_header(self) -> None:
        """Nothing here is paged as flask-smorest would."""


def create_api(built: Built) -> Flask:
    """Raises: ConfigurationError where no key is configured."""
    if not built.settings.api_keys:
        raise ConfigurationError(
            [
                "ORCHESTRATOR_API_KEYS is not set, so nobody could use the HTTP API: "
                'set it to "NAME:$(openssl rand -hex 32)", or several with commas between'
            ]
        )
    return app_of(Orchestrator(built), built.settings.api_keys)


def app_of(orchestrator: Orchestrator | None, keys: Sequence[ApiKey]) -> Flask:
    """`orchestrator` None: only the document is asked for."""
    app = Flask(__name__, static_folder=None)
    harden(app, MAX_JOB_BYTES)
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.config.update(CONFIGURATION)
    app.extensions["keys"] = Keys(keys)
    if orchestrator:
        app.extensions |= {"orchestrator": orchestrator, "flow": orchestrator.flow}
        measure(app, orchestrator.flow.observer)
    api = Api(app, spec_kwargs={"marshmallow_plugin": plugin()})
    make_exact(api.ma_plugin.converter)
    handle_problems(app)
    api.spec.components.security_scheme("key", {"type": "http", "scheme": "bearer"})
    for provider in registry().values():
        api.spec.components.schema(provider.name, schema=provider.schema)
    api.spec.components.schema(PORTABLE, schema=PortableRequest)
    for door in (jobs, batches, providers):
        api.register_blueprint(door)
    app.register_blueprint(health)
    app.extensions["document"] = api.spec.to_dict
    return app


def document() -> dict[str, Any]:
    """The OpenAPI document. Asks nothing of the environment, nor of Redis."""
    found: dict[str, Any] = app_of(None, ()).extensions["document"]()
    return found
