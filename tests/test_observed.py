"""One stack under tracing, with logs as JSON: what is seen of its jobs, and what never may be."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner
from opentelemetry.sdk.trace import TracerProvider

from orchestrator import Orchestrator
from orchestrator.cli import main
from orchestrator.client import Job
from orchestrator.local.stack import Stack
from tests.api_kit import ACME
from tests.conftest import usual_accounts
from tests.stack_kit import PATIENCE, REPOSITORY, SECRETS, TOKEN, client_of, eventually, stack_in
from tests.tracing_kit import Collector, Seen

pytestmark = pytest.mark.long

FRAMES = "useapi_frames"
PROCESSES = ("worker", "collector", "ticker", "receiver", "api")
PROMPT = "a-prompt-that-nobody-else-may-read"
HOOK = "a-path-that-opens-a-hook"
CONSUMER, PRODUCER, CLIENT, SERVER, INTERNAL = 5, 4, 3, 2, 1
ALWAYS = {
    ("enqueue", ""), ("grant", "enqueue"), ("submit", "enqueue"), ("POST", "submit"),
    ("finish", "enqueue"), ("GET", "finish"), ("store", "GET"), ("end", "enqueue"),
}  # fmt: skip
KINDS = {
    "enqueue": PRODUCER, "grant": PRODUCER, "submit": CONSUMER, "finish": CONSUMER, "end": CONSUMER,
    "POST": CLIENT, "GET": CLIENT, "callback": SERVER, "settle": INTERNAL, "poll": INTERNAL,
    "store": INTERNAL, "notify": INTERNAL,
}  # fmt: skip


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


@pytest.fixture(scope="module")
def environ(collector: Collector) -> dict[str, str]:
    return {
        **SECRETS,
        "ORCHESTRATOR_LOG_FORMAT": "json",
        "ORCHESTRATOR_API_KEYS": f"acme:{ACME}",
        "ORCHESTRATOR_NOTIFY_SECRET": f"whsec_{base64.b64encode(b'x' * 32).decode()}",
        "ORCHESTRATOR_NOTIFY_HOSTS": "127.0.0.1",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "2",
    }


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, environ: dict[str, str]) -> Iterator[Stack]:
    with stack_in(tmp_path_factory.mktemp("observed"), usual_accounts, environ, collectors=1) as made:
        yield made
    for name in PROCESSES:  # what is said at the end, too
        lines(made, name)


@pytest.fixture(scope="module")
def orchestrator(stack: Stack, environ: dict[str, str]) -> Iterator[Orchestrator]:
    from orchestrator.tracing import tracer

    with client_of(stack, environ) as made:
        yield made
        provider = tracer._own_provider()
        assert isinstance(provider, TracerProvider)
        provider.shutdown()
        tracer._own_provider.cache_clear()
        tracer._tracer_of.cache_clear()


@pytest.fixture(scope="module")
def jobs(orchestrator: Orchestrator, collector: Collector) -> dict[str, Job]:
    """They all succeed, side by side. One is enqueued within a span, `mine`, of the caller's own."""

    def enqueue(marker: str, **options: Any) -> Job:
        return orchestrator.enqueue(FRAMES, {"text_prompt": f"{PROMPT} {marker}"}, **options)

    callers = TracerProvider(shutdown_on_exit=False).get_tracer("the caller's own")
    made = {"retried": enqueue("[5xx-refused:1]"), "polled": enqueue("[lost]")}
    with callers.start_as_current_span("mine") as span:
        made["called back"] = enqueue("", notify_url=f"{collector.url}/{HOOK}?token={TOKEN}")
    made["mine"] = span.get_span_context().trace_id  # type: ignore[assignment]
    made["called back"].result(timeout=PATIENCE)
    return made


def stages(spans: list[Seen]) -> set[tuple[str, str]]:
    """Each with what it stands below."""
    names = {span.id: span.name for span in spans}
    return {(span.name, names.get(span.parent, "")) for span in spans}


def seen(collector: Collector, job: Job, *more: tuple[str, str]) -> list[Seen]:
    """The spans of a job, once these are among them: all in one trace."""
    wanted = ALWAYS | set(more)
    eventually(lambda: wanted <= stages(collector.of_job(job.id)), f"{wanted} of {job.id}")
    spans = collector.of_job(job.id)
    assert len({span.trace for span in spans}) == 1
    assert [span.name for span in spans].count("enqueue") == 1
    assert {span.name: span.kind for span in spans}.items() <= KINDS.items()
    return spans


def test_a_job_that_is_called_back_is_one_trace_below_its_callers(
    collector: Collector, jobs: dict[str, Job]
) -> None:
    more = {("callback", "enqueue"), ("settle", "callback"), ("notify", "enqueue"), ("POST", "notify")}
    spans = seen(collector, jobs["called back"], *more)
    assert {span.trace for span in spans} == {f"{jobs['mine']:032x}"}
    (first,) = (span for span in spans if span.name == "enqueue")
    assert first.parent and first.parent not in {span.id for span in spans}
    (submit,) = (span for span in spans if span.name == "submit")
    (post,) = (span for span in spans if span.parent == submit.id and span.name == "POST")
    assert post.attributes["http.request.method"] == "POST"
    assert post.attributes["http.response.status_code"] == 200
    assert post.attributes["server.address"] == "127.0.0.1"
    assert any(path.startswith(f"/{HOOK}") for path in collector.told)


def test_a_job_that_is_polled_is_one_trace(collector: Collector, jobs: dict[str, Job]) -> None:
    spans = seen(collector, jobs["polled"], ("poll", "enqueue"), ("GET", "poll"), ("settle", "poll"))
    words = [span.attributes["orchestrator.word"] for span in spans if span.name == "settle"]
    assert words == ["settled"]


def test_each_of_many_is_a_trace_of_its_own_that_links_to_the_call(
    collector: Collector, orchestrator: Orchestrator
) -> None:
    batch = orchestrator.enqueue_many(FRAMES, [{"text_prompt": PROMPT} for _ in range(3)])
    ids = [job.id for job in batch.jobs()]
    eventually(lambda: all(collector.of_job(job_id) for job_id in ids))
    (call,) = eventually(
        lambda: [span for span in list(collector.spans) if span.attributes.get("orchestrator.jobs") == 3]
    )
    firsts = [next(each for each in collector.of_job(job_id) if each.name == "enqueue") for job_id in ids]
    assert len({span.trace for span in firsts} | {call.trace}) == 4
    assert {span.links for span in firsts} == {(call.trace,)} and not any(span.parent for span in firsts)
    batch.wait(timeout=PATIENCE)


def test_a_job_that_is_not_traced_has_no_spans_and_carries_nothing(
    collector: Collector, jobs: dict[str, Job], stack: Stack, environ: dict[str, str]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_SDK_DISABLED", "true")
        with Orchestrator.from_env() as plain:
            job = plain.enqueue(FRAMES, {"text_prompt": PROMPT})
            job.result(timeout=PATIENCE)
            assert plain.flow.store.options(job.id) == {}
    assert not collector.of_job(job.id)


# --- without a stack -------------------------------------------------------------------------------------

UNASKED = """
import os, sys
from orchestrator.build import Parts, _parts
import orchestrator.client, orchestrator.logs
endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
for told in ({}, {"OTEL_TRACES_EXPORTER": "none", **endpoint}, {"OTEL_SDK_DISABLED": "true", **endpoint}):
    os.environ.update(told)
    assert _parts() == Parts(), told
    for name in told:
        del os.environ[name]
# (redis-py imports a part of OpenTelemetry by itself)
assert not {"orchestrator.tracing", "opentelemetry.sdk.trace", "opentelemetry.exporter"} & sys.modules.keys()
sys.modules["opentelemetry"] = None  # as if the extra were not installed
os.environ["OTEL_TRACES_EXPORTER"] = "otlp"
assert _parts() == Parts()
"""
FORKED = """
import os
from orchestrator import tracing
with tracing.moment("before", CARRIED, job="j"):
    pass
child = os.fork()
with tracing.moment("within" if child == 0 else "after", CARRIED, job="j"):
    pass
tracing.flush()
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
"""
CARRIED = f"00-{'a' * 32}-{'b' * 16}-01"


def run(code: str, **environ: str) -> subprocess.CompletedProcess[str]:
    told = {"PATH": "", "PYTHONPATH": ".", **environ}
    done = subprocess.run(
        [sys.executable, "-c", code.replace("CARRIED", repr(CARRIED))],
        env=told, cwd=REPOSITORY, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


def test_where_nobody_asks_for_traces_or_the_extra_is_missing_there_are_none() -> None:
    done = run(UNASKED)
    assert "tracing.not_installed" in done.stderr and "orchestrator[tracing]" in done.stderr


def test_a_process_that_forks_goes_on_telling() -> None:
    own = Collector()
    try:
        run(FORKED, OTEL_EXPORTER_OTLP_ENDPOINT=own.url)
        assert sorted(span.name for span in own.spans) == ["after", "before", "within"]
        assert {(span.trace, span.parent) for span in own.spans} == {("a" * 32, "b" * 16)}
        assert {span.service for span in own.spans} == {"orchestrator"}
    finally:
        own.close()


# --- and once the one that is tried again is over ------------------------------------------------------


def test_a_job_that_is_tried_again_is_one_trace(collector: Collector, jobs: dict[str, Job]) -> None:
    spans = seen(collector, jobs["retried"])
    attempts = {span.attributes["orchestrator.attempt"] for span in spans if span.name == "submit"}
    assert attempts == {f"{jobs['retried'].id}.{number}" for number in (1, 2)}
    answers = sorted(
        span.attributes["http.response.status_code"]
        for span in spans
        if span.name == "POST" and "http.response.status_code" in span.attributes
    )
    assert answers == [200, 503]
    assert "503" in {span.attributes.get("error.type") for span in spans}


def test_no_span_holds_a_secret_or_a_prompt(collector: Collector, jobs: dict[str, Job], stack: Stack) -> None:
    for name in ("called back", "polled", "retried"):
        seen(collector, jobs[name])
    sent = b"".join(collector.bodies)
    keys = stack.environment["ORCHESTRATOR_SECRET_KEYS"]
    for secret in (PROMPT, TOKEN, HOOK, keys, "example.com", "callbacks/", "Bearer", "whsec_"):
        assert secret.encode() not in sent, secret
    assert not [span for span in collector.spans if "?" in str(span.attributes)]


def lines(stack: Stack, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stack.log(name).read_text(encoding="utf-8").splitlines()]


def test_every_line_of_every_process_is_json(stack: Stack, jobs: dict[str, Job]) -> None:
    for name in PROCESSES:
        for line in lines(stack, name):
            assert list(line)[:5] == ["time", "level", "logger", "event", "message"], (name, line)
            assert line["time"].endswith("Z") and line["level"] in ("info", "warning", "error")
    assert any(line["logger"].startswith("celery.") for line in lines(stack, "worker"))
    assert lines(stack, "ticker")[0]["event"] == "ticker.started"
    for secret in (PROMPT, TOKEN, HOOK, stack.environment["ORCHESTRATOR_SECRET_KEYS"], "example.com"):
        assert all(secret not in stack.log(name).read_text() for name in ("worker", "collector", "receiver"))


def test_each_transition_tells_job_attempt_and_trace(
    collector: Collector, stack: Stack, jobs: dict[str, Job]
) -> None:
    job = jobs["called back"]
    jobs["retried"].result(timeout=PATIENCE)
    told = [line for name in ("worker", "collector", "receiver") for line in lines(stack, name)]
    mine = [line for line in told if line.get("job") == job.id]
    assert {line["attempt"] for line in mine} == {f"{job.id}.1"}
    assert {line["trace_id"] for line in mine} == {f"{jobs['mine']:032x}"}
    by_event = {line["event"]: line for line in mine}
    assert by_event.keys() == {"attempt.opened", "attempt.submitted", "attempt.closed", "job.ended"}
    assert by_event["attempt.closed"]["verdict"] == "succeeded"
    assert by_event["attempt.closed"]["by"] == "callbacks"
    assert by_event["attempt.submitted"]["account"].startswith("studio-")
    assert by_event["job.ended"]["state"] == "succeeded"
    again = [
        line for line in told if line.get("job") == jobs["retried"].id and line["event"] == "attempt.closed"
    ]
    assert [line["attempt"].rpartition(".")[2] for line in again] == ["1", "2"]
    assert again[0]["error"] == "Unavailable" and isinstance(again[0]["again_in"], float)


def test_the_timeline_is_shown(jobs: dict[str, Job], stack: Stack) -> None:
    job = jobs["retried"]
    job.result(timeout=PATIENCE)
    shown = CliRunner().invoke(main, ["status", job.id, "--json"])
    past = json.loads(shown.output)["timeline"]
    assert [each["attempt"] for each in past if each["event"] == "attempt.opened"] == [1, 2]
    assert past[0]["event"] == "job.enqueued" and past[-1]["event"] == "job.ended"
    told = CliRunner().invoke(main, ["status", job.id])
    assert "Timeline" in told.output and "attempt.uncertain" in told.output and "@" not in told.output


def test_a_collector_that_is_down_holds_up_nothing(
    collector: Collector, jobs: dict[str, Job], orchestrator: Orchestrator, stack: Stack
) -> None:
    collector.close()
    try:
        job = orchestrator.enqueue(FRAMES, {"text_prompt": PROMPT})
        assert job.result(timeout=PATIENCE).artifacts
    finally:
        collector.open_again()
