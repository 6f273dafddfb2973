"""Puts the pieces on one port and serves them until told to stop."""

from __future__ import annotations

import gc
import signal
from functools import partial

import gevent
from gevent.event import Event
from gevent.server import StreamServer

from orchestrator.simulator.api import Api
from orchestrator.simulator.apis.freepik_runway import FreepikRunway
from orchestrator.simulator.apis.runway import ERA_KEY, Runway
from orchestrator.simulator.apis.useapi_frames import UseapiFrames
from orchestrator.simulator.apis.useapi_preview import UseapiPreview
from orchestrator.simulator.apis.webhook_json import WebhookJson
from orchestrator.simulator.control import Control
from orchestrator.simulator.courier import Courier
from orchestrator.simulator.engine import Engine
from orchestrator.simulator.model import Refused
from orchestrator.simulator.options import Options
from orchestrator.simulator.pictures import draw_picture
from orchestrator.simulator.timers import Timers
from orchestrator.simulator.web import Request, Response, Route, Routes, View, http_error
from orchestrator.simulator.wire import serve_connection

BACKLOG = 2048
GARBAGE_THRESHOLD = 50_000
"""Objects between two looks for cycles: tasks make none, and looking at 100,000 of them takes long."""
PICTURE = {"Content-Type": "image/png", "Cache-Control": "public, max-age=86400"}


def create_routes(options: Options) -> Routes:
    """Everything the simulator serves, its timers running. gevent must have patched before."""
    timers = Timers()
    engine = Engine(options, timers, Courier(timers))
    routes = Routes()
    for make in (UseapiFrames, UseapiPreview, FreepikRunway, Runway, WebhookJson):
        api = make(engine)
        engine.add(api)
        for route in api.routes():
            routes.add(route._replace(view=partial(_in_words_of, api, route.view)))
    for route in Control(engine).routes():
        routes.add(route)
    routes.add(Route("GET", "/artifacts/{}/{}.png", partial(_artifact, engine)))
    timers.start()
    return routes


def serve(options: Options) -> None:
    """Serve until SIGTERM or SIGINT, then return at once. Only in a process that gevent has patched first."""
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, stop.set)
    answer = create_routes(options).answer
    server = StreamServer((options.host, options.port), partial(serve_connection, answer), backlog=BACKLOG)
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD)
    server.start()
    print(f"simulator listening on http://{options.host}:{server.server_port}", flush=True)
    stop.wait()
    server.stop(timeout=0)


def _in_words_of(api: Api, view: View, request: Request, *places: str) -> Response:
    try:
        return view(request, *places)
    except Refused as refused:
        return api.refusal(refused)


def _artifact(engine: Engine, request: Request, name: str, index: str) -> Response:
    if _has_expired(engine, request):
        return http_error(403)
    try:
        file = draw_picture(name, int(index))
    except (LookupError, ValueError):
        return http_error(404)
    return Response(file, headers=PICTURE)


def _has_expired(engine: Engine, request: Request) -> bool:
    try:
        return int(request.args.get(ERA_KEY, engine.url_era)) < engine.url_era
    except ValueError:
        return False
