"""The pages as tests see them: their fenced blocks, the commands in those, their links and headings."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import click

from orchestrator.broker import QUEUES
from orchestrator.cli import main
from tests.stack_kit import REPOSITORY

DOCS = REPOSITORY / "docs"
PAGES = (REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md")))
SHELLS = ("sh", "bash", "shell")
CELERY_COMMANDS = ("worker", "beat", "flower", "inspect", "control", "report", "purge")
FENCE = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```\s*$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
CONNECTIVES = {"|", "&&", "||", ";", "&", "(", ")"}


@dataclass(frozen=True)
class Block:
    """One fenced block. `line`: of its first line in the page, from 1."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(REPOSITORY)}:{self.line}"


@cache
def blocks(page: Path) -> tuple[Block, ...]:
    text = page.read_text(encoding="utf-8")
    return tuple(
        Block(page, text.count("\n", 0, found.start()) + 2, found[1], found[2])
        for found in FENCE.finditer(text)
    )


def commands(block: Block) -> Iterator[list[str]]:
    """The words of each command, without assignments before it and what it is redirected to."""
    for line in _logical_lines(block.text):
        words: list[str] = []
        for word in [*_words(line), ";"]:
            if word not in CONNECTIVES:
                words.append(word)
                continue
            while words and re.match(r"[A-Za-z_]\w*=", words[0]):
                words.pop(0)
            if words:
                yield words
            words = []


def _logical_lines(text: str) -> Iterator[str]:
    """Lines, those joined that a backslash or an open quotation joins."""
    kept = ""
    for line in text.replace("\\\n", " ").splitlines():
        kept = f"{kept}\n{line}" if kept else line
        try:
            shlex.split(kept, comments=True)
        except ValueError:
            continue
        yield kept
        kept = ""
    assert not kept, f"a quotation is not closed: {kept}"


def _words(line: str) -> list[str]:
    """As `shlex.split`, and connectives are words of their own where they stand outside of quotations."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";|&")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    words = list(lexer)
    redirected = [place for place, word in enumerate(words) if re.fullmatch(r"\d?(>>?|<)", word)]
    gone = {place + step for place in redirected for step in (0, 1)}
    return [word for place, word in enumerate(words) if place not in gone]


def fault(words: list[str]) -> str:
    """Why a command cannot be what a reader is to type; empty where nothing is known against it."""
    program, *arguments = words
    for word in arguments:
        if word.startswith("deploy/") and not (REPOSITORY / word).exists():
            return f"there is no {word}"
    match program:
        case "orchestrator":
            return _fault_of_ours(arguments)
        case "make":
            targets = [word for word in arguments if "=" not in word and not word.startswith("-")]
            return "".join(f"no target {each}" for each in targets if each not in _make_targets())
        case "celery":
            return _fault_of_celery(arguments)
        case "gunicorn":
            modules = [word.removeprefix("python:") for word in arguments if word.startswith("python:")]
            return "".join(f"no module {each}" for each in modules if not find_spec(each))
        case "pip":
            wanted = {extra for word in arguments for extra in re.findall(r"^orchestrator\[(.+)\]", word)}
            return "".join(f"no extra {each}" for each in wanted - _extras())
    return ""


def _fault_of_ours(arguments: list[str]) -> str:
    command: click.Command = main
    context = click.Context(main, info_name="orchestrator")
    while isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        found = command.get_command(context, arguments[0])
        if found is None:
            return f"no command {arguments[0]}"
        command, arguments = found, arguments[1:]
    try:
        command.make_context(command.name, list(arguments), parent=context, resilient_parsing=False)
    except click.exceptions.Exit:  # --help
        return ""
    except click.ClickException as error:
        return error.format_message()
    return ""


def _fault_of_celery(arguments: list[str]) -> str:
    if arguments[:2] != ["-A", "workers"] or arguments[2] not in CELERY_COMMANDS:
        return ""  # somebody's own app
    named = pairwise(arguments)
    queues = [each for option, word in named if option in ("-Q", "-X") for each in word.split(",")]
    return "".join(f"no queue {each}" for each in queues if each not in QUEUES)


@cache
def _make_targets() -> frozenset[str]:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    return frozenset(re.findall(r"^([a-z]+):.*## ", makefile, re.MULTILINE))


@cache
def _extras() -> frozenset[str]:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return frozenset(project["optional-dependencies"])


def links(page: Path) -> Iterator[tuple[str, Path, str]]:
    """The links to files: as they stand there, the file, and the heading's anchor, which may be empty."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for link in LINK.findall(text):
        if not re.match(r"[a-z]+:", link):
            path, _, anchor = link.partition("#")
            yield link, (page.parent / path).resolve() if path else page, anchor


@cache
def anchors(page: Path) -> frozenset[str]:
    """What GitHub calls the headings of a page."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return frozenset(re.sub(r"[^\w\- ]", "", each.lower()).strip().replace(" ", "-") for each in headings)
