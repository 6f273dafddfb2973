"""An OTLP/HTTP collector on loopback, which also takes what is told of ends."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Seen:
    """One span, as a collector sees it. Ids are hexadecimal; `parent` is empty for the first of a trace."""

    name: str
    trace: str
    id: str
    parent: str
    kind: int
    links: tuple[str, ...]  # traces that it links to
    service: str
    attributes: Mapping[str, Any]


class Collector(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spans: list[Seen] = []
        self.bodies: list[bytes] = []
        self.told: list[str] = []  # paths that were posted to beside
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self._serve()

    def _serve(self) -> None:
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def take(self, body: bytes) -> None:
        self.bodies.append(body)
        request = ExportTraceServiceRequest()
        request.ParseFromString(body)
        for resource in request.resource_spans:
            (service,) = (
                each.value.string_value for each in resource.resource.attributes if each.key == "service.name"
            )
            self.spans += [_seen(span, service) for scope in resource.scope_spans for span in scope.spans]

    def of_job(self, job_id: str) -> list[Seen]:
        """All spans of the trace that a job is in."""
        found = list(self.spans)
        traces = {span.trace for span in found if span.attributes.get("orchestrator.job") == job_id}
        return [span for span in found if span.trace in traces]

    def close(self) -> None:
        self.shutdown()
        self.server_close()

    def open_again(self) -> None:
        """At the same port."""
        self.socket = socket.socket(self.address_family, self.socket_type)
        self.server_bind()
        self.server_activate()
        self._serve()


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v1/traces":
            self.server.take(body)
        else:
            self.server.told.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def _seen(span: Any, service: str) -> Seen:
    return Seen(
        name=span.name,
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        kind=span.kind,
        links=tuple(link.trace_id.hex() for link in span.links),
        service=service,
        attributes={
            each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes
        },
    )
