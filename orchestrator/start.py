"""How a server of ours starts: patient with a Redis that is away, never on settings that lose work."""

from __future__ import annotations

import time
from collections.abc import Iterator

from orchestrator import safety
from orchestrator.build import Built, build, read_settings
from orchestrator.errors import ConfigurationError, StoreUnavailable
from orchestrator.events import warn
from orchestrator.observer import NOBODY, Observer
from orchestrator.safety import Finding
from orchestrator.settings import Settings

PATIENCE_SECONDS = 20.0
AGAIN_SECONDS = 0.5


def started(patience_seconds: float = 0.0, measures: bool = False, lean: bool = False) -> Built:
    """The wired flow, once nothing is found that would lose work.

    `measures`: it keeps metrics, where an address is set to tell them at. `lean`: as `build` takes it.
    Raises: ConfigurationError with every fault; StoreUnavailable where Redis is away for longer.
    """
    settings = read_settings()
    observer = measuring() if measures and settings.metrics_address else NOBODY
    built = _built(settings, observer, lean, time.monotonic() + patience_seconds)
    found = list(findings(built))
    for finding in found:
        if finding.verdict == "warning":
            warn("start.unsafe", finding=finding.text)
    if faults := [finding.text for finding in found if finding.verdict == "fault"]:
        built.close()
        raise ConfigurationError(faults)
    return built


def findings(built: Built) -> Iterator[Finding]:
    """What is unsafe; a Redis that does not answer just now is none of it."""
    settings, flow = built.settings, built.flow
    yield from safety.of_settings(settings, flow.exchange.providers)
    yield from safety.of_celery(flow.broker.app.conf, settings.accounts)
    try:
        yield from safety.of_redis(flow.store.server.facts())
        yield from safety.of_clock(flow.store.server.ahead_seconds(flow.clock))
    except StoreUnavailable:
        warn("start.unchecked", why="Redis does not answer")


def measuring() -> Observer:
    from orchestrator.metrics.measured import Measured  # only where it is asked for: it takes time and memory

    return Measured()


def _built(settings: Settings, observer: Observer, lean: bool, give_up_at: float) -> Built:
    while True:
        try:
            return build(settings, observer, lean)
        except StoreUnavailable:
            if time.monotonic() >= give_up_at:
                raise
            time.sleep(AGAIN_SECONDS)
