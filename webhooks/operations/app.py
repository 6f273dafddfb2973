"""The operations page's app: its doors, behind one login."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flask import Flask, request

from orchestrator.build import Built
from orchestrator.client import Orchestrator
from orchestrator.environment import environment
from orchestrator.logins import VARIABLE, logins
from orchestrator.models import State
from webhooks.hardened import harden
from webhooks.headers import HEADERS
from webhooks.health import health
from webhooks.operations.accounts import accounts
from webhooks.operations.batches import batches
from webhooks.operations.callbacks import callbacks
from webhooks.operations.dead import dead
from webhooks.operations.errands import Errands
from webhooks.operations.guard import Guard, stand_guard, token
from webhooks.operations.home import home
from webhooks.operations.jobs import jobs
from webhooks.operations.lanes import lanes
from webhooks.operations.looks import Looks
from webhooks.operations.notices import notices
from webhooks.operations.showing import teach
from webhooks.operations.spend import spend
from webhooks.operations.troubles import show_troubles

MAX_FORM_BYTES = 64 * 2**10
PAGE_HEADERS = {
    **HEADERS,
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    # Not `no-referrer`: a browser then says of its own forms that they come from nowhere (`Origin: null`).
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
DOORS = (home, accounts, batches, lanes, spend, dead, callbacks, notices, jobs)
NAVIGATION = (
    ("home.show", "Overview"),
    ("batches.list_", "Batches"),
    ("accounts.list_", "Accounts"),
    ("lanes.list_", "Lanes"),
    ("spend.show", "Spend"),
    ("dead.list_", "Dead letters"),
    ("callbacks.list_", "Callbacks"),
    ("notices.list_", "Notices"),
)


def create_operations(built: Built) -> Flask:
    """Raises: ConfigurationError where no login is configured."""
    return app_of(Orchestrator(built), logins(environment().get(VARIABLE, "")))


def app_of(orchestrator: Orchestrator, known: Sequence[str]) -> Flask:
    """`known`: logins, `user:password`."""
    app = Flask(__name__, static_folder="assets", static_url_path="/assets")
    guard = Guard(known)
    harden(app, MAX_FORM_BYTES, PAGE_HEADERS)
    app.config.update(
        SECRET_KEY=guard.key,
        SESSION_COOKIE_NAME="orchestrator_told",  # what an action led to, until the next page has shown it
        SESSION_COOKIE_SAMESITE="Strict",
        SESSION_COOKIE_HTTPONLY=True,
        MAX_FORM_PARTS=200,
    )
    app.extensions |= {
        "orchestrator": orchestrator,
        "flow": orchestrator.flow,
        "looks": Looks(orchestrator.flow),
        "errands": Errands(),
    }
    stand_guard(app, guard)
    teach(app)
    show_troubles(app)
    for door in (*DOORS, health):
        app.register_blueprint(door)

    @app.context_processor
    def everywhere() -> dict[str, Any]:
        return {
            "token": token,
            "now": orchestrator.flow.clock(),
            "states": [state.value for state in State],
            "navigation": NAVIGATION,
            "is_refresh": "X-Refresh" in request.headers,
        }

    return app
