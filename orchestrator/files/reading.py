"""The records of a file, one after the other, each with what is wrong with it. Never whole in memory."""

from __future__ import annotations

import csv
import gzip
import json
import math
import sys
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from orchestrator.errors import BadFile
from orchestrator.files.formats import STANDARD, Format, pyarrow_for

MAX_LINE_BYTES = 8 * 2**20
ROWS_AT_ONCE = 1_000  # of Parquet
MAX_DEPTH = 64
SHOWN_CHARACTERS = 40
ONE_OBJECT = 'a line must be one JSON object, as in {"prompt": "a fox"}'
# How a file begins that is not what its name says.
MISNAMED = {
    b"\xff\xfe": "it is UTF-16: save it as UTF-8 (`iconv -f utf-16 -t utf-8`)",
    b"\xfe\xff": "it is UTF-16: save it as UTF-8 (`iconv -f utf-16 -t utf-8`)",
    b"\x1f\x8b": "it is gzipped: let its name end in .gz",
    b"PAR1": "it is Parquet: let its name end in .parquet",
    b"PK\x03\x04": "it is a zip or a spreadsheet: save it as CSV, in UTF-8",
}
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Record:
    """One record of a file. Where it has a fault, nothing else of it counts."""

    number: int  # from 1, blank lines left out
    place: str  # for people, such as `line 7`
    values: Mapping[str, Any] = field(default_factory=dict)
    fault: str = ""


def records(path: str, kind: Format) -> Iterator[Record]:
    """The values of CSV are texts, empty ones left out; those of JSONL and Parquet have types.

    Raises: BadFile where the file as a whole cannot be read.
    """
    if kind.name == "parquet":
        yield from _parquet(path)
        return
    with _opened(path, kind) as file:
        read = _jsonl if kind.name == "jsonl" else _csv
        try:
            yield from read(file)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise BadFile(f"{path}: it is damaged, or was cut off: {error}") from None
        except _Unreadable as error:
            raise BadFile(f"{path}: {error}") from None


def jsonl_records(file: BinaryIO, name: str, max_line_bytes: int) -> Iterator[Record]:
    """Those of JSONL that comes from elsewhere. Raises: BadFile, calling it `name`; what `file` raises."""
    try:
        yield from _jsonl(file, max_line_bytes)
    except _Unreadable as error:
        raise BadFile(f"{name}: {error}") from None


class _Unreadable(Exception):
    """The file as a whole."""


@dataclass(frozen=True)
class _Line:
    number: int
    text: str
    fault: str = ""


@contextmanager
def _opened(path: str, kind: Format) -> Iterator[BinaryIO]:
    with ExitStack() as stack:
        if path == STANDARD:
            yield sys.stdin.buffer
            return
        try:
            opened = stack.enter_context(Path(path).open("rb"))
        except OSError as error:
            _refuse(path, error)
        yield stack.enter_context(gzip.open(opened)) if kind.gzipped else opened  # type: ignore[misc]


def _refuse(path: str, error: OSError) -> NoReturn:
    raise BadFile(f"{path}: cannot read it: {error.strerror or error}") from None


def _lines(file: BinaryIO, most: int = MAX_LINE_BYTES) -> Iterator[_Line]:
    """Every line without its end; one that is too long is passed over, a piece at a time."""
    number = 0
    while raw := file.readline(most + 1):
        number += 1
        if number == 1:
            for magic, cure in MISNAMED.items():
                if raw.startswith(magic):
                    raise _Unreadable(cure)
            raw = raw.removeprefix(BOM)
        if len(raw) > most and not raw.endswith(b"\n"):
            while (more := file.readline(most)) and not more.endswith(b"\n"):
                pass
            yield _Line(number, "", f"it is longer than {most // 2**20} MiB: is a line end missing?")
            continue
        yield _decoded(number, raw.rstrip(b"\r\n"))


def _decoded(number: int, raw: bytes) -> _Line:
    if b"\0" in raw:
        return _Line(number, "", f"a NUL byte at byte {raw.index(0) + 1}: is the file damaged, or binary?")
    try:
        return _Line(number, raw.decode())
    except UnicodeDecodeError as error:
        byte, near = raw[error.start], raw[max(0, error.start - 10) : error.start + 10]
        fault = (
            f"byte {error.start + 1} is 0x{byte:02x}, near {near.decode('latin-1')!r}, which is not UTF-8: "
            "save the file as UTF-8 (`iconv -f latin1 -t utf-8`)"
        )
        return _Line(number, raw.decode("utf-8", "replace"), fault)


def _jsonl(file: BinaryIO, most: int = MAX_LINE_BYTES) -> Iterator[Record]:
    number = 0
    for line in _lines(file, most):
        if not line.text.strip() and not line.fault:
            continue
        number += 1
        place = f"line {line.number}"
        try:
            if line.fault:
                raise ValueError(line.fault)
            yield Record(number, place, json_object(line.text, ONE_OBJECT))
        except ValueError as error:
            yield Record(number, place, fault=str(error))


def json_object(text: str, cure: str) -> dict[str, Any]:
    """One JSON object as the standard has it, each name once. Raises: ValueError with a sentence."""
    try:
        value = json.loads(text, object_pairs_hook=_each_once, parse_constant=_no_number, parse_float=_finite)
        if text.count("{") + text.count("[") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
            raise RecursionError
    except json.JSONDecodeError as error:
        near = text[max(0, error.pos - SHOWN_CHARACTERS // 2) : error.pos + SHOWN_CHARACTERS // 2]
        raise ValueError(f"{error.msg} at character {error.pos + 1}, near {near!r}: {cure}") from None
    except RecursionError:
        raise ValueError(f"it is nested too deeply, more than {MAX_DEPTH} times: {cure}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{shown(value)} is no object: {cure}")
    if "\\ud" in text.lower():
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("half a character (a lone \\ud800 to \\udfff): write it whole") from None
    return value


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} is said twice: leave one out")
    return values


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON number: leave it out")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{shown(digits)} is beyond what a number can be: leave it out")
    return number


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level := [
        inner
        for each in level
        if isinstance(each, dict | list)
        for inner in (each.values() if isinstance(each, dict) else each)
    ]:
        depth += 1
    return depth


def _csv(file: BinaryIO) -> Iterator[Record]:
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))  # it is the process's own
    faults: list[str] = []
    rows = csv.reader(_noting(_lines(file), faults), strict=True)
    columns: list[str] | None = None
    number = 0
    while True:
        first = rows.line_num + 1
        faults.clear()
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise _Unreadable(f"from line {first} on it is no CSV ({error}): is a quote missing?") from None
        if row is None:
            return
        if not any(row) and not faults:
            continue
        if columns is None:
            columns = _header(row, faults)
            continue
        number += 1
        if len(row) != len(columns) and not faults:
            faults.append(
                f"it has {len(row)} cells, and the header {len(columns)}: is a comma or a quote missing?"
            )
        values = {name: cell for name, cell in zip(columns, row, strict=False) if cell}
        yield Record(number, f"line {first}", values, "; ".join(faults))


def _noting(lines: Iterator[_Line], faults: list[str]) -> Iterator[str]:
    for line in lines:
        if line.fault:
            faults.append(line.fault)
        yield line.text + "\n"


def _header(row: list[str], faults: list[str]) -> list[str]:
    names = [name.strip() for name in row]
    wrong = list(faults)
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        wrong.append(f"{shown(names[0])} has no comma: separate the columns by commas")
    if "" in names:
        wrong.append(f"column {names.index('') + 1} has no name")
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        wrong.append(f"a column {twice[0]!r} stands there twice: leave one out")
    if wrong:
        raise _Unreadable(f"the header: {'; '.join(wrong)}")
    return names


def _parquet(path: str) -> Iterator[Record]:
    if path == STANDARD:
        raise BadFile("Parquet cannot be read from standard input: name the file")
    pyarrow, parquet = pyarrow_for(path)
    try:
        with Path(path).open("rb") as opened, parquet.ParquetFile(opened) as file:
            names = file.schema_arrow.names
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise BadFile(f"{path}: a column {twice[0]!r} stands there twice: leave one out")
            number = 0
            for rows in file.iter_batches(ROWS_AT_ONCE):
                for row in rows.to_pylist():
                    number += 1
                    values = {name: value for name, value in row.items() if value is not None}
                    yield Record(number, f"row {number}", values, _not_json(values))
    except OSError as error:
        _refuse(path, error)
    except pyarrow.ArrowException as error:
        raise BadFile(f"{path}: it cannot be read as Parquet: {str(error).splitlines()[0]}") from None


def _not_json(values: Mapping[str, Any]) -> str:
    for name, value in values.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            return (
                f"{name} = {shown(value)}: {type(value).__name__} is no JSON: give text, numbers or booleans"
            )
    return ""


def shown(value: Any) -> str:
    """For an error message: short."""
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"
