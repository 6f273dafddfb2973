"""The names that others build on, against the real stack."""

from __future__ import annotations

import threading
import uuid

import pytest

from orchestrator import Conflict, Invalid, JobCancelled, JobNotFound, Orchestrator, Unsupported
from orchestrator.store.link import WAIT_SLICE_SECONDS

FRAMES = "useapi_frames"


def prompts(count: int, marker: str = "") -> list[dict[str, str]]:
    return [{"text_prompt": f"{uuid.uuid4().hex} {marker}"} for _ in range(count)]


@pytest.fixture
def batch_name() -> str:
    return f"batch-{uuid.uuid4().hex}"


def test_job_goes_from_enqueue_to_a_picture(orchestrator):
    job = orchestrator.enqueue(FRAMES, {"text_prompt": "a lighthouse in fog", "aspect_ratio": "16:9"})
    result = job.result(timeout=60)
    artifact = result.artifacts[0]
    assert job.state == "succeeded"
    assert artifact.url.startswith("http") and artifact.path.endswith(".png")
    assert artifact.media_type == "image/png" and artifact.bytes > 1000 and len(artifact.sha256) == 64


def test_result_may_be_asked_twice_and_from_another_handle(orchestrator):
    job = orchestrator.enqueue(FRAMES, *prompts(1))
    assert job.result(timeout=60) == orchestrator.job(job.id).result(timeout=30)


def test_result_that_is_not_there_in_time_raises_and_the_job_goes_on(orchestrator):
    job = orchestrator.enqueue(FRAMES, *prompts(1, "[slow]"))
    with pytest.raises(TimeoutError, match=job.id):
        job.result(timeout=0.05)
    assert job.result(timeout=60).artifacts


def test_unknown_job_is_said_to_be_unknown(orchestrator):
    with pytest.raises(JobNotFound, match="nobody"):
        orchestrator.job("nobody").result(timeout=30)


def test_cancelled_job_raises_and_frees_its_slot(orchestrator):
    job = orchestrator.enqueue(FRAMES, *prompts(1, "[forever]"))
    assert job.cancel()
    with pytest.raises(JobCancelled):
        job.result(timeout=60)
    assert not job.cancel()


def test_batch_yields_each_job_once_as_it_ends(orchestrator, batch_name):
    batch = orchestrator.enqueue_many(FRAMES, prompts(25), batch=batch_name)
    ended = [job.id for job in batch.as_completed(timeout=60)]
    assert sorted(ended) == sorted(job.id for job in batch.jobs())
    counts = {word: count for word, count in batch.counts().items() if count}
    assert counts == {"total": 25, "succeeded": 25}


def test_ends_are_pushed_and_not_polled(orchestrator, batch_name):
    """Whoever waits hears of the end although nothing but the end happens on its connection."""
    batch = orchestrator.enqueue_many(FRAMES, prompts(1, "[slow]"), batch=batch_name)
    heard: list[str] = []
    waiting = threading.Thread(target=lambda: heard.extend(job.id for job in batch.as_completed(timeout=60)))
    waiting.start()
    batch.jobs()[0].result(timeout=60)
    waiting.join(timeout=WAIT_SLICE_SECONDS - 0.5)
    assert heard == [batch.jobs()[0].id]


def test_batch_may_be_waited_for_by_name_after_it_is_over(orchestrator, batch_name):
    orchestrator.enqueue_many(FRAMES, prompts(3), batch=batch_name).wait(timeout=60, progress=True)
    assert len(list(orchestrator.batch(batch_name).as_completed(timeout=30))) == 3


def test_batch_of_that_name_is_extended(orchestrator, batch_name):
    for _ in range(2):
        batch = orchestrator.enqueue_many(FRAMES, prompts(2), batch=batch_name)
    assert batch.wait(timeout=60)["succeeded"] == 4


def test_batch_that_is_not_over_in_time_raises(orchestrator, batch_name):
    batch = orchestrator.enqueue_many(FRAMES, prompts(1, "[slow]"), batch=batch_name)
    with pytest.raises(TimeoutError, match=batch_name):
        batch.wait(timeout=0.05)
    batch.wait(timeout=60)


def test_empty_batch_is_over_at_once(orchestrator, batch_name):
    batch = orchestrator.enqueue_many(FRAMES, [], batch=batch_name)
    assert list(batch.as_completed(timeout=1)) == []


def test_one_bad_job_keeps_the_whole_batch_out_and_is_named(orchestrator, batch_name):
    jobs = [*prompts(3), {"text_prompt": "", "style": "vivd"}, *prompts(2)]
    with pytest.raises(Invalid, match=r"(?s)1 of 6 jobs.*\[3\].*style = 'vivd'.*text_prompt = ''") as caught:
        orchestrator.enqueue_many(FRAMES, jobs, batch=batch_name)
    assert "dreamscape" in str(caught.value)  # the cure: what would have been right
    assert orchestrator.batch(batch_name).counts()["total"] == 0


# arguments, words of the refusal
REFUSED = [
    (("nobody", {}), Unsupported, "known are"),
    ((FRAMES, {"text_prompt": "a", "email": "x@example.com"}), Invalid, "no account"),
    ((FRAMES, {"text_prompt": "a", "replyUrl": "http://a"}), Invalid, "leave it out"),
    ((FRAMES, "a lighthouse"), Invalid, "mapping"),
    ((FRAMES, {"prompt": "a"}), Invalid, r"prompt = 'a': .* no such parameter\. Is text_prompt meant\?"),
    ((FRAMES, {"text_prompt": "a", "size": 1}), Invalid, "size = 1: .* Known are text_prompt, "),
]


@pytest.mark.parametrize(("arguments", "kind", "words"), REFUSED)
def test_bad_input_is_refused_before_anything_is_spent(orchestrator, arguments, kind, words):
    with pytest.raises(kind, match=words):
        orchestrator.enqueue(*arguments)


def test_an_option_that_is_none_is_told_which_may_be_meant(orchestrator):
    with pytest.raises(Invalid, match=r"prioritiy = 9: Unknown field\. Is priority meant\?"):
        orchestrator.enqueue(FRAMES, *prompts(1), prioritiy=9)
    with pytest.raises(Invalid, match=r"max_spent = 9: Unknown field\. Is max_spend meant\?"):
        orchestrator.enqueue_many(FRAMES, prompts(1), max_spent=9)


def test_priority_out_of_range_is_refused(orchestrator):
    with pytest.raises(Invalid, match="priority = 10"):
        orchestrator.enqueue(FRAMES, *prompts(1), priority=10)


def test_settings_alone_make_a_client(environment):
    with Orchestrator.from_env() as other:
        assert other.enqueue(FRAMES, *prompts(1)).result(timeout=60).artifacts


# --- names ---------------------------------------------------------------------------------------------


def test_a_batch_that_is_enqueued_again_by_its_custom_ids_is_extended_by_what_is_new(
    orchestrator, batch_name, stats
):
    wanted = prompts(4)
    names = ["a", "b", "ç d", "e"]
    before = stats()["posts"]
    first = orchestrator.enqueue_many(FRAMES, wanted[:2], batch=batch_name, custom_ids=names[:2])
    again = orchestrator.enqueue_many(FRAMES, wanted, batch=batch_name, custom_ids=names)
    assert [job.id for job in again.jobs()][:2] == [job.id for job in first.jobs()][:2]
    assert again.wait(timeout=60)["succeeded"] == again.counts()["total"] == 4
    assert [job.record.custom_id for job in again.jobs()] == names
    orchestrator.enqueue_many(FRAMES, wanted, batch=batch_name, custom_ids=names)
    assert again.counts()["total"] == 4
    assert stats()["posts"] == before + 4


def test_the_same_custom_id_is_another_job_in_another_batch(orchestrator, batch_name):
    jobs = [
        orchestrator.enqueue(FRAMES, *prompts(1), batch=batch, tenant=tenant, custom_id="a")
        for batch in (batch_name, f"{batch_name}-2")
        for tenant in ("", "acme", "apex")
    ]
    assert len({job.id for job in jobs}) == 6
    assert {job.record.batch for job in jobs[:3]} == {batch_name, f"acme/{batch_name}", f"apex/{batch_name}"}
    for job in jobs:
        assert job.result(timeout=60).artifacts


def test_an_idempotency_key_makes_a_call_safe_to_repeat(orchestrator, batch_name):
    (wanted,) = prompts(1)
    jobs = [orchestrator.enqueue(FRAMES, wanted, idempotency_key=batch_name) for _ in range(3)]
    jobs += [orchestrator.enqueue(FRAMES, wanted, idempotency_key=batch_name, tenant="acme")]
    assert len({job.id for job in jobs}) == 2
    assert jobs[2].result(timeout=60) == jobs[0].result(timeout=60)


def test_a_name_that_was_given_to_something_else_is_a_conflict_and_nothing_is_enqueued(
    orchestrator, batch_name
):
    orchestrator.enqueue(FRAMES, *prompts(1), batch=batch_name, custom_id="fox")
    with pytest.raises(Conflict, match=r"'fox' asked for something else before: .* a custom_id"):
        orchestrator.enqueue_many(FRAMES, prompts(3), batch=batch_name, custom_ids=["a", "fox", "b"])
    assert orchestrator.batch(batch_name).counts()["total"] == 1


@pytest.mark.parametrize(
    ("custom_ids", "fault"),
    [
        (["a", "b", "a"], r"1 of 3 jobs .* \[2\] custom_id = 'a': an earlier one is called so"),
        (["a", "b"], "custom_ids: there must be one for each"),
        (["a", "b", "c", "d"], "custom_ids: there must be one for each"),
        (["a", "b\n", "c"], r"\[1\] .*custom_id = .*control character"),
        (["a", "x" * 201, "c"], r"\[1\] .*custom_id = .*1 to 200 characters"),
        (["a", 7, "c"], r"\[1\] .*custom_id = 7: Not a valid string"),
    ],
)
def test_custom_ids_that_name_nothing_are_refused(custom_ids, fault, orchestrator, batch_name):
    with pytest.raises(Invalid, match=fault):
        orchestrator.enqueue_many(FRAMES, prompts(3), batch=batch_name, custom_ids=custom_ids)
    assert not orchestrator.batch(batch_name).counts()["total"]


def test_options_that_many_jobs_have_in_common_are_refused_once(orchestrator, batch_name):
    with pytest.raises(Invalid, match=r"^job options: priority = 10: [^\n]*\Z"):
        orchestrator.enqueue_many(FRAMES, prompts(3), batch=batch_name, priority=10)
    assert not orchestrator.batch(batch_name).counts()["total"]


def test_one_key_for_many_jobs_is_refused(orchestrator, batch_name):
    with pytest.raises(Invalid, match="give many of them `custom_ids`"):
        orchestrator.enqueue_many(FRAMES, prompts(2), batch=batch_name, idempotency_key="a")
    with pytest.raises(Invalid, match="idempotency_key = 'b': A custom_id is a key itself"):
        orchestrator.enqueue(FRAMES, *prompts(1), batch=batch_name, custom_id="a", idempotency_key="b")
