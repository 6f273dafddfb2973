"""Celery as consumer: `celery -A workers worker | beat | flower`, and the task `generate` for any canvas."""

from __future__ import annotations

from workers import metrics as metrics  # by their signals
from workers import watchdog as watchdog
from workers.tasks import app, generate

__all__ = ["app", "generate"]
