"""The flow of this process, built once from the environment."""

from __future__ import annotations

import atexit
import logging
import sys
from functools import cache
from pathlib import Path
from typing import Any

from celery.signals import after_setup_logger

from orchestrator.build import Built
from orchestrator.errors import ConfigurationError, StoreUnavailable
from orchestrator.start import PATIENCE_SECONDS, started

# One line per task is ours to write; Celery's own would come three times for each job.
QUIET_LOGGERS = ("celery.app.trace", "celery.worker.strategy", "celery.beat", "urllib3")


@cache
def built() -> Built:
    """Raises: ConfigurationError, StoreUnavailable; under the `celery` command their words end it plainly."""
    serves = Path(sys.argv[0]).stem == "celery" or Path(sys.argv[0]).parent.name == "celery"
    try:
        made = started(PATIENCE_SECONDS if serves else 0.0)
    except (ConfigurationError, StoreUnavailable) as error:
        if serves:
            raise SystemExit(f"orchestrator: {error}") from None
        raise
    atexit.register(made.close)
    return made


@after_setup_logger.connect  # type: ignore[untyped-decorator]
def quieten(**_: Any) -> None:
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
