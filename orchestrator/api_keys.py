"""The keys of the HTTP API, as `ORCHESTRATOR_API_KEYS` names them. Pure; never shows what may be a secret."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import combinations

from orchestrator.models import ApiKey, Secret

VARIABLE = "ORCHESTRATOR_API_KEYS"
MIN_CHARACTERS = 32
TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.-]{0,99}")
BEARER = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # https://www.rfc-editor.org/rfc/rfc6750#section-2.1
CURE = "use the output of `openssl rand -hex 32`"


def api_keys(text: str, secret_of: Callable[[str, str], Secret], faults: list[str]) -> tuple[ApiKey, ...]:
    """Of a comma list of `name:secret`; a name may stand there twice, while its secret is changed.

    `secret_of`: gives the secret behind what is told (itself, `env:NAME` or `file:PATH`) of a key of that
    name, or adds to the faults.
    """
    found: list[ApiKey] = []
    for place, entry in enumerate(text.split(","), 1):
        name, colon, told = entry.strip().partition(":")
        if not entry.strip():
            continue
        if not colon or not TENANT.fullmatch(name):
            faults.append(
                f"{VARIABLE}: entry {place} is not name:secret, with a name of 1 to 100 letters, digits, "
                "spaces or _ . - that begins with a letter or digit"
            )
            continue
        before = len(faults)
        key = ApiKey(name, secret_of(f"the secret of {name!r}", told.strip()))
        if len(faults) == before and (fault := _fault(key.secret.reveal())):
            faults.append(f"{VARIABLE}: the secret of {name!r} {fault}: {CURE}")
        found.append(key)
    for one, other in combinations(found, 2):
        if one.tenant != other.tenant and one.secret.reveal() == other.secret.reveal() != "":
            faults.append(f"{VARIABLE}: {one.tenant!r} and {other.tenant!r} have the same secret: {CURE}")
    return tuple(found)


def _fault(secret: str) -> str:
    if len(secret) < MIN_CHARACTERS:
        return f"is shorter than {MIN_CHARACTERS} characters"
    if not BEARER.fullmatch(secret):
        return "has characters that no header takes"
    return ""
