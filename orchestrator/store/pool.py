"""Connections to Redis: at most so many, and whoever finds none free waits for one."""

from __future__ import annotations

from typing import Any

import redis
from redis.maint_notifications import MaintNotificationsConfig
from redis.sentinel import Sentinel, SentinelConnectionPool

from orchestrator.celery_urls import redis_tls, sentinel_options
from orchestrator.redis_place import SENTINEL, SOCKET, redis_place

MAX_CONNECTIONS, PATIENCE_SECONDS = 128, 5.0


class _SentinelPool(SentinelConnectionPool, redis.BlockingConnectionPool):
    """Each connection is made to whom the sentinels call the master then."""


def redis_client(url: str, socket_seconds: float) -> Any:
    """Raises: ValueError where the URL names no Redis."""
    place = redis_place(url)
    options: dict[str, Any] = {
        "max_connections": MAX_CONNECTIONS,
        "timeout": PATIENCE_SECONDS,
        "db": place.db,
        "username": place.username,
        "password": place.password,
        "decode_responses": True,
        "socket_timeout": socket_seconds,
        "health_check_interval": 30,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        "driver_info": None,  # looked up on the disk for each new connection, which would take 5 ms
    }
    tls = redis_tls(place.tls) or {}
    if place.kind == SENTINEL:
        options |= {"ssl": True, **tls} if place.tls else {}
        sentinel: Any = Sentinel(  # type: ignore[no-untyped-call]
            place.hosts, sentinel_kwargs=sentinel_options(place)
        )
        return sentinel.master_for(place.master, connection_pool_class=_SentinelPool, **options)
    if place.kind == SOCKET:
        options |= {"connection_class": redis.UnixDomainSocketConnection, "path": place.path}
    else:
        ((host, port),) = place.hosts
        options |= {"host": host, "port": port, **tls}
        options |= {"connection_class": redis.SSLConnection} if place.tls else {}
    # A flood of callbacks must wait for a connection, and not open thousands.
    pool: Any = redis.BlockingConnectionPool
    return redis.Redis.from_pool(pool(**options))
