"""A made-up API of the plainest shape: submit, an id, then a callback or a poll. No real one is meant.

It stands for whatever `webhook_json` is configured for, so its words are nobody's: `job.state` is waiting,
drawing, done or broken, and `job.images` is a list of objects. Each key is an account of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from flask import Blueprint, Response, request

from orchestrator.simulator.api import Api, reply
from orchestrator.simulator.engine import Engine
from orchestrator.simulator.markers import Marker
from orchestrator.simulator.model import Order, Phase, Refused, Snapshot
from orchestrator.simulator.pictures import picture_id
from orchestrator.simulator.replies import spoil

BAD_TOKEN = "bad-token"
SIZES = {"wide": (1920, 1088), "square": (1456, 1456), "tall": (1088, 1920)}
MOST_IMAGES = 4
STATES = {
    Phase.PENDING: "waiting",
    Phase.RUNNING: "drawing",
    Phase.SIMMERING: "simmering",
    Phase.SUCCEEDED: "done",
    Phase.FAILED: "broken",
}


class WebhookJson(Api):
    """Serves `/v1/generic/jobs`."""

    name = "webhook_json"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def blueprint(self) -> Blueprint:
        """The routes; each asks for a key in `X-Api-Key`."""
        routes = Blueprint(self.name, __name__, url_prefix="/v1/generic")
        routes.register_error_handler(Refused, self.refusal)
        routes.add_url_rule("/jobs", "create", self.create, methods=["POST"])
        routes.add_url_rule("/jobs/<job_id>", "show", self.show, methods=["GET"])
        return routes

    def render(self, snapshot: Snapshot) -> dict[str, object]:
        """The job, the same in answers and callbacks."""
        task = snapshot.task
        done = snapshot.phase is Phase.SUCCEEDED and Marker.EMPTY not in task.markers
        problem = task.reason if snapshot.phase is Phase.FAILED else None
        return {
            "job": {
                "id": task.id,
                "state": STATES[snapshot.phase],
                "tag": task.order.reply_ref,
                "images": _images(snapshot) if done else [],
                "problem": problem,
            }
        }

    def refusal(self, refused: Refused) -> Response:
        """The error answer."""
        return reply({"problem": refused.detail or f"refused with {refused.status}"}, refused.status)

    def create(self) -> Response:
        """`POST /jobs`: 202 and the job."""
        with self.posting():
            _authorize()
            task = self._engine.submit(self._read_order())
        spoil(self._engine, task, request.environ)
        return reply(self.render(task.as_created()), 202)

    def show(self, job_id: str) -> Response:
        """`GET /jobs/<id>`: the job as it stands now."""
        _authorize()
        self._engine.check_poll(self)
        if job_id not in self.tasks:
            raise Refused("404", 404)
        return reply(self.render(self.tasks[job_id].now()))

    def _read_order(self) -> Order:
        given = request.get_json(force=True, silent=True)
        if not isinstance(given, Mapping) or not isinstance(given.get("text"), str) or not given["text"]:
            raise Refused("400", 400, "text is missing")
        options = given.get("options") or {}
        size, images = options.get("size", "wide"), options.get("images", 1)
        if size not in SIZES or not isinstance(images, int) or not 1 <= images <= MOST_IMAGES:
            raise Refused("400", 400, "options: size is wide, square or tall; images is 1 to 4")
        return Order(
            api=self,
            prompt=given["text"],
            base_url=f"http://{request.host}",
            email=f"key-{hashlib.sha256(request.headers['X-Api-Key'].encode()).hexdigest()[:8]}",
            reply_url=given.get("notify"),
            reply_ref=given.get("tag"),
            parameters={"size": size, "images": images},
        )


def _images(snapshot: Snapshot) -> list[dict[str, object]]:
    task = snapshot.task
    name = picture_id(task.order.prompt, task.dice >> 32, *SIZES[str(task.order.parameters["size"])])
    if Marker.NO_PICTURE in task.markers:
        name = f"missing-{name}"
    count = int(str(task.order.parameters["images"]))
    return [{"url": f"{task.order.base_url}/artifacts/{name}/{index}.png"} for index in range(count)]


def _authorize() -> None:
    if request.headers.get("X-Api-Key", "") in ("", BAD_TOKEN):
        raise Refused("401", 401, "no such key")
