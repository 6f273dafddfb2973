"""`orchestrator doctor`: is everything there that the settings name? Each fault comes with its cure."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator

from orchestrator.broker import QUEUES
from orchestrator.build import Built, build, read_settings
from orchestrator.errors import CollectFailed, ConfigurationError, OrchestratorError
from orchestrator.models import Request
from orchestrator.notices import NO_SECRET
from orchestrator.redis_place import redis_place
from orchestrator.safety import Finding
from orchestrator.start import findings

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 16
PING_SECONDS = 2.0
BROKERS = {"py-amqp": "RabbitMQ", "redis": "Redis"}  # by kombu's word for the driver


def examine() -> list[Finding]:
    """Looks at everything. Spends nothing; safe to call twice."""
    try:
        settings = read_settings()
        built = build(settings)
    except ConfigurationError as error:
        return [Finding("fault", fault) for fault in error.faults]
    except OrchestratorError as error:
        return [Finding("fault", f"{error}: is ORCHESTRATOR_REDIS_URL right, and is the server up?")]
    with contextlib.closing(built):
        return [Finding("ok", "settings can be read"), *_findings(built)]


def _findings(built: Built) -> Iterator[Finding]:
    looks = (_redis, findings, _broker, _accounts, _artifacts, _public_url, _notices, _api, _workers)
    for look in looks:
        yield from look(built)


def _redis(built: Built) -> Iterator[Finding]:
    facts = built.flow.store.server.facts()
    url = built.settings.redis_url
    kind = "embedded" if url is None else f"given by {redis_place(url).kind}"
    yield Finding("ok", f"Redis answers ({kind}, version {facts['version'] or 'unknown'})")


def _broker(built: Built) -> Iterator[Finding]:
    try:
        waiting = built.flow.broker.waiting()
    except Exception as error:  # kombu raises whatever its transport raises
        cure = "is ORCHESTRATOR_BROKER_URL right?"
        yield Finding("fault", f"the broker does not answer ({type(error).__name__}): {cure}")
    else:
        kind = built.flow.broker.app.connection_for_write().transport.driver_name
        told = ", ".join(f"{count} in {queue}" for queue, count in waiting.items() if count)
        yield Finding(
            "ok", f"the broker answers ({BROKERS.get(kind, kind)}); messages that wait: {told or 'none'}"
        )


def _accounts(built: Built) -> Iterator[Finding]:
    accounts = built.settings.accounts
    if not accounts:
        cure = "set ORCHESTRATOR_ACCOUNTS where workers and the receiver run"
        yield Finding("warning", f"no accounts are known in this environment: {cure}")
    for account in accounts:
        yield Finding("ok", f"account {account.name} of {account.provider}: {account.max_jobs} slot(s)")


def _artifacts(built: Built) -> Iterator[Finding]:
    artifacts = built.flow.exchange.artifacts
    if artifacts is None:
        return (yield Finding("ok", "artifacts are not kept, only their URLs"))
    try:
        artifacts.remove(artifacts.put(f"doctor/{uuid.uuid4().hex}", "", [PNG]))
    except (CollectFailed, OSError) as error:
        yield Finding("fault", str(error))
    else:
        yield Finding("ok", f"artifacts can be kept in {built.settings.artifacts_url}")


def _public_url(built: Built) -> Iterator[Finding]:
    url = built.settings.public_url
    if url is None:
        cure = "set it to have providers call back"
        return (yield Finding("warning", f"ORCHESTRATOR_PUBLIC_URL is not set: everything is polled; {cure}"))
    try:
        status = built.flow.exchange.upstream.send(Request("GET", f"{url}/healthz"), PING_SECONDS).status
    except OrchestratorError as error:
        yield Finding(
            "fault", f"the receiver is not reached at {url}: {error}. Is it up, and the address right?"
        )
    else:
        verdict = "ok" if status == 200 else "fault"
        yield Finding(verdict, f"the receiver at {url} answers its health check with {status}")


def _notices(built: Built) -> Iterator[Finding]:
    secrets = len(built.flow.notify_rules.keys)
    waiting, dead = built.flow.store.notices.counts()
    if secrets:
        yield Finding("ok", f"webhooks to `notify_url` are signed, with {secrets} secret(s)")
    elif waiting:
        yield Finding(
            "warning", f"{waiting} notice(s) wait, and webhooks among them cannot be signed here: {NO_SECRET}"
        )
    if dead:
        yield Finding("warning", f"{dead} notice(s) were given up: see `orchestrator notices list --dead`")


def _api(built: Built) -> Iterator[Finding]:
    tenants = dict.fromkeys(key.tenant for key in built.settings.api_keys)
    if tenants:
        yield Finding("ok", f"the HTTP API has keys of {', '.join(tenants)}")


def _workers(built: Built) -> Iterator[Finding]:
    workers = built.flow.broker.workers(PING_SECONDS)
    if not workers:
        return (yield Finding("warning", "no worker answers: start one with `celery -A workers worker`"))
    yield Finding("ok", f"{len(workers)} worker(s) answer: {', '.join(sorted(workers))}")
    for queue in sorted(set(QUEUES).difference(*workers.values())):
        cure = f"start one with `celery -A workers worker -Q {queue}`"
        yield Finding("warning", f"no worker takes from {queue}: {cure}")
