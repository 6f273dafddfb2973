"""What may be asked of the Frames API: its limits, and requests read into plain values.

Limits: https://useapi.net/docs/api-runwayml-v1/post-runwayml-frames-create and get-runwayml-tasks (2026-10).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from orchestrator.simulator.model import Refused
from orchestrator.simulator.web import Request

SIZES = {
    # Only 9:16 (1088 by 1920) stands in the pages; the others are guesses of the same area and steps of 16.
    "16:9": (1920, 1088),
    "9:16": (1088, 1920),
    "1:1": (1456, 1456),
    "4:3": (1680, 1264),
    "3:4": (1264, 1680),
    "21:9": (2256, 960),
}
STYLES = frozenset(
    "vivid vivid-warm vivid-cool high-contrast high-contrast-warm high-contrast-cool bw bw-contrast "
    "muted-pastel dreamscape nordic-minimal light-anime dark-anime painted-anime 3d-cartoon sketch low-angle "
    "in-motion terracotta".split()
)
STATUSES = frozenset("PENDING RUNNING THROTTLED SUCCEEDED FAILED".split())

FORM = "multipart/form-data"

Reader = Callable[[str, object], object]


def _invalid(message: str) -> Refused:
    return Refused("400", 400, message)


def _text(longest: int) -> Reader:
    def read(name: str, value: object) -> object:
        if not isinstance(value, str):
            raise _invalid(f"Parameter {name} must be a string")
        if len(value) > longest:
            raise _invalid(f"{name} is too long, the maximum length is {longest} characters")
        return value

    return read


def _whole(low: int, high: int) -> Reader:
    def read(name: str, value: object) -> object:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise _invalid(f"Parameter {name} ({value}) valid range is {low}…{high}")
        return value

    return read


def _one_of(choices: frozenset[object]) -> Reader:
    def read(name: str, value: object) -> object:
        if isinstance(value, bool | list | dict) or value not in choices:
            supported = ", ".join(sorted(map(str, choices)))
            raise _invalid(f"Parameter {name} ({value}) supported values: {supported}")
        return value

    return read


def _flag(name: str, value: object) -> object:
    if not isinstance(value, bool):
        raise _invalid(f"Parameter {name} ({value}) must be true or false")
    return value


READERS: dict[str, Reader] = {
    "email": _text(320),
    "text_prompt": _text(1000),
    "style": _one_of(frozenset(STYLES)),
    "aspect_ratio": _one_of(frozenset(SIZES)),
    "diversity": _whole(0, 5),
    "seed": _whole(1, 4294967294),
    "num_images": _one_of(frozenset({1, 4})),
    "exploreMode": _flag,
    "replyUrl": _text(1024),
    "replyRef": _text(1024),
    "maxJobs": _whole(1, 10),
}
"""Fields that are not here are ignored; whether the real one does so is not known."""
TYPED = ("diversity", "seed", "num_images", "exploreMode", "maxJobs")


def read_parameters(asked: Request) -> dict[str, object]:
    """The known, checked fields of a JSON or form request, null left out. Raises: Refused (400)."""
    given: object = asked.json() if asked.media_type != FORM else _read_form(asked)
    if not isinstance(given, Mapping):
        raise _invalid("Unable to parse the request body")
    found = {name: read(name, given[name]) for name, read in READERS.items() if given.get(name) is not None}
    if not found.get("text_prompt"):
        raise _invalid("Parameter text_prompt is required")
    return found


def read_page(query: Mapping[str, str]) -> tuple[int, int, frozenset[str] | None]:
    """Offset, limit and the wanted statuses (None is all) of a list request. Raises: Refused (400)."""
    for name in ("offset", "limit"):
        if not query.get(name):
            raise _invalid(f"Parameter {name} is required")
    offset = _whole(0, 1000)("offset", _from_form(query["offset"]))
    limit = _whole(1, 1000)("limit", _from_form(query["limit"]))
    assert isinstance(offset, int) and isinstance(limit, int)
    statuses = frozenset(filter(None, query.get("statuses", "").split(",")))
    if statuses - STATUSES:
        raise _invalid(f"Parameter statuses supported values: {', '.join(sorted(STATUSES))}")
    return offset, limit, statuses or None


def _read_form(asked: Request) -> dict[str, object]:
    return {name: _from_form(value) if name in TYPED else value for name, value in asked.form().items()}


def _from_form(value: str) -> object:
    """`5` and `true` as their values; anything else stays text and fails its check."""
    try:
        return json.loads(value)
    except ValueError:
        return value
