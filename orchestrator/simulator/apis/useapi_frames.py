"""The Frames part of useapi.net's Runway API: the routes under `/v1/runwayml`.

Pages: https://useapi.net/docs/api-runwayml-v1 (read 2026-10). Where they are silent, the choice made here
says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from orchestrator.simulator.api import Api
from orchestrator.simulator.apis.useapi_frames_input import SIZES, read_page, read_parameters
from orchestrator.simulator.apis.useapi_frames_output import show_references, show_refusal, show_task, task_id
from orchestrator.simulator.engine import Engine
from orchestrator.simulator.model import Order, Refused, Snapshot, Task
from orchestrator.simulator.replies import spoil
from orchestrator.simulator.web import Request, Response, Route, reply

ROOT = "/v1/runwayml"
BAD_TOKEN = "bad-token"


class UseapiFrames(Api):
    """Serves `/frames/create`, `/tasks`, `/scheduler` and `/accounts`."""

    name = "useapi_frames"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def routes(self) -> Iterable[Route]:
        """What it serves; everything asks for a bearer token."""
        return (
            Route("POST", f"{ROOT}/frames/create", self.create),
            Route("GET", f"{ROOT}/tasks/", self.list_tasks),
            Route("GET", f"{ROOT}/tasks/{{}}", self.show_task),
            Route("DELETE", f"{ROOT}/tasks/{{}}", self.delete_task),
            Route("GET", f"{ROOT}/scheduler/", self.list_scheduled),
            Route("DELETE", f"{ROOT}/scheduler/{{}}", self.unschedule),
            Route("GET", f"{ROOT}/accounts/", self.list_accounts),
        )

    def render(self, snapshot: Snapshot) -> dict[str, object]:
        """The task object, the same in answers and callbacks."""
        return show_task(snapshot)

    def refusal(self, refused: Refused) -> Response:
        """The error answer."""
        return reply(show_refusal(refused), refused.status)

    def create(self, request: Request) -> Response:
        """`POST /frames/create`: an accepted task, or one of the many refusals."""
        with self.posting():
            _authorize(request)
            task = self._engine.submit(self._read_order(request))
        spoil(self._engine, task, request)
        return reply(self.render(task.as_created()))

    def show_task(self, request: Request, public_id: str) -> Response:
        """`GET /tasks/<taskId>`: the task as it stands now."""
        _authorize(request)
        self._engine.check_poll(self)
        return reply(self.render(self._find(public_id).now()))

    def list_tasks(self, request: Request) -> Response:
        """`GET /tasks/`: newest first, those started by hand included. The envelope `tasks` is a guess."""
        _authorize(request)
        query = request.args
        offset, limit, statuses = read_page(query)
        email = query.get("email")
        if not email and len(self.accounts) > 1:
            raise Refused("400", 400, "Parameter email is required")
        tasks = (task for task in reversed(self.tasks.values()) if email in (None, "", task.account.email))
        found = (
            snapshot
            for snapshot in map(Task.now, tasks)
            if statuses is None or snapshot.phase.value in statuses
        )
        return reply({"tasks": [self.render(snapshot) for snapshot in islice(found, offset, offset + limit)]})

    def delete_task(self, request: Request, public_id: str) -> Response:
        """`DELETE /tasks/<taskId>`: stops it too, about which the pages are silent."""
        _authorize(request)
        self._engine.delete(self._find(public_id))
        return reply({"success": True, "code": 200})

    def list_scheduled(self, request: Request) -> Response:
        """`GET /scheduler`: what useapi itself tracks now, as a bare array."""
        _authorize(request)
        held = (task for account in self.accounts.values() for task in account.held.values())
        return reply([show_references(task) for task in held if not task.order.foreign])

    def unschedule(self, request: Request, public_id: str) -> Response:
        """`DELETE /scheduler/<taskId>`: tracking stops, at Runway the task goes on."""
        _authorize(request)
        task = self._find(public_id)
        if task.id not in task.account.held:
            raise Refused("404", 404)
        self._engine.untrack(task)
        return reply({"success": True, "code": 200})

    def list_accounts(self, request: Request) -> Response:
        """`GET /accounts`: without the passwords and tokens that the real one hands out."""
        _authorize(request)
        accounts = self.accounts.values()
        return reply({known.email: {"email": known.email, "maxJobs": known.max_jobs} for known in accounts})

    def _read_order(self, request: Request) -> Order:
        given = read_parameters(request)
        prompt = str(given["text_prompt"])
        width, height = SIZES[str(given.get("aspect_ratio", "16:9"))]
        return Order(
            api=self,
            prompt=prompt,
            base_url=request.base_url,
            email=_optional(given, "email"),
            max_jobs=int(str(given["maxJobs"])) if "maxJobs" in given else None,
            reply_url=_optional(given, "replyUrl"),
            reply_ref=_optional(given, "replyRef"),
            parameters={
                "name": f"Frames, {prompt[:60]}",
                "text_prompt": prompt,
                **{name: given[name] for name in ("seed", "style") if name in given},
                "exploreMode": given.get("exploreMode", False),
                "diversity": given.get("diversity", 2),
                "width": width,
                "height": height,
                "flip": True,
                "num_images": given.get("num_images", 1),
                "assetGroupName": "Text to Image",
                "recordingEnabled": True,
            },
        )

    def _find(self, public_id: str) -> Task:
        task = self.tasks.get(public_id.rpartition("-task:")[2])
        if task is None or task_id(task) != public_id:
            raise Refused("404", 404)
        return task


def _optional(given: dict[str, object], name: str) -> str | None:
    return str(given[name]) if given.get(name) else None


def _authorize(request: Request) -> None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or token.strip() in ("", BAD_TOKEN):
        raise Refused("401", 401)
