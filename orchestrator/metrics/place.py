"""Where metrics are: the door they are told at, and the folder in which several processes add them up.

The folder must be named before `prometheus_client` is imported, and gunicorn's master must not import what
opens sockets: so nothing here does.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from orchestrator.environment import environment, take_environment
from orchestrator.events import LOGGER, log

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
PREFIX = "orchestrator-metrics-"


def prepare_folder() -> Path:
    """A new, private folder for this process and those it will fork; what killed ones left is removed.

    It is made in `PROMETHEUS_MULTIPROC_DIR`, else where temporary files are. Raises: OSError.
    """
    above = Path(environment().get(VARIABLE) or tempfile.gettempdir())
    if above.name.startswith(PREFIX):  # of the process that started this one
        above = above.parent
    above.mkdir(parents=True, exist_ok=True)
    for left in above.glob(f"{PREFIX}*"):
        if not is_alive(left.name.removeprefix(PREFIX).partition("-")[0]):
            remove_folder(left)
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=above))
    take_environment({VARIABLE: str(folder)})
    return folder


def remove_folder(folder: Path) -> None:
    """Safe to call twice."""
    shutil.rmtree(folder, ignore_errors=True)


def is_alive(pid: str) -> bool:
    """Whether a process of this id runs; what is no id is taken for one that does."""
    with suppress(ValueError, PermissionError, OverflowError):
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return False
    return True


def tell_not_served(address: tuple[str, int], error: OSError, logger: logging.Logger = LOGGER) -> None:
    cure = "each process of a machine needs an ORCHESTRATOR_METRICS_PORT of its own"
    where = f"{address[0]}:{address[1]}"
    log("metrics.not_served", logging.ERROR, logger=logger, address=where, error=error.strerror, cure=cure)
