"""Who may look, and whose word counts: the login on every path, and a token of ours in every form."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from flask import Flask, current_app, g, request
from itsdangerous import BadSignature, TimestampSigner
from werkzeug.exceptions import HTTPException, default_exceptions

from orchestrator.events import warn

TOKEN_SECONDS = 86_400
WRONG_SECONDS = 0.5  # that a wrong login waits for its answer: it costs a greenlet and nothing else
OPEN = "health.alive"
CHALLENGE = 'Basic realm="orchestrator operations", charset="UTF-8"'
LOGGED_OUT = "this page needs the login that Flower has: FLOWER_BASIC_AUTH names it"
NOT_OURS = (
    "nothing was done: the request did not come from a page of this server, or the page is older than a day. "
    "Load it again, and repeat what you wanted. (Behind a proxy, the proxy must pass `Host` on.)"
)


class Guard:
    """How long it takes tells nothing of the logins."""

    def __init__(self, logins: Sequence[str]) -> None:
        self._users = [(login.partition(":")[0], _digest(login)) for login in logins]
        # Of the logins, so that every process has the same and a restart spoils no page; slow, so that a
        # token is no quick way to try passwords.
        text = ",".join(sorted(logins)).encode()
        self.key = hashlib.scrypt(text, salt=b"orchestrator operations", n=2**14, r=8, p=1)
        self._signer = TimestampSigner(self.key, salt="form")

    def user_of(self, user: str, password: str) -> str | None:
        digest = _digest(f"{user}:{password}")
        fitting = [name for name, known in self._users if hmac.compare_digest(known, digest)]
        return fitting[0] if fitting else None

    def token(self, user: str) -> str:
        """For the forms of one who is logged in."""
        return self._signer.sign(user.encode()).decode()

    def is_token(self, text: str, user: str) -> bool:
        try:
            signed = self._signer.unsign(text.encode("utf-8", "replace"), max_age=TOKEN_SECONDS)
        except BadSignature:
            return False
        return hmac.compare_digest(signed, user.encode())


def stand_guard(app: Flask, guard: Guard) -> None:
    """Asked before anything else, of addresses that do not exist, too."""
    app.extensions["guard"] = guard
    app.before_request(_require_login)
    app.before_request(_require_our_form)


def token() -> str:
    """For a form, in a template."""
    guard: Guard = current_app.extensions["guard"]
    return guard.token(g.user)


def _require_login() -> None:
    """Raises: Unauthorized."""
    if request.endpoint == OPEN:
        return
    given, guard = request.authorization, current_app.extensions["guard"]
    g.user = None
    if given and given.type == "basic":
        g.user = guard.user_of(given.username or "", given.password or "")
    if g.user is None:
        if given:
            warn("operations.refused", login="wrong")
            time.sleep(WRONG_SECONDS)
        raise _refusal(401, LOGGED_OUT)


def _require_our_form() -> None:
    """Raises: Forbidden."""
    if request.method in ("GET", "HEAD"):
        return
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    is_ours = site in (None, "same-origin") and (origin is None or urlsplit(origin).netloc == request.host)
    guard: Guard = current_app.extensions["guard"]
    if not is_ours or not guard.is_token(request.form.get("token", ""), g.user):
        warn("operations.refused", form="strange", by=g.user)
        raise _refusal(403, NOT_OURS)


def _refusal(status: int, why: str) -> HTTPException:
    return default_exceptions[status](why)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()
