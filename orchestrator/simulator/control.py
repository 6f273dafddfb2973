"""The control door, for tests and chaos: figures, a fresh start, trouble to order. Loopback only."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from ipaddress import ip_address
from typing import Any

from orchestrator.simulator.api import Api
from orchestrator.simulator.apis.freepik_runway import FreepikRunway
from orchestrator.simulator.contender import Contender
from orchestrator.simulator.engine import Engine, Trouble
from orchestrator.simulator.markers import Marker
from orchestrator.simulator.model import Task
from orchestrator.simulator.options import Seconds
from orchestrator.simulator.tally import add_up
from orchestrator.simulator.web import Request, Response, Route, View, reply


class Control:
    """Serves `/__stats__`, `/__tasks__`, `/__reset__` and `/__control__`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._contenders: dict[tuple[str, str], Contender] = {}

    def routes(self) -> Iterable[Route]:
        """What it serves; callers from other machines get 403."""
        for method, path, view in (
            ("GET", "/__stats__", self.stats),
            ("GET", "/__tasks__", self.tasks),
            ("POST", "/__reset__", self.reset),
            ("POST", "/__control__", self.control),
        ):
            yield Route(method, path, partial(_unless_stranger, view))

    def stats(self, request: Request) -> Response:
        """The tally of each API and their total; `now` in unix seconds."""
        apis, now = self._engine.apis, time.time()
        total = _figures(list(apis.values()), now)
        return reply(
            {"now": now, "total": total, "apis": {name: _figures([apis[name]], now) for name in apis}}
        )

    def tasks(self, request: Request) -> Response:
        """Every task that was accepted of us, oldest first: what we would be charged for."""
        return reply({"tasks": [_entry(task) for task in self._engine.accepted]})

    def reset(self, request: Request) -> Response:
        """Back to the state after the start. Safe to call twice."""
        self._engine.reset()
        self._contenders.clear()
        return reply({"ok": True})

    def control(self, request: Request) -> Response:
        """Order one or several kinds of trouble; 400 at the first that is unreadable."""
        orders = request.json()
        actions: dict[str, Callable[[Any], None]] = {
            "fail": self._fail,
            "poll_fail": self._fail_polls,
            "foreign": self._start_foreign,
            "contender": self._contend,
            "runway_limit": self._limit,
            "freepik_secret": self._set_secret,
            "runway_daily": self._cap,
            "runway_overflow": self._overflow,
            "expire_outputs": self._expire,
            "seconds": self._set_seconds,
            "end_all": self._end_all,
        }
        if not isinstance(orders, Mapping) or not orders or orders.keys() - actions.keys():
            return reply({"error": f"expected an object with some of {', '.join(actions)}", "code": 400}, 400)
        try:
            for name, wish in orders.items():
                actions[name](wish)
        except (KeyError, TypeError, ValueError) as error:
            return reply({"error": f"{type(error).__name__}: {error}", "code": 400}, 400)
        return reply({"ok": True})

    def _fail(self, wish: Mapping[str, object]) -> None:
        trouble = _trouble(wish)
        trouble.accept = wish.get("accept") is True
        self._engine.create_trouble = trouble

    def _fail_polls(self, wish: Mapping[str, object]) -> None:
        self._engine.poll_trouble = _trouble(wish)

    def _start_foreign(self, wish: Mapping[str, object]) -> None:
        email, seconds = str(wish["email"]), float(str(wish.get("seconds", 30)))
        for _ in range(int(str(wish.get("count", 1)))):
            self._engine.start_foreign(self._api(wish), email, seconds)

    def _contend(self, wish: Mapping[str, object]) -> None:
        """`{"email": …, "tasks": the most it holds, 0 to end it, "seconds": of each}`; one per account."""
        api, email = self._api(wish), str(wish["email"])
        tasks, seconds = int(str(wish["tasks"])), float(str(wish.get("seconds", 30)))
        contender = self._contenders.setdefault((api.name, email), Contender(self._engine, api, email))
        contender.want(tasks, seconds)

    def _limit(self, wish: Mapping[str, object] | None) -> None:
        if wish is None:
            for api in self._engine.apis.values():
                for account in api.accounts.values():
                    account.runway_limit = None
            return
        account = self._engine.account(self._api(wish), str(wish["email"]))
        account.runway_limit = None if wish["tasks"] is None else int(str(wish["tasks"]))

    def _set_secret(self, wish: Mapping[str, object]) -> None:
        """`{"key": API key, "secret": text}`; null: its callbacks are not signed any more."""
        secrets = self._freepik().secrets
        secrets.pop(str(wish["key"]), None)
        if wish["secret"] is not None:
            secrets[str(wish["key"])] = str(wish["secret"])

    def _freepik(self) -> FreepikRunway:
        api = self._engine.apis["freepik_runway"]
        assert isinstance(api, FreepikRunway)
        return api

    def _cap(self, wish: Mapping[str, object]) -> None:
        account = self._engine.account(self._engine.apis["runway"], str(wish["token"]))
        account.daily_left = None if wish["left"] is None else int(str(wish["left"]))

    def _overflow(self, wish: str) -> None:
        if wish not in ("queue", "refuse"):
            raise ValueError("runway_overflow is queue or refuse")
        self._engine.apis["runway"].queues_overflow = wish == "queue"

    def _expire(self, wish: bool) -> None:
        if wish is not True:
            raise ValueError("expire_outputs is true")
        self._engine.url_era += 1

    def _set_seconds(self, wish: str) -> None:
        """How long the generations take that begin from now on, as `--seconds` has it."""
        self._engine.options = replace(self._engine.options, seconds=Seconds.parse(str(wish)))

    def _end_all(self, within: float) -> None:
        """Let all that runs end within so many real seconds, evenly."""
        self._engine.end_all(float(within))

    def _api(self, wish: Mapping[str, object]) -> Api:
        """The API that `api` names; the first one where it names none."""
        apis = self._engine.apis
        return apis[str(wish.get("api", next(iter(apis))))]


def _figures(apis: Sequence[Api], now: float) -> dict[str, object]:
    """The tallies as one, and the seconds that slots were held so far: by what has ended and what has not."""
    tally = add_up([api.tally for api in apis])
    ours = tally.busy_seconds + sum(api.tally.ours.seconds(now) for api in apis)
    foreign = tally.foreign_busy_seconds + sum(api.tally.foreign.seconds(now) for api in apis)
    return {**tally.view(), "held_seconds": {"ours": round(ours, 3), "foreign": round(foreign, 3)}}


def _entry(task: Task) -> dict[str, object]:
    """Moments are unix seconds; None: not yet. `empty`: it succeeds without a picture."""
    return {
        "id": task.id,
        "api": task.order.api.name,
        "account": task.account.email,
        "prompt": task.order.prompt,
        "reply_url": task.order.reply_url,
        "created_at": task.created_at,
        "ended_at": task.ended_at,
        "status": task.status,
        "reason": task.reason,
        "empty": Marker.EMPTY in task.markers,
    }


def _trouble(wish: Mapping[str, object]) -> Trouble:
    status = int(str(wish["status"]))
    if not 400 <= status <= 599:
        raise ValueError("status must be from 400 to 599")
    return Trouble(status, int(str(wish.get("count", 1))))


def _unless_stranger(view: View, request: Request) -> Response:
    if ip_address(request.address).is_loopback:
        return view(request)
    return reply({"error": "Forbidden", "code": 403}, 403)
