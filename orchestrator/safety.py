"""Settings that lose work, do it twice, or let somebody in: facts in, findings out. Pure.

A fault keeps workers and the receiver from starting; a warning is only said. What is merely not known is
no finding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from orchestrator.broker import GENERATE
from orchestrator.celery_urls import is_amqp
from orchestrator.redis_place import RedisPlace, is_redis, redis_place

if TYPE_CHECKING:
    from orchestrator.models import Account
    from orchestrator.provider import Provider
    from orchestrator.settings import Settings

OLDEST_REDIS = (7, 0)  # the first with EXPIRE … LT; ZADD … LT came before
SKEW_WARNING_SECONDS, SKEW_FAULT_SECONDS = 2.0, 30.0
MIN_SIGNING_CHARACTERS, MIN_TOKEN_CHARACTERS = 16, 8
MESSAGE_SECONDS = 60.0  # what a message may take beyond the HTTP call in it
QUEUES = ("runway",)  # providers that let jobs wait in a queue of their own


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    verdict: str  # ok | warning | fault
    text: str


Findings = Iterator[Finding]


def of_redis(facts: Mapping[str, Any]) -> Findings:
    """`facts`: as `Server.facts` gives them; what is missing or None is not known."""
    version = facts.get("redis_version")
    if version and _numbers(version) < OLDEST_REDIS:
        oldest = ".".join(map(str, OLDEST_REDIS))
        yield Finding("fault", f"Redis is {version}, the scripts need {oldest}: use a newer one, or Valkey")
    if facts.get("cluster"):
        yield Finding(
            "fault", "Redis runs as a cluster, and a step touches keys of several slots: use one server"
        )
    if facts.get("role") == "slave":
        yield Finding("fault", "this Redis is a replica and takes no writes: name the primary")
    if facts.get("eviction") not in (None, "noeviction"):
        cure = "set maxmemory-policy noeviction, or jobs may vanish"
        yield Finding("fault", f"Redis evicts keys by {facts['eviction']}: {cure}")
    if facts.get("append_only") is False:
        yield Finding(
            "warning", "Redis keeps no append-only file: set appendonly yes, or a restart loses jobs"
        )
    elif facts.get("fsync") == "no":
        cure = "set appendfsync everysec, or always"
        yield Finding("warning", f"Redis leaves it to the system when the file is written: {cure}")
    if facts.get("write_error"):
        yield Finding("warning", "Redis could not write its append-only file: is its disk full?")


def of_clock(skew_seconds: float) -> Findings:
    """By how much this machine is ahead of Redis: leases and deadlines are moments on both."""
    if abs(skew_seconds) > SKEW_WARNING_SECONDS:
        verdict = "fault" if abs(skew_seconds) > SKEW_FAULT_SECONDS else "warning"
        way = "ahead of" if skew_seconds > 0 else "behind"
        text = f"this machine's clock is {abs(skew_seconds):.0f} s {way} that of Redis"
        yield Finding(verdict, f"{text}: run NTP on both, or leases end at the wrong time")


def of_celery(conf: Mapping[str, Any], accounts: tuple[Account, ...] = ()) -> Findings:
    """The Celery app's own settings."""
    for name in ("task_serializer", "result_serializer"):
        if conf[name] != "json":
            yield Finding(
                "fault", f"{name} is {conf[name]!r}: set json; others may run code that came as data"
            )
    if {str(each) for each in conf["accept_content"]} - {"json", "application/json"}:
        yield Finding(
            "fault", f"accept_content is {conf['accept_content']!r}: set ['json'], for the same reason"
        )
    if conf["task_always_eager"]:
        yield Finding("fault", "task_always_eager is on, so nothing waits for a slot: leave it off")
    if conf["worker_pool"] in ("prefork", "processes") and not conf["task_reject_on_worker_lost"]:
        cure = "set task_reject_on_worker_lost, or the threads pool"
        yield Finding("fault", f"a killed child of the prefork pool fails jobs that go on: {cure}")
    annotations = conf["task_annotations"] if isinstance(conf["task_annotations"], Mapping) else {}
    if any(annotations.get(task, {}).get("acks_late", True) is False for task in ("*", GENERATE)):
        yield Finding(
            "warning", f"acks_late of {GENERATE} is off, so a killed worker loses messages: leave it on"
        )
    if not conf["worker_prefetch_multiplier"]:
        cure = "set worker_prefetch_multiplier to 1 or 2"
        yield Finding("warning", f"one worker takes every message and holds up the others: {cure}")
    longest = max((account.deadline_seconds for account in accounts), default=0.0)
    expires = _seconds(conf["result_expires"])
    if expires is not None and 0 < expires < longest:
        cure = f"set it above the longest deadline_seconds, {longest:g}"
        yield Finding(
            "fault", f"result_expires is {expires:g} s, so a chord loses results it waits for: {cure}"
        )
    yield from _of_redelivery(conf, accounts)


def _of_redelivery(conf: Mapping[str, Any], accounts: tuple[Account, ...]) -> Findings:
    visible = _seconds((conf["broker_transport_options"] or {}).get("visibility_timeout"))
    needed = max((account.timeout_seconds for account in accounts), default=0.0) + MESSAGE_SECONDS
    if visible is not None and visible < needed:
        text = f"visibility_timeout is {visible:g} s, so messages come again while they are worked at"
        yield Finding("warning", f"{text}: set it above {needed:g}, or leave it out")


def of_settings(settings: Settings, providers: Mapping[str, Provider]) -> Findings:
    """What the environment and the accounts file say, taken together."""
    public_url = settings.public_url
    if public_url and not _is_safe(public_url):
        cure = "give an https:// address"
        yield Finding(
            "warning", f"callbacks come to {public_url} in clear, their references with them: {cure}"
        )
    if (settings.broker_url or "").startswith("memory:"):
        yield Finding("fault", "ORCHESTRATOR_BROKER_URL is of one process alone: name a server")
    if settings.notify_hosts and not settings.notify_secret:
        cure = "set it to the output of `echo whsec_$(openssl rand -base64 32)`"
        yield Finding(
            "warning",
            f"ORCHESTRATOR_NOTIFY_HOSTS does nothing without ORCHESTRATOR_NOTIFY_SECRET: {cure}",
        )
    for url in (settings.redis_url, settings.broker_url):
        if url and is_redis(url):
            yield from _of_redis_place(redis_place(url))
        elif url and is_amqp(url):
            yield from _of_amqp_url(url)
    for account in settings.accounts:
        where = f"account {account.provider}/{account.name}"
        for verdict, text in _of_account(account, providers[account.provider], public_url):
            yield Finding(verdict, f"{where}: {text}")


def _of_redis_place(place: RedisPlace) -> Findings:
    """Who may reach the server that knows everything."""
    hosts = [host for host, _ in place.hosts if not _is_loopback(host)]
    if not hosts:
        return
    if place.tls and not place.tls.verified:
        yield Finding(
            "warning", f"the certificate of Redis at {hosts[0]} is not verified: leave ssl_cert_reqs out"
        )
    if place.password:
        return
    # With TLS a certificate may be what lets us in.
    verdict = "warning" if place.tls or all(map(_is_private, hosts)) else "fault"
    cure = "set requirepass there, and give redis://:PASSWORD@host"
    yield Finding(verdict, f"Redis at {hosts[0]} is named without a password: {cure}")


def _of_amqp_url(url: str) -> Findings:
    parts = urlsplit(url)
    if _is_loopback(parts.hostname):
        return
    if parts.username in (None, "guest"):
        cure = "give a user of its own, and its password"
        yield Finding(
            "fault", f"RabbitMQ at {parts.hostname} is named with the user guest, whom it refuses: {cure}"
        )
    if parts.scheme.lower() != "amqps" and not _is_private(parts.hostname):
        yield Finding("fault", f"RabbitMQ's password goes to {parts.hostname} in clear: give an amqps:// URL")


def _of_account(account: Account, provider: Provider, public_url: str | None) -> Iterator[tuple[str, str]]:
    deadline = account.deadline_seconds
    if not _is_safe(account.base_url):
        host = urlsplit(account.base_url).hostname
        verdict = "warning" if _is_private(host) else "fault"
        yield verdict, f"its token goes to {account.base_url} in clear: give an https:// base_url"
    if deadline <= account.timeout_seconds:
        text = f"deadline_seconds {deadline:g} is not above timeout_seconds {account.timeout_seconds:g}"
        yield "fault", f"{text}: what is still being submitted would be lost, and made twice"
    expects = public_url is not None and provider.of(account).calls_back
    first = "net_seconds" if expects else "poll_seconds"
    if not provider.synchronous and getattr(account, first) > deadline:
        yield (
            "warning",
            f"{first} is above deadline_seconds {deadline:g}: it is asked once, when it is too late",
        )
    if account.queue_ahead and account.provider not in QUEUES:
        yield "warning", f"queue_ahead is for {', '.join(QUEUES)}: this provider refuses what has no slot"
    if 0 < account.max_spend < account.price:
        yield (
            "warning",
            f"max_spend {account.max_spend:g} is below its price {account.price:g}: it does nothing",
        )
    if len(account.token.reveal()) < MIN_TOKEN_CHARACTERS:
        yield "warning", f"its token has less than {MIN_TOKEN_CHARACTERS} characters: was it cut short?"
    if provider.signs and expects:
        yield from _of_signing(account)


def _of_signing(account: Account) -> Iterator[tuple[str, str]]:
    secret = account.fields.get("signing_secret")
    if secret is None:
        yield "warning", "it has no signing_secret: its callbacks are known by our reference alone"
        return
    each = [text.strip() for text in secret.reveal().split(",") if text.strip()]
    if any(len(text) < MIN_SIGNING_CHARACTERS for text in each):
        least = f"a signing secret has less than {MIN_SIGNING_CHARACTERS} characters"
        yield "warning", f"{least}, and may be guessed: ask the provider for another"


def _is_safe(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "https" or _is_loopback(parts.hostname)


def _is_loopback(host: str | None) -> bool:
    try:
        return not host or host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _is_private(host: str | None) -> bool:
    """A private address, or a name that only a network of one's own resolves."""
    try:
        return ip_address(host or "").is_private
    except ValueError:
        return "." not in (host or "") or str(host).endswith((".local", ".internal", ".svc", ".lan"))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())


def _seconds(told: Any) -> float | None:
    """Seconds, or a timedelta, as Celery takes both; None where nothing is said."""
    if told is None:
        return None
    return float(told.total_seconds() if hasattr(told, "total_seconds") else told)
