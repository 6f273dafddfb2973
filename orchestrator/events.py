"""What happens, said once: a name, `noun.verb`, and fields. How a line of it looks is `logs`'s business.

The names are listed in docs/logs.md.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from orchestrator.errors import printable, without_emails

LOGGER = logging.getLogger("orchestrator")

_about: ContextVar[Mapping[str, object]] = ContextVar("about", default={})  # noqa: B039 - never changed


def log(
    event: str,
    level: int = logging.INFO,
    *,
    logger: logging.Logger = LOGGER,
    exc_info: Any = None,
    **fields: object,
) -> None:
    """Write a line: `event name=value …`. Fields that are None are left out.

    What is no line of a log is no field: secrets, prompts, URLs with their queries.
    """
    if not logger.isEnabledFor(level):
        return
    told = {name: _plain(value) for name, value in fields.items() if value is not None}
    text = " ".join([event, *(f"{name}={value}" for name, value in told.items())])
    logger.log(level, "%s", text, exc_info=exc_info, extra={"event": event, "fields": told})


def warn(event: str, **fields: Any) -> None:
    log(event, logging.WARNING, **fields)


@contextmanager
def about(**fields: object) -> Iterator[None]:
    """Within this, every line of this thread (or greenlet) is about these, whichever library writes it."""
    token = _about.set({**_about.get(), **fields})
    try:
        yield
    finally:
        _about.reset(token)


def what_about() -> Mapping[str, object]:
    """The fields that lines are about now."""
    return _about.get()


def _plain(value: object) -> object:
    """As JSON has it. The e-mail address of an account is part of what some providers call a generation.

    A stranger's words make no second line.
    """
    if isinstance(value, bool | int | float):
        return value
    return printable(without_emails(str(value)))
