"""The connection to Redis: a call that fails becomes one error of ours, a step is one script."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import redis

from orchestrator.at_hand import LOST, AtHand
from orchestrator.errors import StoreUnavailable
from orchestrator.models import Retention
from orchestrator.store.pool import redis_client
from orchestrator.store.steps import scripts

PREFIX = "orc:"
WAIT_SLICE_SECONDS = 5.0  # how long one blocking read lasts; the net below a lost wake-up

CANNOT_WRITE = (
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.MasterDownError,
    redis.exceptions.ClusterDownError,
)
CANNOT_WRITE_WORDS = ("MISCONF", "NOREPLICAS", "LOADING", "OOM", "READONLY")

Step = tuple[Any, tuple[Any, ...]]  # a script, and its arguments
Gathering = Callable[[Callable[[Sequence[Step]], list[Any]]], Callable[[Step], Any]]


class Link:
    """Thread-safe. Every call may raise StoreUnavailable."""

    def __init__(self, url: str, retention: Retention) -> None:
        self.retention = retention
        self.client: Any = redis_client(url, WAIT_SLICE_SECONDS + 5)
        self._at_hand = AtHand(self.client)
        kept = f"local KEEP, KEEP_DEAD = {retention.ended}, {retention.failed}\n"
        self._steps = {name: self.client.register_script(text) for name, text in scripts(kept).items()}
        self._carry_out: Callable[[Step], Any] = lambda step: self._run(*step)

    def gather(self, gathering: Gathering) -> None:
        """Let steps that are asked for at the same time go to Redis in one go.

        `gathering` is handed what runs several, and gives what runs one. Nobody's reply comes before his own
        step was carried out.
        """
        self._carry_out = gathering(self._run_all)

    def step(self, name: str, *arguments: Any) -> Any:
        return self.call(lambda: self._carry_out((self._steps[name], arguments)))

    def step_in(self, pipeline: Any, name: str, *arguments: Any) -> None:
        """One of the commands that a pipeline sends together."""
        self._steps[name](args=arguments, client=pipeline)

    def _run(self, script: Any, arguments: tuple[Any, ...]) -> Any:
        try:
            return self._at_hand.ask("EVALSHA", script.sha, 0, *arguments)
        except redis.exceptions.NoScriptError:
            return script(args=arguments)  # which loads it; called each time, it would cost more

    def _run_all(self, steps: Sequence[Step]) -> list[Any]:
        """For each what it replied, or what it raised. Raises: LOST."""
        if len(steps) == 1:
            return [self._tried(steps[0])]
        try:
            replies = self._at_hand.ask_all(
                [("EVALSHA", script.sha, 0, *arguments) for script, arguments in steps]
            )
        except LOST:
            raise
        except Exception:  # arguments of one that cannot be sent, or a reply that cannot be read
            return [self._tried(step) for step in steps]
        return [
            self._tried(step) if isinstance(reply, redis.exceptions.NoScriptError) else reply
            for step, reply in zip(steps, replies, strict=True)
        ]

    def _tried(self, step: Step) -> Any:
        try:
            return self._run(*step)
        except Exception as error:
            return error

    def call(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except LOST as error:
            _unavailable(error)
        except redis.exceptions.ResponseError as error:
            # redis-py cuts the word off the messages it has a class for.
            if isinstance(error, CANNOT_WRITE) or str(error).startswith(CANNOT_WRITE_WORDS):
                _unavailable(error)
            raise


def _unavailable(error: Exception) -> NoReturn:
    # The exception's own text may hold the URL with its password.
    raise StoreUnavailable(f"Redis does not answer ({type(error).__name__})") from None
