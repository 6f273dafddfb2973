"""How lines of a log look, what they hide, and that docs/logs.md names them all."""

from __future__ import annotations

import ast
import json
import logging
import re
import threading
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest

from orchestrator.events import about, log, warn
from orchestrator.logs import JsonFormatter, Redacting, dress, redacted
from tests.stack_kit import REPOSITORY

REFERENCE = "useapi_frames/abc.def-1234"
EVENTS = (REPOSITORY / "docs" / "logs.md").read_text(encoding="utf-8").partition("\n## Events\n")[2]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[StringIO]:
    """What the product's logger writes, as JSON."""
    monkeypatch.setenv("ORCHESTRATOR_LOG_FORMAT", "json")
    logger, text = logging.getLogger("orchestrator"), StringIO()
    handler = logging.StreamHandler(text)
    dress([handler])
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield text
    logger.removeHandler(handler)
    logger.setLevel(before)


def lines(text: StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.getvalue().splitlines()]


def test_an_event_is_one_object_with_its_fields(written: StringIO) -> None:
    log("attempt.closed", attempt="j-1.2", seconds=1.5, tries=3, error=None, why=ValueError("no"))
    (line,) = lines(written)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line == {
        "level": "info",
        "logger": "orchestrator",
        "event": "attempt.closed",
        "message": "attempt.closed attempt=j-1.2 seconds=1.5 tries=3 why=no",
        "attempt": "j-1.2",
        "job": "j-1",
        "seconds": 1.5,
        "tries": 3,
        "why": "no",
    }


def test_lines_of_any_library_are_about_the_job_at_hand(written: StringIO) -> None:
    library = logging.getLogger("orchestrator.a-library")
    with about(job="j-1", attempt="j-1.1"):
        library.warning("over %d lines\nof text", 2)
        log("job.ended", attempt="j-1.9")
        other = threading.Thread(target=lambda: warn("start.unchecked"))
        other.start()
        other.join()
    log("job.ended")
    first, own, elsewhere, after = lines(written)
    assert (first["message"], first["event"], first["job"]) == ("over 2 lines\nof text", None, "j-1")
    assert own["attempt"] == "j-1.9"
    assert "job" not in elsewhere and "job" not in after


def test_an_exception_is_one_field(written: StringIO) -> None:
    try:
        raise ValueError(f"at https://user:s3cret@host/callbacks/{REFERENCE}?token=s3cret")
    except ValueError:
        log("poll.failed", logging.ERROR, exc_info=True)
    (line,) = lines(written)
    assert line["level"] == "error" and line["exception"].startswith("Traceback (most recent call last):\n")
    assert "ValueError" in line["exception"]
    assert "s3cret" not in written.getvalue() and "abc.def" not in written.getvalue()


def test_a_traceback_that_another_has_formatted_is_redacted_too(written: StringIO) -> None:
    logger = logging.getLogger("orchestrator")
    logger.handlers.insert(0, theirs := logging.StreamHandler(StringIO()))
    try:
        raise ValueError(f"at https://user:s3cret@host/callbacks/{REFERENCE}?token=s3cret")
    except ValueError:
        log("poll.failed", logging.ERROR, exc_info=True)
    finally:
        logger.removeHandler(theirs)
    assert "ValueError" in written.getvalue()
    assert "s3cret" not in written.getvalue() and "abc.def" not in written.getvalue()


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize(
    ("said", "hidden"),
    [
        (f"POST /callbacks/{REFERENCE} HTTP/1.1", "abc.def"),
        ("GET /a/picture.png?signature=s3cret&x=1", "s3cret"),
        ("cannot reach redis://:s3cret@10.0.0.1:6379/0", "s3cret"),
        ("amqp://user:s3cret@broker//", "s3cret"),
        ("{'Authorization': 'Bearer s3cret'}", "s3cret"),
    ],
)
def test_both_formats_hide_the_same(said: str, hidden: str, as_json: bool) -> None:
    text, logger = StringIO(), logging.Logger("a library's")
    handler = logging.StreamHandler(text)
    dress([handler])
    if as_json:
        handler.setFormatter(JsonFormatter())
    logger.addHandler(handler)
    logger.warning("it says: %s", said)
    log("status.unknown", logging.WARNING, logger=logger, why=said)
    try:
        raise ValueError(said)
    except ValueError:
        logger.exception("and fails")
    assert hidden not in text.getvalue() and text.getvalue().count("…") >= 2


def test_redacting_takes_no_longer_than_the_line_is_long() -> None:
    for piece in ("/", "?", "a://", "Bearer ", "/callbacks/x/", "/callbacks/", "a.b@", "://u:"):
        assert redacted(piece * 20_000)
    slashes = "/" * 1_000_000
    assert redacted(f"{slashes}callbacks/") == f"{slashes}callbacks/"
    assert redacted(f"callbacks/{slashes}") == f"callbacks/{slashes}"


def test_an_account_whose_e_mail_is_in_an_upstream_id_is_not_told(written: StringIO) -> None:
    log("attempt.submitted", upstream_id="user:1-runwayml:studio-1@example.com-task:c517")
    assert "example.com" not in written.getvalue()


def test_a_strangers_words_make_no_second_line_and_tell_a_terminal_nothing() -> None:
    text, logger = StringIO(), logging.Logger("text")
    logger.addHandler(logging.StreamHandler(text))
    log("attempt.submitted", logger=logger, upstream_id="1\n2026 job.ended\r\u2028\x1b[2J\x9b1m", why=None)
    assert text.getvalue() == "attempt.submitted upstream_id=1 2026 job.ended   [2J 1m\n"


def test_what_is_not_written_costs_nothing() -> None:
    class Costly:
        def __str__(self) -> str:
            raise AssertionError("it was looked at")

    logger = logging.Logger("quiet", logging.ERROR)
    log("job.ended", logger=logger, job=Costly())


def test_text_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORCHESTRATOR_LOG_FORMAT", raising=False)
    handler = logging.StreamHandler(StringIO())
    mine = logging.Formatter("%(levelname)s %(message)s")
    handler.setFormatter(mine)
    dress([handler])
    assert handler.formatter is mine and any(isinstance(each, Redacting) for each in handler.filters)


def test_a_format_that_there_is_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrator.build import read_settings
    from orchestrator.errors import ConfigurationError

    monkeypatch.setenv("ORCHESTRATOR_LOG_FORMAT", "xml")
    with pytest.raises(
        ConfigurationError, match=r"ORCHESTRATOR_LOG_FORMAT: is 'xml'; it must be text or json"
    ):
        read_settings()


def test_every_event_is_documented_and_no_other() -> None:
    documented = set(re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \|", EVENTS, re.MULTILINE))
    patterns = list(_events())
    for pattern in patterns:
        assert any(re.fullmatch(pattern, name) for name in documented), f"{pattern} is not in docs/logs.md"
    for name in documented:
        assert any(re.fullmatch(pattern, name) for pattern in patterns), f"{name} is written nowhere"


def _events() -> Iterator[str]:
    """Of each call of `log` and `warn` the event's name, as a pattern where a part of it is reckoned."""
    for package in ("orchestrator", "workers", "webhooks"):
        for path in (REPOSITORY / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
                    if node.func.id in ("log", "warn") and path.name != "events.py":
                        yield _pattern(node.args[0])


def _pattern(name: ast.expr) -> str:
    if isinstance(name, ast.Constant):
        return re.escape(str(name.value))
    assert isinstance(name, ast.JoinedStr), ast.unparse(name)
    return "".join(
        re.escape(str(part.value)) if isinstance(part, ast.Constant) else "[a-z_]+" for part in name.values
    )


def test_nothing_else_writes_lines() -> None:
    """A logger of one's own would write a line without a name."""
    for package in ("orchestrator", "workers", "webhooks"):
        for path in (REPOSITORY / package).rglob("*.py"):
            if path.name not in ("events.py", "logs.py"):
                text = path.read_text(encoding="utf-8")
                assert not re.search(
                    r"\blogger\.(debug|info|warning|error|exception|critical|log)\(", text
                ), path


def test_a_span_that_is_active_is_told(written: StringIO) -> None:
    trace = pytest.importorskip("opentelemetry.trace")
    context = trace.SpanContext(0xA1, 0xB2, False, trace.TraceFlags(1))
    with trace.use_span(trace.NonRecordingSpan(context)):
        log("job.ended")
    log("job.ended")
    within, after = lines(written)
    assert (within["trace_id"], within["span_id"]) == (f"{0xA1:032x}", f"{0xB2:016x}")
    assert "trace_id" not in after
