"""Who gets in and what becomes of it: admission, capacity, life and end of every task of every API.

All of it runs in greenlets of one thread and never yields half-way through a change, so there are no locks.
"""

from __future__ import annotations

import random
import time
import uuid
from collections import deque
from dataclasses import dataclass
from functools import partial

from orchestrator.simulator.api import Api
from orchestrator.simulator.courier import Courier, Delivery
from orchestrator.simulator.markers import Marker, read_markers
from orchestrator.simulator.model import Account, Order, Phase, Refused, Snapshot, Task
from orchestrator.simulator.options import Options
from orchestrator.simulator.timers import Timers

SLOW_FACTOR = 10
KEPT_ENDED_TASKS = 200_000
LATE_PROGRESS = 0.9

REFUSALS = {
    Marker.UNAUTHORIZED: ("401", 401),
    Marker.CREDITS: ("412", 412),
    Marker.MODERATED_422: ("422", 422),
    Marker.BROKEN: ("596", 596),
    Marker.UNAVAILABLE_REFUSED: ("5xx", 503),
}
STAGED = (Marker.DOUBLE, Marker.EARLY, Marker.OUT_OF_ORDER)  # what becomes of a final callback
REASONS = {Marker.MODERATED: "SAFETY.INPUT.TEXT", Marker.FAILED: "INTERNAL.BAD_OUTPUT.CODE01"}


@dataclass(slots=True)
class Trouble:
    """An HTTP status that the next `count` requests are answered with, told through the control door."""

    status: int
    count: int
    accept: bool = False

    def take(self) -> bool:
        """True while it lasts; each call uses one up."""
        self.count -= 1
        return self.count >= 0


class Engine:
    """Runs the tasks of all APIs."""

    def __init__(self, options: Options, timers: Timers, courier: Courier) -> None:
        self._began_with = options
        self.options = options
        self.apis: dict[str, Api] = {}
        self.timers = timers
        self.courier = courier
        self.reset()

    def add(self, api: Api) -> None:
        """Take an API in. Safe to call twice, and forgets its state."""
        self.apis[api.name] = api
        api.reset(self.options.accounts)

    def reset(self) -> None:
        """Forget every task, account, count, trouble and changed option. Safe to call twice."""
        self.options = self._began_with
        self.timers.clear()
        self.courier.clear()
        self._submissions: dict[tuple[str, str], int] = {}
        self.accepted: deque[Task] = deque(maxlen=KEPT_ENDED_TASKS)  # those that a client deleted included
        self._ended: deque[Task] = deque()
        self.create_trouble = Trouble(0, 0)
        self.poll_trouble = Trouble(0, 0)
        self.url_era = 0  # artifact URLs of an earlier era have expired
        for api in self.apis.values():
            for task in api.tasks.values():
                task.tracked = False
            api.reset(self.options.accounts)

    def account(self, api: Api, email: str) -> Account:
        """The account of that name, brought into being where it is new."""
        if email not in api.accounts:
            api.accounts[email] = Account(email, self.options.max_jobs)
        return api.accounts[email]

    def submit(self, order: Order) -> Task:
        """Let one order in. Raises: Refused. Not safe to call twice: each call is a generation paid for."""
        told = self.create_trouble.take()
        if told and not self.create_trouble.accept:
            raise Refused.with_status(self.create_trouble.status)
        key = (order.api.name, order.prompt)
        number = self._submissions.get(key, 0) + 1
        markers = read_markers(order.prompt, number)
        dice = random.Random(f"{self.options.seed}/{number}/{order.prompt}")
        account = self._choose_account(order, dice)
        for marker in REFUSALS.keys() & markers:
            self._submissions[key] = number
            raise Refused(*REFUSALS[marker], account=account)
        self._check_capacity(order, account)
        # Only now: an order that met a full account has not used up a `[failed:2]`.
        self._submissions[key] = number
        task = self._start(order, account, markers, dice)
        if told or Marker.UNAVAILABLE in markers:
            task.answer_status = self.create_trouble.status if told else 503
        return task

    def has_room(self, api: Api, email: str) -> bool:
        """Whether one more order would get a slot of the account at once."""
        account = self.account(api, email)
        try:
            self._check_capacity(Order(api, ""), account)
        except Refused:
            return False
        return len(account.held) < account.max_jobs  # where the overflow is queued, all are let in

    def start_foreign(self, api: Api, email: str, seconds: float) -> Task:
        """A task that is not ours: it takes a slot for so many seconds (scaled), whatever the limit says."""
        order = Order(api, "", foreign=True)
        task = self._start(order, self.account(api, email), frozenset(), random.Random(0))
        task.seconds = seconds * self.options.scale
        self.timers.after(task.seconds, partial(self.end, task))
        return task

    def check_poll(self, api: Api) -> None:
        """Count one question after a task. Raises: Refused where trouble was asked for."""
        api.tally.polls += 1
        if self.poll_trouble.take():
            raise Refused.with_status(self.poll_trouble.status)

    def end_before_reply(self, task: Task) -> None:
        """End the task and wait until its final callback was answered. Safe to call twice."""
        for delivery in self._end(task):
            self.courier.deliver(delivery)

    def end(self, task: Task) -> None:
        """End the task and send its final callback. Safe to call twice."""
        for delivery in self._end(task):
            self.courier.send(delivery)

    def end_all(self, within_seconds: float) -> None:
        """End all that runs of ours within so many real seconds, evenly. Safe to call twice."""
        running = [task for task in self.accepted if task.ended_at is None and task.started_at is not None]
        for place, task in enumerate(running):
            self.timers.after(within_seconds * place / len(running), partial(self.end, task))

    def delete(self, task: Task) -> None:
        """Stop the task, free its slot, forget it; no callback any more. Safe to call twice."""
        task.tracked = False
        if task.order.api.tasks.pop(task.id, None) is not None and task.ended_at is None:
            self._free(task, "DELETED")

    def untrack(self, task: Task) -> None:
        """Let the task run on unwatched: it leaves the capacity gate, and no callback comes. Safe twice."""
        task.tracked = False
        task.account.held.pop(task.id, None)

    def _choose_account(self, order: Order, dice: random.Random) -> Account:
        pick = dice.random()  # drawn in any case, so that what follows is the same with and without an e-mail
        if order.email:
            return self.account(order.api, order.email)
        known = list(order.api.accounts.values())
        free = [account for account in known if len(account.held) < (order.max_jobs or account.max_jobs)]
        if free:
            return free[int(pick * len(free))]
        return known[0] if known else self.account(order.api, order.api.default_email)

    def _check_capacity(self, order: Order, account: Account) -> None:
        limit = order.max_jobs or account.max_jobs
        if len(account.held) >= limit and not order.api.queues_overflow:
            raise Refused("429A", 429, str(limit), account)
        if account.runway_limit is not None and len(account.running) >= account.runway_limit:
            raise Refused("429B", 429, account=account)

    def _start(self, order: Order, account: Account, markers: frozenset[Marker], dice: random.Random) -> Task:
        seconds = self.options.seconds.draw(dice) * self.options.scale
        task = Task(
            id=str(uuid.uuid4()),  # not from the seed: a restarted simulator must not repeat its ids
            order=order,
            account=account,
            tally=order.api.tally,
            markers=markers,
            dice=dice.getrandbits(64),
            seconds=seconds * (SLOW_FACTOR if Marker.SLOW in markers else 1),
            created_at=time.time(),
            limit=order.max_jobs or account.max_jobs,
        )
        order.api.tasks[task.id] = task
        if not order.foreign:
            self.accepted.append(task)
            task.tally.count_accepted(order.prompt, order.reply_ref, task.created_at)
        if len(account.held) >= task.limit and order.api.queues_overflow and not order.foreign:
            account.waiting[task.id] = task
            task.tally.throttled += 1
        else:
            self._run(task)
        return task

    def _run(self, task: Task) -> None:
        """Give the task a slot: its time runs from now."""
        task.started_at = time.time()
        task.running.begin(task.started_at)
        task.account.held[task.id] = task.account.running[task.id] = task
        if not task.order.foreign:
            self._count_start(task)
            self._plan(task)

    def _count_start(self, task: Task) -> None:
        account = task.account
        task.tally.count_concurrent(account.email, len(account.held))
        if account.freed_at is not None:
            task.tally.refills.append(time.monotonic() - account.freed_at)
            account.freed_at = None

    def _plan(self, task: Task) -> None:
        if Marker.EARLY in task.markers:
            return
        if Marker.FOREVER not in task.markers:
            self.timers.after(task.seconds, partial(self.end, task))
        progress = task.order.api.progress_callbacks(self.options.progress)
        if progress and self._calls_back(task):
            gap = task.seconds / (progress + 1)
            self._plan_progress(task, time.monotonic() + gap, gap, progress)

    def _plan_progress(self, task: Task, moment: float, gap: float, left: int) -> None:
        """Moments are counted from the start: on a busy machine progress is late, but not left out."""
        self.timers.at(moment, partial(self._report_progress, task, moment, gap, left))

    def _report_progress(self, task: Task, moment: float, gap: float, left: int) -> None:
        if task.ended_at is not None or not task.tracked:
            return
        self.courier.send(Delivery(task.now()))
        if left > 1:
            self._plan_progress(task, moment + gap, gap, left - 1)

    def _calls_back(self, task: Task) -> bool:
        return bool(task.order.reply_url) and task.tracked and Marker.LOST not in task.markers

    def _end(self, task: Task) -> list[Delivery]:
        """The final callbacks to send: mostly one."""
        if task.ended_at is not None:
            return []
        task.reason = next((REASONS[marker] for marker in REASONS if marker in task.markers), None)
        ended_at = self._free(task, "FAILED" if task.reason else "SUCCEEDED")
        self._forget_the_oldest(task)
        if not self._calls_back(task):
            if task.order.reply_url and Marker.LOST in task.markers:
                task.tally.callbacks_lost += 1
                task.tally.staged[Marker.LOST.value] += 1
            return []
        task.tally.staged.update(marker.value for marker in STAGED if marker in task.markers)
        late = Snapshot(task, Phase.RUNNING, LATE_PROGRESS, ended_at)
        delivery = Delivery(task.at(ended_at), late if Marker.OUT_OF_ORDER in task.markers else None)
        return [delivery] * (2 if Marker.DOUBLE in task.markers else 1)

    def _free(self, task: Task, status: str) -> float:
        """The unix moment at which the slot became free."""
        account = task.account
        now = task.ended_at = time.time()
        task.status = status
        if task.id in account.held and len(account.held) >= task.limit:
            account.freed_at = time.monotonic()
        for place in (account.held, account.running, account.waiting):
            place.pop(task.id, None)
        seconds = now - (task.started_at or now)
        if task.started_at is not None:
            task.running.end(task.started_at)
        task.tally.ended_by_account[account.email] += 1
        if task.order.foreign:
            task.tally.foreign_busy_seconds += seconds
        else:
            task.tally.count_ended(status, seconds, now)
        while account.waiting and len(account.held) < account.max_jobs:
            self._run(account.waiting.pop(next(iter(account.waiting))))
        return now

    def _forget_the_oldest(self, ended: Task) -> None:
        self._ended.append(ended)
        if len(self._ended) > KEPT_ENDED_TASKS:
            oldest = self._ended.popleft()
            oldest.order.api.tasks.pop(oldest.id, None)
