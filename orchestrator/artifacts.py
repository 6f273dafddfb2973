"""Where produced files are kept: any fsspec URL. One `put`, one path. Knows nothing of providers."""

from __future__ import annotations

import hashlib
import re
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import fsspec

from orchestrator.errors import CollectFailed
from orchestrator.models import Artifact

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
HEAD_BYTES = 40
SHOWN_BYTES = 16

# A folder or a name that is kept as it is. A Celery task, and so a job, may be sent under any id.
PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_ .:-]{0,119}")


class Artifacts:
    """A folder behind an fsspec URL, such as `file://./artifacts` or `s3://bucket/folder`."""

    def __init__(self, url: str) -> None:
        self._files, self._root = fsspec.core.url_to_fs(url)
        self._local = "file" in (self._files.protocol if isinstance(self._files.protocol, tuple) else ())

    def put(self, folder: str, name: str, url: str, chunks: Iterable[bytes]) -> Artifact:
        """Keep one picture, whole or not at all. Safe to call twice: the same name is replaced.

        `folder` and `name` may be any text: what could lead elsewhere is left out of the path.

        Raises: CollectFailed where it is no picture, or cannot be written.
        """
        head, chunks = _with_head(chunks)
        media_type, suffix = sniff(head)
        digest, size = hashlib.sha256(), 0
        path = f"{self._root}/{plain(folder)}/{plain(name)}.{suffix}"
        try:
            with self._writing(path) as file:
                for chunk in chunks:
                    digest.update(chunk)
                    size += len(chunk)
                    file.write(chunk)
                file.keep()
        except CollectFailed:
            raise
        except Exception as error:  # each of fsspec's backends has errors of its own
            reason = (isinstance(error, OSError) and error.strerror) or type(error).__name__
            raise CollectFailed(f"the picture could not be kept: {reason}") from error
        shown_path = path if self._local else self._files.unstrip_protocol(path)
        return Artifact(url, shown_path, media_type, size, digest.hexdigest())

    def kept(self) -> Iterator[tuple[str, str, Artifact]]:
        """Every picture that was kept, as (folder, name, artifact); URL and hash are not known any more."""
        depth = self._root.rstrip("/").count("/")
        for path in self._files.find(self._root):
            folder, _, file = path.rpartition("/")
            name, _, suffix = file.rpartition(".")
            media_type = next((kind for *_, kind, known in MAGIC if known == suffix), None)
            if media_type and folder.count("/") == depth + 1:
                shown = path if self._local else self._files.unstrip_protocol(path)
                size = int(self._files.size(path))
                yield folder.rpartition("/")[2], name, Artifact("", shown, media_type, size)

    def remove(self, artifact: Artifact) -> None:
        """Raises: OSError, or what else the backend has."""
        self._files.rm_file(artifact.path)  # `rm` would take a * of the path for all that fits

    def _writing(self, path: str) -> _Writing:
        self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
        return _Writing(self._files, path, local=self._local)


class _Writing:
    """A file that appears under its name only when it is complete."""

    def __init__(self, files: Any, path: str, *, local: bool) -> None:
        self._files, self._path = files, path
        self._growing = f"{path}.{uuid.uuid4().hex[:8]}.part" if local else None
        # Closing an object of an object store is keeping it: it is opened only when all is here.
        self._file = files.open(self._growing, "wb") if local else tempfile.TemporaryFile()
        self._kept = False

    def write(self, chunk: bytes) -> None:
        self._file.write(chunk)

    def keep(self) -> None:
        if self._growing is None:
            self._file.seek(0)
            self._files.pipe_file(self._path, self._file.read())
        else:
            self._file.close()
            self._files.mv(self._growing, self._path)
        self._kept = True

    def __enter__(self) -> _Writing:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if self._growing and not self._kept:
            self._files.rm_file(self._growing)


def sniff(head: bytes) -> tuple[str, str]:
    """Media type and file suffix by the first bytes. Raises: CollectFailed where it is no picture."""
    for magic, media_type, suffix in MAGIC:
        if magic.match(head[:HEAD_BYTES]):
            return media_type, suffix
    raise CollectFailed(f"what came is no picture: it begins with {head[:SHOWN_BYTES]!r}")


def plain(text: str) -> str:
    """The text itself where it is a mere name; otherwise one that is, and that no other text has."""
    if PLAIN.fullmatch(text):
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{re.sub('[^A-Za-z0-9]+', '_', text)[:60]}-{digest[:16]}"


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
