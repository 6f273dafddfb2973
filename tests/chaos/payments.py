"""Jobs that were generated again while an earlier generation was alive, or had made a picture. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tests.chaos.evidence import Evidence, Generation, Try

GIVEN_UP = "NoOutcome"
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
    """What is known to have happened comes first; what Redis may have forgotten explains only the rest."""
    if first.provider in evidence.free:
        return f"free: {first.provider} did not answer"
    if first.provider not in evidence.askable and attempt and _was_resubmitted(evidence, attempt, again_at):
        return f"resubmit: {first.provider} cannot be asked, and the deadline passed"
    if any(0 <= killed - first.created_at <= FSYNC_SECONDS for killed in evidence.lost_server_at):
        return "in the last seconds before Redis was killed (appendfsync everysec)"
    return ""


def _was_resubmitted(evidence: Evidence, attempt: Try, again_at: float) -> bool:
    """Whether it was given up unheard of, as its account allows. It may have been heard of since."""
    given_up = GIVEN_UP in attempt.error  # it stays with a success that came too late
    unheard = given_up and (attempt.verdict == "succeeded" or not attempt.upstream_id)
    return unheard and 0 < attempt.closed_at <= again_at and attempt.account not in evidence.holding
