"""A made-up API of the plainest shape: submit, an id, then a callback or a poll. No real one is meant.

It stands for whatever `webhook_json` is configured for, so its words are nobody's: `job.state` is waiting,
drawing, done or broken, and `job.images` is a list of objects. Each key is an account of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from orchestrator.simulator.api import Api
from orchestrator.simulator.engine import Engine
from orchestrator.simulator.markers import Marker
from orchestrator.simulator.model import Order, Phase, Refused, Snapshot
from orchestrator.simulator.pictures import picture_id
from orchestrator.simulator.replies import spoil
from orchestrator.simulator.web import Request, Response, Route, reply

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

    def routes(self) -> Iterable[Route]:
        """What it serves; everything asks for a key in `X-Api-Key`."""
        return (
            Route("POST", "/v1/generic/jobs", self.create),
            Route("GET", "/v1/generic/jobs/{}", self.show),
        )

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

    def create(self, request: Request) -> Response:
        """`POST /jobs`: 202 and the job."""
        with self.posting():
            _authorize(request)
            task = self._engine.submit(self._read_order(request))
        spoil(self._engine, task, request)
        return reply(self.render(task.as_created()), 202)

    def show(self, request: Request, job_id: str) -> Response:
        """`GET /jobs/<id>`: the job as it stands now."""
        _authorize(request)
        self._engine.check_poll(self)
        if job_id not in self.tasks:
            raise Refused("404", 404)
        return reply(self.render(self.tasks[job_id].now()))

    def _read_order(self, request: Request) -> Order:
        given = request.json()
        if not isinstance(given, Mapping) or not isinstance(given.get("text"), str) or not given["text"]:
            raise Refused("400", 400, "text is missing")
        options = given.get("options") or {}
        size, images = options.get("size", "wide"), options.get("images", 1)
        if size not in SIZES or not isinstance(images, int) or not 1 <= images <= MOST_IMAGES:
            raise Refused("400", 400, "options: size is wide, square or tall; images is 1 to 4")
        return Order(
            api=self,
            prompt=given["text"],
            base_url=request.base_url,
            email=f"key-{hashlib.sha256(request.headers['x-api-key'].encode()).hexdigest()[:8]}",
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


def _authorize(request: Request) -> None:
    if request.headers.get("x-api-key", "") in ("", BAD_TOKEN):
        raise Refused("401", 401, "no such key")
