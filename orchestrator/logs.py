"""How lines of a log look: as text, or one JSON object each. One place redacts both.

A line is redacted as a record, before it is text or JSON, so that neither can show what the other hides.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from orchestrator.environment import logs_are_json
from orchestrator.events import what_about

TEXT = "%(asctime)s %(levelname)s %(name)s %(message)s"
# What hides a secret: texts without any of its words, which are quicker to look for, hold none.
SECRETS = (
    # The reference in a callback's path is what proves it genuine.
    (("callbacks/",), re.compile(r"(/callbacks/+[^/\s?'\"]{1,100}/+)[^\s?'\"]+"), r"\1…"),
    (("?",), re.compile(r"\?[^\s'\"]+"), "?…"),  # a query is never ours
    (("://",), re.compile(r"(\b[\w+.-]{1,20}://)[^\s/'\"@]{1,300}@"), r"\1…@"),  # a login
    (("earer ", "asic "), re.compile(r"(\b(?:[Bb]earer|[Bb]asic) )[^\s'\"]+"), r"\1…"),
)


def redacted(text: str) -> str:
    """A text without references, queries and logins of URLs, and tokens."""
    for words, pattern, instead in SECRETS:
        if any(word in text for word in words):
            text = pattern.sub(instead, text)
    return text


def _redacted(value: object) -> object:
    return redacted(value) if isinstance(value, str) else value


class Redacting(logging.Filter):
    """Of every line, whoever wrote it: its words, its fields and its traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        line = record.getMessage()
        record.msg, record.args = redacted(line), ()
        if record.exc_info:  # which the handler of another may have formatted already
            record.exc_text = redacted(record.exc_text or _plain.formatException(record.exc_info))
        if record.stack_info:
            record.stack_info = redacted(record.stack_info)
        if record.msg != line and hasattr(record, "fields"):  # the line holds all that they do
            record.fields = {name: _redacted(value) for name, value in record.fields.items()}
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, event, message, the fields; of an attempt its job, too.

    Within a span, its `trace_id` and `span_id`. A traceback is one field, `exception`.
    """

    def format(self, record: logging.LogRecord) -> str:
        fields = {**what_about(), **getattr(record, "fields", {})}
        if attempt := fields.get("attempt"):
            fields.setdefault("job", str(attempt).rpartition(".")[0])
        told = {
            **fields,
            **_span(),
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": getattr(record, "event", None),
            "message": record.getMessage(),
        }
        if record.exc_info or record.exc_text:
            told["exception"] = record.exc_text or self.formatException(record.exc_info)  # type: ignore[arg-type]
        if record.stack_info:
            told["stack"] = record.stack_info
        order = sorted(told, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
        return json.dumps({name: told[name] for name in order}, ensure_ascii=False, default=str)


FIRST = ("time", "level", "logger", "event", "message", "job", "attempt")
_plain = logging.Formatter()


def dress(handlers: Iterable[logging.Handler], *filters: logging.Filter) -> None:
    """Let these handlers write redacted lines in the format that `ORCHESTRATOR_LOG_FORMAT` names.

    In `text` they keep their own formatters. `filters`: what else each line passes, first to last.
    """
    for handler in handlers:
        handler.filters[:] = [Redacting(), *filters]
        if logs_are_json():
            handler.setFormatter(JsonFormatter())


def set_up(*filters: logging.Filter) -> None:
    """The root logger of a process that no library sets up. Safe to call twice."""
    logging.basicConfig(level=logging.INFO, format=TEXT)
    logging.captureWarnings(True)
    logging.getLogger("urllib3").setLevel(logging.WARNING)
    dress(logging.getLogger().handlers, *filters)


def _span() -> dict[str, Any]:
    """Of the span that is active, where this process has loaded OpenTelemetry at all."""
    trace = sys.modules.get("opentelemetry.trace")
    current: Callable[[], Any] | None = getattr(trace, "get_current_span", None)
    context = current().get_span_context() if current else None
    if context is None or not context.is_valid:
        return {}
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}
