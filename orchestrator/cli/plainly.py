"""What the commands have in common: how mistakes end, how `key=value` and durations are read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce, wraps
from typing import Any

import click

from orchestrator.errors import OrchestratorError
from orchestrator.local.errors import LocalError

Command = Callable[..., Any]
UNIT_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def plainly(command: Command) -> Command:
    """A mistake of the user's ends in a sentence, not in a traceback."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except (OrchestratorError, LocalError, TimeoutError) as error:
            raise click.ClickException(str(error)) from None
        except KeyboardInterrupt:
            raise SystemExit(130) from None

    return run


def with_orchestrator(command: Command) -> Command:
    """As `plainly`; the command is handed an `Orchestrator` before its own arguments."""

    @plainly
    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        from orchestrator.client import Orchestrator  # brings Celery and Redis: not for `--help`

        with Orchestrator.from_env() as orchestrator:
            return command(orchestrator, *args, **kwargs)

    return run


json_option = click.option("--json", "as_json", is_flag=True, help="For programs.")
all_option = click.option(
    "--all", "everything", is_flag=True, help="All of them, where nothing else is said."
)


def together(options: Sequence[Callable[[Command], Command]]) -> Callable[[Command], Command]:
    """Arguments and options that several commands have, in their order, as one decorator."""
    return lambda command: reduce(lambda made, adds: adds(made), reversed(options), command)


def which_of_them(everything: bool, filters: Mapping[str, Any]) -> None:
    """Raises: UsageError where nothing says which, not even `--all`."""
    if not everything and not any(each not in ("", (), None) for each in filters.values()):
        raise click.UsageError("which of them? Name some, give a filter, or say --all")


def names(words: Iterable[str]) -> list[str]:
    """Of words of which each may be several, joined by commas."""
    return [name for word in words for name in word.split(",") if name]


def pairs(words: Iterable[str]) -> dict[str, str]:
    """Of `key=value` words. Raises: UsageError."""
    found: dict[str, str] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise click.UsageError(f"{word!r} is not of the form key=value")
        found[name] = text
    return found


def duration(context: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    """An option's `45s`, `30m`, `12h` or `7d`, in seconds."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if not found:
        raise click.BadParameter(f"{text!r} is no duration; say 45s, 30m, 12h or 7d")
    return float(found[1]) * UNIT_SECONDS[found[2]]
