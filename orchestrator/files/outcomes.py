"""The file of outcomes: locked, appended to line by line, taken up again after whatever ended its writer.

A job that ended again since (a late picture, a replay) has a second line until the file is made tidy; the
last counts. Formats that cannot be appended to are made at the end, of a working file beside them.
"""

from __future__ import annotations

import fcntl
import gzip
import os
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, Self

from orchestrator.errors import BadFile
from orchestrator.files.formats import STANDARD, format_of, pyarrow_for
from orchestrator.files.outcome import COLUMNS, Outcome, csv_header, csv_line, from_csv, from_json, json_line

ROWS_AT_ONCE = 1_000
READ_BYTES = 64 * 2**10
FIRST_BYTES = b'{"custom_id": '  # of a line of JSON


@dataclass
class Tally:
    """How many outcomes there are of each state, and what they cost."""

    counts: Counter[str] = field(default_factory=Counter)
    cost: float = 0.0

    def add(self, told: Outcome) -> None:
        self.counts[told["state"]] += 1
        self.cost += told["cost"]


class Outcomes:
    """Use it as a context manager. Not thread-safe. Every method may raise BadFile."""

    def __init__(self, path: str) -> None:
        kind = format_of(path)
        self.path = path
        self._parquet, self._gzipped = kind.name == "parquet", kind.gzipped
        self._is_csv = kind.name == "csv"
        self._made_at_end = self._parquet or self._gzipped
        suffix = ".partial.csv" if self._is_csv else ".partial.jsonl"
        self._log = Path(path + suffix if self._made_at_end else path)
        self._file = -1
        if self._parquet:
            pyarrow_for(path)

    def __enter__(self) -> Self:
        try:
            self._open()
        except OSError as error:
            self._refuse(error)
        return self

    def __exit__(self, *_: object) -> None:
        empty = os.fstat(self._file).st_size == 0
        if empty:
            self._log.unlink(missing_ok=True)
        os.close(self._file)

    def __iter__(self) -> Iterator[tuple[int, Outcome]]:
        """(where it is, outcome) of every whole line, in the order they were written.

        Outside of the context too: what is there, whoever writes it.
        """
        read = from_csv if self._is_csv else from_json
        at = 0
        for number, line in enumerate(self._lines(), 1):
            if not line.endswith(b"\n"):
                return
            try:
                if self._is_csv and number == 1:
                    _expect(line, csv_header().encode())
                else:
                    yield at, read(line.decode())
            except (ValueError, TypeError):
                self._refuse_line(number)
            at += len(line)

    def cut_torn(self) -> None:
        """Cut off what a writer that was killed left of its last line."""
        whole = _whole_bytes(self._file)
        torn = os.pread(self._file, len(FIRST_BYTES), whole).rstrip(b"\0")
        begins = FIRST_BYTES if not self._is_csv else torn if whole else csv_header().encode()
        if not begins.startswith(torn):
            self._refuse_line(1)
        os.ftruncate(self._file, whole)

    def append(self, told: Sequence[Outcome]) -> list[int]:
        """Write them, whole and lasting. Gives where each is."""
        write = csv_line if self._is_csv else json_line
        lines = [write(each).encode() for each in told]
        at = os.fstat(self._file).st_size
        head = csv_header().encode() if self._is_csv and at == 0 else b""
        places, place = [], at + len(head)
        for line in lines:
            places.append(place)
            place += len(line)
        try:
            _write(self._file, head + b"".join(lines))
            os.fsync(self._file)
        except OSError as error:
            self._refuse(error)
        return places

    def tidy(self, counts: Callable[[int, Outcome], bool]) -> bool:
        """Leave out the lines that do not count; at once or not at all. Gives whether there were any."""
        if all(counts(at, told) for at, told in self):
            return False
        write = csv_line if self._is_csv else json_line
        kept = self._log.with_name(self._log.name + ".tidy")
        try:
            file = os.open(kept, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC, 0o666)
            fcntl.flock(file, fcntl.LOCK_EX)
            _write(file, csv_header().encode() if self._is_csv else b"")
            for at, told in self:
                if counts(at, told):
                    _write(file, write(told).encode())
            os.fsync(file)
            kept.replace(self._log)
        except OSError as error:
            self._refuse(error)
        os.close(self._file)
        self._file = file
        return True

    @property
    def written_to(self) -> str:
        """Where they are now."""
        return str(self._log) if self._made_at_end else self.path

    def tally(self) -> Tally:
        """Of what is written, read once more."""
        tally = Tally()
        for _, told in self:
            tally.add(told)
        return tally

    def finish(self) -> None:
        """Make the file that was asked for, where it is not the one that is written to."""
        if not self._made_at_end:
            return
        made = Path(self.path + ".made")
        try:
            self._make_parquet(made) if self._parquet else self._make_gzip(made)
            made.replace(self.path)
            self._log.unlink()
            self._made_at_end = False
        except OSError as error:
            self._refuse(error)

    def _open(self) -> None:
        if self._made_at_end and Path(self.path).exists() and not self._log.exists():
            self._unmake()
        while True:
            self._file = os.open(self._log, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(self._file)
                raise BadFile(
                    f"{self.path}: another `orchestrator run` writes it: wait for it, or name another --out"
                ) from None
            if _same_file(self._file, self._log):
                break
            os.close(self._file)  # it was made tidy meanwhile

    def _make_gzip(self, made: Path) -> None:
        with self._log.open("rb") as log, made.open("wb") as file:
            with gzip.open(file, "wb") as packed:
                while piece := log.read(READ_BYTES):
                    packed.write(piece)
            os.fsync(file.fileno())

    def _make_parquet(self, made: Path) -> None:
        pyarrow, parquet = pyarrow_for(self.path)
        schema = _schema(pyarrow)
        with made.open("wb") as file:
            with parquet.ParquetWriter(file, schema) as writer:
                rows: list[Outcome] = []
                for _, told in self:
                    rows.append(told)
                    if len(rows) == ROWS_AT_ONCE:
                        writer.write_batch(pyarrow.RecordBatch.from_pylist(rows, schema))
                        rows.clear()
                writer.write_batch(pyarrow.RecordBatch.from_pylist(rows, schema))
            file.flush()
            os.fsync(file.fileno())

    def _unmake(self) -> None:
        """The working file of an output that was made before."""
        made = self._log.with_name(self._log.name + ".made")
        with made.open("wb") as log:
            log.writelines(self._made_lines())
        made.replace(self._log)

    def _lines(self) -> Iterator[bytes]:
        try:
            if self._log.exists():
                with self._log.open("rb") as file:
                    yield from file
            elif self._made_at_end and Path(self.path).exists():
                yield from self._made_lines()
        except OSError as error:
            self._refuse(error, "read")

    def _made_lines(self) -> Iterator[bytes]:
        """Of an output that was made before."""
        if self._gzipped:
            try:
                with gzip.open(self.path, "rb") as packed:
                    yield from packed
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                self._refuse_made(error)
            return
        pyarrow, parquet = pyarrow_for(self.path)
        try:
            with parquet.ParquetFile(self.path) as file:
                for rows in file.iter_batches(ROWS_AT_ONCE):
                    yield from (json_line(row).encode() for row in rows.to_pylist())
        except pyarrow.ArrowException as error:
            self._refuse_made(error)

    def _refuse_made(self, error: Exception) -> NoReturn:
        raise BadFile(f"{self.path}: it is no outcome of `orchestrator run`: {error}") from None

    def _refuse_line(self, number: int) -> NoReturn:
        raise BadFile(
            f"{self._log}: line {number} is no outcome of `orchestrator run`: mend it, or name another --out"
        )

    def _refuse(self, error: OSError, done: str = "write") -> NoReturn:
        why = error.strerror or str(error)
        raise BadFile(f"{self.path}: cannot {done} it: {why}. Mend that, and run the same again") from None


class StandardOutput:
    """As `Outcomes`, where they go to standard output: nothing is known of earlier ones."""

    path = written_to = STANDARD

    def __init__(self) -> None:
        self._tally = Tally()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __iter__(self) -> Iterator[tuple[int, Outcome]]:
        return iter(())

    def append(self, told: Sequence[Outcome]) -> list[int]:
        sys.stdout.write("".join(json_line(each) for each in told))
        sys.stdout.flush()
        for each in told:
            self._tally.add(each)
        return list(range(len(told)))

    def tidy(self, counts: Callable[[int, Outcome], bool]) -> bool:
        return False

    def cut_torn(self) -> None:
        pass

    def tally(self) -> Tally:
        return self._tally

    def finish(self) -> None:
        pass


def _write(file: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(file, left) :]


def _expect(line: bytes, wanted: bytes) -> None:
    if line != wanted:
        raise ValueError("another header")


def _same_file(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _whole_bytes(file: int) -> int:
    """How much of it is whole lines: what a killed writer, or a power cut, left at its end is none."""
    end = os.fstat(file).st_size
    while end:
        first = max(0, end - READ_BYTES)
        piece = os.pread(file, end - first, first)
        if (at := piece.rfind(b"\n")) >= 0:
            return first + at + 1
        end = first
    return 0


def _schema(pyarrow: Any) -> Any:
    text, number, whole = pyarrow.string(), pyarrow.float64(), pyarrow.int64()
    artifact = pyarrow.struct(
        [("url", text), ("path", text), ("media_type", text), ("bytes", whole), ("sha256", text)]
    )
    kinds = {"attempts": whole, "seconds": number, "cost": number, "artifacts": pyarrow.list_(artifact)}
    return pyarrow.schema([(name, kinds.get(name, text)) for name in COLUMNS])
