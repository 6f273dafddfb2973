"""PNG files in two steps: what many files have in common is encoded once, the rest of each is soon done."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

ZLIB_HEAD = b"\x78\x9c"
RAW = -15  # deflate without zlib's head and checksum, which are of both steps together
SMALL = 6  # the usual level of memory has zlib clear a quarter of a megabyte for each file


@dataclass(frozen=True, slots=True)
class Begun:
    """A file with its upper rows encoded. `checksum` is theirs."""

    file: bytes
    checksum: int


def begin(width: int, height: int, rows: Sequence[bytes]) -> Begun:
    """The file as far as `rows` reach, each of three bytes a pixel."""
    raw = _unfiltered(rows)
    deflate = zlib.compressobj(6, zlib.DEFLATED, RAW)
    packed = ZLIB_HEAD + deflate.compress(raw) + deflate.flush(zlib.Z_FULL_FLUSH)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    signature = b"\x89PNG\r\n\x1a\n"
    return Begun(signature + _chunk(b"IHDR", header) + _chunk(b"IDAT", packed), zlib.adler32(raw))


def finish(begun: Begun, rows: Sequence[bytes], title: str, size: int) -> bytes:
    """The file with the rows that were left: exactly `size` bytes, or more where it does not fit."""
    raw = _unfiltered(rows)
    deflate = zlib.compressobj(1, zlib.DEFLATED, RAW, SMALL)
    packed = deflate.compress(raw) + deflate.flush()
    checksum = zlib.adler32(raw, begun.checksum).to_bytes(4, "big")
    name = _chunk(b"tEXt", b"Title\0" + title.encode("latin-1"))
    file = begun.file + _chunk(b"IDAT", packed + checksum) + name
    end = _chunk(b"IEND", b"")
    padding = size - len(file) - len(end) - len(_chunk(b"", b""))
    return file + (_chunk(b"npAd", bytes(padding - 4)) if padding >= 4 else b"") + end


def _unfiltered(rows: Sequence[bytes]) -> bytes:
    return b"".join([b"\0" + row for row in rows])


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
