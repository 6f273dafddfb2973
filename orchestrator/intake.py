"""What callers send becomes a `NewJob`, or a clear refusal before anything is spent."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.canvas import signature_text
from orchestrator.errors import ConfigurationError, Invalid, Unsupported
from orchestrator.exchange import Exchange
from orchestrator.models import NewJob, batch_name
from orchestrator.notices import NotifyRules
from orchestrator.provider import Provider
from orchestrator.schemas import JobName, JobOptions, PortableRequest, check

KEYED = uuid.UUID("6f0f4a43-6b5e-4f57-9a0c-2d1b7a0c6c0e")  # of the ids of keyed jobs


def new_job(
    exchange: Exchange,
    job_id: str | None,
    wanted: Any,
    parameters: Any,
    options: Mapping[str, Any],
    now: float,
    *,
    common: Mapping[str, Any] | None = None,
    start_at: float = 0.0,
    expires_at: float = 0.0,
    task_options: Mapping[str, Any] | None = None,
) -> NewJob:
    """`wanted`: a provider's name; or several, and then `parameters` is a portable request.

    `job_id`: its id; None: one is made, the same each time where the options name the job by `custom_id` or
    `idempotency_key`.
    `options`: as `JobOptions`; or as `JobName`, where `common` is what `check` gives of the `JobOptions` that
    many jobs have in common. Moments are unix seconds. `task_options`: `canvas.task_options`.
    Raises: Unsupported, Invalid; ConfigurationError where an accounts file is read that has no account of it.
    """
    several = isinstance(wanted, list | tuple)
    choices = _translated(exchange, wanted, parameters) if several else {}
    name, checked = next(iter(choices.items())) if choices else _checked(exchange, wanted, parameters)
    if common is None:
        chosen = check(JobOptions, options, "job options")
    else:
        chosen = {**common, **(check(JobName, options, "job options") if options else {})}
    expires, tenant = chosen.pop("expires"), chosen["tenant"]
    chosen["batch"] = batch_name(chosen["batch"], tenant)
    custom_id, key = chosen["custom_id"], chosen.pop("idempotency_key")
    if job_id and key:
        raise Invalid("idempotency_key: this job has an id already, which is its key")
    if not job_id and (custom_id or key):
        job_id = keyed_id(chosen["batch"] if custom_id else "", custom_id or key, tenant)
        chosen["fingerprint"] = _fingerprint(choices or {name: checked})
    return NewJob(
        id=job_id or str(uuid.uuid4()),
        provider=name,
        parameters=checked,
        account="" if several else _pinned(exchange, exchange.providers[name], checked),
        start_at=start_at,
        expires_at=now + expires if expires else expires_at,
        options=task_options or {},
        choices=choices if len(choices) > 1 else {},
        **chosen,
    )


def keyed_id(batch: str, key: str, tenant: str = "") -> str:
    """The id of the job of this name in a batch (as `batch_name` gives it), or among its tenant's of none."""
    return str(uuid.uuid5(KEYED, f"{batch or f'{tenant}/'}\0{key}"))


def targets(rules: NotifyRules, **told: Any) -> dict[str, str]:
    """Those of these fields that name somebody to be told: a URL as it is, a Celery signature as JSON.

    Raises: Invalid where one is neither, or can never work.
    """
    found = {name: target for name, target in told.items() if target not in (None, "")}
    for name, target in found.items():
        if isinstance(target, str):
            rules.check(name, target)
            continue
        try:
            if name == "notify_url":
                raise TypeError("it is no text")
            found[name] = signature_text(target)
        except (TypeError, ValueError) as error:
            wanted = "a URL" if name == "notify_url" else "a Celery signature, or a URL"
            raise Invalid(f"{name} must be {wanted}: {error}") from None
    return found


def _fingerprint(choices: Mapping[str, Mapping[str, Any]]) -> str:
    text = json.dumps(choices, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _checked(exchange: Exchange, name: Any, parameters: Any) -> tuple[str, Mapping[str, Any]]:
    provider = known_provider(exchange, name)
    checked = check(provider.schema, parameters, provider.name)
    ours = [each for each in exchange.accounts.values() if each.provider == provider.name]
    provider.check(checked, ours)
    if exchange.accounts and not ours:
        raise ConfigurationError([f"the accounts file has no account of {provider.name}: add one"])
    return provider.name, checked


def _translated(exchange: Exchange, wanted: Sequence[Any], request: Any) -> dict[str, Mapping[str, Any]]:
    """Provider → its own parameters of a portable request, in the order they were named."""
    if not wanted:
        raise Unsupported("no provider is named: give one, or several of which any will do")
    providers = [known_provider(exchange, name) for name in wanted]
    checked = check(PortableRequest, request, "portable request")
    return dict(_checked(exchange, each.name, each.translate(checked)) for each in providers)


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
