"""Who asks: the tenant whose key came in `Authorization: Bearer …`. Asked before anything else is read."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from flask import current_app, g, request

from orchestrator.events import warn
from orchestrator.models import ApiKey
from webhooks.api.problems import Problem

REALM = 'Bearer realm="orchestrator"'


class Keys:
    """Which tenant a key is of. How long it takes tells nothing of the keys."""

    def __init__(self, keys: Sequence[ApiKey]) -> None:
        self._tenants = [(key.tenant, _digest(key.secret.reveal())) for key in keys]

    def tenant_of(self, header: str) -> str | None:
        scheme, _, given = header.partition(" ")
        digest = _digest(given.strip())
        fitting = [tenant for tenant, known in self._tenants if hmac.compare_digest(known, digest)]
        return fitting[0] if fitting and scheme.lower() == "bearer" else None


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()


def require_key() -> None:
    """For `before_request`. Raises: Problem."""
    header = request.headers.get("Authorization", "")
    g.tenant = current_app.extensions["keys"].tenant_of(header)
    if g.tenant is None:
        warn("api.refused", key="wrong" if header else "none")
        challenge = f'{REALM}, error="invalid_token"' if header else REALM
        detail = "this needs a key: send `Authorization: Bearer KEY`"
        raise Problem(401, detail, {"WWW-Authenticate": challenge})
