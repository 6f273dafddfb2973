"""Settings become a wired `Flow`. The only file that knows every concrete piece."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator.accounts_file import ProviderFacts
from orchestrator.broker import Broker, make_app
from orchestrator.environment import wants_traces
from orchestrator.events import about, warn
from orchestrator.exchange import Exchange
from orchestrator.flow import Flow
from orchestrator.local.valkey import EmbeddedServer, find_or_start
from orchestrator.naming import Naming
from orchestrator.notices import NotifyRules
from orchestrator.notifier import Notifier
from orchestrator.observer import NOBODY, Observer
from orchestrator.providers import registry
from orchestrator.settings import Settings
from orchestrator.signatures import webhook_keys
from orchestrator.store import Store
from orchestrator.watch import Watch

if TYPE_CHECKING:
    from orchestrator.artifacts import Artifacts
    from orchestrator.upstream import Upstream


@contextmanager
def _moment(name: str, traceparent: str | None, **fields: Any) -> Iterator[None]:
    with about(**fields):
        yield


def _upstream() -> Upstream:
    from orchestrator.upstream import Upstream  # these two bring requests and fsspec: 9 MB

    return Upstream()


def _artifacts(url: str) -> Artifacts:
    from orchestrator.artifacts import Artifacts

    return Artifacts(url)


class _Late:
    """Something that is made when it is first asked for anything. Thread-safe."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make, self._made, self._lock = make, None, threading.Lock()

    def __getattr__(self, name: str) -> Any:
        with self._lock:
            if self._made is None:
                self._made = self._make()
        return getattr(self._made, name)

    def close(self) -> None:
        if self._made is not None:
            self._made.close()


@dataclass(frozen=True)
class Parts:
    """What a flow is made of; other kinds of them where it is traced."""

    flow: type[Flow] = Flow
    broker: type[Broker] = Broker
    upstream: Callable[[], Upstream] = _upstream
    artifacts: Callable[[str], Artifacts] = _artifacts
    notifier: type[Notifier] = Notifier
    moment: Callable[..., AbstractContextManager[None]] = _moment
    """Within `moment(name, traceparent, job=…)`, a worker's lines and spans are about that job."""
    flush: Callable[[], None] = lambda: None
    """For a process that ends without its exit handlers."""


def _parts() -> Parts:
    if not wants_traces():
        return Parts()
    try:
        from orchestrator import tracing
    except ImportError:
        warn("tracing.not_installed", cure="pip install 'orchestrator[tracing]'")
        return Parts()
    return Parts(
        tracing.TracedFlow,
        tracing.TracedBroker,
        tracing.TracedUpstream,
        tracing.TracedArtifacts,
        tracing.TracedNotifier,
        tracing.moment,
        tracing.flush,
    )


@dataclass(frozen=True)
class Built:
    """A flow, and what must be closed after it."""

    flow: Flow
    notifier: Notifier
    settings: Settings
    server: EmbeddedServer | None  # the embedded server, where this process started it
    parts: Parts = field(default_factory=Parts)

    def close(self) -> None:
        """Safe to call twice."""
        self.flow.broker.app.close()
        self.flow.exchange.upstream.close()
        self.flow.store.close()
        if self.server:
            self.server.stop()


def read_settings() -> Settings:
    """Raises: ConfigurationError."""
    facts = {
        name: ProviderFacts(
            provider.base_url, provider.account_fields, provider.account_defaults, provider.account_faults
        )
        for name, provider in registry().items()
    }
    return Settings.from_environ(facts)


def build(settings: Settings, observer: Observer = NOBODY, lean: bool = False) -> Built:
    """Connect the pieces; start the embedded server where no Redis is named. Tells Redis the accounts.

    `observer` is told of all that this process does. `lean`: for one that hardly ever speaks to a provider,
    or to the place for pictures: what it takes is loaded when it does.
    Raises: ConfigurationError where nothing here speaks to the place for pictures (not where `lean`), or
    where Redis holds what another release wrote, too far away from this one; StoreUnavailable.
    """
    parts = _parts()
    late: Any = _Late if lean else lambda make: make()
    url = settings.artifacts_url
    artifacts = late(lambda: parts.artifacts(url)) if url else None
    redis_url, server = settings.redis_url, None
    if redis_url is None:
        redis_url, server = find_or_start(settings.folder)
    store = Store(redis_url, settings.retention)
    store.server.agree_on_format()
    store.accounts.configure(settings.accounts)
    upstream = late(parts.upstream)
    exchange = Exchange(
        upstream=upstream,
        artifacts=artifacts,
        providers=registry(),
        accounts={(account.provider, account.name): account for account in settings.accounts},
        keys=settings.secret_keys,
        public_url=settings.public_url,
        naming=Naming(settings.artifact_name),
        observer=observer,
    )
    app = make_app(settings.broker_url or redis_url, redis_url, settings.retention.ended)
    broker = parts.broker(app, observer)
    watch = Watch(store, exchange, clock=time.time, dice=random.random)
    secret = settings.notify_secret
    rules = NotifyRules(webhook_keys(secret, True) if secret else (), settings.notify_hosts)
    flow = parts.flow(store, broker, exchange, watch, time.time, random.random, settings.max_waiting, rules)
    notifier = parts.notifier(store, upstream, broker, rules, time.time, random.random)
    return Built(flow, notifier, settings, server, parts)
