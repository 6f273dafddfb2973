"""Where Redis is, read from one URL: a server, a socket, or what its sentinels say; with TLS or without."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

SERVER, SOCKET, SENTINEL = "server", "socket", "sentinel"
SCHEMES = {
    "redis": (SERVER, False),
    "rediss": (SERVER, True),
    "unix": (SOCKET, False),
    "sentinel": (SENTINEL, False),
    "sentinels": (SENTINEL, True),
    "redis+sentinel": (SENTINEL, False),
    "rediss+sentinel": (SENTINEL, True),
}
PORTS = {SERVER: 6379, SOCKET: 0, SENTINEL: 26379}
TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
VERIFICATIONS = {"required": True, "cert_required": True, "none": False, "cert_none": False}
SENTINEL_OPTIONS = ("master", "sentinel_username", "sentinel_password")


@dataclass(frozen=True)
class Tls:
    """Files that are not named: of the authorities, the system's; of a certificate of ours, none."""

    files: Mapping[str, str]  # by the names in TLS_FILES
    verified: bool = True


@dataclass(frozen=True)
class RedisPlace:
    """`hosts`: the server, or its sentinels; none where it is a socket. Secrets do not show in its repr."""

    kind: str  # SERVER, SOCKET or SENTINEL
    hosts: tuple[tuple[str, int], ...]
    path: str = ""
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: Tls | None = None
    master: str = ""  # what the sentinels call it
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)


def is_redis(url: str) -> bool:
    return url.partition("://")[0].lower() in SCHEMES


def redis_place(url: str) -> RedisPlace:
    """Raises: ValueError, whose text says what is wrong and shows no part of the URL that is secret."""
    scheme = url.partition("://")[0].lower() if "://" in url else ""
    if scheme not in SCHEMES:
        raise ValueError(
            "must begin with redis://, rediss:// or unix://, as in redis://host:6379/0, or with sentinel://, "
            "as in sentinel://one:26379,two:26379/0?master=mymaster"
        )
    kind, encrypted = SCHEMES[scheme]
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise ValueError("cannot be read as a URL: a password in it must be percent-encoded") from None
    known = (*(TLS_FILES if encrypted else ()), *(("ssl_cert_reqs",) if encrypted else ()))
    known += SENTINEL_OPTIONS if kind == SENTINEL else ()
    known += ("db",) if kind == SOCKET else ()
    for name in sorted(options.keys() - set(known)):
        raise ValueError(f"has the option {name!r}; known here are: {', '.join(known) or 'none'}")
    if kind == SENTINEL and not options.get("master"):
        raise ValueError("names no master: append ?master=NAME, as `sentinel monitor NAME` calls it")
    login, _, places = parts.netloc.rpartition("@")
    username, _, password = login.partition(":")
    return RedisPlace(
        kind=kind,
        hosts=() if kind == SOCKET else tuple(_host(each, PORTS[kind]) for each in places.split(",")),
        path=unquote(parts.path) if kind == SOCKET else "",
        db=_db(options.get("db", "") if kind == SOCKET else parts.path.strip("/")),
        username=unquote(username) or None,
        password=unquote(password) or None,
        tls=tls_of(options) if encrypted else None,
        master=options.get("master", ""),
        sentinel_username=options.get("sentinel_username") or None,
        sentinel_password=options.get("sentinel_password") or None,
    )


def tls_of(options: Mapping[str, str]) -> Tls:
    """From the options of a URL. Raises: ValueError."""
    files = {name: options[name] for name in TLS_FILES if options.get(name)}
    for name, path in files.items():
        if not os.access(path, os.R_OK):
            raise ValueError(f"has {name}={path}, a file that cannot be read here")
    if ("ssl_certfile" in files) != ("ssl_keyfile" in files):
        raise ValueError("has one of ssl_certfile and ssl_keyfile: give both, or none")
    told = options.get("ssl_cert_reqs", "required").lower()
    if told not in VERIFICATIONS:
        raise ValueError(f"has ssl_cert_reqs={told}; it must be required, or none where nothing is verified")
    return Tls(files, VERIFICATIONS[told])


def _host(text: str, port: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        found = (parts.hostname or "", parts.port or port)
    except ValueError:
        found = ("", 0)
    if not found[0]:
        raise ValueError("names no host, or a port that is none: give host:port, several with commas between")
    return found


def _db(text: str) -> int:
    if text and not text.isdecimal():
        raise ValueError(f"names the database {text!r}; it must be a number, as in redis://host:6379/0")
    return int(text or 0)
