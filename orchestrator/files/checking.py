"""The first pass over a file: each of its records becomes a checked job, or a fault. Nothing is spent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from marshmallow import fields

from orchestrator.errors import BadFile, ProviderError
from orchestrator.exchange import Exchange
from orchestrator.files.reading import Record, shown
from orchestrator.files.spool import Spool
from orchestrator.intake import new_job
from orchestrator.schemas import typed

FAULTS_SHOWN = 20
RESERVED = ("custom_id", "priority")  # what a record may say beside parameters


@dataclass(frozen=True)
class Fault:
    """What is wrong with one record."""

    place: str
    custom_id: str
    error: str


@dataclass
class Faults:
    """How many there are, and the first of them; all go to a file, one JSON object a line."""

    path: Path | None = None
    most: int = FAULTS_SHOWN
    records: int = 0  # that were read
    count: int = 0
    first: list[Fault] = field(default_factory=list)

    def __post_init__(self) -> None:
        try:
            self._file = self.path.open("w", encoding="utf-8") if self.path else None
        except OSError as error:
            raise BadFile(f"{self.path}: cannot write it: {error.strerror}") from None

    def add(self, fault: Fault) -> None:
        self.count += 1
        if self.count <= self.most:
            self.first.append(fault)
        if self._file:
            self._file.write(json.dumps(asdict(fault), ensure_ascii=False) + "\n")

    def close(self) -> None:
        if self._file:
            self._file.close()

    def bad_file(self, file: str, found: str) -> BadFile:
        """`found`: what has them, such as `of 1000 records cannot be sent`."""
        lines = [f"  {each.place}: {each.error}" for each in self.first]
        if self.count > len(self.first):
            where = f": see {self.path}" if self.path else ": --errors FILE writes all of them"
            lines.append(f"  … and {self.count - len(self.first)} more{where}")
        return BadFile("\n".join([f"{file}: {self.count} {found}; nothing was begun", *lines]))


@dataclass(frozen=True)
class Asked:
    """What all records of a file share."""

    providers: list[str]  # one, or several of which any will do
    parameters: Mapping[str, Any]  # those of a record win
    options: Mapping[str, Any]  # as `schemas.JobOptions`; the batch among them

    @property
    def wanted(self) -> str | list[str]:
        return self.providers if len(self.providers) > 1 else self.providers[0]


def check(
    exchange: Exchange,
    asked: Asked,
    found: Iterable[Record],
    are_texts: Mapping[str, fields.Field[Any]] | None,
    spool: Spool,
    faults: Faults,
    now: float,
    on_line: Callable[[int], None],
) -> None:
    """Every record goes to the spool or to the faults. `are_texts`: what those of CSV are typed by."""
    number = 0
    try:
        for record in found:
            number = record.number
            on_line(number)
            custom_id = str(number)
            try:
                if record.fault:
                    raise ValueError(record.fault)
                values = dict(record.values) if are_texts is None else typed(record.values, are_texts)
                custom_id = _custom_id(record, custom_id)
                told = {name: values.pop(name) for name in RESERVED if name in values}
                options = {**asked.options, **told, "custom_id": custom_id}
                parameters = {**asked.parameters, **values}
                job = new_job(exchange, None, asked.wanted, parameters, options, now)
                if earlier := spool.add(number, record.place, job):
                    raise ValueError(f"custom_id = {shown(custom_id)}: {earlier} has it already")
            except (ValueError, ProviderError) as error:
                faults.add(Fault(record.place, custom_id, str(error)))
    except BadFile as error:
        if not faults.count:
            raise
        faults.add(Fault("the rest", "", str(error)))
    faults.records = number


def _custom_id(record: Record, default: str) -> str:
    """Raises: ValueError."""
    given = record.values.get("custom_id", default)
    if isinstance(given, bool) or not isinstance(given, str | int):
        raise ValueError(f"custom_id = {shown(given)}: it must be text, or a whole number")
    return str(given)
