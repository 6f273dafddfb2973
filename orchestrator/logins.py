"""The logins of the pages for operators, as `FLOWER_BASIC_AUTH` names them. Pure; never shows one."""

from __future__ import annotations

import re

from orchestrator.errors import ConfigurationError

VARIABLE = "FLOWER_BASIC_AUTH"
PASSWORD_CHARACTERS = 12
LOGIN = re.compile(rf"[^:,]+:[^,]{{{PASSWORD_CHARACTERS},}}")


def logins(text: str) -> tuple[str, ...]:
    """Of a comma list of `user:password`. Raises: ConfigurationError, where there is none, too."""
    found = tuple(text.split(","))
    if not text.isascii() or not all(LOGIN.fullmatch(login) for login in found):
        raise ConfigurationError(
            [
                f"{VARIABLE} must be user:password, or several with commas between, each password of "
                f"{PASSWORD_CHARACTERS} characters or more, all of it in ASCII. "
                f"For example: export {VARIABLE}=orchestrator:$(openssl rand -hex 16)"
            ]
        )
    return found
