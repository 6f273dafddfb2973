"""Puts the pieces on one port and serves them until told to stop."""

from __future__ import annotations

import signal
from functools import partial

import gevent
from flask import Flask, Response, request
from gevent.event import Event
from gevent.pywsgi import WSGIServer
from werkzeug.exceptions import HTTPException

from orchestrator.simulator.api import reply
from orchestrator.simulator.apis.freepik_runway import FreepikRunway
from orchestrator.simulator.apis.runway import ERA_KEY, Runway
from orchestrator.simulator.apis.useapi_frames import UseapiFrames
from orchestrator.simulator.apis.useapi_preview import UseapiPreview
from orchestrator.simulator.apis.webhook_json import WebhookJson
from orchestrator.simulator.control import Control
from orchestrator.simulator.courier import Courier
from orchestrator.simulator.engine import Engine
from orchestrator.simulator.options import Options
from orchestrator.simulator.pictures import draw_picture
from orchestrator.simulator.replies import SocketHandler
from orchestrator.simulator.timers import Timers

BACKLOG = 2048
MAX_BODY_BYTES = 1024 * 1024


def create_app(options: Options) -> Flask:
    """The whole simulator as a WSGI application, its timers running. gevent must have patched before."""
    timers = Timers()
    engine = Engine(options, timers, Courier(timers))
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    for make in (UseapiFrames, UseapiPreview, FreepikRunway, Runway, WebhookJson):
        api = make(engine)
        engine.add(api)
        app.register_blueprint(api.blueprint())
    app.register_blueprint(Control(engine).blueprint())
    app.add_url_rule("/artifacts/<name>/<int:index>.png", "artifact", partial(_artifact, engine))
    app.register_error_handler(HTTPException, _http_error)
    timers.start()
    return app


def serve(options: Options) -> None:
    """Serve until SIGTERM or SIGINT, then return at once. Only in a process that gevent has patched first."""
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, stop.set)
    server = WSGIServer(
        (options.host, options.port),
        create_app(options),
        backlog=BACKLOG,
        log=None,
        handler_class=SocketHandler,
        environ={"SERVER_NAME": options.host},  # else a reverse lookup, which may take seconds
    )
    server.start()
    print(f"simulator listening on http://{options.host}:{server.server_port}", flush=True)
    stop.wait()
    server.stop(timeout=0)


def _artifact(engine: Engine, name: str, index: int) -> Response:
    if request.args.get(ERA_KEY, engine.url_era, type=int) < engine.url_era:
        return reply({"error": "Forbidden", "code": 403}, 403)
    try:
        file = draw_picture(name, index)
    except LookupError:
        return reply({"error": "Not found.", "code": 404}, 404)
    return Response(file, mimetype="image/png", headers={"Cache-Control": "public, max-age=86400"})


def _http_error(error: HTTPException) -> Response:
    return reply({"error": error.name, "code": error.code}, error.code or 500)
