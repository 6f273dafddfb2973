"""Runway's official API: text_to_image and tasks under `/v1`. The bearer token is the account.

Shapes: github.com/runwayml/sdk-python 5.24.0; errors: https://docs.dev.runwayml.com/errors/errors (2026-11).
Beyond an account's limit a task is accepted and THROTTLED until one of the running ends; with
`--runway-overflow refuse` it is answered with 429 instead.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from http.client import responses

from orchestrator.simulator.api import Api
from orchestrator.simulator.apis.runway_input import find_issues, read_size
from orchestrator.simulator.engine import Engine
from orchestrator.simulator.markers import Marker
from orchestrator.simulator.model import Account, Order, Phase, Refused, Snapshot, Task
from orchestrator.simulator.pictures import picture_id
from orchestrator.simulator.replies import spoil
from orchestrator.simulator.web import Request, Response, Route, reply

VERSION = "2024-11-06"
BAD_TOKEN = "bad-token"
ERA_KEY = "_jwt"  # the real URLs carry their expiry under this name
DOCS_URL = "https://docs.dev.runwayml.com"
CREDITS = 5

# What this API makes of a refusal that is another status elsewhere. Moderation is never an HTTP error here,
# so that of 422 is nobody's words; 596 stands for an account that was suspended.
ANSWERS: dict[str, tuple[int, dict[str, object]]] = {
    "401": (401, {"error": "The API key is invalid.", "docUrl": f"{DOCS_URL}/errors/troubleshooting"}),
    "404": (404, {"error": "The requested resource was not found."}),
    "412": (400, {"error": "You do not have enough credits to run this task.", "docUrl": DOCS_URL}),
    "422": (400, {"error": "The prompt was refused."}),
    "429A": (429, {"message": "Too Many Requests"}),
    "429B": (429, {"message": "Too Many Requests"}),
    "429D": (429, {"error": "Your daily task limit has been reached."}),
    "596": (401, {"error": "This organization is suspended."}),
}
FAILURE_WORDS = {
    "SAFETY.INPUT.TEXT": "Text did not pass content moderation.",
    "INTERNAL.BAD_OUTPUT.CODE01": "The generation did not succeed.",
}


class Runway(Api):
    """Serves `/text_to_image` and `/tasks`."""

    name = "runway"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def reset(self, accounts: Mapping[str, int]) -> None:
        """Forget everything, the way of dealing with overflow included."""
        super().reset(accounts)
        self.queues_overflow = self._engine.options.runway_overflow == "queue"
        self._stale: set[str] = set()

    def routes(self) -> Iterable[Route]:
        """What it serves; everything asks for a bearer token and the version."""
        return (
            Route("POST", "/v1/text_to_image", self.create),
            Route("GET", "/v1/tasks/{}", self.show_task),
            Route("DELETE", "/v1/tasks/{}", self.delete_task),
        )

    def render(self, snapshot: Snapshot) -> dict[str, object]:
        """The task object, which has other fields in each status."""
        task = snapshot.task
        shown: dict[str, object] = {
            "id": task.id,
            "createdAt": _iso(task.created_at),
            "status": snapshot.phase.value,
        }
        if task.ended_at is None:
            shown["estimatedCost"] = {"credits": CREDITS}
        else:
            shown["cost"] = {"credits": CREDITS}
        if snapshot.phase is Phase.SUCCEEDED:
            shown["output"] = self._output(task)
        elif snapshot.phase is Phase.FAILED and task.reason:
            shown |= {"failure": FAILURE_WORDS[task.reason], "failureCode": task.reason}
        elif snapshot.progress is not None:
            shown["progress"] = snapshot.progress
        return shown

    def refusal(self, refused: Refused) -> Response:
        """The error answer."""
        words = responses.get(refused.status, "Unknown")
        status, body = ANSWERS.get(refused.kind, (refused.status, {"error": words}))
        if refused.kind == "400" and refused.detail:
            body = json.loads(refused.detail)
        return reply(body, status)

    def create(self, request: Request) -> Response:
        """`POST /text_to_image`: the id of an accepted task, or one of the refusals."""
        with self.posting():
            account = self._authorize(request)
            order = self._read_order(request, account)
            if account.daily_left == 0:
                raise Refused("429D", 429)
            task = self._engine.submit(order)
            if account.daily_left is not None:
                account.daily_left -= 1
        spoil(self._engine, task, request)
        return reply({"id": task.id, "estimatedCost": {"credits": CREDITS}})

    def show_task(self, request: Request, task_id: str) -> Response:
        """`GET /tasks/<id>`: the task as it stands now."""
        account = self._authorize(request)
        self._engine.check_poll(self)
        return reply(self.render(self._find(account, task_id).now()))

    def delete_task(self, request: Request, task_id: str) -> Response:
        """`DELETE /tasks/<id>`: stops it, or deletes what it made; then nobody can ask for it any more."""
        self._engine.delete(self._find(self._authorize(request), task_id))
        return Response(status=204)

    def _authorize(self, request: Request) -> Account:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or token.strip() in ("", BAD_TOKEN):
            raise Refused("401", 401)
        if request.headers.get("x-runway-version") != VERSION:
            raise _invalid(f"X-Runway-Version must be {VERSION}")
        return self._engine.account(self, token.strip())

    def _read_order(self, request: Request, account: Account) -> Order:
        body = request.json()
        issues = find_issues(body)
        if issues or not isinstance(body, Mapping):
            told = [{"code": "custom", "path": path, "message": message} for path, message in issues]
            raise _invalid("Validation of body failed", issues=told, docUrl=f"{DOCS_URL}/api")
        return Order(
            api=self,
            prompt=str(body["promptText"]),
            base_url=request.base_url,
            email=account.email,
            parameters={"size": read_size(body["ratio"]), "count": body.get("outputCount", 1)},
        )

    def _find(self, account: Account, task_id: str) -> Task:
        task = self.tasks.get(task_id)
        if task is None or task.account is not account:
            raise Refused("404", 404)
        return task

    def _output(self, task: Task) -> list[str]:
        """Fresh URLs; with [expire], such as have expired already for the first that asks."""
        if Marker.EMPTY in task.markers:
            return []
        size, count = task.order.parameters["size"], task.order.parameters["count"]
        assert isinstance(size, tuple) and isinstance(count, int)
        name = picture_id(task.order.prompt, task.dice >> 32, *size)
        if Marker.NO_PICTURE in task.markers:
            name = f"missing-{name}"
        era = self._engine.url_era
        if Marker.EXPIRE in task.markers and task.id not in self._stale:
            self._stale.add(task.id)
            era -= 1
        root = f"{task.order.base_url}/artifacts/{name}"
        return [f"{root}/{index}.png?{ERA_KEY}={era}" for index in range(count)]


def _invalid(message: str, **more: object) -> Refused:
    return Refused("400", 400, json.dumps({"error": message, **more}))


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
