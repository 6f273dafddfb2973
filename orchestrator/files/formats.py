"""Which format a file has, by its name; and pyarrow, where it is needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.errors import BadFile

STANDARD = "-"  # standard input or output
SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet", ".pq": "parquet"}
FORMATS = ("jsonl", "csv", "parquet")


@dataclass(frozen=True)
class Format:
    name: str  # one of FORMATS
    gzipped: bool = False


def format_of(path: str) -> Format:
    """By the suffix; standard input and output are JSONL. Raises: BadFile."""
    if path == STANDARD:
        return Format("jsonl")
    lowered = path.lower()
    gzipped = lowered.endswith(".gz")
    stem = lowered.removesuffix(".gz")
    name = next((name for suffix, name in SUFFIXES.items() if stem.endswith(suffix)), None)
    if name is None or (gzipped and name == "parquet"):
        raise BadFile(
            f"{path}: its name must say what it is: .jsonl (one JSON object a line), .csv, "
            ".jsonl.gz, .csv.gz or .parquet"
        )
    return Format(name, gzipped)


def pyarrow_for(path: str) -> tuple[Any, Any]:
    """`pyarrow` and `pyarrow.parquet`. Raises: BadFile with the cure where they are not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise BadFile(
            f"{path}: Parquet needs pyarrow: `pip install 'orchestrator[parquet]'`, or use JSONL or CSV"
        ) from None
    return pyarrow, pyarrow.parquet
