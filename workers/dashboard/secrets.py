"""The secrets of this installation, for what may not show them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import parse_qs, unquote, urlsplit

from orchestrator.models import Secret
from orchestrator.settings import Settings


def secrets_of(settings: Settings, logins: Sequence[str]) -> Iterator[str]:
    """Every one, as it is sent: tokens, keys, passwords."""
    for account in settings.accounts:
        yield account.token.reveal()
        yield from (value.reveal() for value in account.fields.values() if isinstance(value, Secret))
    for secret in (*settings.secret_keys, settings.notify_secret, *(key.secret for key in settings.api_keys)):
        yield from secret.reveal().split(",") if secret else ()
    for url in filter(None, (settings.redis_url, settings.broker_url)):
        yield from {urlsplit(url).password or "", unquote(urlsplit(url).password or "")}
        yield from parse_qs(urlsplit(url).query).get("sentinel_password", ())
    yield from (login.partition(":")[2] for login in logins)
