"""How the whole stands at one moment: three rounds of reads, however many jobs there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.models import Spend
from orchestrator.store.accounts import rows_of
from orchestrator.store.link import PREFIX, Link
from orchestrator.store.spend import book_of


@dataclass(frozen=True)
class Whole:
    """Moments are unix seconds."""

    at: float
    jobs: Mapping[str, int]  # by `<provider>/<state>`
    events: Mapping[str, int]  # by `<provider>/<word>`, since the beginning
    missing: Mapping[str, float]  # provider → share of callbacks that did not come
    paused: frozenset[str]  # `provider:<name>`, `batch:<name>`
    accounts: tuple[Mapping[str, Any], ...]  # as `Accounts.rows`
    spend: Mapping[tuple[str, str], tuple[Spend, float]]  # (provider, account) → generations, cost
    lanes: Mapping[str, tuple[int, int]]  # provider → lanes that wait for it, jobs in them
    due: int
    first_due_at: float | None
    uncertain: int  # open submits of which it is not known whether they arrived
    dead_letters: int
    collecting: int  # jobs whose pictures could not be kept so far
    first_dies_at: float | None  # the first of their URLs, about
    storage_fails: bool  # nothing is begun, since pictures cannot be kept
    notices: int
    dead_notices: int
    memory_bytes: int
    memory_limit_bytes: int  # 0: none


class Wholes:
    """Thread-safe."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def look(self, providers: Sequence[str], now: float) -> Whole:
        with self._link.client.pipeline(transaction=False) as pipeline:
            pipeline.hgetall(f"{PREFIX}counts").hgetall(f"{PREFIX}stats").hgetall(f"{PREFIX}missing")
            pipeline.smembers(f"{PREFIX}paused").zcard(f"{PREFIX}due").scard(f"{PREFIX}uncertain")
            pipeline.zcard(f"{PREFIX}dead").zcard(f"{PREFIX}collecting").exists(f"{PREFIX}storage")
            pipeline.zcard(f"{PREFIX}notices").zcard(f"{PREFIX}dead-notices").info("memory")
            for name in ("due", "collecting"):
                pipeline.zrange(f"{PREFIX}{name}", 0, 0, withscores=True)
            for provider in providers:
                self._link.step_in(pipeline, "accounts", provider, now)
            told, found = _halves(self._link.call(pipeline.execute), len(providers))
        accounts = [
            row for provider, rows in zip(providers, found, strict=True) for row in rows_of(provider, rows)
        ]
        spend, lanes = self._of(providers, [(row["provider"], row["name"]) for row in accounts])
        counts, events, missing, paused, due, uncertain, dead, collecting, storage, *rest = told
        notices, dead_notices, memory, first_due, first_dying = rest
        return Whole(
            at=now,
            jobs={word: int(count) for word, count in counts.items()},
            events={word: int(count) for word, count in events.items()},
            missing={provider: float(share) for provider, share in missing.items()},
            paused=frozenset(paused),
            accounts=tuple(accounts),
            spend=spend,
            lanes=lanes,
            due=due,
            first_due_at=first_due[0][1] if first_due else None,
            uncertain=uncertain,
            dead_letters=dead,
            collecting=collecting,
            first_dies_at=first_dying[0][1] if first_dying else None,
            storage_fails=bool(storage),
            notices=notices,
            dead_notices=dead_notices,
            memory_bytes=int(memory.get("used_memory", 0)),
            memory_limit_bytes=int(memory.get("maxmemory", 0)),
        )

    def _of(
        self, providers: Sequence[str], accounts: Sequence[tuple[str, str]]
    ) -> tuple[dict[tuple[str, str], tuple[Spend, float]], dict[str, tuple[int, int]]]:
        """What was spent at the accounts; and who waits for the providers, or for one account of theirs."""
        pools = [*providers, *(f"{provider}/{account}" for provider, account in accounts)]
        with self._link.client.pipeline(transaction=False) as pipeline:
            for pool in pools:
                pipeline.zrange(f"{PREFIX}lanes:{pool}", 0, -1)
            for provider, account in accounts:
                pipeline.hgetall(f"{PREFIX}spend:{provider}/{account}")
            lanes, books = _halves(self._link.call(pipeline.execute), len(accounts))
        spend = {
            account: (sum(book_of(book).values(), Spend()), float(book.get("cost", 0)))
            for account, book in zip(accounts, books, strict=True)
        }
        of_provider = {provider: set[str]() for provider in providers}
        for pool, names in zip(pools, lanes, strict=True):
            of_provider[pool.partition("/")[0]].update(names)
        names = sorted(set().union(*of_provider.values()))
        with self._link.client.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.zcard(f"{PREFIX}lane:{name}")
            waiting = dict(zip(names, self._link.call(pipeline.execute), strict=True))
        return spend, {
            provider: (len(its), sum(waiting[name] for name in its)) for provider, its in of_provider.items()
        }


def _halves(found: Sequence[Any], last: int) -> tuple[Sequence[Any], Sequence[Any]]:
    return found[: len(found) - last], found[len(found) - last :]
