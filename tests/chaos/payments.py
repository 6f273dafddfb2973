"""Jobs that were generated again while an earlier generation was alive, or had made a picture. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tests.chaos.evidence import Evidence, Generation, Try

FSYNC_SECONDS = 2.0  # `appendfsync everysec`: what Redis may lose when it is killed


@dataclass(frozen=True)
class Twice:
    """`again` was paid for beside `first`. `excuse`: the policy that allows it; '' where none does."""

    number: int
    provider: str
    first: Generation
    again: Generation
    excuse: str

    def __str__(self) -> str:
        return f"{self.again.id} at {self.again.account} beside {self.first.id} at {self.first.account}"


def twice(evidence: Evidence, owners: Mapping[str, Try]) -> list[Twice]:
    """Each generation that was not the first of its job to be paid for, once."""
    found = []
    by_job: dict[int, list[Generation]] = {}
    for generation in sorted(evidence.generations, key=lambda each: each.created_at):
        earlier = by_job.setdefault(generation.number, [])
        paid = [each for each in earlier if _lives_or_made_one(each, generation.created_at)]
        earlier.append(generation)
        if paid:
            first = paid[-1]
            excuse = _excuse(evidence, first, owners.get(first.id), generation.created_at)
            found.append(Twice(generation.number, first.provider, first, generation, excuse))
    return found


def _lives_or_made_one(generation: Generation, moment: float) -> bool:
    """Whether a second one would be paid for in vain. One that a client stopped is no longer alive."""
    if generation.ended_at is None or generation.ended_at > moment:
        return True
    return generation.is_success


def _excuse(evidence: Evidence, first: Generation, attempt: Try | None, again_at: float) -> str:
    if first.provider in evidence.free:
        return f"free: {first.provider} did not answer"
    if any(0 <= killed - first.created_at <= FSYNC_SECONDS for killed in evidence.lost_server_at):
        return "in the last seconds before Redis was killed (appendfsync everysec)"
    if attempt is None or first.provider in evidence.askable or attempt.account in evidence.holding:
        return ""
    given_up = attempt.verdict == "lost" or (attempt.verdict == "succeeded" and attempt.closed_at <= again_at)
    if given_up and 0 < attempt.closed_at <= again_at and not _was_known(attempt):
        return f"resubmit: {first.provider} cannot be asked, and the deadline passed"
    return ""


def _was_known(attempt: Try) -> bool:
    return bool(attempt.upstream_id) and attempt.verdict == "lost"
