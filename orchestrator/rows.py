"""What Celery's events, and so a row of Flower, tell of a job. Pure; without what nobody may see there."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

from orchestrator.errors import masked

SUBMITTING, FINISHING, REFUSED = "submitting", "finishing", "refused"  # while a worker is at it
SHOWN_CHARACTERS = 80
RAISED = re.compile(r"(JobFailed|JobCancelled)\((.*?),?\)", re.DOTALL)

REPLAY = "`orchestrator dead replay JOB`"
# class of failure -> what a person may do
CURES = {
    "Invalid": "correct what it names, and enqueue it anew",
    "Unsupported": "choose what this provider can do, and enqueue it anew",
    "Moderated": "change the prompt, and enqueue it anew",
    "Held": f"look at the provider whether it was made; {REPLAY} submits it again, and may pay twice",
    "BadOutput": f"{REPLAY}, or change the prompt",
    "NoOutcome": f"look at the provider whether it was made; {REPLAY}",
    "Unavailable": f"{REPLAY} once the provider is well",
    "Unreachable": f"{REPLAY} once the provider is reached again",
    "Uncertain": f"look at the provider whether it was made; {REPLAY}",
}
NOT_KEPT = "made the pictures, but they were not kept"
NOT_KEPT_CURE = f"mend what it names; {REPLAY} collects them again, and generates nothing"


def asked(parameters: Mapping[str, Any]) -> str:
    """What a job asks for: prompts shortened, URLs without their query."""
    shown = {name: _shortened(value) for name, value in parameters.items() if name != "email"}
    return masked(" ".join(f"{name}={value!r}" for name, value in shown.items()))


def facts(job: str, **more: Any) -> str:
    """How a job stands, as a dict that Flower can search: `kwargs:job=submitted`, `kwargs:account=studio-1`.

    `job`: its state, or what a worker is about to do with it. What is empty is left out.
    """
    return masked(repr({"job": job, **{name: value for name, value in more.items() if value}}))


def facts_told(facts: Mapping[str, Any]) -> str:
    """The facts as one line for people; the first attempt is not worth a word."""
    number = facts.get("attempt", 0)
    told = (
        facts["job"],
        facts.get("batch"),
        facts.get("custom_id"),
        f"attempt {number}" if number > 1 else "",
        "/".join(str(facts[name]) for name in ("provider", "account") if name in facts),
    )
    return " · ".join(filter(None, told))


def facts_read(text: str) -> dict[str, Any]:
    """The facts in a text; nothing where it tells of another task."""
    try:
        found = ast.literal_eval(text) if text.startswith("{'job': ") else {}
    except (ValueError, SyntaxError):  # it was cut off
        return {}
    return found if isinstance(found, dict) else {}


def brought(result: Mapping[str, Any]) -> str:
    """What a job's result holds."""
    kept = [f"{each['media_type'] or 'url'} {each['bytes'] or ''}".strip() for each in result["artifacts"]]
    return f"{len(kept)} artifact(s): {', '.join(kept)}; {result['seconds']} s, {result['account']}"


def trouble(reason: str) -> str:
    """Why a job failed, and the cure, in one line. `reason`: as the job has it, `<class>: <message>`."""
    cure = NOT_KEPT_CURE if NOT_KEPT in reason else CURES.get(reason.partition(":")[0])
    return masked(f"{reason}. Cure: {cure}" if cure else reason)


def raised(text: str) -> str | None:
    """What a job's own error says, of the `repr` that an event holds; None where it is another task's."""
    found = RAISED.fullmatch(text)
    if found is None:
        return None
    try:
        return str(ast.literal_eval(found[2]))
    except (ValueError, SyntaxError):  # it was cut off
        return found[2].strip("'\"")


def _shortened(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _shortened(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_shortened(each) for each in value]
    if not isinstance(value, str):
        return value
    if "://" in value:
        value = value.partition("?")[0]  # what signs a URL
    return value if len(value) <= SHOWN_CHARACTERS else value[: SHOWN_CHARACTERS - 1] + "…"
