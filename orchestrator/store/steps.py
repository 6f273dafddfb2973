"""The steps as scripts: each with what it needs of the shared Lua, and no more. Pure, apart from its files.

A script runs from its top each time, and makes all its functions anew. With every shared one before it, that
cost more than what most steps do. What is seldom called carries what it needs within itself, and this is made
only then: it is a function at the left margin whose first line ends with `-- seldom`.
"""

from __future__ import annotations

import re
from importlib import resources
from typing import NamedTuple

# Each may use what stands in those before it.
SHARED = ("common", "lanes", "spend", "slots", "notices", "batches", "ends", "journal")
WITHIN = {"settle_heard": "settle"}  # a step → another, which it calls by its name

SILENT = re.compile(r"--[^\n]*|'[^'\n]*'")  # comments and texts name nothing
WORD = re.compile(r"[A-Za-z_]\w*")
DECLARED = re.compile(r"local (?:function )?([\w\s,]+?)\s*[=(]")
SELDOM = re.compile(r"^(local function [^\n]*\)) *-- seldom\n(.*?)^end$", re.M | re.S)


class Piece(NamedTuple):
    """A top-level `local` of the shared files: a function, or some constants."""

    text: str
    names: frozenset[str]
    words: frozenset[str]  # all that it mentions, what is seldom called left out


def scripts(shared_first: str) -> dict[str, str]:
    """Step → its script. `shared_first`: Lua that stands before the shared files, as part of them."""
    folder = resources.files("orchestrator.store") / "lua"
    found = [file for file in folder.iterdir() if file.name.endswith(".lua")]
    files = {file.name.removesuffix(".lua"): file.read_text() for file in found}
    for name, inner in WITHIN.items():
        files[name] = f"local function {inner}()\n{files[inner]}\nend\n{files[name]}"
    pieces = pieces_of(shared_first + "".join(files.pop(name) for name in SHARED))
    return {name: with_needed(pieces, text) for name, text in files.items()}


def pieces_of(shared: str) -> list[Piece]:
    """The shared Lua, cut at each `local` that begins a line; without its comments."""
    found: list[Piece] = []
    for text in re.split(r"^(?=local )", re.sub(r"^\s*--[^\n]*\n", "", shared, flags=re.M), flags=re.M)[1:]:
        declared = DECLARED.match(text)
        assert declared, text
        found.append(Piece(_with_inner(found, text), _words(declared[1]), _words(text)))
    return found


def with_needed(pieces: list[Piece], step: str) -> str:
    """A step after those pieces that it mentions, and that these mention, in their order."""
    words, kept = _words(step), [_with_inner(pieces, step)]
    for piece in reversed(pieces):
        if piece.names & words:
            words |= piece.words
            kept.append(piece.text)
    return "".join(reversed(kept))


def _with_inner(pieces: list[Piece], text: str) -> str:
    return SELDOM.sub(lambda found: f"{found[1]}\n{with_needed(pieces, found[2])}end", text)


def _words(text: str) -> frozenset[str]:
    return frozenset(WORD.findall(SILENT.sub("", SELDOM.sub("", text))))
