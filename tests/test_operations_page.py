"""The operations page end to end: the real gunicorn of the session's stack, and a real browser."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator

import pytest
import requests

from orchestrator import Orchestrator
from orchestrator.errors import ConfigurationError
from orchestrator.local.processes import Command, Processes, free_port, http_answers
from orchestrator.local.stack import Stack
from orchestrator.local.valkey import EmbeddedServer
from orchestrator.logins import logins
from orchestrator.models import Callback
from orchestrator.operations import Filter
from tests.browser_kit import CHROMIUM, browsing
from tests.conftest import accounts_file
from tests.operations_kit import Visitor
from tests.stack_kit import REPOSITORY, SECRETS, TOKEN, eventually

FRAMES, ACCOUNT = "useapi_frames", "/accounts/useapi_frames/studio-1"
PAGES = "/ /batches /accounts /lanes /spend /dead /callbacks /callbacks?parked=1 /notices".split()
EVIL = "<script>alert(1)</script>"
BODY = b'{"taskId": "t-1", "status": "PENDING"}'


@pytest.fixture
def visitor(stack: Stack, orchestrator: Orchestrator) -> Visitor:
    return Visitor(str(stack.operations_url), stack.flower_login)


@pytest.fixture
def name(orchestrator: Orchestrator) -> Iterator[str]:
    """Of a batch; what is left of it is cancelled."""
    made = f"page {uuid.uuid4().hex[:12]}"
    yield made
    if orchestrator.flow.store.batches.standing(made):
        orchestrator.batch(made).resume()
        orchestrator.batch(made).cancel()


def waiting(orchestrator: Orchestrator, name: str, count: int = 3) -> list[str]:
    """Jobs of a batch that is paused: nothing of it is begun."""
    orchestrator.operations.cap(name, 1000)
    orchestrator.operations.pause("batch", name)
    made = orchestrator.enqueue_many(
        FRAMES, ({"text_prompt": f"{EVIL} {n}"} for n in range(count)), batch=name
    )
    return [job.id for job in made]


def path_of(name: str) -> str:
    return f"/batches/{requests.utils.quote(name)}"  # type: ignore[attr-defined]


def failed(orchestrator: Orchestrator, name: str, count: int = 2) -> list[str]:
    """Dead letters: refused by moderation."""
    prompts = ({"text_prompt": f"{EVIL} {uuid.uuid4().hex} [moderated-422]"} for _ in range(count))
    batch = orchestrator.enqueue_many(FRAMES, prompts, batch=name)
    batch.wait(60)
    return [job.id for job in batch]


# --- who may look --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*PAGES, "/nowhere", "/readyz", "/assets/operations.css", "/jobs/x"])
def test_nothing_is_shown_without_the_login(visitor, path):
    answer = Visitor(visitor.url, None).get(path)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    assert "/batches" not in answer.text and "<nav" not in answer.text


def test_wrong_logins_are_refused_and_health_is_bare(visitor):
    user, password = visitor.login
    for login in ((user, password[:-1]), ("somebody", password), (user, f"{password}é")):
        assert Visitor(visitor.url, (login[0], login[1].encode())).get("/").status_code == 401
    assert (
        requests.get(f"{visitor.url}/", headers={"Authorization": "Basic !!"}, timeout=9).status_code == 401
    )
    bearer = {"Authorization": f"Bearer {password}"}
    assert requests.get(f"{visitor.url}/", headers=bearer, timeout=9).status_code == 401
    assert Visitor(visitor.url, None).get("/healthz").text == "ok\n"


def test_it_does_not_start_without_a_login(environment):
    for login in (
        "",
        "orchestrator",
        "orchestrator:short",
        "a:long-enough-one,b:short",
        "a:long-enough-one,",
    ):
        with pytest.raises(ConfigurationError, match="FLOWER_BASIC_AUTH must be user:password"):
            logins(login)
    assert logins("a:long:enough:one,b:another-long-one") == ("a:long:enough:one", "b:another-long-one")
    environ = {key: text for key, text in os.environ.items() if key != "FLOWER_BASIC_AUTH"}
    command = (sys.executable, "-c", "import webhooks.operations.wsgi")
    ended = subprocess.run(command, env=environ, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 3
    assert "FLOWER_BASIC_AUTH must be user:password" in ended.stderr and "Traceback" not in ended.stderr


def test_every_page_is_closed_to_strangers_scripts(visitor):
    for path in PAGES:
        answer = visitor.get(path)
        assert answer.status_code == 200, (path, answer.text)
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'") and "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert not re.search(r"<script(?! src=)|<style|style=|\son\w+=|https?://", answer.text), path


def test_an_action_needs_a_form_of_ours(visitor, orchestrator, name):
    waiting(orchestrator, name)
    path, good = f"{path_of(name)}/resume", {"token": visitor.token()}
    forged = {"token": good["token"][:-2] + "xx"}
    refused = [
        visitor.post(path, {}),
        visitor.post(path, forged),
        visitor.post(path, good, {"Origin": "https://evil.example"}),
        visitor.post(path, good, {"Origin": "null"}),
        visitor.post(path, good, {"Sec-Fetch-Site": "cross-site"}),
        visitor.post(path, good, {"Sec-Fetch-Site": "same-site"}),
    ]
    assert [answer.status_code for answer in refused] == [403] * 6
    assert visitor.get(path).status_code in (404, 405)
    large = Visitor(visitor.url, visitor.login).post(path, {"token": good["token"], "more": "x" * 70_000})
    assert large.status_code == 413
    assert orchestrator.flow.store.lanes.why_paused(name) == "a person"
    ours = {"Origin": visitor.url, "Sec-Fetch-Site": "same-origin"}
    assert visitor.post(path, good, ours).status_code == 200
    assert orchestrator.flow.store.lanes.why_paused(name) == ""


# --- what is shown -------------------------------------------------------------------------------------


def test_what_a_stranger_wrote_is_escaped_and_no_secret_is_shown(visitor, orchestrator, name):
    ids = failed(orchestrator, name)
    body = f"{EVIL} a@b.example".encode()
    orchestrator.flow.store.journal.note(Callback(FRAMES, "studio-1", "nobody.1", body, 1.0), "unreadable")
    entry = orchestrator.flow.store.journal.recent(1, parked=True)[0]
    pages = [*PAGES, f"/jobs/{ids[0]}", path_of(name), f"/callbacks/{entry.id}", ACCOUNT]
    pages += [f"/dead?batch={name}&error={EVIL}", f"/search?q={EVIL}", f"/jobs/{EVIL}", f"/batches?q={EVIL}"]
    told = "".join(visitor.get(path).text for path in pages)
    told += visitor.get("/jobs/<b>bold").text + visitor.do(
        "/lanes/weigh", kind="batch", name="<b>bold", weight="2"
    )
    assert "<b>bold" not in told and told.count("&lt;b&gt;bold") >= 2
    assert EVIL not in told and "&lt;script&gt;alert(1)" in told
    for secret in (TOKEN, visitor.login[1], os.environ["ORCHESTRATOR_SECRET_KEYS"], "a@b.example"):
        assert secret not in told
    assert "studio-1@example.com" not in told


def test_a_batch_is_found_and_shown_with_its_failures(visitor, orchestrator, name):
    ids = failed(orchestrator, name)
    told = visitor.get(f"/search?q={requests.utils.quote(name)}")
    assert told.url.endswith(path_of(name)) and name in told.text
    assert re.search(r"Moderated</b></td><td data-l=\"jobs\" class=\"n\">2<", told.text)
    job = visitor.get(f"/search?q={ids[0]}")
    assert job.url.endswith(f"/jobs/{ids[0]}") and "attempt 1: failed" in job.text
    assert "[moderated-422]" in job.text and path_of(name) in job.text
    assert name in visitor.get(f"/search?q={name[3:12]}").text
    assert ids[0] in visitor.get(f"/dead?batch={requests.utils.quote(name)}&error=moderated").text
    assert ids[0] not in visitor.get(f"/dead?batch={requests.utils.quote(name)}&error=BadOutput").text


def test_lists_are_shown_a_page_at_a_time(visitor, orchestrator, name):
    ids = waiting(orchestrator, name, 120)
    seen, path = [], path_of(name)
    while path:
        page = visitor.get(path).text
        seen.append(re.findall(r'data-l="job"><a class="id" href="/jobs/([^"]+)"', page))
        following = re.search(r'href="([^"]+)">Next</a>', page)
        path = following[1].replace("&amp;", "&") if following else ""
    assert [len(some) for some in seen] == [50, 50, 20]
    assert [each for some in seen for each in some] == ids
    for nonsense in ("-1", "x", "9" * 30, "²"):
        assert visitor.get(f"{path_of(name)}?from={nonsense}").status_code == 200


@pytest.mark.parametrize(
    "path",
    "/jobs/none /batches/none /accounts/useapi_frames/none /callbacks/1 /callbacks/1-1 /notices/none".split(),
)
def test_what_is_not_there_is_said_in_a_sentence(visitor, path):
    answer = visitor.get(path)
    assert answer.status_code == 404
    assert "Traceback" not in answer.text and '<section class="trouble"' in answer.text


# --- what is done --------------------------------------------------------------------------------------


def test_a_batch_is_steered(visitor, orchestrator, name):
    ids, path = waiting(orchestrator, name), path_of(name)
    standing = orchestrator.flow.store.batches.standing
    assert "takes work again" in visitor.do(f"{path}/resume")
    assert "is paused" in visitor.do(f"{path}/pause")
    assert standing(name).paused == "a person"
    assert "have priority 7" in visitor.do(f"{path}/prioritise", priority="7")
    assert "priority" in visitor.do(f"{path}/prioritise", priority="many")
    told = visitor.do(f"{path}/limit", max_failures="5", max_failure_share="0.5", max_spend="42")
    assert "5 failures" in told
    found = standing(name)
    assert (found.max_failures, found.max_failure_share, found.max_spend) == (5, 0.5, 42)
    assert "must be above 0" in visitor.do(f"{path}/limit", max_failure_share="7", max_spend="42")
    shown = {"max_spend": "100", "was_max_spend": "100"}  # by a page from before the cap was lowered
    assert "a cost of 42" in visitor.do(f"{path}/limit", max_failures="6", was_max_failures="5", **shown)
    assert "weight 3" in visitor.do(f"{path}/weigh", weight="3")
    assert orchestrator.flow.store.lanes.weights()[name] == 3
    assert f"{name} has weight 2" in visitor.do("/lanes/weigh", kind="batch", name=name, weight="2")
    question = visitor.ask(f"{path}/cancel")
    assert name in question and standing(name).counts["cancelled"] == 0
    assert "cancelled" in visitor.do(f"{path}/cancel", sure="yes")
    eventually(lambda: standing(name).is_over)
    assert {orchestrator.job(job_id).state for job_id in ids} <= {"cancelled", "succeeded"}
    assert "Delete all that is known" in visitor.ask(f"{path}/purge")
    assert f"3 jobs of batch {name} deleted" in visitor.do(f"{path}/purge", sure="yes")
    assert standing(name) is None


def test_dead_letters_run_again_and_are_given_up(visitor, orchestrator, name):
    first, second = failed(orchestrator, name)
    dead = lambda: {job.id for job, _ in orchestrator.operations.dead(Filter(batch=name))}  # noqa: E731
    assert "nothing was chosen" in visitor.post("/dead/replay", {"token": visitor.token()}).text
    assert "1 dead letter" in visitor.ask("/dead/purge", job=first)
    assert dead() == {first, second}
    assert visitor.do("/dead/purge", job=first, sure="yes") == "1 dead letter purged"
    assert dead() == {second}
    assert "all dead letters of batch" in visitor.ask("/dead/replay", all="yes", batch=name)
    assert visitor.do("/dead/replay", all="yes", batch=name, sure="yes") == "1 job replayed"
    eventually(lambda: orchestrator.job(second).record.failures == 1 and dead() == {second})
    assert "runs again" in visitor.do(f"/jobs/{second}/replay", sure="yes")
    eventually(lambda: dead() == {second})
    assert "1 job of batch" in visitor.do(f"{path_of(name)}/retry", sure="yes")
    eventually(lambda: orchestrator.batch(name).is_over)


def test_an_account_is_paused_limited_and_resumed(visitor, orchestrator):
    def row() -> dict[str, object]:
        rows = orchestrator.flow.store.accounts.rows(FRAMES, orchestrator.flow.clock())
        return next(each for each in rows if each["name"] == "studio-1")

    try:
        assert "is paused" in visitor.do(f"{ACCOUNT}/pause")
        assert row()["closed_by"] == "paused"
        assert "paused" in visitor.get(ACCOUNT).text
        assert "takes work again" in visitor.do(f"{ACCOUNT}/resume")
        assert row()["opens_at"] is None
        assert "drained" in visitor.do(f"{ACCOUNT}/drain")
        told = visitor.do(f"{ACCOUNT}/limits", max_jobs="4", was_max_jobs="5", price="1", was_price="1")
        assert "max_jobs is 4" in told and "price" not in told
        assert row()["max_jobs"] == "4" and row()["changed"] == ["max_jobs"]
        told = visitor.do(f"{ACCOUNT}/limits", max_jobs="none", was_max_jobs="4")
        assert "max_jobs is &#39;none&#39;" in told
    finally:
        assert "as the accounts file says" in visitor.do(f"{ACCOUNT}/limits", max_jobs="", was_max_jobs="4")
        assert "takes work again" in visitor.do(f"{ACCOUNT}/resume")
    assert row()["max_jobs"] == "5" and row()["changed"] == []
    assert "takes work again" in visitor.do(f"/accounts/{FRAMES}/resume")
    assert visitor.post(f"{ACCOUNT}/explode", {"token": visitor.token()}).status_code == 404


def test_a_job_is_put_first_and_cancelled(visitor, orchestrator, name):
    (job_id,) = waiting(orchestrator, name, 1)
    assert "its batch is paused" in visitor.get(f"/jobs/{job_id}").text
    assert "has priority 9" in visitor.do(f"/jobs/{job_id}/prioritise", priority="9")
    assert orchestrator.job(job_id).record.priority == 9
    assert "Cancel job" in visitor.ask(f"/jobs/{job_id}/cancel")
    assert "is cancelled" in visitor.do(f"/jobs/{job_id}/cancel", sure="yes")
    eventually(lambda: orchestrator.job(job_id).state == "cancelled")
    assert "too late" in visitor.do(f"/jobs/{job_id}/cancel", sure="yes")


def test_callbacks_and_notices_are_taken_up_again(visitor, orchestrator, name):
    store = orchestrator.flow.store
    attempt = f"{uuid.uuid4()}.1"
    store.journal.note(Callback(FRAMES, "studio-1", attempt, BODY, 2.0), "unknown")
    entry = store.journal.recent(1, parked=True)[0]
    assert entry.id in visitor.get("/callbacks?parked=1&word=unknown").text
    assert attempt in visitor.get(f"/callbacks/{entry.id}").text
    assert f"attempt {attempt}" in visitor.do(f"/callbacks/{entry.id}/replay")
    assert "nothing was chosen" in visitor.post("/notices/replay", {"token": visitor.token()}).text
    assert visitor.do("/notices/replay", notice="none") == "0 notices replayed"
    assert "Forget all dead notices to nobody.example" in visitor.ask(
        "/notices/purge", all="yes", host="nobody.example"
    )


def test_actions_are_logged_with_who_asked(visitor, stack, orchestrator, name):
    waiting(orchestrator, name)
    visitor.do(f"{path_of(name)}/pause")
    line = f"operations.asked by={visitor.login[0]} action=pause on={name}"
    eventually(lambda: line in stack.log("operations").read_text())
    assert visitor.login[1] not in stack.log("operations").read_text()


# --- Redis away ----------------------------------------------------------------------------------------


def test_without_redis_there_is_a_page_that_says_so_and_it_comes_back(tmp_path):
    accounts_file(tmp_path / "accounts.toml", "http://127.0.0.1:9", only=1)
    port, login = free_port(), ("operator", "a-long-enough-password")
    with EmbeddedServer.start(tmp_path / "valkey") as server:
        environ = {**os.environ, **SECRETS, "FLOWER_BASIC_AUTH": ":".join(login)}
        environ |= {
            "ORCHESTRATOR_REDIS_URL": server.url,
            "ORCHESTRATOR_ACCOUNTS": str(tmp_path / "accounts.toml"),
            "ORCHESTRATOR_ARTIFACTS": "none",
        }
        environ.pop("ORCHESTRATOR_PUBLIC_URL", None)
        argv = (sys.executable, "-m", "gunicorn", "-c", "python:webhooks.operations.gunicorn_conf")
        argv = (*argv, "--bind", f"127.0.0.1:{port}")
        ready = lambda: http_answers(port, "/healthz")  # noqa: E731
        with Processes() as processes:
            processes.launch(Command("operations", argv, environ, REPOSITORY, tmp_path / "log", ready, 60.0))
            processes.wait("operations")
            visitor = Visitor(f"http://127.0.0.1:{port}", login)
            token = visitor.token()
            server.kill()
            for answer in (visitor.get("/"), visitor.post("/batches/a/pause", {"token": token})):
                assert answer.status_code == 503 and answer.headers["Retry-After"]
                assert "Redis does not answer" in answer.text and server.url not in answer.text
            assert visitor.get("/healthz").text == "ok\n"
            server.restart()
            eventually(lambda: visitor.get("/").status_code == 200)


# --- in a browser --------------------------------------------------------------------------------------


@pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium here: apt-get install chromium")
def test_in_a_browser_it_fits_refreshes_and_asks_before_what_is_grave(visitor, orchestrator, name, tmp_path):
    ids = waiting(orchestrator, name)
    cancelled = "document.querySelector('.figures .cancelled dd').textContent"
    with browsing(tmp_path) as browser:
        browser.log_in(*visitor.login)
        for width, dark in ((1280, False), (390, True)):
            browser.show(width, dark=dark)
            for path in (*PAGES, path_of(name), f"/jobs/{ids[0]}", ACCOUNT):
                browser.open(visitor.url + path)
                found = browser.ask("[document.documentElement.scrollWidth - innerWidth, document.title]")
                assert found[0] <= 0, (path, width, found)
        paper = browser.ask("getComputedStyle(document.body).backgroundColor")
        assert max(map(int, re.findall(r"\d+", paper))) < 60, "it is not dark"
        browser.open(visitor.url + path_of(name))
        assert browser.ask(cancelled) == "0"
        orchestrator.job(ids[0]).cancel()
        eventually(lambda: browser.ask(cancelled) == "1", "the number was not refreshed")
        browser.ask("document.querySelector('form[action$=\"/cancel\"] button').click()")
        eventually(lambda: browser.ask("document.getElementById('asked').open"), "it did not ask")
        assert name in browser.ask("document.querySelector('#asked p').textContent")
        assert orchestrator.job(ids[1]).state == "queued"
        browser.ask("document.querySelector('#asked button.grave').click()")
        eventually(lambda: orchestrator.job(ids[1]).state == "cancelled", "it was not done")
        eventually(lambda: browser.ask("!!document.querySelector('.told.done')"), "it was not told")
        assert browser.faults == []
