"""The Redis server itself: what jobs depend on, and what time it has."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import redis

from orchestrator.store.link import Link


class Server:
    """Thread-safe."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def facts(self) -> dict[str, Any]:
        """`version`, `redis_version`, `eviction` (a policy), `append_only`, `fsync`, `write_error`, `role`,
        `cluster`; None for what the server does not tell, as some of hosting firms do not.
        """
        told: dict[str, Any] = {}
        with suppress(redis.exceptions.ResponseError):
            told = self._link.call(self._link.client.info)
        fsync: dict[str, str] = {}
        with suppress(redis.exceptions.ResponseError):
            fsync = self._link.call(lambda: self._link.client.config_get("appendfsync"))
        return {
            "version": told.get("valkey_version") or told.get("redis_version"),
            "redis_version": told.get("redis_version"),
            "eviction": told.get("maxmemory_policy"),
            "append_only": bool(int(told["aof_enabled"])) if "aof_enabled" in told else None,
            "fsync": fsync.get("appendfsync"),
            "write_error": told.get("aof_last_write_status", "ok") != "ok",
            "role": told.get("role"),
            "cluster": bool(int(told.get("cluster_enabled", 0))),
        }

    def ahead_seconds(self, clock: Callable[[], float]) -> float:
        """By how much `clock` is ahead of the server's, the way there and back reckoned with."""
        asked_at = clock()
        seconds, microseconds = self._link.call(self._link.client.time)
        return (asked_at + clock()) / 2 - float(seconds + microseconds / 1e6)
