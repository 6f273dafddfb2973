"""Looking after open attempts: when to ask the provider, asking, and learning how long generations take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from orchestrator import pace
from orchestrator.errors import Unavailable
from orchestrator.models import Account, Attempt, Failed, Lost, Outcome, Pending, WhenUncertain

if TYPE_CHECKING:
    from orchestrator.exchange import Exchange
    from orchestrator.store import Store

# When the provider is asked whether an uncertain submit arrived: seconds after the one before. A provider
# that has denied it as often did not take it.
SEARCH_SECONDS = (2.0, 4.0, 8.0)
# What was made that long before an attempt, whatever the provider's clock and time zone, is not of it: it is
# of a job that had the same id and was forgotten.
SEARCHED_BEFORE_SECONDS = 86_400.0
LEARN_SECONDS = 3.0  # how long what was learned is used before it is learned anew
NET_SHARE, NET_FACTOR, NET_SECONDS = 0.95, 1.2, 1.0  # where a callback is expected: first poll after these
MISSING, MISSING_NO_MORE = 0.5, 0.25  # share of callbacks that never came, to poll instead and to stop that
ASKED_JUST_NOW = 0.9  # of the least time between two polls
UNHEARD_SECONDS = 600.0  # beyond its deadline, an attempt is not lost while the provider does not answer
OVERHEAD_SECONDS = 0.1  # from a poll's answer to the next submit's arrival, about


@dataclass
class Watch:
    """Thread-safe: two threads may learn the same thing twice, which harms nothing."""

    store: Store
    exchange: Exchange
    clock: Callable[[], float]  # unix seconds
    dice: Callable[[], float]  # uniform in [0, 1)
    _learned: dict[tuple[str, float, float], tuple[float, pace.Learned]] = field(default_factory=dict)
    _polling: dict[str, tuple[float, bool]] = field(default_factory=dict)
    _paces: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)

    def submitted(self, attempt: str, account: Account, timing: str, upstream_id: str) -> str:
        """Record what the provider calls an attempt; arm its first poll. Gives a verdict if it is closed."""
        expects = self.exchange.expects_callback(account)
        learned = self._known(account, timing)
        if not expects or self.polls_instead(account.provider):
            wait = self._next_poll_seconds(account, timing, 0.0)
        elif learned.enough:
            wait = pace.quantile(learned.durations, NET_SHARE) * NET_FACTOR + NET_SECONDS
        else:
            wait = account.net_seconds
        now = self.clock()
        return self.store.submitted(attempt, upstream_id, now, now + wait, timing, expects)

    def look(self, attempt: Attempt) -> Outcome:
        """The outcome so far. Where there is none yet, it is arranged to look again."""
        account = self.exchange.accounts.get((attempt.provider, attempt.account))
        outcome: Outcome = Pending()
        if account:
            outcome = self._ask(account, attempt) if attempt.upstream_id else self._search(account, attempt)
        if isinstance(outcome, Pending) and self.clock() >= attempt.deadline_at:
            if not outcome.heard and self.clock() < attempt.deadline_at + UNHEARD_SECONDS:
                return outcome  # what cannot be asked just now is not lost yet: it may have been paid for
            holds = account is not None and account.when_uncertain is WhenUncertain.HOLD
            return Lost(held=holds and not attempt.upstream_id)
        return outcome

    def duration(self, attempt: Attempt) -> float | None:
        """About how long a generation took that a poll just saw finished; None where it cannot be said."""
        account = self.exchange.accounts.get((attempt.provider, attempt.account))
        if not account or not attempt.submitted_at:
            return None
        learned = self._known(account, attempt.timing)
        if account.queue_ahead:
            self._tune(account, learned)
        until = self.clock() - attempt.submitted_at
        after = attempt.looked_at - attempt.submitted_at if attempt.looked_at else 0.0
        return pace.estimate(learned, after, until, self.dice)

    def polls_instead(self, provider: str) -> bool:
        """Whether this provider's callbacks stopped coming, so that it is polled."""
        known_at, polling = self._polling.get(provider, (0.0, False))
        if self.clock() >= known_at + LEARN_SECONDS:
            polling = self.store.missing_share(provider) > (MISSING_NO_MORE if polling else MISSING)
            self._polling[provider] = (self.clock(), polling)
        return polling

    def _ask(self, account: Account, attempt: Attempt) -> Outcome:
        now, floor = self.clock(), self.exchange.min_poll_seconds(account)
        if attempt.looked_at and now - attempt.looked_at < ASKED_JUST_NOW * floor:
            return Pending(heard=False)  # somebody else did, and said when to look again
        if wait := self._wait_for_turn(account, now):
            # Spread out, so that those that wait for the pace do not come back all at once.
            self.store.look_again(attempt.id, now, now + max(wait, floor) * (1 + self.dice()))
            return Pending(heard=False)
        outcome = self.exchange.ask(account, str(attempt.upstream_id))
        if isinstance(outcome, Pending):
            now = self.clock()
            waited = now - (attempt.submitted_at or attempt.opened_at)
            wait = self._next_poll_seconds(account, attempt.timing, waited)
            self.store.look_again(attempt.id, now, now + wait, "polls")
        return outcome

    def _wait_for_turn(self, account: Account, now: float) -> float:
        """Seconds until the account's pace has a request left; 0: it was taken."""
        key = (account.provider, account.name)
        known_at, pace = self._paces.get(key, (0.0, 0.0))
        if now >= known_at + LEARN_SECONDS:
            pace = self.store.accounts.pace(*key)
            self._paces[key] = (now, pace)
        return self.store.accounts.take_turn(*key, now) if pace else 0.0

    def _search(self, account: Account, attempt: Attempt) -> Outcome:
        if self.exchange.may_repeat(account):
            return Failed(Unavailable("the submit was never answered"), nameless=True)
        if not attempt.uncertain_since:  # its worker is gone, perhaps after the POST
            self.store.uncertain(attempt.id, self.clock(), attempt.deadline_at)
        if not self.exchange.can_search(account):
            # Only a callback can tell; the deadline is the next moment that matters.
            self.store.look_again(attempt.id, self.clock(), attempt.deadline_at)
            return Pending()
        since = attempt.opened_at - SEARCHED_BEFORE_SECONDS
        answered, upstream_id = self.exchange.search(account, attempt.id, since)
        if upstream_id:
            self.submitted(attempt.id, account, attempt.timing, upstream_id)
            return self._ask(account, replace(attempt, upstream_id=upstream_id))  # it may be over long since
        if answered and attempt.denied + 1 >= len(SEARCH_SECONDS):
            denial = Unavailable("the submit failed, and the provider knows nothing of it")
            return Failed(denial, nameless=True)
        else:
            denied = attempt.denied + (1 if answered else 0)
            wait = SEARCH_SECONDS[min(denied, len(SEARCH_SECONDS) - 1)]
            now = self.clock()
            self.store.look_again(attempt.id, now, now + wait, "denied" if answered else "")
        return Pending(heard=answered)

    def _next_poll_seconds(self, account: Account, timing: str, waited: float) -> float:
        floor = self.exchange.min_poll_seconds(account)
        return pace.next_poll_seconds(self._known(account, timing), waited, account.poll_seconds, floor)

    def _known(self, account: Account, timing: str) -> pace.Learned:
        worth = pace.POLL_WORTH_AHEAD if account.queue_ahead else pace.POLL_WORTH
        floor = self.exchange.min_poll_seconds(account)
        key = (timing, floor, worth)
        learned_at, learned = self._learned.get(key, (0.0, pace.Learned()))
        if self.clock() >= learned_at + LEARN_SECONDS:
            learned = pace.learn(self.store.durations(timing), floor, worth)
            self._learned[key] = (self.clock(), learned)
        return learned

    def _tune(self, account: Account, learned: pace.Learned) -> None:
        """Let as many jobs queue at the provider as end unseen between two polls."""
        now_ahead = self.store.accounts.ahead(account)
        best = pace.ahead(account.max_jobs, account.queue_ahead, now_ahead, learned, OVERHEAD_SECONDS)
        if best != now_ahead:
            self.store.accounts.set_ahead(account.provider, account.name, best)
