"""What all doors of the API have in common: whose request it is, who may wait, and how arguments are read."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import flask_smorest
from flask import current_app, g
from marshmallow import RAISE
from webargs.flaskparser import FlaskParser

from orchestrator.client import Orchestrator
from orchestrator.errors import Invalid, Unsupported
from orchestrator.intake import known_provider
from orchestrator.models import batch_name
from webhooks.api.keys import require_key
from webhooks.api.problems import MEDIA_TYPE, Fault, ProblemShown, refuse_arguments

HEADER = {"schema": {"type": "string"}, "required": True}
HEADERS = {401: ["WWW-Authenticate"], 429: ["Retry-After"], 503: ["Retry-After"]}


class Arguments(FlaskParser):
    """A name that is not known is a mistake, and not passed over."""

    DEFAULT_UNKNOWN_BY_LOCATION = {**FlaskParser.DEFAULT_UNKNOWN_BY_LOCATION, "query": RAISE}  # noqa: RUF012

    def handle_error(self, error: Any, req: Any, schema: Any, **options: Any) -> Any:
        refuse_arguments(error, req, schema)


class Door(flask_smorest.Blueprint):
    """A blueprint that needs a key, and says so in the document."""

    ARGUMENTS_PARSER = Arguments()

    def __init__(self, name: str, description: str) -> None:
        super().__init__(name, __name__, description=description)
        self.before_request(require_key)

    def refuses(self, *statuses: int) -> Any:
        """Documents the statuses that it refuses with, beside those of any door."""

        def documented(view: Any) -> Any:
            for status in sorted({401, 503, *statuses}, reverse=True):
                headers = {name: HEADER for name in HEADERS.get(status, ())} or None
                view = self.alt_response(
                    status, schema=ProblemShown, content_type=MEDIA_TYPE, headers=headers
                )(view)
            return view

        return documented


def orchestrator() -> Orchestrator:
    found: Orchestrator = current_app.extensions["orchestrator"]
    return found


def tenant() -> str:
    """Whose request it is."""
    return str(g.tenant)


def full_name(batch: str) -> str:
    """Of the tenant's own name of a batch."""
    return batch_name(batch, tenant())


def own_name(batch: str) -> str | None:
    """The tenant's own name of one of its batches."""
    return batch.removeprefix(f"{tenant()}/") or None


def provider_faults(names: Sequence[Any]) -> list[Fault]:
    """What is wrong with whom is asked."""
    faults: list[Fault] = []
    exchange = orchestrator().flow.exchange
    for name in names:
        try:
            provider = known_provider(exchange, name)
            if exchange.accounts and not any(of == provider.name for of, _ in exchange.accounts):
                faults.append(("provider", f"there is no account of {name} here: GET /providers tells which"))
        except Unsupported as error:
            faults.append(("provider", str(error)))
    return faults


def notice_faults(urls: Mapping[str, Any]) -> list[Fault]:
    """What is wrong with whom is to be told; what is no text is told elsewhere."""
    faults: list[Fault] = []
    for name, url in urls.items():
        try:
            if url and isinstance(url, str):
                orchestrator().flow.notify_rules.check(name, url)
        except Invalid as error:
            faults.append((name, str(error)))
    return faults


class Seats:
    """So many at once; who comes then is not let in, instead of waiting."""

    def __init__(self, count: int) -> None:
        self._free = threading.BoundedSemaphore(count)

    @contextmanager
    def taken(self) -> Iterator[bool]:
        """Whether there was one."""
        had = self._free.acquire(blocking=False)
        try:
            yield had
        finally:
            if had:
                self._free.release()
