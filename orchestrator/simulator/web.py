"""Requests and answers as values, and which view answers which path.

Not Flask: at the rates that benchmarks ask for, a framework would cost more CPU than all that is simulated.
"""

from __future__ import annotations

import json
import re
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email import message_from_bytes
from http.client import responses
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

UNKNOWN = "Unknown"
_JSON = {"Content-Type": "application/json"}
_PLACE = re.compile(r"\\\{\\\}")


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asked. Header names are in lower case; `path` is still quoted."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    address: str = "127.0.0.1"
    """The client's."""
    connection: Any = None
    """Its socket, for an answer that is to hang or to break."""

    @property
    def base_url(self) -> str:
        """The simulator as this caller sees it."""
        return f"http://{self.headers.get('host', '')}"

    @property
    def args(self) -> dict[str, str]:
        """The query; of a name given twice the first."""
        return dict(reversed(parse_qsl(self.query, keep_blank_values=True)))

    @property
    def media_type(self) -> str:
        """That of the body, without its parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def json(self) -> object:
        """The body as JSON, whatever type it claims to be; None where it is not."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    def form(self) -> dict[str, str]:
        """The fields of a `multipart/form-data` body."""
        head = f"Content-Type: {self.headers['content-type']}\r\n\r\n".encode("latin-1")
        fields = {}
        for part in message_from_bytes(head + self.body).walk():
            name, value = part.get_param("name", header="content-disposition"), part.get_payload(decode=True)
            if isinstance(name, str) and isinstance(value, bytes):
                fields[name] = value.decode(errors="replace")
        return fields


@dataclass(frozen=True, slots=True)
class Response:
    """An answer; its length is told by itself."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: _JSON)


def reply(body: object, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(json.dumps(body).encode(), status)


View = Callable[..., Response]
"""Takes the request, and as text what stood in each place of the path."""


class Route(NamedTuple):
    """`{}` in `path` stands for any text; a slash at the end may be left out or added."""

    method: str
    path: str
    view: View


class Routes:
    """Finds the view of a request."""

    def __init__(self) -> None:
        self._paths: dict[str, tuple[re.Pattern[str], dict[str, View]]] = {}

    def add(self, route: Route) -> None:
        """From now on `route` is answered; of two that fit a path, the first."""
        path = route.path.rstrip("/")
        pattern = re.compile(_PLACE.sub("(.+?)", re.escape(path)) + "/?")
        self._paths.setdefault(path, (pattern, {}))[1][route.method] = route.view

    def answer(self, request: Request) -> Response:
        """The view's answer; 404, 405, or 500 with a traceback on stderr where there is none."""
        for pattern, views in self._paths.values():
            if found := pattern.fullmatch(request.path):
                view = views.get(request.method)
                return http_error(405) if view is None else _look(view, request, map(unquote, found.groups()))
        return http_error(404)


def http_error(status: int) -> Response:
    """The answer where no API has words of its own."""
    return reply({"error": responses.get(status, UNKNOWN), "code": status}, status)


def _look(view: View, request: Request, places: Any) -> Response:
    try:
        return view(request, *places)
    except Exception:  # a fault in one view must not end the connection, let alone the server
        traceback.print_exc()
        return http_error(500)
