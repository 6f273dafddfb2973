"""What a notice says, whom it may go to, how it is signed, and when it is sent again."""

from __future__ import annotations

import base64
import json
import uuid
from dataclasses import replace
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from orchestrator import notices
from orchestrator.broker import make_app
from orchestrator.canvas import signature_text
from orchestrator.errors import Invalid, NotPublic
from orchestrator.intake import targets
from orchestrator.models import Notice, Secret
from orchestrator.notices import FIRST_SECONDS, LONGEST_SECONDS, TRY_SECONDS, NotifyRules
from orchestrator.signatures import verify_webhook, webhook_keys
from orchestrator.upstream import Upstream

MADE = 1_700_000_000.25
OLD, NEW = (f"whsec_{base64.b64encode(bytes([byte]) * 32).decode()}" for byte in (1, 2))
HOST, PRIVATE = "hooks.example.com", "pipeline.internal"
RULES = NotifyRules(webhook_keys(Secret(f"{NEW},{OLD}"), True), frozenset({PRIVATE, "127.0.0.1"}))
RESULT = {
    "job_id": "j", "provider": "runway", "account": "a", "attempts": 2, "seconds": 3.5,
    "artifacts": [{"url": "https://x.example/1.png?s=1", "path": "/a/1.png"}],
}  # fmt: skip
JOB = {"provider": "runway", "account": "a", "attempts": "2", "created": str(MADE - 7), "custom_id": "line 7"}
ERROR = {"kind": "Moderated", "message": "no", "http_status": 400}


def notice(type: str = "job.succeeded", about: str = "j", target: str = "", **facts: str) -> Notice:
    return Notice(
        id="0123456789abcdef01234567", type=type, about=about, target=target or f"https://{HOST}/hook",
        shown="", host=HOST, state="waiting", made_at=MADE, first_tried_at=MADE, ended_at=None, tries=1,
        answer="", facts=facts,
    )  # fmt: skip


# --- what it says --------------------------------------------------------------------------------------


def test_a_success_is_told_with_the_jobs_result():
    told = notices.facts(notice(**JOB, result=json.dumps(RESULT), batch="autumn"))
    assert told == {**RESULT, "state": "succeeded", "batch": "autumn", "custom_id": "line 7", "error": None}


def test_a_failure_is_told_in_the_same_shape_with_its_error():
    told = notices.facts(notice("job.failed", **JOB, error=json.dumps(ERROR), reason="Moderated: no"))
    assert told["error"] == {"kind": "Moderated", "message": "Moderated: no"}
    assert {*told} == {*notices.facts(notice(**JOB, result=json.dumps(RESULT)))}
    assert (told["state"], told["artifacts"], told["attempts"], told["seconds"]) == ("failed", [], 2, 7.0)


def test_a_job_that_was_cancelled_before_it_began_is_told_as_well():
    told = notices.facts(notice("job.cancelled", provider="runway"))
    assert (told["state"], told["job_id"], told["error"]) == ("cancelled", "j", None)


def test_a_batch_is_told_with_its_counts():
    told = notices.facts(notice("batch.completed", "autumn", total="3", succeeded="2", failed="1"))
    assert told == {"batch": "autumn", "total": 3, "succeeded": 2, "failed": 1, "cancelled": 0}


def test_no_email_address_is_told():
    told = notices.body(notice("job.failed", reason="studio@example.com has no credit"))
    assert b"<e-mail> has no credit" in told and b"studio@" not in told


def test_the_body_is_compact_and_the_same_each_time():
    told = notice(**JOB, result=json.dumps(RESULT))
    body = notices.body(told)
    assert body == notices.body(replace(told, tries=9, answer="503"))
    read = json.loads(body)
    assert read["type"] == "job.succeeded" and read["timestamp"] == "2023-11-14T22:13:20.250+00:00"
    assert json.dumps(read, separators=(",", ":")).encode() == body


def test_the_task_that_is_called_has_an_id_of_the_notice():
    assert notices.task_id(notice()) == notices.task_id(replace(notice(), tries=2))
    assert notices.task_id(notice()) != notices.task_id(replace(notice(), id="another"))
    assert uuid.UUID(notices.task_id(notice())).version == 5


# --- signing -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", [NEW, OLD])
def test_each_of_the_secrets_verifies_what_is_sent(secret, monkeypatch):
    told = notice(**JOB, result=json.dumps(RESULT))
    body = notices.body(told)
    headers = RULES.headers(told, body, MADE)
    monkeypatch.setattr("standardwebhooks.webhooks.datetime", _clock_at(MADE))
    assert Webhook(secret).verify(body, headers)["data"]["job_id"] == "j"
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body.replace(b"runway", b"runaway"), headers)
    verify_webhook(headers, body, webhook_keys(Secret(secret), True), MADE)


def test_the_id_stays_and_the_moment_does_not():
    first, again = (RULES.headers(notice(), b"{}", MADE + late) for late in (0, 60))
    assert first["webhook-id"] == again["webhook-id"] == notice().id
    assert int(again["webhook-timestamp"]) - int(first["webhook-timestamp"]) == 60
    assert first["webhook-signature"] != again["webhook-signature"]


def _clock_at(moment: float) -> Any:
    from datetime import datetime

    class At(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.fromtimestamp(moment, tz)

    return At


# --- when it is sent again -----------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_is_delivered(status):
    answer = notices.told(status, None, 1, 0.0, MADE, 0.5)
    assert answer.delivered and not answer.host_down


def test_gone_gives_up_at_once():
    answer = notices.told(410, "10", 1, 0.0, MADE, 0.5)
    assert not answer.delivered and answer.again_in is None and not answer.host_down


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 404, 429, 500, 501, 502, 503, 504])
def test_all_else_is_sent_again(status):
    answer = notices.told(status, None, 1, 0.0, MADE, 0.5)
    assert not answer.delivered and answer.again_in and answer.text == str(status)
    assert answer.host_down == (status in (429, 502, 503, 504))


def test_silence_is_the_trouble_of_the_host():
    answer = notices.untold("no answer (ReadTimeout)", 1, 0.0, 0.5)
    assert answer.host_down and answer.again_in and answer.text == "no answer (ReadTimeout)"


def test_pauses_double_from_five_seconds_to_two_hours_with_jitter():
    assert [notices.backoff_seconds(tries, 1.0) for tries in (1, 2, 3)] == [5.0, 10.0, 20.0]
    assert notices.backoff_seconds(1, 0.0) == FIRST_SECONDS / 2
    assert notices.backoff_seconds(40, 1.0) == notices.backoff_seconds(10**6, 1.0) == LONGEST_SECONDS


def test_it_is_tried_for_a_day_and_some_twenty_times():
    waited, tries = 0.0, 1
    while (answer := notices.told(500, None, tries, waited, MADE, 0.5)).again_in:
        waited, tries = waited + answer.again_in, tries + 1
    assert TRY_SECONDS - LONGEST_SECONDS < waited <= TRY_SECONDS
    assert 15 < tries < 35


def test_retry_after_is_obeyed_within_the_day():
    assert notices.told(503, "600", 1, 0.0, MADE, 0.5).again_in == 600
    assert notices.told(429, "Tue, 14 Nov 2023 22:23:20 GMT", 1, 0.0, MADE, 0.5).again_in == 599.75
    assert notices.told(503, "1", 3, 0.0, MADE, 1.0).again_in == 20  # never sooner than it would be anyway
    assert notices.told(503, "9999999", 1, 60.0, MADE, 0.5).again_in == TRY_SECONDS - 60
    assert notices.told(503, "nonsense", 1, 0.0, MADE, 1.0).again_in == FIRST_SECONDS


# --- whom it may go to ---------------------------------------------------------------------------------

GOOD = [
    f"https://{HOST}/hook", f"https://{HOST}", f"https://{HOST.upper()}:8443/a?b=c", f"http://{HOST}/plain",
    f"https://{PRIVATE}/hook", f"http://{PRIVATE}:8080/hook", "http://127.0.0.1:9000/hook",
]  # fmt: skip
BAD = [
    ("ftp://hooks.example.com/a", "must be a URL that begins with https://"),
    ("hooks.example.com/a", "must be a URL that begins with https://"),
    ("", "must be a URL that begins with https://"),
    ("https://hooks.example.com/a b", "without spaces"),
    ("https://hooks.example.com/a\n", "without spaces"),
    ("https://hooks.example.com\\@127.0.0.1/", "without spaces"),
    ("https://höks.example.com/", "of ASCII letters"),
    ("https://hooks.example.com/\ud800", "of ASCII letters"),
    ("https://user:secret@hooks.example.com/", "no user name or password"),
    ("https://hooks.example.com:0/", "port from 1 to 65535"),
    ("https://hooks.example.com:99999/", "port from 1 to 65535"),
    ("https://hooks.example.com:/", "port from 1 to 65535"),
    ("https://hooks.example.com:8o/", "port from 1 to 65535"),
    ("https://" + "a" * 2048 + ".example.com/", "characters at most"),
    *((f"https://{host}/", "ORCHESTRATOR_NOTIFY_HOSTS") for host in (
        "localhost", "redis", "10.0.0.1", "93.184.216.34", "2130706433", "0x7f.1", "127.1", "127.0.0.1.",
        "hooks.example.com.", "%31", "evil-pipeline.internal.", "192.168.0.1",
    )),
    ("http://[::1]/", "port from 1 to 65535"),
]  # fmt: skip


@pytest.mark.parametrize("url", GOOD)
def test_hosts_of_the_internet_and_those_the_operator_names_may_be_told(url):
    RULES.check("notify_url", url)
    assert RULES.is_private(url) == (HOST not in url.lower())


@pytest.mark.parametrize(("url", "words"), BAD)
def test_a_url_that_can_never_work_is_refused_with_the_cure(url, words):
    with pytest.raises(Invalid, match=words) as refused:
        RULES.check("notify_url", url)
    assert "secret" not in str(refused.value)


def test_no_query_is_shown_in_a_refusal():
    with pytest.raises(Invalid, match=r"notify_url = 'https://localhost/hook\?…'") as refused:
        RULES.check("notify_url", "https://localhost/hook?token=s3cret")
    assert "s3cret" not in str(refused.value)


def test_without_a_secret_it_is_refused_with_the_cure():
    with pytest.raises(Invalid, match=r"ORCHESTRATOR_NOTIFY_SECRET.*openssl rand"):
        NotifyRules().check("notify_url", f"https://{HOST}/")


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        (f"https://{HOST}/a/b?token=s3cret", f"https://{HOST}/a/b?…"),
        (f"https://{HOST}/a#s3cret", f"https://{HOST}/a"),
        (f"https://me:s3cret@{HOST}/a", f"https://{HOST}/a"),
        ('{"task": "tests.record", "args": ["s3cret"]}', "tests.record"),
    ],
)
def test_a_target_is_shown_without_what_opens_it(target, shown):
    assert notices.shown_target(target) == shown
    assert "s3cret" not in repr(notice(target=target))


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["10.1.2.3"], ["93.184.216.34", "169.254.169.254"]])
def test_a_name_that_leads_inside_is_not_called(scheme, addresses, monkeypatch):
    found = [(2, 1, 6, "", (address, 443)) for address in addresses]
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: found)
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("it was called"))
    upstream = Upstream()
    with pytest.raises(NotPublic, match=HOST):
        upstream.tell(f"{scheme}://{HOST}/hook", {}, b"{}", False, 5.0)
    upstream.close()


# --- signatures ----------------------------------------------------------------------------------------


@pytest.fixture
def app():
    made = make_app("memory://", "cache+memory://")
    made.conf.task_routes = {"tests.*": {"queue": "theirs"}}
    yield made
    made.close()


def test_every_task_of_a_signature_goes_where_its_callers_app_would_send_it(app):
    from celery import chain, chord, group

    one = app.signature("tests.one")
    named = app.signature("tests.two", queue="mine")
    other = app.signature("elsewhere.three")
    canvas = chain(one, group(named, other), chord([one, named], other, app=app), app=app)
    read = json.loads(signature_text(canvas))

    def queues(part: Any) -> list[tuple[str, str]]:
        if isinstance(part, list):
            return [found for each in part for found in queues(each)]
        if not isinstance(part, dict):
            return []
        own = [(part["task"], part["options"]["queue"])] if "queue" in part.get("options", {}) else []
        return own + [found for each in part.get("kwargs", {}).values() for found in queues(each)]

    assert set(queues(read)) == {
        ("tests.one", "theirs"), ("tests.two", "mine"), ("elsewhere.three", "orchestrator.submit")
    }  # fmt: skip


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"on_each": 7}, "on_each must be a Celery signature, or a URL"),
        ({"on_complete": {"not": "one"}}, "on_complete must be a Celery signature, or a URL"),
        ({"notify_url": 7}, "notify_url must be a URL"),
        ({"on_complete": "https://localhost/"}, "on_complete = 'https://localhost/': must name a host"),
    ],
)
def test_what_is_neither_a_signature_nor_a_url_is_refused(told, words):
    with pytest.raises(Invalid, match=words):
        targets(RULES, **told)


def test_a_signature_whose_arguments_are_no_json_is_refused(app):
    with pytest.raises(Invalid, match="on_each must be"):
        targets(RULES, on_each=app.signature("tests.one", args=(object(),)))


def test_who_is_not_named_is_not_told():
    assert targets(RULES, notify_url="", on_each=None, on_complete=None) == {}
