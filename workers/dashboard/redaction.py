"""What Flower may know of any task: it is taken out at the door, before a row, a search or a file has it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator import rows
from orchestrator.errors import masked, without_queries

TEXTS = ("args", "kwargs", "result", "exception", "traceback")  # of a task's event that are anybody's words
MOST_LINES, MOST_CHARACTERS = 200, 20_000
HIDDEN = "********"
SHORT = 6  # characters: what is shorter would be found in many a word

CREDENTIALS = re.compile(r"://[^\s/@'\"]{1,256}@")
BEARER = re.compile(r"\b(bearer|basic)\s+[\w.~+/=:-]{6,}", re.IGNORECASE)
NAMED = re.compile(
    r"((?:token|secret|passw(?:or)?d|api[-_]?key|authorization|signature)['\"]?\s*[:=]\s*)"
    r"(?:'[^']*'|\"[^\"]*\"|[^\s'\",;)}\]]+)",
    re.IGNORECASE,
)


class Redaction:
    """`secrets`: this installation's own, hidden wherever they stand. Thread-safe."""

    def __init__(self, secrets: Iterable[str]) -> None:
        longest_first = sorted({each for each in secrets if len(each) >= SHORT}, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def text(self, text: str) -> str:
        """The text without secrets, e-mail addresses and URLs' queries; its lines are kept."""
        text = CREDENTIALS.sub(f"://{HIDDEN}@", without_queries(text[:MOST_CHARACTERS]))
        text = self._secrets.sub(HIDDEN, text)
        text = NAMED.sub(rf"\1{HIDDEN}", BEARER.sub(rf"\1 {HIDDEN}", text))
        return "\n".join(masked(line) for line in text.splitlines()[:MOST_LINES])

    def deep(self, value: Any) -> Any:
        """The same of every text in JSON."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {
                name: HIDDEN if _is_secret(name, each) else self.deep(each) for name, each in value.items()
            }
        return [self.deep(each) for each in value] if isinstance(value, list | tuple) else value

    def event(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """An event of a worker, as it may be shown. A job's failure is one line that names its cure."""
        shown = self.fields(event)
        if (reason := rows.raised(str(event.get("exception") or ""))) is not None:
            shown |= {"exception": rows.trouble(self.text(reason)), "traceback": None}
        return shown

    def fields(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a row."""
        return {name: self._words(value) if name in TEXTS else value for name, value in row.items()}

    def requests(self, answer: Any) -> Any:
        """What a worker answers about the tasks that it holds. Only their words: it names hosts, too."""
        if isinstance(answer, Mapping):
            return {
                name: self._words(each) if name in TEXTS else self.requests(each)
                for name, each in answer.items()
            }
        return [self.requests(each) for each in answer] if isinstance(answer, list) else answer

    def stats(self, answer: Any) -> Any:
        """What a worker answers about itself: its broker is told with all options, passwords among them."""
        if not isinstance(answer, Mapping):
            return answer
        return {
            name: self.deep(each) if name == "broker" else self.stats(each) for name, each in answer.items()
        }

    def _words(self, value: Any) -> Any:
        return value if value is None else self.text(value if isinstance(value, str) else repr(value))


def _is_secret(name: Any, value: Any) -> bool:
    return isinstance(value, str) and NAMED.match(f"{name}=x") is not None
