"""What callers send becomes a `NewJob`, or a clear refusal before anything is spent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.errors import ConfigurationError, Invalid, Unsupported
from orchestrator.exchange import Exchange
from orchestrator.models import NewJob
from orchestrator.provider import Provider
from orchestrator.schemas import JobOptions, check


def new_job(
    exchange: Exchange,
    job_id: str,
    provider_name: Any,
    parameters: Any,
    options: Mapping[str, Any],
    *,
    start_at: float = 0.0,
    task_options: Mapping[str, Any] | None = None,
) -> NewJob:
    """`options`: `batch` and `priority`. `task_options`: Celery's own, as `broker.task_options` gives them.

    Raises: Unsupported, Invalid; ConfigurationError where an accounts file is read that has no account of it.
    """
    provider = known_provider(exchange, provider_name)
    checked = check(provider.schema, parameters, provider.name)
    ours = [each for each in exchange.accounts.values() if each.provider == provider.name]
    provider.check(checked, ours)
    if exchange.accounts and not ours:
        raise ConfigurationError([f"the accounts file has no account of {provider.name}: add one"])
    chosen = check(JobOptions, options, "job options")
    return NewJob(
        id=job_id,
        provider=provider.name,
        parameters=checked,
        batch=chosen["batch"],
        priority=chosen["priority"],
        account=_pinned(exchange, provider, checked),
        start_at=start_at,
        options=task_options or {},
    )


def known_provider(exchange: Exchange, name: Any) -> Provider:
    """Raises: Unsupported."""
    provider = exchange.providers.get(name) if isinstance(name, str) else None
    if provider is None:
        raise Unsupported(f"no provider {name!r}; known are {', '.join(sorted(exchange.providers))}")
    return provider


def _pinned(exchange: Exchange, provider: Provider, parameters: Mapping[str, Any]) -> str:
    """The account a job insists on; empty: any."""
    insists = provider.pins(parameters)
    if not insists:
        return ""
    ours = [account for account in exchange.accounts.values() if account.provider == provider.name]
    for account in ours:
        if all(account.fields.get(name) == value for name, value in insists.items()):
            return account.name
    names = ", ".join(account.name for account in ours) or "none"
    wanted = " and ".join(sorted(insists))
    raise Invalid(
        f"no account of {provider.name} has this {wanted}: leave it out, or add one (known: {names})"
    )
