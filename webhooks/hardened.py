"""What every app of ours keeps to on the network, whoever asks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from flask import Flask, Response

from webhooks.headers import HEADERS


def harden(app: Flask, max_body_bytes: int, headers: Mapping[str, str] = HEADERS) -> None:
    """`headers`: of every answer."""
    # One byte more than is taken: werkzeug cuts a body that tells no length, and its reader must see that.
    app.config["MAX_CONTENT_LENGTH"] = max_body_bytes + 1
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.url_map.merge_slashes = False  # it answers with a redirect, which repeats the path
    app.response_class = _saying(headers)


def _saying(headers: Mapping[str, str]) -> type[Response]:
    """Answers that say this, as the last thing: werkzeug takes 20 µs to put it among what they say."""
    ours, names = list(headers.items()), frozenset(headers)
    of_none = names | {"Content-Type"}

    class Hardened(Response):
        def get_wsgi_response(self, environ: Any) -> tuple[Iterable[bytes], str, list[tuple[str, str]]]:
            body, status, told = super().get_wsgi_response(environ)
            left_out = names if self.content_length else of_none
            return body, status, [each for each in told if each[0] not in left_out] + ours

    return Hardened
