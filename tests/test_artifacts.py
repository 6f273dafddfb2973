"""A picture is kept whole or not at all, under one name, with its checksum."""

from __future__ import annotations

import hashlib
import resource
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from orchestrator.artifacts import Artifacts, sniff
from orchestrator.errors import CollectFailed

URL = "https://d1.cloudfront.net/0.png"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40
OTHER_PNG = b"\x89PNG\r\n\x1a\n" + b"other" * 99


@pytest.fixture(params=["file", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty folder: on disk, and where files are objects."""
    if request.param == "file":
        yield f"file://{tmp_path}/kept"
        return
    yield f"memory://{tmp_path.name}"
    memory = fsspec.filesystem("memory")
    if memory.exists(tmp_path.name):
        memory.rm(tmp_path.name, recursive=True)


def files(root: str) -> dict[str, bytes]:
    """Name → content of everything kept, half-written files too."""
    filesystem, path = fsspec.core.url_to_fs(root)
    found = filesystem.find(path) if filesystem.exists(path) else []
    return {name.removeprefix(f"{path}/"): filesystem.cat_file(name) for name in found}


def broken_off(first: bytes) -> Iterator[bytes]:
    yield first
    raise CollectFailed("only 10 of 20 bytes of the picture arrived")


def test_a_picture_is_kept_under_its_folder_name_and_kind(root):
    kept = Artifacts(root).put("spring", "job-1", URL, [PNG[:5], PNG[5:3000], PNG[3000:]])
    assert files(root) == {"spring/job-1.png": PNG}
    assert (kept.url, kept.media_type, kept.bytes) == (URL, "image/png", len(PNG))
    assert kept.sha256 == hashlib.sha256(PNG).hexdigest()


def test_the_path_shown_opens_the_picture(root):
    kept = Artifacts(root).put("spring", "job-1", URL, [PNG])
    with fsspec.open(kept.path, "rb") as file:
        assert file.read() == PNG


def test_a_local_path_is_a_plain_absolute_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kept = Artifacts("file://./artifacts").put("spring", "job-1", URL, [PNG])
    assert kept.path == str(tmp_path / "artifacts" / "spring" / "job-1.png")


def test_the_same_name_twice_is_replaced(root):
    store = Artifacts(root)
    store.put("spring", "job-1", URL, [PNG])
    again = store.put("spring", "job-1", URL, [OTHER_PNG])
    assert files(root) == {"spring/job-1.png": OTHER_PNG}
    assert again.sha256 == hashlib.sha256(OTHER_PNG).hexdigest()


def test_a_download_that_breaks_off_leaves_nothing_behind(root):
    with pytest.raises(CollectFailed, match="only 10 of 20 bytes"):
        Artifacts(root).put("spring", "job-1", URL, broken_off(PNG))
    assert files(root) == {}


def test_a_download_that_breaks_off_before_it_is_known_what_it_is_leaves_nothing_behind(root):
    with pytest.raises(CollectFailed, match="only 10 of 20 bytes"):
        Artifacts(root).put("spring", "job-1", URL, broken_off(PNG[:4]))
    assert files(root) == {}


def test_a_second_download_that_breaks_off_leaves_the_first_picture(root):
    store = Artifacts(root)
    store.put("spring", "job-1", URL, [PNG])
    with pytest.raises(CollectFailed):
        store.put("spring", "job-1", URL, broken_off(OTHER_PNG))
    assert files(root) == {"spring/job-1.png": PNG}


@pytest.mark.parametrize("root", ["file"], indirect=True)  # object stores show whole objects only
def test_nobody_sees_a_picture_under_its_name_before_it_is_whole(root):
    seen = []

    def growing() -> Iterator[bytes]:
        for chunk in (PNG[:3000], PNG[3000:]):
            yield chunk
            seen.append("spring/job-1.png" in files(root))

    Artifacts(root).put("spring", "job-1", URL, growing())
    assert seen == [False, False]
    assert set(files(root)) == {"spring/job-1.png"}


def test_a_full_disk_is_told_and_leaves_nothing_behind(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # the system refuses to write more
    try:
        with pytest.raises(CollectFailed, match="could not be kept: File too large"):
            Artifacts(f"file://{tmp_path}").put("spring", "job-1", URL, [PNG])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files(f"file://{tmp_path}") == {}


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "spring").write_text("a file stands where the folder should")
    with pytest.raises(CollectFailed, match="the picture could not be kept: "):
        Artifacts(f"file://{tmp_path}").put("spring", "job-1", URL, [PNG])


@pytest.mark.parametrize(
    ("head", "media_type", "suffix"),
    [
        (b"\x89PNG\r\n\x1a\n" + b"x" * 8, "image/png", "png"),
        (b"\xff\xd8\xff\xe0" + b"x" * 12, "image/jpeg", "jpg"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "image/webp", "webp"),
        (b"GIF89a" + b"x" * 10, "image/gif", "gif"),
        (b"GIF87a" + b"x" * 10, "image/gif", "gif"),
        (b"\0\0\0\x20ftypavif\0\0\0\0", "image/avif", "avif"),
        (b"\0\0\0\x20ftypmif1\0\0\0\0mif1miafavif", "image/avif", "avif"),
    ],
)
def test_what_a_picture_is_is_read_from_its_first_bytes(tmp_path, head, media_type, suffix):
    assert sniff(head) == (media_type, suffix)
    # However small the pieces it arrives in, and whatever its URL ends in.
    kept = Artifacts(f"file://{tmp_path}").put("f", "n", URL, [bytes([byte]) for byte in head])
    assert (kept.media_type, Path(str(kept.path)).name) == (media_type, f"n.{suffix}")
    assert Path(str(kept.path)).read_bytes() == head


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html><body>Access denied</body></html>",  # what a CDN says with status 200
        b'{"error": "expired"}',
        b"\x89PNG",  # cut short
        b"RIFF\x10\0\0\0WAVEfmt ",  # a sound
        b"\0\0\0\x20ftypisom\0\0\0\0",  # a film
        b"\0\0\0\x20ftypmif1\0\0\0\0mif1heic",  # a picture that browsers do not show
        b"....WEBPVP8 ",
        b"GIF8 is what this text begins with",
        b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        b"<?xml version='1.0'?><svg/>",
        b"\xef\xbb\xbf<!doctype html>\x89PNG\r\n\x1a\n",
        b"%PDF-1.7",
        b"MZ\x90\0",
        b" \x89PNG\r\n\x1a\n" + b"x" * 8,
    ],
)
def test_what_is_no_picture_is_not_kept(root, content):
    with pytest.raises(CollectFailed, match="what came is no picture"):
        Artifacts(root).put("spring", "job-1", URL, [content] if content else [])
    assert files(root) == {}


# --- names ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wild",
    [
        *(
            "..",
            ".",
            "../up",
            "../../../etc/cron.d/x",
            "/etc/passwd",
            "a/b",
            "a\\b",
            "a/../../b",
            "~/x",
            "~root",
        ),
        *(
            "",
            "a\0b",
            "a\nb",
            "*",
            "a[bc]",
            "a?b",
            "a#b",
            "a%2e%2e",
            "s3::x",
            ".hidden",
            "-rf",
            " ",
            "x" * 4000,
        ),
        *("\u2025/", "\uff0e\uff0e", "\ud800", "\u202egnp.exe", "CON", "file:///etc/passwd", "{a,b}"),
    ],
)
def test_no_name_leads_out_of_the_folder(root, tmp_path, wild):
    store = Artifacts(root)
    for folder, name in (("spring", wild), (wild, "job-1"), (wild, wild)):
        kept = store.put(folder, name, URL, [PNG])
        found = files(root)
        assert list(found.values()) == [PNG]
        (path,) = found
        assert path.count("/") == 1 and ".." not in path and path.isprintable()
        store.remove(kept)
        assert files(root) == {}
    assert {path.name for path in tmp_path.iterdir()} <= {"kept"}


def test_names_that_are_not_the_same_are_not_kept_as_the_same(root):
    store = Artifacts(root)
    names = ["a/b", "a\\b", "a_b", "a//b", "a*b", "../a/b"]
    paths = {store.put("spring", name, URL, [PNG]).path for name in names}
    assert len(paths) == len(names)
    assert store.put("spring", "a/b", URL, [PNG]).path in paths


def test_removing_a_picture_removes_no_other(root):
    store = Artifacts(root)
    kept = [store.put("spring", name, URL, [PNG]) for name in ("a*", "ab", "a")]
    store.remove(kept[0])
    assert len(files(root)) == 2


# --- storage that fails --------------------------------------------------------------------------------


class BackendError(Exception):
    """What an fsspec backend raises is often no OSError: botocore's ClientError, gcsfs' HttpError, …"""


@pytest.mark.parametrize("step", ["makedirs", "pipe_file"])
@pytest.mark.parametrize(
    "error", [BackendError("a-secret-key"), TimeoutError(), RuntimeError(), KeyError("x")]
)
def test_storage_that_fails_in_its_own_way_is_a_failed_collect(tmp_path, monkeypatch, step, error):
    store = Artifacts(f"memory://{tmp_path.name}")

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(store._files, step, fail)
    with pytest.raises(CollectFailed, match=f"could not be kept: {type(error).__name__}$"):
        store.put("spring", "job-1", URL, [PNG])
