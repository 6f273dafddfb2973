"""Waiting until jobs end: Redis says so, and nobody asks again and again."""

from __future__ import annotations

import time
from collections.abc import Iterator

from orchestrator.models import Job
from orchestrator.store.link import PREFIX, WAIT_SLICE_SECONDS
from orchestrator.store.reading import JOBS_PER_CALL, Reading

FIRST_END = "0"  # before the first job of a batch that ended


class Waiting(Reading):
    """Thread-safe."""

    def wait_ended(self, job_id: str, timeout: float | None) -> Job | None:
        """The job once it has ended, pushed by Redis; None after `timeout` seconds."""
        give_up_at = None if timeout is None else time.monotonic() + timeout
        with self._link.client.pubsub(ignore_subscribe_messages=True) as pubsub:
            self._link.call(lambda: pubsub.subscribe(f"{PREFIX}ended:{job_id}"))
            while not (job := self.job(job_id)).ended_at:
                patience = _patience(give_up_at)
                if patience <= 0:
                    return None
                self._link.call(lambda patience=patience: pubsub.get_message(timeout=patience))  # type: ignore[misc]
            return job

    def ended_in(self, batch: str, timeout: float | None) -> Iterator[str]:
        """Ids of the batch's jobs as they end, from the first that ever did. Endless; '' while none does.

        Raises: TimeoutError once `timeout` seconds have passed since the call.
        """
        give_up_at = None if timeout is None else time.monotonic() + timeout
        last = FIRST_END
        while True:
            patience = _patience(give_up_at)
            if patience <= 0:
                raise TimeoutError(f"batch {batch!r} was not over after {timeout} seconds")
            ids, last = self.ended_after(batch, last, patience)
            yield from ids
            if not ids and _patience(give_up_at) > 0:
                yield ""

    def ended_after(self, batch: str, last: str, patience: float) -> tuple[list[str], str]:
        """Ids of some of the batch's jobs that ended after `last`, and the next `last`.

        The first is `FIRST_END`. Waits up to `patience` seconds where there is none yet; 0: not at all. A job
        that ended, went on and ended again comes again.
        """
        stream = f"{PREFIX}ended-in:{batch}"
        block = max(1, int(patience * 1000)) if patience > 0 else None
        found = self._link.call(
            lambda: self._link.client.xread({stream: last}, count=JOBS_PER_CALL, block=block)
        )
        entries = found[0][1] if found else []
        return [fields["job"] for _, fields in entries], entries[-1][0] if entries else last


def _patience(give_up_at: float | None) -> float:
    if give_up_at is None:
        return WAIT_SLICE_SECONDS
    return min(WAIT_SLICE_SECONDS, give_up_at - time.monotonic())
