"""Celery as consumer: `celery -A workers worker | beat | flower`, and the task `generate` for any canvas."""

from __future__ import annotations

import sys

from workers import gathering as gathering  # these three by their signals
from workers import metrics as metrics
from workers import watchdog as watchdog
from workers.tasks import app, generate

__all__ = ["app", "generate"]

if "flower.command" in sys.modules:  # under the `celery` command, which has loaded it
    from workers.dashboard.app import install
    from workers.wiring import built

    install(built())
