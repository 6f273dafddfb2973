"""Jobs, attempts and what is counted of them, read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from orchestrator.errors import JobNotFound
from orchestrator.models import Attempt, Job, NewJob, attempt_id
from orchestrator.store import records
from orchestrator.store.link import PREFIX, Link

JOBS_PER_CALL = 500
TEXTS = ("paused", "notify_url", "on_each", "on_complete")  # what a batch has beside numbers


class Reading:
    """Changes nothing. Thread-safe."""

    _link: Link

    def job(self, job_id: str) -> Job:
        """Raises: JobNotFound."""
        row = self._link.call(lambda: self._link.client.hgetall(f"{PREFIX}job:{job_id}"))
        if not row:
            kept = self._link.retention.ended_days
            raise JobNotFound(f"no job has the id {job_id!r} (records are kept for {kept} after the end)")
        return records.job(job_id, row, self.due_at(job_id))

    def options(self, job_id: str) -> Mapping[str, Any]:
        """Celery's options of a job, where it is known."""
        told = self._link.call(lambda: self._link.client.hget(f"{PREFIX}job:{job_id}", "options"))
        return json.loads(told) if told else {}

    def to_stop(self, job_id: str) -> str:
        """The upstream id of a cancelled job's generation that the provider was not asked to stop yet."""
        return str(self._link.call(lambda: self._link.client.hget(f"{PREFIX}job:{job_id}", "to_stop")) or "")

    def due_at(self, job_id: str) -> float | None:
        """When something of ours looks at the job next; None where nothing does."""
        moment: float | None = self._link.call(
            lambda: self._link.client.zscore(f"{PREFIX}due", f"job:{job_id}")
        )
        return moment

    def jobs(self, job_ids: Sequence[str]) -> list[Job]:
        """The jobs with these ids that are still known, in the same order."""
        found: list[Job] = []
        for first in range(0, len(job_ids), JOBS_PER_CALL):
            ids = job_ids[first : first + JOBS_PER_CALL]
            with self._link.client.pipeline(transaction=False) as pipeline:
                for job_id in ids:
                    pipeline.hgetall(f"{PREFIX}job:{job_id}")
                rows = self._link.call(pipeline.execute)
            found += [records.job(job_id, row, None) for job_id, row in zip(ids, rows, strict=True) if row]
        return found

    def otherwise(self, jobs: Sequence[NewJob]) -> list[NewJob]:
        """Those of them that are known already, and were something else then."""
        found: list[NewJob] = []
        keyed = [job for job in jobs if job.fingerprint]
        for first in range(0, len(keyed), JOBS_PER_CALL):
            some = keyed[first : first + JOBS_PER_CALL]
            with self._link.client.pipeline(transaction=False) as pipeline:
                for job in some:
                    pipeline.hget(f"{PREFIX}job:{job.id}", "fingerprint")
                known = self._link.call(pipeline.execute)
            found += [job for job, was in zip(some, known, strict=True) if was and was != job.fingerprint]
        return found

    def attempt(self, attempt: str) -> Attempt | None:
        row = self._link.call(lambda: self._link.client.hgetall(f"{PREFIX}attempt:{attempt}"))
        return records.attempt(attempt, row) if row else None

    def attempts(self, job: Job) -> list[Mapping[str, str]]:
        """The raw records of a job's attempts, first to last."""
        with self._link.client.pipeline(transaction=False) as pipeline:
            for number in range(1, job.attempts + 1):
                pipeline.hgetall(f"{PREFIX}attempt:{attempt_id(job.id, number)}")
            rows: list[Mapping[str, str]] = self._link.call(pipeline.execute)
            return rows

    def attempts_of(self, jobs: Sequence[Job]) -> list[tuple[Attempt, ...]]:
        """The attempts of each job that are still known, first to last."""
        ids = [[attempt_id(job.id, number) for number in range(1, job.attempts + 1)] for job in jobs]
        with self._link.client.pipeline(transaction=False) as pipeline:
            for attempt in chain.from_iterable(ids):
                pipeline.hgetall(f"{PREFIX}attempt:{attempt}")
            rows = iter(self._link.call(pipeline.execute))
        found = [[(attempt, next(rows)) for attempt in its] for its in ids]
        return [tuple(records.attempt(attempt, row) for attempt, row in its if row) for its in found]

    def durations(self, timing: str) -> list[float]:
        """Seconds that the latest generations of a provider and model took."""
        found = self._link.call(lambda: self._link.client.lrange(f"{PREFIX}durations:{timing}", 0, -1))
        return [float(each) for each in found]

    def missing_share(self, provider: str) -> float:
        """Share of expected callbacks that did not come lately, from 0 to 1."""
        return float(self._link.call(lambda: self._link.client.hget(f"{PREFIX}missing", provider)) or 0.0)

    def batch(self, name: str) -> dict[str, float]:
        """Counts by state, `total`, and the moments `created`, `started`, `ended`; empty: no such batch."""
        row = self._link.call(lambda: self._link.client.hgetall(f"{PREFIX}batch:{name}"))
        return {key: float(value) for key, value in row.items() if key not in TEXTS}

    def counts(self) -> dict[str, int]:
        """Jobs by `<provider>/<state>`."""
        row = self._link.call(lambda: self._link.client.hgetall(f"{PREFIX}counts"))
        return {key: int(value) for key, value in row.items()}

    def stats(self) -> dict[str, int]:
        """Events by `<provider>/<word>`: submits, callbacks, polls, busy, late, surplus, refused …"""
        row = self._link.call(lambda: self._link.client.hgetall(f"{PREFIX}stats"))
        return {key: int(value) for key, value in row.items()}
