"""How an app of ours starts under gunicorn: what it logs, and what ends it before it serves."""

from __future__ import annotations

import sys
from collections.abc import Callable

from flask import Flask

from orchestrator.build import Built
from orchestrator.errors import ConfigurationError, StoreUnavailable
from orchestrator.garbage import leave_out_what_is_loaded
from orchestrator.logs import set_up
from orchestrator.start import PATIENCE_SECONDS, started
from webhooks.logs import Sparing, lean_records
from webhooks.metrics import answer_metrics


def served(make: Callable[[Built], Flask]) -> Flask:
    """The app that is made of what is built. Ends the process, in a sentence, where it must not start."""
    set_up(Sparing())
    lean_records()
    try:
        built = started(PATIENCE_SECONDS, measures=True, lean=True)
        app = make(built)
        answer_metrics(built)
        leave_out_what_is_loaded()
        return app
    except (ConfigurationError, StoreUnavailable) as error:
        print(f"orchestrator: {error}", file=sys.stderr)
        raise SystemExit(
            3
        ) from None  # gunicorn: APP_LOAD_ERROR is 4, WORKER_BOOT_ERROR 3: both end the master
