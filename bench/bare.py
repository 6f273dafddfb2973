"""The least that answers a callback: Flask, and nothing else. What the receiver is measured against."""

from __future__ import annotations

from flask import Flask, Response

app = Flask(__name__, static_folder=None)


@app.post("/callbacks/<provider>/<reference>")
def receive(provider: str, reference: str) -> Response:
    return Response(status=204)


@app.get("/healthz")
def healthz() -> Response:
    return Response(status=204)
