"""`/providers`: whom one may ask, and for what."""

from __future__ import annotations

from typing import Any

from orchestrator.schemas import PortableRequest
from webhooks.api.asking import Door, orchestrator
from webhooks.api.document import json_schema
from webhooks.api.shapes import ProvidersShown

providers = Door("providers", "Whom to ask.")


@providers.route("/providers")
@providers.response(200, ProvidersShown)
@providers.refuses()
@providers.doc(operationId="listProviders")
def show() -> Any:
    """Whom one may ask, and what each takes"""
    exchange = orchestrator().flow.exchange
    ours = {account.provider for account in exchange.accounts.values()}
    rows = [
        {
            "name": provider.name,
            "outcome_by": provider.kind,
            "is_available": provider.name in ours,
            "docs_url": provider.docs_url,
            "parameters": json_schema(provider.schema),
        }
        for provider in exchange.providers.values()
    ]
    return {"providers": rows, "portable": json_schema(PortableRequest)}
