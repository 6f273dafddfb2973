"""Where produced files are kept: any fsspec URL. One `put`, one path. Knows nothing of providers."""

from __future__ import annotations

import hashlib
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import fsspec

from orchestrator.errors import CollectFailed
from orchestrator.models import Artifact

# The first bytes of what a provider may send us as a picture.
# https://www.iana.org/assignments/media-types/media-types.xhtml#image
MAGIC: tuple[tuple[bytes, int, str, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", 0, "image/png", "png"),
    (b"\xff\xd8\xff", 0, "image/jpeg", "jpg"),
    (b"WEBP", 8, "image/webp", "webp"),
    (b"GIF8", 0, "image/gif", "gif"),
    (b"ftypavif", 4, "image/avif", "avif"),
)
HEAD_BYTES = 16


class Artifacts:
    """A folder behind an fsspec URL, such as `file://./artifacts` or `s3://bucket/folder`."""

    def __init__(self, url: str) -> None:
        self._files, self._root = fsspec.core.url_to_fs(url)
        self._local = "file" in (self._files.protocol if isinstance(self._files.protocol, tuple) else ())

    def put(self, folder: str, name: str, url: str, chunks: Iterable[bytes]) -> Artifact:
        """Keep one picture, whole or not at all. Safe to call twice: the same name is replaced.

        Raises: CollectFailed where it is no picture, or cannot be written.
        """
        head, chunks = _with_head(chunks)
        media_type, suffix = sniff(head)
        digest, size = hashlib.sha256(), 0
        path = f"{self._root}/{folder}/{name}.{suffix}"
        try:
            with self._writing(path) as file:
                for chunk in chunks:
                    digest.update(chunk)
                    size += len(chunk)
                    file.write(chunk)
                file.keep()
        except OSError as error:
            raise CollectFailed(
                f"the picture could not be kept: {error.strerror or type(error).__name__}"
            ) from error
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
        """Raises: OSError."""
        self._files.rm(artifact.path)

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
            self._files.rm(self._growing)


def sniff(head: bytes) -> tuple[str, str]:
    """Media type and file suffix by the first bytes. Raises: CollectFailed where it is no picture."""
    for magic, offset, media_type, suffix in MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return media_type, suffix
    raise CollectFailed(f"what came is no picture: it begins with {head[:HEAD_BYTES]!r}")


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
