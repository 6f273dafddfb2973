"""How moments, numbers and sentences are written on a page. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from flask import Flask
from markupsafe import Markup, escape

from orchestrator.errors import masked, without_queries
from orchestrator.models import Job
from orchestrator.operations import failure_of
from orchestrator.retry import UNTIL_RESUMED
from orchestrator.schemas import moment
from orchestrator.views.printing import at, counted, span

COMMAND = re.compile(r"`([^`]+)`")
SHORT = 8  # characters of a job's id that tell it from its neighbours


def teach(app: Flask) -> None:
    """The templates' own words."""
    app.jinja_env.filters |= {
        "number": number,
        "amount": amount,
        "sentence": sentence,
        "span": span,
        "at": at,
        "counted": counted,
        "iso": moment,
        "short": short,
        "plain": plain,
    }
    app.jinja_env.tests["for_ever"] = lambda until: float(until) >= UNTIL_RESUMED
    app.jinja_env.globals |= {"failure_of": failure_of, "message_of": message_of}
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True


def number(value: float) -> str:
    return f"{value:,.0f}"


def amount(value: float) -> str:
    """In an account's prices: as many places as it takes."""
    return f"{round(value, 4):,.10g}" if value < 1e9 else f"{value:,.0f}"


def sentence(text: str) -> Markup:
    """A sentence of ours, whose commands are told apart. Whatever else is in it is escaped."""
    return Markup(COMMAND.sub(r"<code>\1</code>", str(escape(text))))


def short(job_id: str) -> str:
    return job_id if len(job_id) <= SHORT + 4 else f"{job_id[:SHORT]}…"


def plain(value: Any) -> str:
    """What somebody asked for, without e-mail addresses and what opens a URL."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    lines = text.splitlines() or [""]
    return "\n".join(masked(without_queries(line), 4_000) for line in lines[:200])


def message_of(job: Job) -> str:
    """Why it failed, without the class of it."""
    told: Mapping[str, Any] = job.error or {}
    return masked(str(job.reason or told.get("message") or "").removeprefix(f"{failure_of(job)}: "))
