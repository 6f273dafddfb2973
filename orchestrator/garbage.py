"""Python's own search for garbage, in a process that runs for long."""

from __future__ import annotations

import gc


def leave_out_what_is_loaded() -> None:
    """What is loaded stays: each look through it stops all threads for 50 ms. Safe to call twice."""
    gc.collect()
    gc.freeze()
