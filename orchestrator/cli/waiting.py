"""Somebody waits at a command: he is told where no worker is there to do the work."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.client import Orchestrator

LOOK_SECONDS = 1.0
STILL_LOOKS = 10  # that show the same
ANSWER_SECONDS = 2.0

NOBODY = "no worker answers, so nothing is begun"
START_ONE = "start one; `orchestrator up` starts all on one machine"
START_FIRST = (
    "end this (Ctrl-C), since the embedded server is its own and ends with it, and start `orchestrator up` "
    "in another terminal first; what was enqueued is kept"
)


@contextmanager
def waiting(orchestrator: Orchestrator, look: Callable[[], object]) -> Iterator[None]:
    """Within this somebody waits. Where `look` gives the same for a while, it is asked once who works.

    `look` is called in a thread of its own.
    """
    is_over = threading.Event()

    def doubt() -> None:
        with suppress(Exception):  # trouble in asking is told by what is waited for
            if not _stands_still(look, is_over) or orchestrator.flow.broker.workers(ANSWER_SECONDS):
                return
            if not is_over.is_set():
                # Not by click, which writes past what a live display makes of sys.stderr.
                cure = START_FIRST if orchestrator.owns_server else START_ONE
                print(f"{NOBODY}: {cure}", file=sys.stderr)

    doubting = threading.Thread(target=doubt, name="doubt", daemon=True)
    doubting.start()
    try:
        yield
    finally:
        is_over.set()
        doubting.join()


def _stands_still(look: Callable[[], object], is_over: threading.Event) -> bool:
    """Waits until it shows the same for a while, or until it is over: then it does not."""
    seen, still = look(), 0
    while still < STILL_LOOKS:
        if is_over.wait(LOOK_SECONDS):
            return False
        before, seen = seen, look()
        still = still + 1 if seen == before else 0
    return True
