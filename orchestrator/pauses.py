"""Why a batch is paused, and what a person does about it, in words. Pure."""

from __future__ import annotations

SPEND, FAILURES, CANCEL = "spend", "failures", "cancel"  # or "a person"
STATES = {
    SPEND: "has reached its spend cap and is paused",
    FAILURES: "was stopped by its failures",
    CANCEL: "is being cancelled",
}


def state(why: str) -> str:
    """What became of a batch, as in `is paused`."""
    return STATES.get(why, "is paused")


def cure(batch: str, why: str) -> str:
    """The commands that let it go on."""
    resume = f"`orchestrator resume batch {batch}`"
    if why == SPEND:
        return f"spend cap: `orchestrator cap batch {batch} AMOUNT` raises it, then {resume}"
    if why == FAILURES:
        return f"`orchestrator dead list --batch {batch}` shows them; {resume} lets as many again fail"
    if why == CANCEL:
        return f"if that was interrupted, `orchestrator cancel batch {batch}` goes on with it"
    return resume
