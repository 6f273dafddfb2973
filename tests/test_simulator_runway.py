"""The simulator's official Runway API, talked to over HTTP and by Runway's own SDK."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from runwayml import AuthenticationError, BadRequestError, NotFoundError, RateLimitError, RunwayML
from runwayml.lib import polling

from orchestrator.models import Account, Secret
from orchestrator.providers import registry
from tests.stack_kit import PATIENCE
from tests.test_simulator import ANSWER_SECONDS, Sim, eventually

VERSION = {"X-Runway-Version": "2024-11-06"}
GENERATION = 0.1  # real seconds
USUAL = ("--scale", "0.02", "--seconds", "5", "--account", "key-1=2")
BODY = {"model": "gen4_image", "promptText": "a lake", "ratio": "1280:720"}
SUSPENDED = "This organization is suspended."


class RunwaySim(Sim):
    """The simulator, spoken to as the official API."""

    def call(self, method: str, path: str, token: str = "key-1", **more: Any) -> requests.Response:
        root = self.url if path.startswith("/__") else f"{self.url}/v1"
        headers = {"Authorization": f"Bearer {token}", **VERSION, **more.pop("headers", {})}
        return self.session.request(method, root + path, timeout=ANSWER_SECONDS, headers=headers, **more)

    def create(self, prompt: str, token: str = "key-1", **more: Any) -> requests.Response:
        return self.call("POST", "/text_to_image", token, json={**BODY, "promptText": prompt, **more})

    def accepted(self, prompt: str, token: str = "key-1", **more: Any) -> str:
        answer = self.create(prompt, token, **more)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    def status(self, task_id: str) -> str:
        return str(self.task(task_id)["status"])

    def over(self, task_id: str) -> dict[str, Any]:
        eventually(lambda: self.status(task_id) in ("SUCCEEDED", "FAILED"))
        return self.task(task_id)

    def stats(self) -> dict[str, Any]:
        return self.call("GET", "/__stats__").json()["apis"]["runway"]

    def picture(self, url: str) -> int:
        return self.session.get(url, timeout=ANSWER_SECONDS).status_code


@pytest.fixture(scope="module")
def shared() -> Iterator[RunwaySim]:
    made = RunwaySim(*USUAL)
    yield made
    made.stop()


@pytest.fixture
def sim(shared: RunwaySim) -> RunwaySim:
    assert shared.call("POST", "/__reset__").ok
    return shared


@pytest.fixture
def client(sim: RunwaySim, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunwayML]:
    """Runway's own SDK, which waits 6 s between polls; here a little less."""
    monkeypatch.setattr(polling, "POLL_TIME", 0.1)
    monkeypatch.setattr(polling, "POLL_JITTER", 0.0)
    with RunwayML(api_key="key-1", base_url=sim.url, max_retries=0) as made:
        yield made


# the official SDK


def test_the_official_sdk_creates_retrieves_and_waits(sim: RunwaySim, client: RunwayML) -> None:
    sim.hold()
    created = client.text_to_image.create(
        model="gen4_image", prompt_text="a lake", ratio="1920:1080", seed=7,
        content_moderation={"public_figure_threshold": "low"},
        reference_images=[{"uri": "https://example.com/a.png", "tag": "hero"}],
    )  # fmt: skip
    assert created.estimated_cost.credits == 5
    task = client.tasks.retrieve(created.id)
    assert task.id == created.id and task.status == "PENDING"
    sim.end_all()
    done = created.wait_for_task_output(timeout=PATIENCE)
    assert done.status == "SUCCEEDED" and done.cost.credits == 5
    (url,) = done.output
    file = sim.session.get(url, timeout=ANSWER_SECONDS)
    assert file.headers["Content-Type"] == "image/png"


def test_the_official_sdk_reads_every_status(sim: RunwaySim, client: RunwayML) -> None:
    begun = sim.accepted("a lake [forever]")
    eventually(lambda: client.tasks.retrieve(begun).status == "RUNNING")
    assert 0 < client.tasks.retrieve(begun).progress < 1
    sim.hold()
    statuses = [client.tasks.retrieve(sim.accepted(f"a hill {n}")).status for n in range(2)]
    assert statuses == ["PENDING", "THROTTLED"]


def test_the_official_sdk_reads_a_failure(client: RunwayML) -> None:
    created = client.text_to_image.create(
        model="gen4_image", prompt_text="a lake [moderated]", ratio="1280:720"
    )
    with pytest.raises(polling.TaskFailedError) as failed:
        created.wait_for_task_output(timeout=PATIENCE)
    assert failed.value.task_details.failure_code == "SAFETY.INPUT.TEXT"


def test_the_official_sdk_cancels_and_then_finds_nothing(client: RunwayML) -> None:
    created = client.text_to_image.create(
        model="gen4_image", prompt_text="a lake [forever]", ratio="1280:720"
    )
    client.tasks.delete(created.id)
    for gone in (client.tasks.retrieve, client.tasks.delete):
        with pytest.raises(NotFoundError):
            gone(created.id)


def test_the_official_sdk_understands_the_refusals(sim: RunwaySim, client: RunwayML) -> None:
    wanted: dict[str, Any] = {"model": "gen4_image", "prompt_text": "a lake", "ratio": "1280:720"}
    with pytest.raises(BadRequestError, match="Validation of body failed"):
        client.text_to_image.create(**{**wanted, "ratio": "1:1"})
    with pytest.raises(AuthenticationError):
        client.with_options(api_key="bad-token").text_to_image.create(**wanted)
    with pytest.raises(BadRequestError, match="2024-11-06"):
        client.with_options(default_headers={"X-Runway-Version": "2023-01-01"}).text_to_image.create(**wanted)
    sim.control(runway_daily={"token": "key-1", "left": 0})
    with pytest.raises(RateLimitError, match="daily task limit"):
        client.text_to_image.create(**wanted)


# headers and validation


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": "Bearer bad-token"}, 401),
        ({"Authorization": ""}, 401),
        ({"Authorization": "Basic key-1"}, 401),
        ({"X-Runway-Version": "2024-09-13"}, 400),
        ({"X-Runway-Version": None}, 400),
    ],
)
def test_a_request_needs_a_key_and_the_version(sim: RunwaySim, headers: Any, status: int) -> None:
    task = sim.accepted("a lake")
    for method, path, more in (("POST", "/text_to_image", {"json": BODY}), ("GET", f"/tasks/{task}", {})):
        answer = sim.call(method, path, headers=headers, **more)
        assert answer.status_code == status and "error" in answer.json()


@pytest.mark.parametrize(
    ("changed", "path"),
    [
        ({"promptText": None}, ["promptText"]),
        ({"promptText": ""}, ["promptText"]),
        ({"promptText": "😀" * 501}, ["promptText"]),
        ({"ratio": None}, ["ratio"]),  # required, whatever the seed says
        ({"ratio": "1584:672"}, ["ratio"]),
        ({"model": "gen5"}, ["model"]),
        ({"model": "gen4_image_turbo"}, ["referenceImages"]),
        ({"referenceImages": [{"uri": "ftp://a"}]}, ["referenceImages", 0, "uri"]),
        ({"referenceImages": [{"uri": "https://a.example"}] * 4}, ["referenceImages"]),
        ({"referenceImages": "x"}, ["referenceImages", 0, "uri"]),
        ({"seed": "7"}, ["seed"]),
        ({"outputCount": 4}, ["outputCount"]),
        ({"model": "gpt_image_2", "outputCount": 11}, ["outputCount"]),
        ({"colour": "red"}, ["colour"]),
    ],
)
def test_what_is_wrong_is_told_issue_by_issue(sim: RunwaySim, changed: Any, path: list[object]) -> None:
    body = {name: value for name, value in {**BODY, **changed}.items() if value is not None}
    answer = sim.call("POST", "/text_to_image", json=body)
    assert answer.status_code == 400
    assert [issue["path"] for issue in answer.json()["issues"]] == [path]
    assert sim.stats()["accepted"] == 0 and sim.stats()["refused"] == {"400": 1}


@pytest.mark.parametrize("raw", ["", "[]", "5", "{"])
def test_a_body_that_is_no_object_is_refused(sim: RunwaySim, raw: str) -> None:
    assert sim.call("POST", "/text_to_image", data=raw).status_code == 400


def test_our_providers_requests_are_understood_for_every_model(sim: RunwaySim) -> None:
    runway = registry()["runway"]
    account = Account("runway", "a", Secret("key-9"), 1, f"{sim.url}/v1", {}, 60, 5, 60, 5, 5)
    for model in ("gen4_image", "gemini_image3_pro", "gpt_image_2", "seedream5_pro", "seedream5_lite"):
        request = runway.submit_request({"promptText": "a", "model": model}, account, "ref", None)
        answer = requests.request(
            request.method, request.url, headers=request.headers, json=request.json, timeout=ANSWER_SECONDS
        )
        assert answer.status_code == 200, answer.text


def test_every_output_of_a_task_is_a_picture_even_of_a_thin_strip(sim: RunwaySim) -> None:
    body = {"model": "gemini_image3.1_flash", "ratio": "176:1408", "outputCount": 4}
    output = sim.over(sim.accepted("a lake", **body))["output"]
    assert len(set(output)) == 4
    assert {sim.picture(url) for url in output} == {200}


# tasks


def test_a_task_goes_from_pending_through_running_to_succeeded(sim: RunwaySim) -> None:
    task_id = sim.accepted("a lake [forever]")
    seen: list[dict[str, Any]] = []

    def comes_to(status: str, progress: float = 0.0) -> bool:
        seen.append(sim.task(task_id))
        return seen[-1]["status"] == status and seen[-1].get("progress", 1.0) >= progress

    eventually(lambda: comes_to("RUNNING", 0.5))
    sim.end_all()
    eventually(lambda: comes_to("SUCCEEDED"))
    words = [word for word, _ in itertools.groupby(task["status"] for task in seen)]
    assert words[-2:] == ["RUNNING", "SUCCEEDED"] and words[:-2] in ([], ["PENDING"])  # which is short
    progress = [task["progress"] for task in seen if task["status"] == "RUNNING"]
    assert progress == sorted(progress) and all(0 < share < 1 for share in progress)
    sim.hold()
    seen.append(sim.task(sim.accepted("a hill")))
    assert seen[-1]["status"] == "PENDING"
    for task in seen:
        usual = {"id", "createdAt", "status"}
        own = {"PENDING": {"estimatedCost"}, "RUNNING": {"estimatedCost", "progress"}}
        assert set(task) == usual | own.get(task["status"], {"cost", "output"})


@pytest.mark.parametrize(
    ("marker", "code"), [("[failed]", "INTERNAL.BAD_OUTPUT.CODE01"), ("[moderated]", "SAFETY.INPUT.TEXT")]
)
def test_a_failed_task_says_why(sim: RunwaySim, marker: str, code: str) -> None:
    task = sim.over(sim.accepted(f"a lake {marker}"))
    assert (task["status"], task["failureCode"]) == ("FAILED", code)
    assert task["failure"] and "output" not in task


@pytest.mark.parametrize(
    ("marker", "status", "words"),
    [
        ("[credits]", 400, "You do not have enough credits to run this task."),
        ("[unauthorized]", 401, "The API key is invalid."),
        ("[broken]", 401, SUSPENDED),
        ("[moderated-422]", 400, "The prompt was refused."),
        ("[5xx]", 503, "Service Unavailable"),
        ("[5xx-refused]", 503, "Service Unavailable"),
    ],
)
def test_a_marker_is_refused_in_this_apis_words(sim: RunwaySim, marker: str, status: int, words: str) -> None:
    answer = sim.create(f"a lake {marker}")
    assert (answer.status_code, answer.json()["error"]) == (status, words)
    assert sim.stats()["accepted"] == (1 if marker == "[5xx]" else 0)


def test_other_markers_do_here_what_they_do_everywhere(sim: RunwaySim) -> None:
    assert sim.over(sim.accepted("a [empty]"))["output"] == []
    (missing,) = sim.over(sim.accepted("a [no-picture]"))["output"]
    assert sim.picture(missing) == 404
    weird = sim.accepted("a [weird] [forever]")
    eventually(lambda: sim.status(weird) == "SIMMERING")
    with pytest.raises(requests.ConnectionError):
        sim.create("a [reset]")
    assert sim.stats()["spoiled"] == {"reset": 1}


def test_a_task_is_only_its_own_accounts(sim: RunwaySim) -> None:
    task_id = sim.accepted("a lake")
    for method in ("GET", "DELETE"):
        assert sim.call(method, f"/tasks/{task_id}", "key-2").status_code == 404
        assert sim.call(method, "/tasks/none").status_code == 404
    assert sim.call("GET", f"/tasks/{task_id}").ok


def test_polls_can_be_told_to_fail(sim: RunwaySim) -> None:
    task_id = sim.accepted("a lake")
    sim.control(poll_fail={"status": 404, "count": 1})
    assert [sim.call("GET", f"/tasks/{task_id}").status_code for _ in range(2)] == [404, 200]


# capacity


def test_overflow_is_accepted_and_throttled_until_a_running_task_ends(sim: RunwaySim) -> None:
    sim.hold()
    tasks = [sim.accepted(f"a lake {n}") for n in range(5)]
    for over in (0, 2, 4, 5):  # in the order they came, two at once
        words = ["SUCCEEDED"] * over + ["PENDING"] * 2 + ["THROTTLED"] * 5
        eventually(lambda wanted=words[:5]: [sim.status(task) for task in tasks] == wanted)
        time.sleep(GENERATION)
        sim.end_all()
    stats = sim.stats()
    assert (stats["accepted"], stats["throttled"], stats["max_concurrent"]) == (5, 3, {"key-1": 2})
    both = stats["last_end_at"] - stats["first_submit_at"]
    assert 5 * GENERATION <= stats["busy_seconds"] <= 2 * both  # waiting is not being busy
    assert stats["tasks"] == {"SUCCEEDED": 5}


def test_a_throttled_task_can_be_cancelled_and_costs_no_time(sim: RunwaySim) -> None:
    sim.hold()
    running = [sim.accepted(f"a lake {n}") for n in range(2)]
    waiting, next_one = sim.accepted("a hill"), sim.accepted("a wood")
    assert sim.call("DELETE", f"/tasks/{waiting}").status_code == 204
    assert sim.stats()["busy_seconds"] == 0
    assert sim.status(next_one) == "THROTTLED"
    assert sim.call("DELETE", f"/tasks/{running[0]}").status_code == 204
    assert sim.status(next_one) == "PENDING"
    assert sim.stats()["tasks"] == {"DELETED": 2, "RUNNING": 2}
    sim.end_all()
    assert sim.over(next_one)["status"] == "SUCCEEDED"


def test_accounts_do_not_wait_for_each_other(sim: RunwaySim) -> None:
    for n in range(3):
        sim.accepted(f"a lake {n} [forever]")
    task_id = sim.accepted("a hill", "key-2")
    eventually(lambda: sim.call("GET", f"/tasks/{task_id}", "key-2").json()["status"] == "SUCCEEDED")


def test_overflow_can_be_refused_instead(sim: RunwaySim) -> None:
    sim.control(runway_overflow="refuse")
    sim.hold()
    for n in range(2):
        sim.accepted(f"a lake {n}")
    answer = sim.create("a hill")
    assert (answer.status_code, answer.json()) == (429, {"message": "Too Many Requests"})
    sim.end_all()
    eventually(lambda: sim.create("a hill").ok)
    sim.control(runway_overflow="queue")
    for n in range(3):
        sim.accepted(f"a wood {n} [forever]")
    assert sim.stats()["throttled"] >= 1


def test_overflow_can_be_refused_from_the_start_and_after_a_reset() -> None:
    sim = RunwaySim(*USUAL, "--runway-overflow", "refuse")
    try:
        for _ in range(2):
            assert [sim.create(f"a lake {n} [forever]").status_code for n in range(3)] == [200, 200, 429]
            sim.call("POST", "/__reset__")
    finally:
        sim.stop()


def test_the_daily_cap_counts_what_is_accepted_until_it_is_lifted(sim: RunwaySim) -> None:
    sim.control(runway_daily={"token": "key-1", "left": 2})
    assert sim.create("a lake", ratio="1:1").status_code == 400  # not one of the two
    answers = [sim.create(f"a lake {n}") for n in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[-1].json() == {"error": "Your daily task limit has been reached."}
    assert sim.create("a lake", "key-2").ok
    sim.control(runway_daily={"token": "key-1", "left": None})
    assert sim.create("a lake").ok


# outputs that expire


def test_outputs_expire_on_order_and_a_new_question_gives_fresh_ones(sim: RunwaySim) -> None:
    task_id = sim.accepted("a lake")
    (old,) = sim.over(task_id)["output"]
    assert sim.picture(old) == 200
    sim.control(expire_outputs=True)
    assert sim.picture(old) == 403
    (fresh,) = sim.task(task_id)["output"]
    assert (sim.picture(fresh), sim.picture(old)) == (200, 403)


def test_expire_marker_makes_the_first_answers_urls_stale(sim: RunwaySim) -> None:
    task_id = sim.accepted("a lake [expire]")
    eventually(lambda: sim.stats()["tasks"] == {"SUCCEEDED": 1})  # told without a poll
    first, second = sim.task(task_id)["output"], sim.task(task_id)["output"]
    assert (sim.picture(first[0]), sim.picture(second[0])) == (403, 200)


@pytest.mark.parametrize(
    "body",
    [{"runway_daily": {}}, {"runway_daily": {"token": "a", "left": "x"}}, {"runway_overflow": "drop"},
     {"runway_overflow": None}, {"expire_outputs": False}],
)  # fmt: skip
def test_unreadable_control_is_a_bad_request(sim: RunwaySim, body: Any) -> None:
    assert sim.call("POST", "/__control__", json=body).status_code == 400
