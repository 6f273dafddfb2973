"""What a call of the task asks for, in Celery's words. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any

from celery.utils.time import maybe_make_aware


def asked(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
    """Provider, parameters and job options of a call, with a chain's previous result merged in."""
    options = dict(kwargs)
    positional = list(args)
    if positional and isinstance(positional[-1], str) and not {"provider", "parameters"} & options.keys():
        positional.append({})  # `generate.s(provider)`: all parameters come from the task before
    parameters = (
        options.pop("parameters") if "parameters" in options else positional.pop() if positional else {}
    )
    provider = options.pop("provider") if "provider" in options else positional.pop() if positional else None
    previous = positional[0] if positional else None
    if isinstance(previous, Mapping) and "artifacts" not in previous and isinstance(parameters, Mapping):
        parameters = {**previous, **parameters}
    return provider, parameters, options


def expires_at(expires: Any, now: float, zone: tzinfo) -> str | None:
    """The moment as text. Seconds count from the call, not from a message that is sent later."""
    if isinstance(expires, int | float):
        expires = datetime.fromtimestamp(now + expires, UTC)
    if isinstance(expires, datetime):
        expires = maybe_make_aware(expires, zone).isoformat()
    return expires or None


def start_at(options: Mapping[str, Any], now: float, zone: tzinfo) -> float:
    """`countdown` and `eta` in unix seconds: they wait in the due list, never in a worker."""
    if options.get("countdown"):
        return now + float(options["countdown"])
    return moment(options.get("eta"), zone)


def moment(told: Any, zone: tzinfo) -> float:
    """Unix seconds of a moment, or of its ISO 8601 text; 0 for none."""
    if isinstance(told, str):
        told = datetime.fromisoformat(told)
    return float(maybe_make_aware(told, zone).timestamp()) if told else 0.0
