"""Accounts as Redis knows them: limits, rests, pace, and what was learned of them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.models import Account, Message
from orchestrator.store import records
from orchestrator.store.link import PREFIX, Link


class Accounts:
    """Thread-safe."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def configure(self, accounts: Iterable[Account]) -> None:
        """Make the providers' accounts exactly these; rests, and what a person changed since, are kept."""
        by_provider: dict[str, list[Account]] = {}
        for account in accounts:
            by_provider.setdefault(account.provider, []).append(account)
        for provider, its_accounts in by_provider.items():
            for account in its_accounts:
                self._set_limits(provider, account.name, "configured", records.limits(account))
            with self._link.client.pipeline() as pipeline:
                pipeline.delete(f"{PREFIX}accounts:{provider}")
                pipeline.sadd(f"{PREFIX}accounts:{provider}", *(account.name for account in its_accounts))
                self._link.call(pipeline.execute)

    def change(self, provider: str, account: str, limits: Mapping[str, float | None]) -> None:
        """Change limits while everything runs; it lasts. None: as the accounts file says."""
        told = {name: "" if value is None else value for name, value in limits.items()}
        self._set_limits(provider, account, "changed", told)

    def rest(self, provider: str, account: str, now: float, until: float, reason: str, why: str) -> None:
        """Give an account no work until then (unix seconds)."""
        told = json.dumps({"kind": reason, "message": why})
        self._link.step("rest", provider, account, now, until, reason, told)

    def resume(self, provider: str, account: str, now: float) -> tuple[Message, ...]:
        """End an account's rest, and forget what was learned to its disadvantage. Gives the grants."""
        return records.messages(self._link.step("resume", provider, account, now))

    def take_turn(self, provider: str, account: str, now: float) -> float:
        """Take one request from the account's pace: 0, or the seconds until there is one."""
        return float(self._link.step("take_turn", provider, account, now))

    def pace(self, provider: str, account: str) -> float:
        """Requests per second; 0 where there is no limit."""
        key = _key(provider, account)
        return float(self._link.call(lambda: self._link.client.hget(key, "requests_per_second")) or 0)

    def ahead(self, account: Account) -> int:
        """How many jobs beyond `max_jobs` the account is given."""
        key = _key(account.provider, account.name)
        learned = self._link.call(lambda: self._link.client.hget(key, "ahead"))
        return min(account.queue_ahead, math.ceil(account.max_jobs / 4) if learned is None else int(learned))

    def set_ahead(self, provider: str, account: str, ahead: int) -> None:
        self._link.call(lambda: self._link.client.hset(_key(provider, account), "ahead", ahead))

    def names(self, provider: str) -> list[str]:
        return sorted(self._link.call(lambda: self._link.client.smembers(f"{PREFIX}accounts:{provider}")))

    def rows(self, provider: str, now: float) -> list[dict[str, Any]]:
        """How the accounts of a provider stand, by name: their hashes, and beside these

        `provider`, `name`, `changed` (limits that a person changed), `used` (slots), `slots` (that it takes
        now, rests apart), `today` (generations of the last 24 hours, counted where there is a daily cap),
        `turn_in` (seconds until its pace has a request left), `opens_at` (until when it takes no work; None:
        it does) and `closed_by` (why).
        """
        return rows_of(provider, self._link.step("accounts", provider, now))

    def holders(self, provider: str, account: str) -> list[str]:
        """The attempts that hold its slots."""
        key = f"{PREFIX}slots:{provider}/{account}"
        held: list[str] = self._link.call(lambda: self._link.client.zrange(key, 0, -1))
        return held

    def _set_limits(self, provider: str, account: str, source: str, limits: Mapping[str, Any]) -> None:
        pairs = [each for pair in limits.items() for each in pair]
        self._link.step("set_limits", provider, account, source, *pairs)


def _key(provider: str, account: str) -> str:
    return f"{PREFIX}account:{provider}/{account}"


def rows_of(provider: str, found: Iterable[Any]) -> list[dict[str, Any]]:
    """What the step `accounts` gives of a provider, as `Accounts.rows`."""
    return [
        {
            **records.fields(fields),
            "provider": provider,
            "name": name,
            "changed": sorted(changed),
            "used": used,
            "slots": slots,
            "today": today,
            "turn_in": float(turn_in),
            "opens_at": float(opens_at) if opens_at else None,
            "closed_by": closed_by,
        }
        for name, fields, changed, used, slots, today, turn_in, opens_at, closed_by in found
    ]
