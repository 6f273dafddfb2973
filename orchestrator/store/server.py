"""The Redis server itself: what jobs depend on, and what time it has."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import redis

from orchestrator.errors import ConfigurationError
from orchestrator.store.link import Link

FORMAT = 1  # of records and messages; docs/upgrading.md says when it is raised


class Server:
    """Thread-safe."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def agree_on_format(self) -> None:
        """Raise the format of what is kept here to this release's, where it is one below. Safe to call twice.

        A release reads and writes what the one before it does, and the one after it: no further.
        Raises: ConfigurationError where what is kept here is further away.
        """
        found = int(self._link.step("agree_on_format", FORMAT))
        if found > FORMAT + 1:
            fault = f"Redis holds records of format {found}, this release reads {FORMAT} and {FORMAT + 1}"
            raise ConfigurationError([f"{fault}: install the release that the others run"])
        if found < FORMAT - 1:
            fault = f"Redis holds records of format {found}, this release reads {FORMAT - 1} and {FORMAT}"
            raise ConfigurationError([f"{fault}: upgrade by the releases in between, one after the other"])

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
