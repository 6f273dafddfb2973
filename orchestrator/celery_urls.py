"""One URL of ours as what Celery must be told: its own form of it, TLS, and transport options. Pure."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

from orchestrator.redis_place import (
    SENTINEL,
    SOCKET,
    TLS_FILES,
    RedisPlace,
    Tls,
    is_redis,
    redis_place,
    tls_of,
)

AMQP, AMQPS = ("amqp", "pyamqp"), ("amqps",)
WAIT_SECONDS, CONNECT_SECONDS = 15.0, 5.0
HEARTBEAT_SECONDS = 20
PLAIN_WORDS = (
    "must begin with amqp:// or amqps://, as in amqp://user:password@host:5672/vhost, or be a URL of Redis, "
    "as in redis://host:6379/1"
)

REDIS_TRANSPORT = {
    "health_check_interval": 30,
    "socket_keepalive": True,
    # Without it a publish waits for ever on a dead connection (kombu.transport.redis).
    "socket_timeout": WAIT_SECONDS,
    "socket_connect_timeout": CONNECT_SECONDS,
}
# A publish is over when the broker has the message, or says that it has not.
AMQP_TRANSPORT = {"confirm_publish": True, "read_timeout": WAIT_SECONDS, "write_timeout": WAIT_SECONDS}


def is_amqp(url: str) -> bool:
    return url.partition("://")[0].lower() in (*AMQP, *AMQPS)


def speaks_redis(celery_url: str) -> bool:
    """Whether this is Redis in Celery's own form."""
    return celery_url.partition(":")[0] in ("redis", "redis+socket", "sentinel")


def check_broker(url: str) -> None:
    """Raises: ValueError, in plain words, where no broker can be named so."""
    if is_redis(url):
        redis_place(url)
    elif is_amqp(url):
        _amqp(url)
    elif not url.startswith("memory://"):
        raise ValueError(PLAIN_WORDS)


def broker_conf(url: str) -> dict[str, Any]:
    """Celery's settings of a broker."""
    if is_amqp(url):
        plain, tls = _amqp(url)
        return {
            "broker_url": plain,
            "broker_use_ssl": tls,
            "broker_transport_options": AMQP_TRANSPORT,
            "broker_heartbeat": HEARTBEAT_SECONDS,
        }
    if not is_redis(url):
        return {"broker_url": url}
    place = redis_place(url)
    return {
        "broker_url": _redis(place),
        "broker_use_ssl": redis_tls(place.tls),
        "broker_transport_options": REDIS_TRANSPORT | _sentinels(place),
    }


def results_conf(url: str) -> dict[str, Any]:
    """Celery's settings of a result backend."""
    if not is_redis(url):
        return {"result_backend": url}
    place = redis_place(url)
    return {
        "result_backend": _redis(place),
        "redis_backend_use_ssl": redis_tls(place.tls),
        "redis_socket_keepalive": place.kind != SOCKET,  # which a socket's connection does not take
        "result_backend_transport_options": _sentinels(place),
    }


def redis_tls(tls: Tls | None) -> dict[str, Any] | None:
    """As redis-py takes it, but for the word that TLS is on."""
    if tls is None:
        return None
    return {**tls.files, "ssl_cert_reqs": _verification(tls), "ssl_check_hostname": tls.verified}


def sentinel_options(place: RedisPlace) -> dict[str, Any]:
    """How the sentinels themselves are spoken to, as redis-py takes it."""
    login = {"username": place.sentinel_username, "password": place.sentinel_password}
    options: dict[str, Any] = {name: text for name, text in login.items() if text}
    options |= {"socket_timeout": CONNECT_SECONDS, "socket_connect_timeout": CONNECT_SECONDS}
    return options | ({"ssl": True, **(redis_tls(place.tls) or {})} if place.tls else {})


def _sentinels(place: RedisPlace) -> dict[str, Any]:
    if place.kind != SENTINEL:
        return {}
    return {"master_name": place.master, "sentinel_kwargs": sentinel_options(place)}


def _redis(place: RedisPlace) -> str:
    login = quote(place.username or "", safe="")
    login += f":{quote(place.password, safe='')}" if place.password else ""
    login += "@" if login else ""
    if place.kind == SOCKET:
        return f"redis+socket://{login}{place.path}?virtual_host={place.db}"
    scheme = "sentinel" if place.kind == SENTINEL else "redis"
    return ";".join(f"{scheme}://{login}{_bracketed(host)}:{port}/{place.db}" for host, port in place.hosts)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _amqp(url: str) -> tuple[str, dict[str, Any] | None]:
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("cannot be read as a URL: a password in it must be percent-encoded") from None
    if not host:
        raise ValueError("names no host: give amqp://user:password@host:5672/vhost")
    encrypted = parts.scheme.lower() in AMQPS
    known = (*TLS_FILES, "ssl_cert_reqs") if encrypted else ()
    for name in sorted(options.keys() - set(known)):
        raise ValueError(f"has the option {name!r}; known here are: {', '.join(known) or 'none'}")
    plain = urlunsplit(("amqp", parts.netloc, parts.path, "", ""))
    if not encrypted:
        return plain, None
    tls = tls_of(options)
    files = {name.removeprefix("ssl_"): path for name, path in tls.files.items()}
    if port is None:
        plain = urlunsplit(("amqp", f"{parts.netloc}:5671", parts.path, "", ""))
    return plain, {**files, "cert_reqs": _verification(tls), "server_hostname": host}


def _verification(tls: Tls) -> Any:
    import ssl  # not with the settings: gunicorn's master, which reads them, must import nothing of sockets

    return ssl.CERT_REQUIRED if tls.verified else ssl.CERT_NONE
