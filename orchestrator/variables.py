"""What a variable may hold: each raises ValidationError with the cure. Pure, but for one look at a folder."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from environs import ValidationError

from orchestrator import celery_urls, naming, redis_place

MIN_SECRET_CHARACTERS = 24
NOTIFY_KEY_BYTES = range(24, 65)  # https://www.standardwebhooks.com, signature scheme
LOG_FORMATS = ("", "text", "json")
MOST_PORT = 65_535
LEAST_KEPT_DAYS, MOST_KEPT_DAYS = 0.05, 3_650
MOST_STOP_SECONDS = 3_600
SETTLING_SECONDS = 5.0  # what a worker that ends needs after the last answer


def is_port(text: str) -> None:
    if text and not (text.isdecimal() and 1 <= int(text) <= MOST_PORT):
        raise ValidationError(f"is {text!r}; it must be a port, from 1 to {MOST_PORT}, as in 9464")


def is_not_negative(number: int) -> None:
    if number < 0:
        raise ValidationError("must be 0, for no cap, or the number of jobs that may wait")


def is_kept_for(days: float) -> None:
    if not LEAST_KEPT_DAYS <= days <= MOST_KEPT_DAYS:
        raise ValidationError(f"is {days:g}; it must be from {LEAST_KEPT_DAYS} to {MOST_KEPT_DAYS} days")


def is_stop_time(seconds: float) -> None:
    if not 0 <= seconds <= MOST_STOP_SECONDS:
        raise ValidationError(
            f"is {seconds:g}; it must be from 0, for the longest timeout_seconds of the accounts and "
            f"{SETTLING_SECONDS:g} s more, to {MOST_STOP_SECONDS} s"
        )


def is_log_format(word: str) -> None:
    if word.strip() not in LOG_FORMATS:
        raise ValidationError(f"is {word!r}; it must be text or json")


def is_artifact_name(template: str) -> None:
    if template and (found := naming.faults(template)):
        raise ValidationError("; ".join(found))


def is_in_a_folder(path: str) -> None:
    if path and not Path(path).parent.is_dir():
        raise ValidationError(f"there is no folder {Path(path).parent}: make it, or name another file")


def is_redis_url(url: str) -> None:
    _checked(redis_place.redis_place, url)


def is_broker_url(url: str) -> None:
    _checked(celery_urls.check_broker, url)


def _checked(check: Callable[[str], object], url: str) -> None:
    try:
        if url:
            check(url)
    except ValueError as error:
        raise ValidationError(str(error)) from None


def is_http_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None


def is_public_url(url: str) -> None:
    if url and not is_http_url(url):
        raise ValidationError(
            f"is {url!r}, which providers cannot call: "
            "give the address they reach us at, as in https://jobs.example.com"
        )


def are_long_enough(keys: list[str]) -> None:
    short = [str(place) for place, key in enumerate(keys, 1) if len(key.strip()) < MIN_SECRET_CHARACTERS]
    if short:
        raise ValidationError(
            f"key {', '.join(short)} is shorter than {MIN_SECRET_CHARACTERS} characters: "
            "use the output of `openssl rand -hex 32`"
        )


def are_webhook_secrets(text: str) -> None:
    for place, each in enumerate(filter(None, map(str.strip, text.split(","))), 1):
        encoded = each.removeprefix("whsec_")
        try:
            size = len(base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True))
        except ValueError:
            size = 0
        if size not in NOTIFY_KEY_BYTES:
            raise ValidationError(
                f"secret {place} is not 24 to 64 bytes in base64: "
                "use the output of `echo whsec_$(openssl rand -base64 32)`"
            )


def are_host_names(names: list[str]) -> None:
    wrong = [name for name in names if name.strip() and not re.fullmatch(r"[\w.-]+", name.strip(), re.A)]
    if wrong:
        raise ValidationError(
            f"{', '.join(map(repr, wrong))} is no host name: give names alone, as in pipeline.internal, "
            "without scheme, port or path"
        )
