"""The checked jobs of a file, and what is written of each, in a temporary database: memory stays flat."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from orchestrator.models import NewJob

CACHE_KIB = 8_192
TABLE = """
    CREATE TABLE lines (
        number INTEGER PRIMARY KEY, -- of the record
        id TEXT NOT NULL UNIQUE,    -- of the job
        place TEXT NOT NULL,        -- in the input, for people
        custom_id TEXT NOT NULL,
        fingerprint TEXT NOT NULL,  -- of what is asked for
        job TEXT NOT NULL,
        state TEXT,                 -- in which it ended, as far as that is written; NULL: it is not
        ended_at TEXT,              -- … and when
        at INTEGER                  -- where in the output that is
    )
"""


@dataclass(frozen=True)
class Line:
    """One record of the file."""

    number: int
    place: str  # for people
    custom_id: str
    fingerprint: str  # of what it asks for
    state: str | None  # in which it ended, as far as that is written
    ended_at: str | None  # … and when
    at: int | None  # … and where in the output


COLUMNS = "number, place, custom_id, fingerprint, state, ended_at, at"


class Spool:
    """Use it as a context manager; it is gone afterwards, and after a kill too. Not thread-safe."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)  # a file of no name, in TMPDIR
        for told in (f"cache_size = -{CACHE_KIB}", "journal_mode = OFF", "synchronous = OFF"):
            self._database.execute(f"PRAGMA {told}")
        self._database.execute(TABLE)
        self._database.execute("BEGIN")  # never committed: it need not last
        self.total = 0
        self.open = 0  # of which no end is written

    def add(self, number: int, place: str, job: NewJob) -> str | None:
        """Gives the place of the line that has this job already; None: it is new, and kept."""
        try:
            self._database.execute(
                "INSERT INTO lines (number, id, place, custom_id, fingerprint, job) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (number, job.id, place, job.custom_id, job.fingerprint, json.dumps(vars(job))),
            )
        except sqlite3.IntegrityError:
            return str(self._one("SELECT place FROM lines WHERE id = ?", job.id))
        self.total += 1
        self.open += 1
        return None

    def open_jobs(self, at_once: int, after: int = 0) -> tuple[int, list[NewJob]]:
        """The first jobs after record `after` of which no end is written, and the number of the last."""
        rows = self._database.execute(
            "SELECT number, job FROM lines WHERE number > ? AND state IS NULL ORDER BY number LIMIT ?",
            (after, at_once),
        ).fetchall()
        return (rows[-1][0] if rows else after), [NewJob(**json.loads(job)) for _, job in rows]

    def chunks(self, at_once: int) -> Iterator[list[NewJob]]:
        """All jobs of which no end is written."""
        after, jobs = self.open_jobs(at_once)
        while jobs:
            yield jobs
            after, jobs = self.open_jobs(at_once, after)

    def failed_ids(self, at_once: int) -> Iterator[list[str]]:
        """The jobs whose failure is written."""
        after = 0
        while rows := self._database.execute(
            "SELECT number, id FROM lines WHERE number > ? AND state = 'failed' ORDER BY number LIMIT ?",
            (after, at_once),
        ).fetchall():
            yield [job_id for _, job_id in rows]
            after = rows[-1][0]

    def line(self, job_id: str) -> Line | None:
        """None: the job is not this file's."""
        row = self._database.execute(f"SELECT {COLUMNS} FROM lines WHERE id = ?", (job_id,)).fetchone()
        return Line(*row) if row else None

    def ended(self, job_id: str, state: str, ended_at: str | None, at: int) -> None:
        """Its end is written. Said again, the later word counts."""
        was_open = self._one("SELECT state IS NULL FROM lines WHERE id = ?", job_id)
        self.open -= bool(was_open)
        self._database.execute(
            "UPDATE lines SET state = ?, ended_at = ?, at = ? WHERE id = ?", (state, ended_at, at, job_id)
        )

    def moved(self, job_id: str, at: int) -> None:
        """The line of its end is elsewhere now."""
        self._database.execute("UPDATE lines SET at = ? WHERE id = ?", (at, job_id))

    def reopen(self, job_id: str) -> None:
        """What is written of it does not count any more: it goes on."""
        self._database.execute("UPDATE lines SET state = NULL WHERE id = ?", (job_id,))
        self.open += 1

    def _one(self, question: str, *values: object) -> object:
        row = self._database.execute(question, values).fetchone()
        return row[0] if row else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()
