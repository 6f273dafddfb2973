"""The environment and the accounts file, read once, into one frozen `Settings`. Only here is `os.environ`.

Everything that is wrong is reported together, each with its cure.
"""

from __future__ import annotations

import base64
import os
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from environs import Env, EnvValidationError, ValidationError

from orchestrator import celery_urls, naming, redis_place
from orchestrator.api_keys import VARIABLE as API_KEYS
from orchestrator.api_keys import api_keys
from orchestrator.errors import ConfigurationError
from orchestrator.models import RETENTION, Account, ApiKey, Retention, Secret, WhenUncertain

MIN_SECRET_CHARACTERS = 24
NOTIFY_KEY_BYTES = range(24, 65)  # https://www.standardwebhooks.com, signature scheme
DEFAULT_FOLDER = ".orchestrator"
DAY = 86_400
LOG_FORMATS = ("", "text", "json")
MOST_PORT = 65_535
LEAST_KEPT_DAYS, MOST_KEPT_DAYS = 0.05, 3_650
IN_FILE = "_FILE"  # NAME_FILE names a file that holds the value of NAME
SECRETS = (
    *("ORCHESTRATOR_REDIS_URL", "ORCHESTRATOR_BROKER_URL", "ORCHESTRATOR_SECRET_KEYS"),
    *("ORCHESTRATOR_NOTIFY_SECRET", API_KEYS, "FLOWER_BASIC_AUTH"),
)
MOST_STOP_SECONDS = 3_600
SETTLING_SECONDS = 5.0  # what a worker that ends needs after the last answer

# name -> (type, lowest, highest, default); what every provider's accounts have in common
ACCOUNT_NUMBERS: dict[str, tuple[type, float, float, float]] = {
    "max_jobs": (int, 1, 10_000, 1),
    "max_attempts": (int, 1, 100, 5),
    "deadline_seconds": (float, 1, 7 * 86_400, 1_800),
    "queue_ahead": (int, 0, 10_000, 0),
    "requests_per_second": (float, 0, 10_000, 0),
    "burst": (int, 0, 10_000, 0),
    "max_per_day": (int, 0, 10_000_000, 0),
    "weight": (float, 0.01, 100, 1),
    "price": (float, 0, 1_000_000, 1),
    "max_spend": (float, 0, 1_000_000_000, 0),
    "max_moderated": (int, 0, 1_000_000, 20),
    "max_moderated_share": (float, 0, 1, 0.25),
    "poll_seconds": (float, 0.05, 3_600, 10),
    "min_poll_seconds": (float, 0.05, 3_600, 1),
    "net_seconds": (float, 0.05, 86_400, 60),
    "timeout_seconds": (float, 0.1, 600, 30),
}
TABLES: dict[type, str] = {dict: 'a table, as in { name = "value" }', list: 'a list, as in ["one", "two"]'}
ACCOUNT_TEXTS = ("provider", "name", "token", "base_url", "when_uncertain", "allow_plain_secrets")


@dataclass(frozen=True)
class ProviderFacts:
    """What the settings must know of a provider to check its accounts.

    The type of a field is `str`, `int` or the like; a `StrEnum` of the words it may be; or `Secret`, which is
    given as the token is.
    """

    base_url: str
    account_fields: Mapping[str, type]
    defaults: Mapping[str, float] = field(default_factory=dict)
    faults_of: Callable[[Mapping[str, Any]], Sequence[str]] = lambda fields: ()


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
    stop_seconds: float = ACCOUNT_NUMBERS["timeout_seconds"][3] + SETTLING_SECONDS  # of a worker that ends
    metrics_address: tuple[str, int] | None = None  # host, port; None: there are none

    @classmethod
    def from_environ(cls, providers: Mapping[str, ProviderFacts]) -> Settings:
        """Raises: ConfigurationError with every fault. Safe to call twice."""
        env = _Told(prefix="ORCHESTRATOR_", eager=False)
        redis_url = env.str("REDIS_URL", "", validate=_is_redis_url) or None
        broker_url = env.str("BROKER_URL", "", validate=_is_broker_url) or None
        public_url = (env.str("PUBLIC_URL", "", validate=_is_public_url) or "").rstrip("/") or None
        secret_keys: list[str] = env.list("SECRET_KEYS", [], validate=_are_long_enough) or []
        artifacts_url = env.str("ARTIFACTS", "") or "file://./artifacts"
        accounts_path = env.str("ACCOUNTS", "")
        artifact_name = env.str("ARTIFACT_NAME", "", validate=_is_artifact_name) or naming.DEFAULT
        max_waiting = env.int("MAX_WAITING", 0, validate=_is_not_negative)
        folder = env.str("FOLDER", "") or DEFAULT_FOLDER
        keep_days = env.float("KEEP_DAYS", RETENTION.ended / DAY, validate=_is_kept_for)
        keep_failed_days = env.float("KEEP_FAILED_DAYS", RETENTION.failed / DAY, validate=_is_kept_for)
        notify_secret = env.str("NOTIFY_SECRET", "", validate=_are_webhook_secrets) or ""
        notify_hosts: list[str] = env.list("NOTIFY_HOSTS", [], validate=_are_host_names) or []
        keys_text = env.str("API_KEYS", "")
        heartbeat = env.str("HEARTBEAT", "", validate=_is_in_a_folder)
        stop_seconds = env.float("STOP_SECONDS", 0.0, validate=_is_stop_time)
        env.str("LOG_FORMAT", "", validate=_is_log_format)  # read by `logs_are_json`, before all else
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
        keys = api_keys(keys_text, lambda key, told: _secret(key, told, API_KEYS, True, faults), faults)
        accounts = _accounts(accounts_path, providers, faults) if accounts_path else ()
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
            stop_seconds=stop_seconds or _longest_call(accounts) + SETTLING_SECONDS,
            metrics_address=address,
        )


def logs_are_json() -> bool:
    """Whether lines of logs are JSON. Known before the settings are: what is wrong with them is logged."""
    return os.environ.get("ORCHESTRATOR_LOG_FORMAT", "").strip() == "json"


def wants_traces() -> bool:
    """Whether OpenTelemetry's own variables ask for traces."""
    told = os.environ.get
    if told("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if exporter := told("OTEL_TRACES_EXPORTER"):
        return exporter != "none"
    return bool(told("OTEL_EXPORTER_OTLP_ENDPOINT") or told("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))


def environment() -> dict[str, str]:
    """The environment, for handing on to child processes; secrets that stand in files are read from there.

    One that cannot be read is left as it is: `Settings.from_environ` says so.
    """
    told = dict(os.environ)
    for name in SECRETS:
        value = _value_of(name, [])
        if value and told.get(name + IN_FILE):
            del told[name + IN_FILE]
            told[name] = value
    return told


def metrics_address() -> tuple[str, int] | None:
    """Host and port at which this process tells its metrics; None: it tells none, or what is said is wrong.

    For whoever must know before all settings can be read, which report what is wrong.
    """
    env = Env(prefix="ORCHESTRATOR_", eager=False)
    address = _metrics_address(env)
    return None if _sealed(env) else address


def take_environment(names: Mapping[str, str]) -> None:
    """Make this process a client of what these variables name."""
    for name in names:
        os.environ.pop(name + IN_FILE, None)
    os.environ.update(names)


class _Told(Env):
    """Reads what `environment()` gives."""

    def __init__(self, prefix: str, eager: bool) -> None:
        super().__init__(prefix=prefix, eager=eager)
        self._told = environment()
        self.file_faults: list[str] = []
        for name in SECRETS:
            _value_of(name, self.file_faults)

    def _get_value(self, env_key: str, default: Any) -> Any:
        return self._told.get(env_key, default)


def _value_of(name: str, faults: list[str]) -> str:
    """What a variable holds, or the file that `<name>_FILE` names; '' for neither."""
    value, path = os.environ.get(name, "").strip(), os.environ.get(name + IN_FILE, "")
    if not path:
        return value
    if value:
        faults.append(f"{name} and {name}{IN_FILE} are both set: unset one of them")
        return ""
    return _in_file(f"{name}{IN_FILE}", path, faults)


def _in_file(where: str, path: str, faults: list[str]) -> str:
    try:
        value = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        faults.append(f"{where}: cannot read {path}: {reason}")
        return ""
    if not value:
        faults.append(f"{where}: {path} is empty")
    return value


def _metrics_address(env: Env) -> tuple[str, int] | None:
    host = env.str("METRICS_HOST", "") or "127.0.0.1"
    port = env.str("METRICS_PORT", "", validate=_is_port)
    return (host, int(port)) if port and port.isdecimal() else None


def _sealed(env: Env) -> list[str]:
    try:
        env.seal()
    except EnvValidationError as error:
        messages = error.error_messages
        named = messages.items() if isinstance(messages, Mapping) else [("environment", messages)]
        return [f"{name}: {' '.join(map(str, texts))}" for name, texts in named]
    return []


def _is_port(text: str) -> None:
    if text and not (text.isdecimal() and 1 <= int(text) <= MOST_PORT):
        raise ValidationError(f"is {text!r}; it must be a port, from 1 to {MOST_PORT}, as in 9464")


def _is_not_negative(number: int) -> None:
    if number < 0:
        raise ValidationError("must be 0, for no cap, or the number of jobs that may wait")


def _is_kept_for(days: float) -> None:
    if not LEAST_KEPT_DAYS <= days <= MOST_KEPT_DAYS:
        raise ValidationError(f"is {days:g}; it must be from {LEAST_KEPT_DAYS} to {MOST_KEPT_DAYS} days")


def _is_stop_time(seconds: float) -> None:
    if not 0 <= seconds <= MOST_STOP_SECONDS:
        raise ValidationError(
            f"is {seconds:g}; it must be from 0, for the longest timeout_seconds of the accounts and "
            f"{SETTLING_SECONDS:g} s more, to {MOST_STOP_SECONDS} s"
        )


def _longest_call(accounts: Sequence[Account]) -> float:
    default = ACCOUNT_NUMBERS["timeout_seconds"][3]
    return max((account.timeout_seconds for account in accounts), default=default)


def _is_log_format(word: str) -> None:
    if word.strip() not in LOG_FORMATS:
        raise ValidationError(f"is {word!r}; it must be text or json")


def _is_artifact_name(template: str) -> None:
    if template and (found := naming.faults(template)):
        raise ValidationError("; ".join(found))


def _is_in_a_folder(path: str) -> None:
    if path and not Path(path).parent.is_dir():
        raise ValidationError(f"there is no folder {Path(path).parent}: make it, or name another file")


def _is_redis_url(url: str) -> None:
    _checked(redis_place.redis_place, url)


def _is_broker_url(url: str) -> None:
    _checked(celery_urls.check_broker, url)


def _checked(check: Callable[[str], object], url: str) -> None:
    try:
        if url:
            check(url)
    except ValueError as error:
        raise ValidationError(str(error)) from None


def _is_http_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None


def _is_public_url(url: str) -> None:
    if url and not _is_http_url(url):
        raise ValidationError(
            f"is {url!r}, which providers cannot call: "
            "give the address they reach us at, as in https://jobs.example.com"
        )


def _are_long_enough(keys: list[str]) -> None:
    short = [str(place) for place, key in enumerate(keys, 1) if len(key.strip()) < MIN_SECRET_CHARACTERS]
    if short:
        raise ValidationError(
            f"key {', '.join(short)} is shorter than {MIN_SECRET_CHARACTERS} characters: "
            "use the output of `openssl rand -hex 32`"
        )


def _are_webhook_secrets(text: str) -> None:
    for place, each in enumerate(filter(None, map(str.strip, text.split(","))), 1):
        encoded = each.removeprefix("whsec_")
        try:
            size = len(base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True))
        except ValueError:
            size = 0
        if size not in NOTIFY_KEY_BYTES:
            raise ValidationError(
                f"secret {place} is not 24 to 64 bytes in base64: "
                "use the output of `echo whsec_$(openssl rand -base64 32)`"
            )


def _are_host_names(names: list[str]) -> None:
    wrong = [name for name in names if name.strip() and not re.fullmatch(r"[\w.-]+", name.strip(), re.A)]
    if wrong:
        raise ValidationError(
            f"{', '.join(map(repr, wrong))} is no host name: give names alone, as in pipeline.internal, "
            "without scheme, port or path"
        )


def _accounts(path: str, providers: Mapping[str, ProviderFacts], faults: list[str]) -> tuple[Account, ...]:
    try:
        with open(path, "rb") as file:
            rows = tomllib.load(file).get("accounts")
    except OSError as error:
        faults.append(f"ORCHESTRATOR_ACCOUNTS: cannot read {path}: {error.strerror}")
        return ()
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        faults.append(f"ORCHESTRATOR_ACCOUNTS: {path} is not TOML: {error}")
        return ()
    if not rows or not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        faults.append(f"ORCHESTRATOR_ACCOUNTS: {path} has no accounts: begin each with a line [[accounts]]")
        return ()
    accounts = [_account(row, place, providers, faults) for place, row in enumerate(rows, 1)]
    found = [account for account in accounts if account]
    names = [(row.get("provider"), row["name"]) for row in rows if "name" in row]
    for name in dict.fromkeys((str(of), str(name)) for of, name in names if names.count((of, name)) > 1):
        faults.append(f"accounts file: two accounts of {name[0]} are named {name[1]!r}: rename one")
    return tuple(found)


def _account(
    row: Mapping[str, Any],
    place: int,
    providers: Mapping[str, ProviderFacts],
    faults: list[str],
) -> Account | None:
    where = f"accounts file, account {place} ({row.get('name', 'without a name')})"
    facts = providers.get(str(row.get("provider")))
    before = len(faults)
    if facts is None:
        faults.append(
            f"{where}: provider is {row.get('provider')!r}; known are {', '.join(sorted(providers))}"
        )
        return None
    name = row.get("name")
    if not isinstance(name, str) or not re.fullmatch(r"[\w.-]{1,64}", name):
        faults.append(
            f"{where}: name must be letters, digits, '-', '_' or '.', at most 64, for example \"studio-1\""
        )
    known = {*ACCOUNT_TEXTS, *ACCOUNT_NUMBERS, *facts.account_fields}
    for key in sorted(set(row) - known):
        faults.append(f"{where}: {key!r} is not known; known are {', '.join(sorted(known))}")
    allow_plain = row.get("allow_plain_secrets", False)
    if not isinstance(allow_plain, bool):
        faults.append(f"{where}: allow_plain_secrets is {allow_plain!r}; it must be true or false")
    token = _secret("token", row.get("token"), where, allow_plain is True, faults)
    told = row.get("when_uncertain", WhenUncertain.RESUBMIT)
    policy = _field(WhenUncertain, "when_uncertain", told, where, False, faults)
    numbers = {key: _number(row, key, facts, where, faults) for key in ACCOUNT_NUMBERS}
    fields = {
        key: _field(kind, key, row[key], where, allow_plain is True, faults)
        for key, kind in facts.account_fields.items()
        if key in row
    }
    base_url = str(row.get("base_url", facts.base_url)).rstrip("/")
    if not _is_http_url(base_url):
        faults.append(f"{where}: base_url is {base_url!r}; it must begin with https:// and name a host")
    if len(faults) == before:
        faults += [f"{where}: {fault}" for fault in facts.faults_of(fields)]
    if len(faults) > before:
        return None
    whole = {key: int(numbers[key]) for key, row in ACCOUNT_NUMBERS.items() if row[0] is int}
    return Account(
        provider=row["provider"], name=str(name), token=token, base_url=base_url, fields=fields,
        when_uncertain=policy,
        **{**numbers, **whole},  # type: ignore[arg-type]
    )  # fmt: skip


def _wrong_type(value: Any, kind: type) -> str:
    """The value and what it is not; what ought to be a table may hold secrets, and is not shown."""
    if kind in TABLES:
        return f"a {type(value).__name__}, not {TABLES[kind]}"
    return f"{value!r}, not a {kind.__name__}"


def number_fault(key: str, value: Any) -> str:
    """What is wrong with one of an account's numbers; '' where it is right."""
    kind, lowest, highest, _ = ACCOUNT_NUMBERS[key]
    right_kind = isinstance(value, int | float) and not isinstance(value, bool)
    if right_kind and lowest <= value <= highest and (kind is not int or value == int(value)):
        return ""
    return f"{key} is {value!r}; it must be {kind.__name__} from {lowest} to {highest}"


def _number(row: Mapping[str, Any], key: str, facts: ProviderFacts, where: str, faults: list[str]) -> float:
    default = ACCOUNT_NUMBERS[key][3]
    value = row.get(key, facts.defaults.get(key, default))
    if fault := number_fault(key, value):
        faults.append(f"{where}: {fault}")
        return default
    return float(value)


def _field(kind: type, key: str, value: Any, where: str, allow_plain: bool, faults: list[str]) -> Any:
    """The value of a field that only this provider's accounts have."""
    if kind is Secret:
        return _secret(key, value, where, allow_plain, faults)
    if issubclass(kind, StrEnum):
        if value in list(kind):
            return kind(value)
        faults.append(f"{where}: {key} is {value!r}; it must be one of {', '.join(kind)}")
    elif not isinstance(value, kind):
        faults.append(f"{where}: {key} is {_wrong_type(value, kind)}")
    return value


def _secret(key: str, value: Any, where: str, allow_plain: bool, faults: list[str]) -> Secret:
    """The secret behind `env:NAME` or `file:PATH`."""
    text = value if isinstance(value, str) else ""
    kind, _, rest = text.partition(":")
    if kind == "env" and rest:
        before = len(faults)
        secret = _value_of(rest, faults)
        if not secret and len(faults) == before:
            faults.append(f"{where}: {key} is to come from the environment variable {rest}, which is not set")
        return Secret(secret)
    if kind == "file" and rest:
        return Secret(_in_file(f"{where}: {key}", rest, faults))
    if not text:
        faults.append(f'{where}: {key} is missing: give "env:NAME" or "file:PATH"')
    elif not allow_plain:
        faults.append(
            f'{where}: {key} is written out: give "env:NAME" or "file:PATH", '
            "or set allow_plain_secrets = true on this account"
        )
    return Secret(text)
