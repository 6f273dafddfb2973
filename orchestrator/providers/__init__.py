"""The providers, one file each. A file here that ends in `PROVIDER = …` is found; no list is kept."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from orchestrator.provider import Provider


@cache
def registry() -> dict[str, Provider]:
    """Every provider by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    found = [importlib.import_module(f"{__name__}.{name}").PROVIDER for name in names]
    return {provider.name: provider for provider in found}
