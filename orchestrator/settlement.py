"""What an outcome means: for the attempt, its job, and the account. Pure; the caller brings the dice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypedDict

from orchestrator import retry
from orchestrator.errors import Held, Moderated, NoOutcome, ProviderError, describe
from orchestrator.models import Failed, Lost, Outcome, Succeeded, Tries

REFUSED_BEFORE = (
    "this was refused by moderation before, and was not sent again: change the prompt, under another "
    "custom_id, or `orchestrator dead replay JOB --even-if-moderated` sends it as it is"
)
HELD = (
    "the submit was not answered, and nothing told until the deadline whether the provider took it: "
    "look there, then replay it or purge it"
)


class Consequences(TypedDict, total=False):
    """Arguments of `store.settle`, which tells what each means."""

    artifact_urls: tuple[str, ...]
    error: Mapping[str, Any]
    again_at: float | None
    counts: str
    rest_until: float | None
    rest_reason: str
    means: str


def refused_before() -> Failed:
    """The outcome of a job whose content was refused already."""
    return Failed(Moderated(REFUSED_BEFORE))


def settlement(
    outcome: Outcome, tries: Tries, max_attempts: int, now: float, dice: Callable[[], float]
) -> tuple[str, Consequences]:
    """The verdict of a final outcome, and what follows from it.

    `max_attempts`: failures a job may have that does not say so itself. `now`: unix seconds.
    """
    if isinstance(outcome, Succeeded):
        return "succeeded", {"artifact_urls": outcome.artifact_urls}
    error = outcome.error if isinstance(outcome, Failed) else _lost(outcome)
    decision = retry.decide(error, tries.failures, tries.most or max_attempts, dice())
    rest = retry.rest_seconds(error, dice())
    again = decision if isinstance(decision, retry.Again) else None
    return "lost" if isinstance(outcome, Lost) else retry.verdict(error), {
        "error": describe(error),
        "again_at": now + again.seconds if again else None,
        "counts": type(error).__name__ if again is None or again.counts else "",
        "rest_until": None if rest is None else min(now + rest, retry.UNTIL_RESUMED),
        "rest_reason": type(error).__name__,
        "means": retry.means(error),
    }


def _lost(outcome: Outcome) -> ProviderError:
    if isinstance(outcome, Lost) and outcome.held:
        return Held(HELD)
    return NoOutcome("no outcome until the deadline")
