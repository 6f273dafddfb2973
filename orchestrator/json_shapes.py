"""JSON by description: values found by dotted paths, templates filled in. Pure; knows nothing of providers.

A path is names parted by dots, `[*]` for every entry of a list and `[0]` for one: `data.images[*].url`.
Several paths parted by `|` are tried in turn. A placeholder is a name in braces, such as `{prompt}`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
_NAME = r"[^.\[\]|]+"
_STEP = re.compile(rf"\[(\*|\d+)\]|({_NAME})")
_PATH = re.compile(rf"(?:\[(?:\*|\d{{1,4}})\]|{_NAME})(?:\.{_NAME}|\[(?:\*|\d{{1,4}})\])*")
_PLAIN_PATH = re.compile(rf"(?:{_NAME}(?:\.{_NAME})*)?")


def are_paths(paths: str) -> bool:
    """Whether this is a path, or several parted by `|`."""
    return all(_PATH.fullmatch(path) for path in paths.split("|"))


def find(body: Any, paths: str) -> list[Any]:
    """What stands at the first of these paths where anything does; empty: nowhere. null is nothing."""
    for path in paths.split("|"):
        found = [body]
        for index, name in _STEP.findall(path):
            found = [inner for each in found for inner in _step(each, index, name)]
        found = [each for each in found if each is not None]
        if found:
            return found
    return []


def _step(value: Any, index: str, name: str) -> Sequence[Any]:
    if name:
        return [value[name]] if isinstance(value, Mapping) and name in value else []
    if not isinstance(value, list):
        return []
    return value if index == "*" else value[int(index) : int(index) + 1]


def texts(found: Sequence[Any]) -> Iterator[str]:
    """The texts among what was found, those of a list included; the empty one is none."""
    for each in found:
        for text in each if isinstance(each, list) else [each]:
            if isinstance(text, str) and text:
                yield text


def placeholders(template: Any) -> list[str]:
    """The names in braces, wherever they stand in a template."""
    if isinstance(template, str):
        return PLACEHOLDER.findall(template)
    if isinstance(template, Mapping):
        template = list(template.values())
    return [name for each in template for name in placeholders(each)] if isinstance(template, list) else []


def filled(template: Any, values: Mapping[str, str | None]) -> Any:
    """The template, filled in, in one pass: values stay as they are. What wants a None is left out."""
    missing = {name for name, value in values.items() if value is None}
    if isinstance(template, str):
        return PLACEHOLDER.sub(lambda found: str(values[found[1]]), template)
    if isinstance(template, Mapping):
        kept = {name: each for name, each in template.items() if not _wants(each, missing)}
        return {name: filled(each, values) for name, each in kept.items()}
    if isinstance(template, list):
        return [filled(each, values) for each in template if not _wants(each, missing)]
    return template


def _wants(template: Any, names: Collection[str]) -> bool:
    return isinstance(template, str) and any(name in names for name in placeholders(template))


def table_at(body: Any, place: str) -> Mapping[str, Any] | None:
    """The table at a path of names, {} where the path ends early, None where something else stands there."""
    if not _PLAIN_PATH.fullmatch(place):
        return None
    for name in filter(None, place.split(".")):
        if not isinstance(body, Mapping):
            return None
        body = body.get(name, {})
    return body if isinstance(body, Mapping) else None


def merged(body: Mapping[str, Any], place: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The body with these values in the table at a path of names; '' is the body itself."""
    name, _, rest = place.partition(".")
    if not name:
        return {**body, **values}
    return {**body, name: merged(body.get(name, {}), rest, values)}
