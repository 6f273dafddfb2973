"""A file of requests, and what all of its records share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from marshmallow import Schema, ValidationError, fields

from orchestrator.errors import BadFile, Unsupported
from orchestrator.exchange import Exchange
from orchestrator.files.formats import FORMATS, STANDARD, Format, format_of
from orchestrator.intake import known_provider
from orchestrator.models import batch_name
from orchestrator.schemas import NAME, PortableRequest


@dataclass(frozen=True)
class Source:
    """A file of requests, and what all of them share.

    `path`: `-` is standard input. `providers`: one, or several of which any will do. `batch`: a name without
    its tenant's; empty: the file's stem. `parameters`: those of a record win. `options`: as
    `schemas.JobOptions`. `errors`: where all faults are written, one JSON object a line. `format`: where the
    path does not say it.
    """

    path: str
    providers: list[str]
    batch: str = ""
    tenant: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    errors: Path | None = None
    format: str = ""

    @property
    def name(self) -> str:
        """Of the batch. Raises: BadFile."""
        if self.batch:
            return self.batch
        if self.path == STANDARD:
            raise BadFile("standard input has no name: say --batch NAME, by which it can be run again")
        stem = Path(self.path.removesuffix(".gz")).stem
        try:
            NAME(stem)
        except ValidationError:
            why = f"no batch can be called {stem!r}, as the file is: say --batch NAME. {NAME.error}"
            raise BadFile(f"{self.path}: {why}") from None
        return stem

    @property
    def full_name(self) -> str:
        return batch_name(self.name, self.tenant)

    @property
    def kind(self) -> Format:
        """Raises: BadFile."""
        if self.format and self.format not in FORMATS:
            raise BadFile(f"no format {self.format!r}: it must be one of {', '.join(FORMATS)}")
        return Format(self.format, self.path.lower().endswith(".gz")) if self.format else format_of(self.path)


def declared(exchange: Exchange, providers: Sequence[str]) -> Mapping[str, fields.Field[Any]]:
    """What a record may say, and of which type. Raises: BadFile."""
    if not providers:
        raise BadFile("no provider is named: give one, or several of which any will do")
    try:
        known = [known_provider(exchange, name) for name in providers]
    except Unsupported as error:
        raise BadFile(str(error)) from None
    schema: type[Schema] = PortableRequest if len(known) > 1 else known[0].schema
    return schema().fields
