"""Sixteen glyphs, five by seven: enough to write a hash into a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

WIDTH = 5
HEIGHT = 7

_ROWS = {
    "0": "01110 10001 10011 10101 11001 10001 01110",
    "1": "00100 01100 00100 00100 00100 00100 01110",
    "2": "01110 10001 00001 00110 01000 10000 11111",
    "3": "11110 00001 00001 01110 00001 00001 11110",
    "4": "00010 00110 01010 10010 11111 00010 00010",
    "5": "11111 10000 11110 00001 00001 10001 01110",
    "6": "00110 01000 10000 11110 10001 10001 01110",
    "7": "11111 00001 00010 00100 01000 01000 01000",
    "8": "01110 10001 10001 01110 10001 10001 01110",
    "9": "01110 10001 10001 01111 00001 00010 01100",
    "a": "00000 00000 01110 00001 01111 10001 01111",
    "b": "10000 10000 11110 10001 10001 10001 11110",
    "c": "00000 00000 01111 10000 10000 10000 01111",
    "d": "00001 00001 01111 10001 10001 10001 01111",
    "e": "00000 00000 01110 10001 11111 10000 01110",
    "f": "00110 01001 01000 11100 01000 01000 01000",
}


@lru_cache(maxsize=16)
def letters(ink: bytes, ground: bytes) -> Mapping[str, Sequence[bytes]]:
    """The lines of each glyph from the top, a column of ground after it; `ink` and `ground` are one pixel."""
    pixels = {"0": ground, "1": ink}
    return {
        letter: [b"".join(pixels[bit] for bit in f"{row}0") for row in rows.split()]
        for letter, rows in _ROWS.items()
    }
