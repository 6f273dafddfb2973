"""Where produced files are kept: any fsspec URL. One `put`, one path. Knows nothing of providers."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import fsspec

from orchestrator.errors import BadPicture, CollectFailed, ConfigurationError, StorageFailed
from orchestrator.models import Artifact
from orchestrator.storage_errors import trouble

# The first bytes of what a provider may send us as a picture. What a browser would run, such as HTML or SVG,
# begins otherwise, whatever its URL or its Content-Type says.
# https://mimesniff.spec.whatwg.org/#matching-an-image-type-pattern
# https://aomediacodec.github.io/av1-avif/#brands-overview
MAGIC: tuple[tuple[re.Pattern[bytes], str, str], ...] = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png", "png"),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg", "jpg"),
    (re.compile(rb"RIFF.{4}WEBPVP", re.S), "image/webp", "webp"),
    (re.compile(rb"GIF8[79]a"), "image/gif", "gif"),
    (re.compile(rb"....ftyp(?:avi[fs]|mif1.{4}(?:.{4})*?avif)", re.S), "image/avif", "avif"),
)
SUFFIXES = {suffix: media_type for _, media_type, suffix in MAGIC}
HEAD_BYTES = 40
SHOWN_BYTES = 16
SIDECARS_AT_ONCE = 100

EXTRAS = {
    "s3": "s3",
    "s3a": "s3",
    "gs": "gcs",
    "gcs": "gcs",
    "az": "azure",
    "abfs": "azure",
    "abfss": "azure",
}
PART_BYTES = 8 * 2**20  # of an upload: it is held in memory
# What `put_file` of a backend is told. One that is not named here is written to as a file system is.
UPLOADS: Mapping[str, Callable[[str], dict[str, Any]]] = {
    "s3": lambda kind: {"ContentType": kind, "chunksize": PART_BYTES, "max_concurrency": 2},
    "gs": lambda kind: {"content_type": kind, "chunksize": PART_BYTES},
    "abfs": lambda kind: {"content_settings": {"content_type": kind}},
    "memory": lambda kind: {},
}


@dataclass(frozen=True)
class Kept:
    """A picture that was found. `name`: as it was put. `about`: its sidecar; empty where it has none."""

    name: str
    artifact: Artifact
    about: bytes


class Artifacts:
    """A folder behind an fsspec URL, such as `file://./artifacts` or `s3://bucket/folder`. Thread-safe."""

    def __init__(self, url: str) -> None:
        """Raises: ConfigurationError where nothing here speaks to such a place."""
        self._files, self._root = _opened(url)
        protocols = (
            self._files.protocol if isinstance(self._files.protocol, tuple) else (self._files.protocol,)
        )
        self._local = "file" in protocols
        self._upload = next((UPLOADS[each] for each in UPLOADS if each in protocols), None)
        self._move = os.replace if self._local else self._files.mv
        self._where = self._shown(self._root)

    def put(self, name: str, url: str, chunks: Iterable[bytes]) -> Artifact:
        """Keep one picture, whole or not at all. Safe to call twice: the same name is replaced.

        `name`: a path without suffix below the root, as `Naming` gives it.
        Raises: BadPicture where it is no picture; StorageFailed where it cannot be written.
        """
        head, chunks = _with_head(chunks)
        media_type, suffix = sniff(head)
        digest, size = hashlib.sha256(), 0
        path = f"{self._root}/{name}.{suffix}"
        with self._told(), self._writing(path, media_type) as write:
            for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
                write(chunk)
        return Artifact(url, self._shown(path), media_type, size, digest.hexdigest())

    def describe(self, name: str, about: bytes) -> None:
        """Keep a JSON document beside the picture of this name: its sidecar. Safe to call twice.

        Raises: StorageFailed.
        """
        with self._told(), self._writing(f"{self._root}/{name}.json", "application/json") as write:
            write(about)

    def kept(self) -> Iterator[Kept]:
        """Every picture that was kept; its URL and hash are not known any more.

        Raises: OSError, or what else the backend has.
        """
        found: Mapping[str, Any] = self._files.find(self._root, detail=True)
        pictures = [path for path in found if path.rpartition(".")[2] in SUFFIXES]
        for first in range(0, len(pictures), SIDECARS_AT_ONCE):
            some = pictures[first : first + SIDECARS_AT_ONCE]
            about = self._read([sidecar for path in some if (sidecar := _sidecar(path)) in found])
            for path in some:
                name, _, suffix = path.removeprefix(self._root.rstrip("/") + "/").rpartition(".")
                artifact = Artifact("", self._shown(path), SUFFIXES[suffix], int(found[path]["size"]))
                yield Kept(name, artifact, about.get(_sidecar(path), b""))

    def remove(self, artifact: Artifact) -> None:
        """With what stands beside it. Raises: OSError, or what else the backend has."""
        path = str(artifact.path)
        with suppress(FileNotFoundError):
            self._files.rm_file(_sidecar(path))  # `rm` would take a * of the path for all that fits
        self._files.rm_file(path)

    def _read(self, paths: list[str]) -> Mapping[str, bytes]:
        found: Mapping[str, bytes] = self._files.cat(paths, on_error="omit") if paths else {}
        return found

    def _shown(self, path: str) -> str:
        return path if self._local else str(self._files.unstrip_protocol(path))

    @contextmanager
    def _writing(self, path: str, media_type: str) -> Iterator[Callable[[bytes], Any]]:
        """Writes a file that appears under its name when it is complete, and only then."""
        if self._upload:
            with tempfile.TemporaryFile() as file:
                yield file.write
                file.flush()
                # By its number: a file without a name is gone whatever ends this process.
                self._files.put_file(f"/dev/fd/{file.fileno()}", path, **self._upload(media_type))
            return
        growing = f"{path}.{uuid.uuid4().hex[:8]}.part"
        try:
            with self._begun(growing) as file:
                yield file.write
            self._move(growing, path)
        except BaseException:
            with suppress(Exception):  # it may not even have been begun
                self._files.rm_file(growing)
            raise

    def _begun(self, path: str) -> Any:
        """A new file, open for writing."""
        folder = path.rpartition("/")[0]
        if not self._local:
            self._files.makedirs(folder, exist_ok=True)
            return self._files.open(path, "wb")
        try:
            return open(path, "wb")
        except FileNotFoundError:
            os.makedirs(folder, exist_ok=True)
            return open(path, "wb")

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except CollectFailed:
            raise
        except Exception as error:
            told = trouble(error)
            wide = not self._takes_anything() if told.wide is None else told.wide
            cure = told.cure.format(where=self._where)
            raise StorageFailed(f"the picture could not be kept: {told.reason}; {cure}", wide=wide) from error

    def _takes_anything(self) -> bool:
        """Whether a small file can be kept, so that the trouble is with one picture alone."""
        path = f"{self._root}/.{uuid.uuid4().hex}.probe"
        try:
            if not self._upload:
                self._files.makedirs(self._root, exist_ok=True)
            self._files.pipe_file(path, b"?")
            self._files.rm_file(path)
        except Exception:  # whatever the backend raises: that is the answer
            return False
        return True


def sniff(head: bytes) -> tuple[str, str]:
    """Media type and file suffix by the first bytes. Raises: BadPicture where it is no picture."""
    for magic, media_type, suffix in MAGIC:
        if magic.match(head[:HEAD_BYTES]):
            return media_type, suffix
    raise BadPicture(f"what came is no picture: it begins with {head[:SHOWN_BYTES]!r}")


def _opened(url: str) -> tuple[Any, str]:
    """Raises: ConfigurationError. The URL may hold credentials and is not repeated."""
    protocol = url.partition("://")[0].rpartition("::")[2]
    try:
        files, root = fsspec.core.url_to_fs(url)
    except ImportError as error:
        cure = f"pip install 'orchestrator[{EXTRAS[protocol]}]'" if protocol in EXTRAS else str(error)
        raise ConfigurationError(
            [f"ORCHESTRATOR_ARTIFACTS: what speaks to {protocol}:// is not installed here: {cure}"]
        ) from None
    except Exception as error:  # each of fsspec's backends has errors of its own
        known = ", ".join(f"{each}://" for each in ("file", "s3", "gs", "abfs"))
        raise ConfigurationError(
            [
                f"ORCHESTRATOR_ARTIFACTS: {protocol}:// cannot be used ({type(error).__name__}): "
                f"is it one of {known}, and has it what it needs, such as credentials?"
            ]
        ) from None
    return files, str(root)


def _sidecar(path: str) -> str:
    return f"{path.rpartition('.')[0]}.json"


def _with_head(chunks: Iterable[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """The first bytes, and all of the chunks still."""
    iterator = iter(chunks)
    head = b""
    for chunk in iterator:
        head += chunk
        if len(head) >= HEAD_BYTES:
            break

    def whole() -> Iterator[bytes]:
        yield head
        yield from iterator

    return head, whole()
