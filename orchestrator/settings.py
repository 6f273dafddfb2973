"""The environment and the accounts file, read once, into one frozen `Settings`.

Everything that is wrong is reported together, each with its cure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from environs import Env, EnvValidationError

from orchestrator import naming, variables
from orchestrator.accounts_file import ACCOUNT_NUMBERS, ProviderFacts, accounts_in
from orchestrator.api_keys import VARIABLE as API_KEYS
from orchestrator.api_keys import api_keys
from orchestrator.environment import SECRETS, environment, secret, value_of
from orchestrator.errors import ConfigurationError
from orchestrator.models import RETENTION, Account, ApiKey, Retention, Secret

DEFAULT_FOLDER = ".orchestrator"
DAY = 86_400


@dataclass(frozen=True)
class Settings:
    """Everything the product is told from outside. Secrets do not show in its repr."""

    redis_url: str | None = field(repr=False)  # None: the embedded server
    broker_url: str | None = field(repr=False)  # None: the same Redis
    public_url: str | None  # None: no callbacks are asked for, everything is polled
    secret_keys: tuple[Secret, ...] = field(repr=False)
    artifacts_url: str | None = field(repr=False)  # None: only URLs are kept
    accounts: tuple[Account, ...]
    max_waiting: int  # jobs that may wait; 0: no cap
    folder: Path  # of the embedded server
    artifact_name: str = naming.DEFAULT  # template: what the files are called, as `naming` reads it
    retention: Retention = RETENTION
    notify_secret: Secret | None = field(default=None, repr=False)  # a comma list: all sign what is told
    notify_hosts: frozenset[str] = frozenset()  # that may be told although they are not public
    api_keys: tuple[ApiKey, ...] = field(default=(), repr=False)  # empty: there is no HTTP API
    heartbeat: Path | None = None  # touched by a worker or ticker while it is well
    stop_seconds: float = 35.0  # for what a worker has begun, once it is told to end
    metrics_address: tuple[str, int] | None = None  # host, port; None: there are none

    @classmethod
    def from_environ(cls, providers: Mapping[str, ProviderFacts]) -> Settings:
        """Raises: ConfigurationError with every fault. Safe to call twice."""
        env = _Told(prefix="ORCHESTRATOR_", eager=False)
        redis_url = env.str("REDIS_URL", "", validate=variables.is_redis_url) or None
        broker_url = env.str("BROKER_URL", "", validate=variables.is_broker_url) or None
        public_url = (env.str("PUBLIC_URL", "", validate=variables.is_public_url) or "").rstrip("/") or None
        secret_keys: list[str] = env.list("SECRET_KEYS", [], validate=variables.are_long_enough) or []
        artifacts_url = env.str("ARTIFACTS", "") or "file://./artifacts"
        accounts_path = env.str("ACCOUNTS", "")
        artifact_name = env.str("ARTIFACT_NAME", "", validate=variables.is_artifact_name) or naming.DEFAULT
        max_waiting = env.int("MAX_WAITING", 0, validate=variables.is_not_negative)
        folder = env.str("FOLDER", "") or DEFAULT_FOLDER
        kept, failed_kept = RETENTION.ended / DAY, RETENTION.failed / DAY
        keep_days = env.float("KEEP_DAYS", kept, validate=variables.is_kept_for)
        keep_failed_days = env.float("KEEP_FAILED_DAYS", failed_kept, validate=variables.is_kept_for)
        notify_secret = env.str("NOTIFY_SECRET", "", validate=variables.are_webhook_secrets) or ""
        notify_hosts: list[str] = env.list("NOTIFY_HOSTS", [], validate=variables.are_host_names) or []
        keys_text = env.str("API_KEYS", "")
        heartbeat = env.str("HEARTBEAT", "", validate=variables.is_in_a_folder)
        stop_seconds = env.float("STOP_SECONDS", 0.0, validate=variables.is_stop_time)
        env.str("LOG_FORMAT", "", validate=variables.is_log_format)  # it was read before, for the log
        address = _metrics_address(env)
        faults = env.file_faults + _sealed(env)
        if public_url and not secret_keys and not any("SECRET_KEYS" in fault for fault in faults):
            faults.append(
                "ORCHESTRATOR_SECRET_KEYS is not set, but ORCHESTRATOR_PUBLIC_URL asks for callbacks, which "
                "must be signed: set it to the output of `openssl rand -hex 32`"
            )
        if keep_days and keep_failed_days and keep_failed_days < keep_days:
            faults.append(
                f"ORCHESTRATOR_KEEP_FAILED_DAYS: is {keep_failed_days:g}, less than the {keep_days:g} of "
                f"ORCHESTRATOR_KEEP_DAYS: what failed is kept at least as long as what did not"
            )
        keys = api_keys(keys_text, lambda key, told: secret(key, told, API_KEYS, True, faults), faults)
        accounts = accounts_in(accounts_path, providers, faults) if accounts_path else ()
        if faults:
            raise ConfigurationError(faults)
        return cls(
            redis_url=redis_url,
            broker_url=broker_url,
            public_url=public_url,
            secret_keys=tuple(Secret(key.strip()) for key in secret_keys if key.strip()),
            artifacts_url=None if artifacts_url == "none" else artifacts_url,
            artifact_name=artifact_name,
            accounts=accounts,
            max_waiting=max_waiting,
            folder=Path(folder),
            retention=Retention(round(keep_days * DAY), round(keep_failed_days * DAY)),
            notify_secret=Secret(notify_secret) if notify_secret.strip(" ,") else None,
            notify_hosts=frozenset(host.strip().lower() for host in notify_hosts if host.strip()),
            api_keys=keys,
            heartbeat=Path(heartbeat) if heartbeat else None,
            stop_seconds=stop_seconds or _longest_call(accounts) + variables.SETTLING_SECONDS,
            metrics_address=address,
        )


def metrics_address() -> tuple[str, int] | None:
    """Host and port at which this process tells its metrics; None: it tells none, or what is said is wrong.

    For whoever must know before all settings can be read, which report what is wrong.
    """
    env = Env(prefix="ORCHESTRATOR_", eager=False)
    address = _metrics_address(env)
    return None if _sealed(env) else address


class _Told(Env):
    """Reads what `environment()` gives."""

    def __init__(self, prefix: str, eager: bool) -> None:
        super().__init__(prefix=prefix, eager=eager)
        self._told = environment()
        self.file_faults: list[str] = []
        for name in SECRETS:
            value_of(name, self.file_faults)

    def _get_value(self, env_key: str, default: Any) -> Any:
        return self._told.get(env_key, default)


def _metrics_address(env: Env) -> tuple[str, int] | None:
    host = env.str("METRICS_HOST", "") or "127.0.0.1"
    port = env.str("METRICS_PORT", "", validate=variables.is_port)
    return (host, int(port)) if port and port.isdecimal() else None


def _longest_call(accounts: Sequence[Account]) -> float:
    default = ACCOUNT_NUMBERS["timeout_seconds"][3]
    return max((account.timeout_seconds for account in accounts), default=default)


def _sealed(env: Env) -> list[str]:
    try:
        env.seal()
    except EnvValidationError as error:
        messages = error.error_messages
        named = messages.items() if isinstance(messages, Mapping) else [("environment", messages)]
        return [f"{name}: {' '.join(map(str, texts))}" for name, texts in named]
    return []
