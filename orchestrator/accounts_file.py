"""The accounts file: TOML in, accounts out, and everything that is wrong with it together."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from orchestrator.environment import secret
from orchestrator.models import Account, Secret, WhenUncertain
from orchestrator.variables import is_http_url

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


def accounts_in(path: str, providers: Mapping[str, ProviderFacts], faults: list[str]) -> tuple[Account, ...]:
    """The accounts that are right; what is wrong is added to `faults`, a sentence each."""
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


def number_fault(key: str, value: Any) -> str:
    """What is wrong with one of an account's numbers; '' where it is right."""
    kind, lowest, highest, _ = ACCOUNT_NUMBERS[key]
    right_kind = isinstance(value, int | float) and not isinstance(value, bool)
    if right_kind and lowest <= value <= highest and (kind is not int or value == int(value)):
        return ""
    return f"{key} is {value!r}; it must be {kind.__name__} from {lowest} to {highest}"


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
    token = secret("token", row.get("token"), where, allow_plain is True, faults)
    told = row.get("when_uncertain", WhenUncertain.RESUBMIT)
    policy = _field(WhenUncertain, "when_uncertain", told, where, False, faults)
    numbers = {key: _number(row, key, facts, where, faults) for key in ACCOUNT_NUMBERS}
    fields = {
        key: _field(kind, key, row[key], where, allow_plain is True, faults)
        for key, kind in facts.account_fields.items()
        if key in row
    }
    base_url = str(row.get("base_url", facts.base_url)).rstrip("/")
    if not is_http_url(base_url):
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
        return secret(key, value, where, allow_plain, faults)
    if issubclass(kind, StrEnum):
        if value in list(kind):
            return kind(value)
        faults.append(f"{where}: {key} is {value!r}; it must be one of {', '.join(kind)}")
    elif not isinstance(value, kind):
        faults.append(f"{where}: {key} is {_wrong_type(value, kind)}")
    return value


def _wrong_type(value: Any, kind: type) -> str:
    """The value and what it is not; what ought to be a table may hold secrets, and is not shown."""
    if kind in TABLES:
        return f"a {type(value).__name__}, not {TABLES[kind]}"
    return f"{value!r}, not a {kind.__name__}"
