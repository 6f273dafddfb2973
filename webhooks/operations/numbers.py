"""Numbers that a person wrote into a form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.errors import Invalid


@dataclass(frozen=True)
class Numbers:
    form: Mapping[str, str]

    def any(self, name: str) -> float | None:
        """None where nothing was written. Raises: Invalid."""
        text = self.form.get(name, "").strip()
        try:
            return float(text) if text else None
        except ValueError:
            raise Invalid(f"{name} is {text[:40]!r}; it must be a number, such as 5 or 0.2") from None

    def whole(self, name: str) -> int | None:
        """None where nothing was written. Raises: Invalid."""
        text = self.form.get(name, "").strip()
        try:
            return int(text) if text else None
        except ValueError:
            raise Invalid(f"{name} is {text[:40]!r}; it must be a whole number, such as 5") from None
