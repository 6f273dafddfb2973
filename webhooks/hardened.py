"""What every app of ours keeps to on the network, whoever asks."""

from __future__ import annotations

from collections.abc import Mapping

from flask import Flask, Response

from webhooks.headers import HEADERS


def harden(app: Flask, max_body_bytes: int, headers: Mapping[str, str] = HEADERS) -> None:
    """`headers`: of every answer."""
    # One byte more than is taken: werkzeug cuts a body that tells no length, and its reader must see that.
    app.config["MAX_CONTENT_LENGTH"] = max_body_bytes + 1
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.url_map.merge_slashes = False  # it answers with a redirect, which repeats the path

    @app.after_request
    def hardened(response: Response) -> Response:
        response.headers.update(headers)
        if not response.content_length:
            del response.headers["Content-Type"]
        return response
