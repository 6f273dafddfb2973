"""The retired preview endpoint of useapi.net: one GET, held until the picture is there.

Page: https://useapi.net/docs/api-runwayml-v1/get-runwayml-text_to_image_preview (read 2026-11). It is free,
and any number of requests may be made side by side.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import gevent

from orchestrator.simulator.api import Api
from orchestrator.simulator.apis.useapi_frames_input import SIZES
from orchestrator.simulator.apis.useapi_frames_output import MODERATED, NO_CREDIT
from orchestrator.simulator.engine import Engine
from orchestrator.simulator.markers import Marker
from orchestrator.simulator.model import Order, Phase, Refused, Snapshot
from orchestrator.simulator.pictures import picture_id
from orchestrator.simulator.replies import spoil, wait_until_closed
from orchestrator.simulator.web import Request, Response, Route, reply

BAD_TOKEN = "bad-token"
SIDE_BY_SIDE = 1_000_000
SPANS = {"prompt_weight": (1, 30), "seed": (1, 4294967294)}
STYLES = frozenset(
    "cinematic abandoned abstract_sculpture advertising anime architectural cartoon cine_lens claymation "
    "concept_art digital_art duotone_artistic_photo forestpunk frost graphic_novel graphite "
    "impressionist_painting isometric_3d low_poly_3d macro_photography marker_drawing moody_film pixel_art "
    "retro_photography sci-fi_art stickers storyboard actor_casting thriller 35mm 3d_cartoon 3d_render "
    "80s_vaporwave".split()
)


class UseapiPreview(Api):
    """Serves `/text_to_image_preview/`."""

    name = "useapi_preview"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def routes(self) -> Iterable[Route]:
        """The only one; it asks for a bearer token."""
        return [Route("GET", "/v1/runwayml/text_to_image_preview/", self.preview)]

    def render(self, snapshot: Snapshot) -> dict[str, object]:
        """URL and seed; without the URL where [empty] asks for it."""
        task = snapshot.task
        seed = task.order.parameters.get("seed", 1 + task.dice % 4294967294)
        if Marker.EMPTY in task.markers:
            return {"seed": seed}
        width, height = SIZES[str(task.order.parameters["aspect_ratio"])]
        name = picture_id(task.order.prompt, task.dice >> 32, width, height)
        if Marker.NO_PICTURE in task.markers:
            name = f"missing-{name}"
        return {"url": f"{task.order.base_url}/artifacts/{name}/0.png", "seed": seed}

    def refusal(self, refused: Refused) -> Response:
        """The error answer; the moderation's has neither `error` nor `code`."""
        if refused.kind == "403":
            body: dict[str, object] = {"message": MODERATED, "moderation_category": "violence"}
            return reply({**body, "reason": "SAFETY.INPUT.TEXT", "tally_asimov": True}, 403)
        if refused.kind == "412":
            return reply({"error": NO_CREDIT}, 412)
        words = refused.detail or f"HTTP {refused.status}"
        return reply({"error": words, "code": refused.status}, refused.status)

    def preview(self, request: Request) -> Response:
        """`GET /text_to_image_preview/`: the picture's URL, after the time it takes to make it."""
        with self.posting():
            if request.headers.get("authorization", "") in ("", "Bearer ", f"Bearer {BAD_TOKEN}"):
                raise Refused("401", 401, "Unauthorized")
            task = self._engine.submit(self._read_order(request))
        spoil(self._engine, task, request)
        if Marker.FOREVER in task.markers:
            wait_until_closed(request.connection)
        elif task.ended_at is None:
            gevent.sleep(max(0.0, task.created_at + task.seconds - time.time()))
        self._engine.end(task)
        snapshot = task.now()
        if snapshot.phase is Phase.SUCCEEDED:
            return reply(self.render(snapshot))
        if (task.reason or "").startswith("SAFETY"):
            raise Refused("403", 403)
        raise Refused("5xx", 500, "The generation did not succeed.")

    def _read_order(self, request: Request) -> Order:
        given = {name: text for name, text in request.args.items() if text}
        if not given.get("text_prompt"):
            raise Refused("400", 400, "Parameter text_prompt is required")
        if "email" not in given and len(self.accounts) > 1:
            raise Refused("400", 400, "Parameter email is required")
        parameters: dict[str, object] = {
            "aspect_ratio": _one_of(given, "aspect_ratio", SIZES, "16:9"),
            "style": _one_of(given, "style", STYLES, "cinematic"),
        }
        parameters |= {name: _whole(name, given[name]) for name in SPANS if name in given}
        return Order(
            api=self,
            prompt=given["text_prompt"],
            base_url=request.base_url,
            email=given.get("email"),
            max_jobs=SIDE_BY_SIDE,
            parameters=parameters,
        )


def _one_of(given: dict[str, str], name: str, choices: object, default: str) -> str:
    value = given.get(name, default)
    if value not in choices:  # type: ignore[operator]
        raise Refused("400", 400, f"Parameter {name} ({value}) has an unsupported value")
    return value


def _whole(name: str, text: str) -> int:
    low, high = SPANS[name]
    if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
        raise Refused("400", 400, f"Parameter {name} ({text}) valid range is {low}…{high}")
    return int(text)
