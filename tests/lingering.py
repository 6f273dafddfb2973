"""`celery -A tests.lingering worker`: it cannot put a picture down as long as a file stands there."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from orchestrator.artifacts import Artifacts

BLOCK = Path(os.environ["LINGER_FILE"]) if "LINGER_FILE" in os.environ else None
LINGERS = "a picture lingers"

put = Artifacts.put


def lingering_put(self: Artifacts, *args: Any, **kwargs: Any) -> Any:
    if BLOCK and BLOCK.exists():
        print(LINGERS, flush=True)
        while BLOCK.exists():
            time.sleep(0.05)
    return put(self, *args, **kwargs)


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(name)
    Artifacts.put = lingering_put  # type: ignore[method-assign]
    from workers import app

    return app
