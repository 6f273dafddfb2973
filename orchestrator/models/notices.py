"""What is told to somebody when a job or a batch has ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Notice:
    """What must be told to somebody, since a job or a batch has ended."""

    id: str  # the same each time it is sent
    type: str  # job.succeeded | job.failed | job.cancelled | batch.completed
    about: str  # job id, or batch
    target: str = field(repr=False)  # a URL, or a Celery signature as JSON; empty once delivered
    shown: str  # the target, fit to be seen; empty until delivered
    host: str  # where it goes: notices of one host are sent together
    state: str  # waiting | delivered | dead
    made_at: float  # unix seconds, as are the others
    first_tried_at: float  # 0: it was not
    ended_at: float | None  # delivered, or given up
    tries: int
    answer: str  # to the last of them: a status, or why there is none
    facts: Mapping[str, str] = field(repr=False)  # as the job or the batch stood at its end


@dataclass(frozen=True)
class Answer:
    """What became of one try at a notice."""

    text: str  # a status, or why there is none
    delivered: bool = False
    again_in: float | None = None  # seconds; None: it is not sent again
    host_down: bool = False  # its host, not the notice, is the trouble
