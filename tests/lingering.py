"""`celery -A tests.lingering worker`: it cannot put a picture down as long as a file stands there.

Its clock is ahead as long as another one does.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from orchestrator import build
from orchestrator.artifacts import Artifacts

BLOCK = Path(os.environ["LINGER_FILE"]) if "LINGER_FILE" in os.environ else None
LATER = Path(os.environ["LATER_FILE"]) if "LATER_FILE" in os.environ else None
LATER_SECONDS = 90.0  # longer than the lease of a finish
LINGERS = "a picture lingers"

put = Artifacts.put


def lingering_put(self: Artifacts, *args: Any, **kwargs: Any) -> Any:
    if BLOCK and BLOCK.exists():
        print(LINGERS, flush=True)
        while BLOCK.exists():
            time.sleep(0.05)
    return put(self, *args, **kwargs)


def clock() -> float:
    return time.time() + (LATER_SECONDS if LATER and LATER.exists() else 0.0)


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(name)
    Artifacts.put = lingering_put  # type: ignore[method-assign]
    build.time = SimpleNamespace(time=clock)  # type: ignore[attr-defined]
    from workers import app

    return app
