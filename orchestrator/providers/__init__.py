"""The providers, one file each. A file here that ends in `PROVIDER = …` is found; no list is kept."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from orchestrator.provider import Provider


@cache
def registry() -> dict[str, Provider]:
    """Every provider by name. Raises: TypeError where one lacks what every provider must say."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    found = [_provider_in(name) for name in names]
    return {provider.name: provider for provider in found}


def _provider_in(name: str) -> Provider:
    provider: Provider = importlib.import_module(f"{__name__}.{name}").PROVIDER
    missing = [each for each in Provider.__annotations__ if not hasattr(provider, each)]
    if missing:
        kind = type(provider)
        raise TypeError(
            f"{kind.__module__}: {kind.__name__} must say {', '.join(missing)}: see orchestrator/provider.py"
        )
    return provider
