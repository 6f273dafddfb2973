"""What a person tells the product to do: done at once, or beside what others look at."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from flask import Response, current_app, flash, g, redirect, render_template, request

from orchestrator.client import Orchestrator
from orchestrator.errors import OrchestratorError, StoreUnavailable, masked
from orchestrator.events import log, warn

PATIENCE_SECONDS = 2.0  # that a person waits for an answer
TOLD_CHARACTERS = 600  # a cookie holds it until it is shown
GOES_ON = "This takes a while and goes on by itself; look again later."
AT_IT_ALREADY = "That is under way already."

Asked = tuple[str, frozenset[tuple[str, str]]]
Verb = Callable[[], str]  # does it, and says in a sentence what it did


@dataclass
class Errand:
    told: str = ""
    trouble: OrchestratorError | None = None
    done: threading.Event = field(default_factory=threading.Event)


class Errands:
    """Those of this process. The verbs are safe to call twice, so that a killed one is simply told again."""

    def __init__(self) -> None:
        self._running: dict[Asked, Errand] = {}

    def run(self, asked: Asked, action: str, on: str, verb: Verb) -> str:
        """What it did, or that it goes on. Raises: OrchestratorError, where it fails soon."""
        if asked in self._running:
            return AT_IT_ALREADY
        errand = self._running[asked] = Errand()
        told = (asked, action, on, verb, errand)
        threading.Thread(target=self._do, args=told, name="errand", daemon=True).start()
        errand.done.wait(PATIENCE_SECONDS)
        if errand.trouble:
            raise errand.trouble
        return errand.told or GOES_ON

    def _do(self, asked: Asked, action: str, on: str, verb: Verb, errand: Errand) -> None:
        fields: dict[str, Any] = {"action": action, "on": masked(on)}
        try:
            errand.told = verb()
            log("operations.done", **fields, told=masked(errand.told))
        except OrchestratorError as error:
            errand.trouble = error
            warn("operations.failed", **fields, error=masked(str(error)))
        except Exception:
            errand.trouble = OrchestratorError("that failed by a fault of ours, which is in the log")
            log("operations.failed", logging.ERROR, exc_info=True, **fields)
        finally:
            del self._running[asked]
            errand.done.set()


def orchestrator() -> Orchestrator:
    found: Orchestrator = current_app.extensions["orchestrator"]
    return found


def act(action: str, on: str, verb: Verb, then: str) -> Response:
    """Do it, log who asked for it, and lead to the page `then`, which tells what became of it.

    `action` and `on`: a word, and the name of what it is done to. Raises: StoreUnavailable.
    """
    log("operations.asked", by=g.user, action=action, on=masked(on))
    try:
        flash(
            masked(current_app.extensions["errands"].run(_asked(), action, on, verb), TOLD_CHARACTERS), "done"
        )
    except StoreUnavailable:
        raise
    except OrchestratorError as error:
        flash(masked(str(error), TOLD_CHARACTERS), "refused")
    return lead_to(then)


def _asked() -> Asked:
    """What makes one request the same as another: where it goes, and all that its form says."""
    form = request.form.items(multi=True)
    return request.path, frozenset((name, text) for name, text in form if name not in ("token", "sure"))


def lead_to(url: str) -> Response:
    found = redirect(url, 303)
    assert isinstance(found, Response)
    return found


def is_sure() -> bool:
    """Whether the person has been asked, and said yes."""
    return request.form.get("sure") == "yes"


def ask(question: str, label: str, back: str) -> str:
    """A page that asks; its yes sends the same form again."""
    fields = [(name, text) for name, text in request.form.items(multi=True) if name not in ("token", "sure")]
    return render_template("ask.html", question=question, label=label, back=back, fields=fields)
