"""The body of a request, whole or as it comes, or said to have broken off."""

from __future__ import annotations

import io
from typing import Any

from flask import request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.wsgi import get_content_length

from orchestrator.errors import Malformed


def whole_body(most_bytes: int) -> bytes:
    """Raises: Malformed where it breaks off; RequestEntityTooLarge."""
    length = get_content_length(request.environ)  # None: it comes in chunks, which say where they end
    if length is not None and length > most_bytes:
        raise RequestEntityTooLarge
    try:
        raw_body: bytes = request.input_stream.read(most_bytes + 1 if length is None else length)
    except Exception as error:  # gunicorn has its own, as for a chunk that is none
        raise Malformed("the body broke off") from error
    if len(raw_body) > most_bytes:
        raise RequestEntityTooLarge
    if length not in (None, len(raw_body)):
        raise Malformed("the body broke off")
    return raw_body


class StreamedBody(io.RawIOBase):
    """The body of this request as it comes. Reading raises: Malformed where it breaks off; HTTPException."""

    def __init__(self) -> None:
        self._stream = request.stream
        self._missing = request.content_length  # None: it comes in chunks, which say where they end

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._stream.read(len(buffer))
        except HTTPException:
            raise
        except Exception as error:
            raise Malformed("the body broke off") from error
        if self._missing is not None:
            self._missing -= len(data)
        if not data and self._missing:
            raise Malformed("the body broke off")
        buffer[: len(data)] = data
        return len(data)
