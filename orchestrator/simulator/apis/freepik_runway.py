"""Runway's image model at Freepik: the routes under `/v1/ai/text-to-image/runway`.

Pages: https://docs.freepik.com/api-reference/text-to-image/post-runway and https://docs.freepik.com/webhooks
(read 2026-11). The account is the API key. Where the pages are silent, the choice made here says so.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterable, Mapping
from http.client import responses
from itertools import islice

from orchestrator.simulator.api import Api
from orchestrator.simulator.engine import Engine
from orchestrator.simulator.markers import Marker
from orchestrator.simulator.model import Order, Phase, Refused, Snapshot, Task
from orchestrator.simulator.pictures import picture_id
from orchestrator.simulator.replies import spoil
from orchestrator.simulator.web import Request, Response, Route, reply

ROOT = "/v1/ai/text-to-image/runway"
BAD_KEY = "bad-token"
RATIOS = (
    "1920:1080 1080:1920 1024:1024 1360:768 1080:1080 1168:880 1440:1080 1080:1440 1808:768 2112:912 "
    "1280:720 720:1280 720:720 960:720 720:960 1680:720"
).split()
LONGEST_PROMPT = 1000
HIGHEST_SEED = 4294967295
URL_SECONDS = 3600
"""How long a picture's URL claims to live; none ever dies here."""
WORDS = {
    Phase.PENDING: "CREATED",
    Phase.RUNNING: "IN_PROGRESS",
    Phase.SUCCEEDED: "COMPLETED",
    Phase.FAILED: "FAILED",
}
REFUSALS = {
    # All but 401, 500 and 503 are guesses: Freepik describes no other status for this endpoint. An account of
    # which all slots are taken and a provider that throttles look the same.
    "401": (401, "Invalid API key"),
    "404": (404, "Not found"),
    "412": (402, "You do not have enough credits to use this service."),
    "422": (403, "The prompt did not pass content moderation."),
    "429A": (429, "Too many requests: wait for running tasks to finish."),
    "429B": (429, "Too many requests."),
    "596": (403, "This API key is not active."),
}
UNAVAILABLE = {503: "Service Unavailable. Please try again later."}


class BadInput(Refused):
    """A 400 that names the parameters at fault."""

    def __init__(self, invalid: Mapping[str, str], wrapped: bool = True) -> None:
        super().__init__("400", 400)
        named = [{"name": name, "reason": reason} for name, reason in invalid.items()]
        problem: dict[str, object] = {
            "message": "Your request parameters didn't validate.",
            "invalid_params": named,
        }
        # The page's model has the wrapper, its example has not.
        self.body = {"problem": problem} if wrapped else problem


class FreepikRunway(Api):
    """Serves create, one task and the list. Callbacks are signed for keys that have a secret."""

    name = "freepik_runway"

    secrets: dict[str, str]
    """API key to its secret; a comma list where it is being rotated, each then signing one version."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def reset(self, accounts: Mapping[str, int]) -> None:
        """Forget everything but what the simulator was started with. Safe to call twice."""
        super().reset(accounts)
        self.secrets = dict(self._engine.options.freepik_secrets)

    def routes(self) -> Iterable[Route]:
        """What it serves; everything asks for an API key."""
        return (
            Route("POST", f"{ROOT}/", self.create),
            Route("GET", f"{ROOT}/", self.list_tasks),
            Route("GET", f"{ROOT}/{{}}", self.show_task),
        )

    def render(self, snapshot: Snapshot) -> dict[str, object]:
        """The task as callbacks have it; answers put it under `data`. It never says why it failed."""
        status = WORDS.get(snapshot.phase, snapshot.phase.value)
        return {"task_id": snapshot.task.id, "status": status, "generated": _generated(snapshot)}

    def refusal(self, refused: Refused) -> Response:
        """The error answer."""
        if isinstance(refused, BadInput):
            problem = {"Content-Type": "application/problem+json"}
            return Response(json.dumps(refused.body).encode(), 400, problem)
        words = UNAVAILABLE.get(refused.status) or responses.get(refused.status, "Unknown")
        status, message = REFUSALS.get(refused.kind, (refused.status, words))
        own_words = refused.detail if refused.kind in ("400", "401") else ""
        return reply({"message": own_words or message}, status)

    def progress_callbacks(self, most: int) -> int:
        """It calls when the status changes, and there is one between the first and the last."""
        return min(most, 1)

    def callback_headers(self, snapshot: Snapshot, body: bytes, delivery_id: str) -> dict[str, str]:
        """With the three headers of a signature where the task's API key has a secret."""
        headers = super().callback_headers(snapshot, body, delivery_id)
        secrets = [each.strip() for each in self.secrets.get(snapshot.task.account.email, "").split(",")]
        if not any(secrets):
            return headers
        timestamp = str(int(time.time()))
        message = b".".join((delivery_id.encode(), timestamp.encode(), body))
        signatures = [_signature(secret.encode(), message) for secret in secrets if secret]
        return headers | {
            "webhook-id": delivery_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": " ".join(f"v{n},{text}" for n, text in enumerate(signatures, 1)),
        }

    def create(self, request: Request) -> Response:
        """`POST /`: an accepted task, or one of the refusals."""
        with self.posting():
            task = self._engine.submit(self._read_order(request, _api_key(request)))
        spoil(self._engine, task, request)
        return reply({"data": self.render(task.as_created())})

    def show_task(self, request: Request, task_id: str) -> Response:
        """`GET /<task_id>`: the task as it stands now, to the key that made it."""
        key = _api_key(request)
        self._engine.check_poll(self)
        task = self.tasks.get(task_id)
        if task is None or task.account.email != key:
            raise Refused("404", 404)
        return reply({"data": self.render(task.now())})

    def list_tasks(self, request: Request) -> Response:
        """`GET /`: newest first; `page` and `per_page` are no more than implied by the page's examples."""
        key = _api_key(request)
        page, size = _page(request, "page", 1, 10_000), _page(request, "per_page", 20, 100)
        tasks = (task for task in reversed(self.tasks.values()) if task.account.email == key)
        shown = map(self.render, map(Task.now, islice(tasks, (page - 1) * size, page * size)))
        return reply({"data": [{"task_id": task["task_id"], "status": task["status"]} for task in shown]})

    def _read_order(self, request: Request, key: str) -> Order:
        given = request.json()
        if not isinstance(given, Mapping):
            raise Refused("400", 400, "The request body is not valid JSON.")
        if invalid := _invalid(given):
            raise BadInput(invalid)
        callback = given.get("webhook_url") or None
        return Order(
            api=self,
            prompt=given["prompt"],
            base_url=request.base_url,
            email=key,
            reply_url=callback,
            reply_ref=callback,  # there is no other reference: whoever wants one puts it into the URL
            parameters={"ratio": given["ratio"], "seed": given.get("seed")},
        )


def _api_key(request: Request) -> str:
    key = request.headers.get("x-freepik-api-key") or request.headers.get("x-magnific-api-key") or ""
    if not key:
        raise Refused("401", 401, "Missing API key")
    if key == BAD_KEY:
        raise Refused("401", 401)
    return key


def _invalid(given: Mapping[str, object]) -> dict[str, str]:
    """Parameter → what is wrong with it. Unknown ones are ignored; whether the real one does is not known."""
    prompt, seed, callback = given.get("prompt"), given.get("seed"), given.get("webhook_url")
    found = {}
    if not isinstance(prompt, str) or not 1 <= len(prompt) <= LONGEST_PROMPT:
        found["prompt"] = f"must be a string of 1 to {LONGEST_PROMPT} characters"
    if given.get("ratio") not in RATIOS:
        found["ratio"] = f"must be one of {', '.join(RATIOS)}"
    whole = isinstance(seed, int) and not isinstance(seed, bool)
    if seed is not None and not (whole and 0 <= int(str(seed)) <= HIGHEST_SEED):
        found["seed"] = f"must be an integer from 0 to {HIGHEST_SEED}"
    if callback is not None and not (
        isinstance(callback, str) and callback.startswith(("http://", "https://"))
    ):
        found["webhook_url"] = "must be a URL"
    return found


def _page(request: Request, name: str, default: int, highest: int) -> int:
    text = request.args.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 9 and 1 <= int(text) <= highest):
        raise BadInput({name: f"must be an integer from 1 to {highest}"}, wrapped=False)
    return int(text)


def _generated(snapshot: Snapshot) -> list[str]:
    task = snapshot.task
    if snapshot.phase is not Phase.SUCCEEDED or task.order.foreign or Marker.EMPTY in task.markers:
        return []
    width, height = map(int, str(task.order.parameters["ratio"]).split(":"))
    name = picture_id(task.order.prompt, task.dice >> 32, width, height)
    if Marker.NO_PICTURE in task.markers:
        name = f"missing-{name}"
    token = f"exp={int(snapshot.at) + URL_SECONDS}~hmac={task.dice:016x}"
    return [f"{task.order.base_url}/artifacts/{name}/0.png?token={token}"]


def _signature(secret: bytes, message: bytes) -> str:
    return base64.b64encode(hmac.new(secret, message, hashlib.sha256).digest()).decode()
