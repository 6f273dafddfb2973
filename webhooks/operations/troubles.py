"""Whatever cannot be shown or done becomes a page with one plain sentence."""

from __future__ import annotations

from http import HTTPStatus

from flask import Flask, Response, g, make_response, render_template
from werkzeug.exceptions import HTTPException

from orchestrator.errors import BatchGoesOn, Conflict, NotFound, OrchestratorError, StoreUnavailable
from webhooks.operations.guard import CHALLENGE

STORE_SECONDS = 5
AWAY = "Redis does not answer just now. Nothing is lost by that; this page comes back by itself."
SENTENCES = {
    400: "the request cannot be read, or broke off: go back and try again",
    404: "nothing is at this address",
    405: "this address does not take that: go back and use the page's buttons",
    413: "that is more than this page takes at once",
    500: "this is a fault of ours, and in the log of the operations page",
}


def show_troubles(app: Flask) -> None:
    app.register_error_handler(HTTPException, _refused)
    app.register_error_handler(OrchestratorError, _failed)


def _failed(error: OrchestratorError) -> Response:
    match error:
        case StoreUnavailable():
            answer = _page(503, AWAY)
            answer.headers["Retry-After"] = str(STORE_SECONDS)
            return answer
        case NotFound():
            return _page(404, str(error))
        case Conflict() | BatchGoesOn():
            return _page(409, str(error))
        case _:
            return _page(422, str(error))


def _refused(error: HTTPException) -> Response:
    status = error.code or 500
    answer = _page(status, SENTENCES.get(status) or error.description or "")
    if status == 401:
        answer.headers["WWW-Authenticate"] = CHALLENGE
    answer.headers.extend((name, text) for name, text in error.get_headers() if name == "Allow")
    return answer


def _page(status: int, sentence: str) -> Response:
    title = HTTPStatus(status).phrase
    whole = render_template(
        "trouble.html", title=title, status=status, sentence=sentence, inside=bool(g.get("user"))
    )
    return make_response(whole, status)
