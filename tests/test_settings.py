"""Environment and accounts file: all that is wrong at once, each with its cure, and no secret shown."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.accounts_file import ProviderFacts
from orchestrator.environment import environment
from orchestrator.errors import ConfigurationError
from orchestrator.models import Retention
from orchestrator.providers import registry
from orchestrator.settings import Settings
from orchestrator.signatures import Reference, read_reference, sign_reference, webhook_keys

BASE_URL = "https://api.useapi.net/v1/runwayml"
PROVIDERS = {"useapi_frames": ProviderFacts(BASE_URL, {"email": str}, {"max_jobs": 5})}
TOKEN = "user:1-a-token-that-must-never-show"
KEY = "0123456789abcdef0123456789abcdef"
WEBHOOK_SECRET = f"whsec_{base64.b64encode(b'w' * 32).decode()}"
ACCOUNT = """
[[accounts]]
provider = "useapi_frames"
name = "studio-1"
token = "env:USEAPI_TOKEN"
"""

Read = Callable[..., Settings]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Read:
    """Settings of an accounts file (text or bytes; None: none) and of ORCHESTRATOR_ variables."""
    for name in list(os.environ):
        if name.startswith("ORCHESTRATOR_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("USEAPI_TOKEN", TOKEN)

    def settings(accounts: str | bytes | None = None, **variables: str) -> Settings:
        if accounts is not None:
            path = tmp_path / "accounts.toml"
            path.write_bytes(accounts if isinstance(accounts, bytes) else accounts.encode())
            variables["ACCOUNTS"] = str(path)
        for name, value in variables.items():
            monkeypatch.setenv(f"ORCHESTRATOR_{name}", value)
        return Settings.from_environ(PROVIDERS)

    return settings


@pytest.fixture
def faults(read: Read) -> Callable[..., list[str]]:
    def told(*accounts: str | bytes, **variables: str) -> list[str]:
        with pytest.raises(ConfigurationError) as refused:
            read(*accounts, **variables)
        assert TOKEN not in str(refused.value)
        return refused.value.faults

    return told


def test_nothing_need_be_set(read):
    assert read() == Settings(
        redis_url=None,
        broker_url=None,
        public_url=None,
        secret_keys=(),
        artifacts_url="file://./artifacts",
        artifact_name="{batch}/{job}-{place}",
        accounts=(),
        max_waiting=0,
        folder=Path(".orchestrator"),
    )


@pytest.mark.parametrize("most", ["-1", "many", "1.5"])
def test_the_cap_on_waiting_jobs_is_a_whole_number(read, most):
    assert read(MAX_WAITING="5000").max_waiting == 5000
    with pytest.raises(ConfigurationError, match="ORCHESTRATOR_MAX_WAITING"):
        read(MAX_WAITING=most)


def test_what_has_ended_is_kept_for_as_long_as_is_said(read):
    assert read().retention == Retention(7 * 86_400, 30 * 86_400)
    assert read(KEEP_DAYS="0.5", KEEP_FAILED_DAYS="2").retention == Retention(43_200, 172_800)


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ({"KEEP_DAYS": "0"}, "ORCHESTRATOR_KEEP_DAYS.* is 0; it must be from 0.05 to 3650 days"),
        ({"KEEP_DAYS": "nan"}, "ORCHESTRATOR_KEEP_DAYS"),
        ({"KEEP_DAYS": "a week"}, "ORCHESTRATOR_KEEP_DAYS"),
        ({"KEEP_DAYS": "40"}, "ORCHESTRATOR_KEEP_FAILED_DAYS: is 30, less than the 40"),
    ],
)
def test_wrong_retention_is_named(read, said, fault):
    with pytest.raises(ConfigurationError, match=fault):
        read(**said)


def test_everything_may_be_set(read):
    settings = read(
        REDIS_URL="rediss://:pw@redis:6379/1",
        BROKER_URL="amqp://u:pw@rabbit//",
        PUBLIC_URL="https://jobs.example.com/",
        SECRET_KEYS=f" {KEY} , {KEY[::-1]}",
        ARTIFACTS="s3://bucket/pictures",
        FOLDER="/var/lib/orchestrator",
        NOTIFY_SECRET=f"{WEBHOOK_SECRET}, {WEBHOOK_SECRET.removeprefix('whsec_')}",
        NOTIFY_HOSTS="Pipeline.internal, 127.0.0.1",
    )
    assert settings.redis_url == "rediss://:pw@redis:6379/1"
    assert settings.broker_url == "amqp://u:pw@rabbit//"
    assert settings.public_url == "https://jobs.example.com"  # callback paths are appended to it
    assert [key.reveal() for key in settings.secret_keys] == [KEY, KEY[::-1]]
    assert settings.artifacts_url == "s3://bucket/pictures"
    assert settings.folder == Path("/var/lib/orchestrator")
    assert webhook_keys(settings.notify_secret, True) == [b"w" * 32] * 2
    assert settings.notify_hosts == {"pipeline.internal", "127.0.0.1"}


def test_empty_variables_count_as_unset(read):
    names = ("REDIS_URL", "BROKER_URL", "PUBLIC_URL", "SECRET_KEYS", "ARTIFACTS", "ACCOUNTS", "FOLDER")
    names += ("NOTIFY_SECRET", "NOTIFY_HOSTS")
    assert read(**dict.fromkeys(names, "")) == read()


def test_artifacts_none_keeps_only_urls(read):
    assert read(ARTIFACTS="none").artifacts_url is None


def test_no_repr_shows_a_secret(read):
    settings = read(
        ACCOUNT, REDIS_URL="redis://:redis-pw@h", BROKER_URL="amqp://u:amqp-pw@h", SECRET_KEYS=KEY,
        NOTIFY_SECRET=WEBHOOK_SECRET,
    )  # fmt: skip
    assert settings.accounts[0].token.reveal() == TOKEN
    for text in (repr(settings), repr(settings.accounts[0]), str(settings)):
        for secret in (TOKEN, KEY, "redis-pw", "amqp-pw", WEBHOOK_SECRET):
            assert secret not in text


# --- variables ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "fault"),
    [
        ({"REDIS_URL": "http://h"}, "ORCHESTRATOR_REDIS_URL: must begin with redis://, rediss:// or unix://"),
        ({"REDIS_URL": "localhost:6379"}, "ORCHESTRATOR_REDIS_URL: must begin with redis://"),
        ({"BROKER_URL": "rabbit"}, "ORCHESTRATOR_BROKER_URL: must begin with amqp:// or amqps://"),
        ({"PUBLIC_URL": "jobs.example.com", "SECRET_KEYS": KEY}, "as in https://jobs.example.com"),
        ({"PUBLIC_URL": "https://", "SECRET_KEYS": KEY}, "ORCHESTRATOR_PUBLIC_URL: is 'https://', which"),
        ({"PUBLIC_URL": "https://jobs.example.com"}, "set it to the output of `openssl rand -hex 32`"),
        ({"SECRET_KEYS": "short"}, "ORCHESTRATOR_SECRET_KEYS: key 1 is shorter than 24 characters"),
        ({"SECRET_KEYS": f"{KEY},{' ' * 30},{KEY},x"}, "key 2, 4 is shorter than 24 characters"),
        ({"NOTIFY_SECRET": "whsec_short"}, "ORCHESTRATOR_NOTIFY_SECRET: secret 1 is not 24 to 64 bytes"),
        ({"NOTIFY_SECRET": f"{WEBHOOK_SECRET},{'A' * 100}"}, "use the output of `echo whsec_$(openssl rand"),
        ({"NOTIFY_SECRET": "?" * 44}, "secret 1 is not 24 to 64 bytes in base64"),
        ({"NOTIFY_HOSTS": "a.internal,http://b"}, "ORCHESTRATOR_NOTIFY_HOSTS: 'http://b' is no host name"),
        ({"ACCOUNTS": "/no/such/file.toml"}, "cannot read /no/such/file.toml: No such file or directory"),
        ({"ACCOUNTS": "/"}, "ORCHESTRATOR_ACCOUNTS: cannot read /: Is a directory"),
    ],
)
def test_a_wrong_variable_is_named_with_its_cure(faults, variables, fault):
    (told,) = faults(**variables)
    assert told.startswith("ORCHESTRATOR_")
    assert fault in told


def test_the_key_itself_is_not_in_the_fault(faults):
    assert "sesame" not in str(faults(SECRET_KEYS="sesame", NOTIFY_SECRET="whsec_sesame"))


def test_all_faults_of_variables_and_accounts_are_told_together(faults):
    broken = ACCOUNT + 'max_jobs = 0\ncolour = "red"\nemail = 5\nbase_url = "ftp://h"\n'
    told = faults(
        broken + broken.replace("studio-1", "two words").replace("env:USEAPI_TOKEN", ""),
        REDIS_URL="http://h",
        BROKER_URL="rabbit",
        SECRET_KEYS="short",
        PUBLIC_URL="nowhere",
    )
    wrong = (
        "_REDIS_URL: ",
        "BROKER_URL: ",
        "SECRET_KEYS",
        "PUBLIC_URL",
        "name must",
        "token is missing",
    )
    for word in wrong:
        assert sum(word in fault for fault in told) == 1, word
    for word in ("max_jobs is 0", "'colour' is not known", "email is 5", "base_url is 'ftp://h'"):
        assert sum(word in fault for fault in told) == 2, word
    assert len(told) == len(wrong) + 8


def test_a_missing_key_is_told_together_with_other_faults(faults):
    told = faults(PUBLIC_URL="https://jobs.example.com", REDIS_URL="http://h")
    assert any("SECRET_KEYS is not set" in fault for fault in told)


@pytest.mark.parametrize(
    ("accounts", "variables"),
    [
        ("", {"PUBLIC_URL": "https://[bad", "SECRET_KEYS": KEY}),
        (ACCOUNT + 'base_url = "https://[bad"', {}),
    ],
)
def test_a_url_that_cannot_be_split_is_a_fault_and_no_crash(faults, accounts, variables):
    assert "[bad" in str(faults(accounts, **variables))


# --- accounts -----------------------------------------------------------------------------------------


def test_an_account_gets_the_providers_defaults_and_then_the_common_ones(read):
    (account,) = read(ACCOUNT).accounts
    assert (account.provider, account.name, account.base_url) == ("useapi_frames", "studio-1", BASE_URL)
    assert account.max_jobs == 5  # the provider's own
    assert (account.max_attempts, account.deadline_seconds, account.timeout_seconds) == (5, 1800, 30)
    assert account.fields == {}


def test_an_account_may_say_everything_itself(read):
    (account,) = read(
        ACCOUNT
        + 'email = "a@b.com"\nmax_jobs = 3\nmax_attempts = 2.0\ndeadline_seconds = 60\npoll_seconds = 0.5\n'
        + 'net_seconds = 5\ntimeout_seconds = 2\nbase_url = "http://127.0.0.1:9000/v1/"\n'
    ).accounts
    assert account.fields == {"email": "a@b.com"}
    assert (account.max_jobs, account.max_attempts) == (3, 2)
    assert isinstance(account.max_attempts, int)
    assert (account.deadline_seconds, account.poll_seconds, account.net_seconds) == (60, 0.5, 5)
    assert (account.timeout_seconds, account.base_url) == (2, "http://127.0.0.1:9000/v1")


def test_a_token_comes_from_the_environment_a_file_or_by_permission_from_the_text(read, tmp_path):
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")  # editors end files with a newline
    for token, more in [
        ("env:USEAPI_TOKEN", ""),
        (f"file:{path}", ""),
        (TOKEN, "allow_plain_secrets = true\n"),
    ]:
        (account,) = read(ACCOUNT.replace("env:USEAPI_TOKEN", token) + more).accounts
        assert account.token.reveal() == TOKEN


@pytest.mark.parametrize(
    ("token", "fault"),
    [
        ('"env:NOT_SET"', "token is to come from the environment variable NOT_SET, which is not set"),
        ('"file:/no/such/token"', "token: cannot read /no/such/token: No such file or directory"),
        ('""', 'token is missing: give "env:NAME" or "file:PATH"'),
        ("5", 'token is missing: give "env:NAME" or "file:PATH"'),
        (f'"{TOKEN}"', 'token is written out: give "env:NAME" or "file:PATH", or set allow_plain_secrets'),
        ('"env:"', "token is written out"),
    ],
)
def test_a_token_that_cannot_be_had_is_a_fault(faults, token, fault):
    (told,) = faults(ACCOUNT.replace('"env:USEAPI_TOKEN"', token))
    assert told.startswith("accounts file, account 1 (studio-1): ")
    assert fault in told


def test_an_empty_token_file_is_a_fault(faults, tmp_path):
    (tmp_path / "token").write_text("\n")
    (told,) = faults(ACCOUNT.replace("env:USEAPI_TOKEN", f"file:{tmp_path / 'token'}"))
    assert "empty" in told


def test_a_token_file_that_is_no_text_is_a_fault(faults, tmp_path):
    (tmp_path / "token").write_bytes(b"\xff\xfe")
    assert "token" in str(faults(ACCOUNT.replace("env:USEAPI_TOKEN", f"file:{tmp_path / 'token'}")))


def test_a_newline_at_the_end_of_a_token_variable_is_no_part_of_it(read, monkeypatch):
    monkeypatch.setenv("USEAPI_TOKEN", f"{TOKEN}\n")
    assert read(ACCOUNT).accounts[0].token.reveal() == TOKEN


def test_plain_secrets_are_allowed_by_true_alone(faults):
    written = ACCOUNT.replace("env:USEAPI_TOKEN", TOKEN)
    assert "allow_plain_secrets" in str(faults(written + 'allow_plain_secrets = "false"\n'))


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("max_jobs = 0", "max_jobs is 0; it must be int from 1 to 10000"),
        ("max_jobs = 10001", "max_jobs is 10001"),
        ("max_jobs = 1.5", "max_jobs is 1.5; it must be int"),
        ("max_jobs = true", "max_jobs is True"),
        ('max_jobs = "5"', "max_jobs is '5'"),
        ("max_jobs = [5]", "max_jobs is [5]"),
        ("max_attempts = 0", "max_attempts is 0; it must be int from 1 to 100"),
        ("deadline_seconds = 0", "deadline_seconds is 0; it must be float from 1 to 604800"),
        ("deadline_seconds = inf", "deadline_seconds is inf"),
        ("poll_seconds = 0", "poll_seconds is 0; it must be float from 0.05 to 3600"),
        ("poll_seconds = nan", "poll_seconds is nan"),
        ("net_seconds = -1", "net_seconds is -1; it must be float from 0.05 to 86400"),
        ("timeout_seconds = 601", "timeout_seconds is 601; it must be float from 0.1 to 600"),
    ],
)
def test_a_number_out_of_its_range_is_told_with_the_range(faults, line, fault):
    (told,) = faults(f"{ACCOUNT}{line}\n")
    assert f"accounts file, account 1 (studio-1): {fault}" in told


@pytest.mark.parametrize("number", ["inf", "nan"])
def test_a_whole_number_that_is_not_finite_is_a_fault_and_no_crash(faults, number):
    assert f"max_jobs is {number}" in str(faults(f"{ACCOUNT}max_jobs = {number}\n"))


@pytest.mark.parametrize(
    ("accounts", "fault"),
    [
        (ACCOUNT + "email = 5", "studio-1): email is 5, not a str"),
        (
            ACCOUNT + "maxjobs = 5",
            "studio-1): 'maxjobs' is not known; known are allow_plain_secrets, base_url",
        ),
        (ACCOUNT + 'base_url = "api.useapi.net"', "it must begin with https://"),
        (ACCOUNT.replace("useapi_frames", "midjourney"), "'midjourney'; known are useapi_frames"),
        (ACCOUNT.replace("studio-1", ""), "account 1 (): name must be letters, digits"),
        (ACCOUNT.replace("studio-1", "a/b"), "account 1 (a/b): name must be letters, digits"),
        (ACCOUNT.replace('name = "studio-1"', ""), "account 1 (without a name): name must be"),
        (ACCOUNT.replace('"studio-1"', "7"), "account 1 (7): name must be"),
        (ACCOUNT + ACCOUNT, "two accounts of useapi_frames are named 'studio-1': rename one"),
        ("x =", "is not TOML: "),
    ],
)
def test_a_wrong_account_is_told_with_its_place_and_its_cure(faults, accounts, fault):
    (told,) = faults(accounts)
    assert fault in told


def test_the_second_account_is_counted_as_the_second(faults):
    (told,) = faults(ACCOUNT + ACCOUNT.replace("studio-1", "studio-2") + "max_jobs = 0\n")
    assert told.startswith("accounts file, account 2 (studio-2): ")


def test_a_duplicate_name_is_told_together_with_the_faults_of_the_account(faults):
    told = faults(ACCOUNT + ACCOUNT + "max_jobs = 0\n")
    assert any("max_jobs is 0" in fault for fault in told)
    assert any("two accounts of useapi_frames" in fault for fault in told)


@pytest.mark.parametrize(
    "accounts", [ACCOUNT.replace("[[accounts]]", "[accounts]"), "accounts = 5", 'accounts = ["studio-1"]']
)
def test_accounts_that_are_no_list_of_tables_are_a_fault_and_no_crash(faults, accounts):
    assert "[[accounts]]" in str(faults(accounts))


@pytest.mark.parametrize("accounts", ["", ACCOUNT.replace("[[accounts]]", "[[account]]")])
def test_an_accounts_file_without_an_account_is_a_fault(faults, accounts):
    assert "[[accounts]]" in str(faults(accounts))


def test_an_accounts_file_that_is_no_utf_8_is_a_fault_and_no_crash(faults):
    assert "is not TOML" in str(faults(b"# caf\xe9\n" + ACCOUNT.encode()))


def test_an_account_name_fits_into_a_reference(read):
    try:
        (account,) = read(ACCOUNT.replace("studio-1", "s" * 400), SECRET_KEYS=KEY).accounts
    except ConfigurationError:
        return
    keys = read(SECRET_KEYS=KEY).secret_keys
    reference = Reference("6f1f8a52-5a5c-4b36-9d70-0c2b8e2f4d11.1", account.name)
    assert (
        read_reference("useapi_frames", sign_reference("useapi_frames", reference, keys), keys) == reference
    )


def test_a_base_url_without_a_host_is_a_fault(faults):
    assert "base_url" in str(faults(ACCOUNT + 'base_url = "https://"'))


def test_the_environment_for_child_processes_is_a_copy(monkeypatch):
    monkeypatch.setenv("ORCHESTRATOR_FOLDER", "here")
    copy = environment()
    copy["ORCHESTRATOR_FOLDER"] = "elsewhere"
    assert os.environ["ORCHESTRATOR_FOLDER"] == "here"
    assert environment()["ORCHESTRATOR_FOLDER"] == "here"


# --- what only one provider's accounts say --------------------------------------------------------------

SIGNING_SECRET = "the-signing-secret-that-must-never-show"
FREEPIK = """
[[accounts]]
provider = "freepik_runway"
name = "studio-1"
token = "env:USEAPI_TOKEN"
"""


@pytest.fixture
def with_freepik(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both providers are known, with the fields they really have."""
    fields = registry()["freepik_runway"].account_fields
    monkeypatch.setitem(PROVIDERS, "freepik_runway", ProviderFacts("https://api.freepik.com", fields))
    monkeypatch.setenv("SIGNING", f"{SIGNING_SECRET}\n")


@pytest.mark.usefixtures("with_freepik")
def test_a_field_of_an_account_may_be_a_secret_given_like_the_token(read, tmp_path):
    (tmp_path / "secret").write_text(f"{SIGNING_SECRET}\n")
    for given, more in [
        ("env:SIGNING", ""),
        (f"file:{tmp_path / 'secret'}", ""),
        (SIGNING_SECRET, "allow_plain_secrets = true\n"),
    ]:
        settings = read(f'{FREEPIK}signing_secret = "{given}"\n{more}')
        assert settings.accounts[0].fields["signing_secret"].reveal() == SIGNING_SECRET
        assert SIGNING_SECRET not in repr(settings)


@pytest.mark.usefixtures("with_freepik")
def test_a_secret_field_that_is_not_given_is_not_there(read):
    assert read(FREEPIK).accounts[0].fields == {}


@pytest.mark.usefixtures("with_freepik")
@pytest.mark.parametrize(
    ("line", "fault"),
    [
        # An unset variable must not turn the check of signatures off.
        ('signing_secret = "env:NOT_SET"', "signing_secret is to come from the environment variable NOT_SET"),
        ('signing_secret = "file:/no/such"', "signing_secret: cannot read /no/such: No such file"),
        ('signing_secret = ""', "signing_secret is missing: give"),
        ("signing_secret = 5", "signing_secret is missing: give"),
        (f'signing_secret = "{SIGNING_SECRET}"', "signing_secret is written out: give"),
        ('signing_key = "hex"', "signing_key is 'hex'; it must be one of utf8, base64"),
        ("signing_key = 5", "signing_key is 5; it must be one of utf8, base64"),
        ('signing_key = ["utf8"]', "signing_key is ['utf8']; it must be one of"),
        ("header = 5", "header is 5, not a str"),
    ],
)
def test_a_wrong_field_is_told_with_its_cure_and_never_shown_where_it_is_secret(faults, line, fault):
    (told,) = faults(f"{FREEPIK}{line}\n")
    assert told.startswith(f"accounts file, account 1 (studio-1): {fault}")
    assert SIGNING_SECRET not in told


@pytest.mark.usefixtures("with_freepik")
def test_a_field_may_be_a_word_of_a_list(read):
    assert read(f'{FREEPIK}signing_key = "base64"\n').accounts[0].fields == {"signing_key": "base64"}


def test_worker_that_ends_has_the_longest_call_of_its_accounts_unless_told(read):
    assert read(ACCOUNT).stop_seconds == 35
    assert read(f"{ACCOUNT}timeout_seconds = 300\n").stop_seconds == 305
    assert read(ACCOUNT, STOP_SECONDS="12").stop_seconds == 12
