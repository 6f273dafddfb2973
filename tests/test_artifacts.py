"""A picture is kept whole or not at all, under one name, with its checksum."""

from __future__ import annotations

import errno
import hashlib
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from orchestrator.artifacts import Artifacts, sniff
from orchestrator.doctor import examine
from orchestrator.errors import CollectFailed, ConfigurationError, StorageFailed

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
    kept = Artifacts(root).put("spring/job-1", URL, [PNG[:5], PNG[5:3000], PNG[3000:]])
    assert files(root) == {"spring/job-1.png": PNG}
    assert (kept.url, kept.media_type, kept.bytes) == (URL, "image/png", len(PNG))
    assert kept.sha256 == hashlib.sha256(PNG).hexdigest()


def test_the_path_shown_opens_the_picture(root):
    kept = Artifacts(root).put("spring/job-1", URL, [PNG])
    with fsspec.open(kept.path, "rb") as file:
        assert file.read() == PNG


def test_a_local_path_is_a_plain_absolute_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kept = Artifacts("file://./artifacts").put("spring/job-1", URL, [PNG])
    assert kept.path == str(tmp_path / "artifacts" / "spring" / "job-1.png")


def test_the_same_name_twice_is_replaced(root):
    store = Artifacts(root)
    store.put("spring/job-1", URL, [PNG])
    again = store.put("spring/job-1", URL, [OTHER_PNG])
    assert files(root) == {"spring/job-1.png": OTHER_PNG}
    assert again.sha256 == hashlib.sha256(OTHER_PNG).hexdigest()


def test_a_download_that_breaks_off_leaves_nothing_behind(root):
    with pytest.raises(CollectFailed, match="only 10 of 20 bytes"):
        Artifacts(root).put("spring/job-1", URL, broken_off(PNG))
    assert files(root) == {}


def test_a_download_that_breaks_off_before_it_is_known_what_it_is_leaves_nothing_behind(root):
    with pytest.raises(CollectFailed, match="only 10 of 20 bytes"):
        Artifacts(root).put("spring/job-1", URL, broken_off(PNG[:4]))
    assert files(root) == {}


def test_a_second_download_that_breaks_off_leaves_the_first_picture(root):
    store = Artifacts(root)
    store.put("spring/job-1", URL, [PNG])
    with pytest.raises(CollectFailed):
        store.put("spring/job-1", URL, broken_off(OTHER_PNG))
    assert files(root) == {"spring/job-1.png": PNG}


@pytest.mark.parametrize("root", ["file"], indirect=True)  # object stores show whole objects only
def test_nobody_sees_a_picture_under_its_name_before_it_is_whole(root):
    seen = []

    def growing() -> Iterator[bytes]:
        for chunk in (PNG[:3000], PNG[3000:]):
            yield chunk
            seen.append("spring/job-1.png" in files(root))

    Artifacts(root).put("spring/job-1", URL, growing())
    assert seen == [False, False]
    assert set(files(root)) == {"spring/job-1.png"}


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
    kept = Artifacts(f"file://{tmp_path}").put("f/n", URL, [bytes([byte]) for byte in head])
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
        Artifacts(root).put("spring/job-1", URL, [content] if content else [])
    assert files(root) == {}


def test_removing_a_picture_removes_no_other(root):
    store = Artifacts(root)
    kept = [store.put(f"spring/{name}", URL, [PNG]) for name in ("a.b", "ab", "a")]
    store.remove(kept[0])
    assert len(files(root)) == 2


def test_picture_is_removed_with_its_sidecar(root):
    store = Artifacts(root)
    kept = [store.put(name, URL, [PNG]) for name in ("spring/a", "spring/ab")]
    for name in ("spring/a", "spring/ab"):
        store.describe(name, b"{}")
    store.remove(kept[0])
    assert sorted(name.rpartition("/")[2] for name in files(root)) == ["ab.json", "ab.png"]


# --- what stands beside them ---------------------------------------------------------------------------


def test_pictures_are_found_again_with_what_stands_beside_them(root):
    store = Artifacts(root)
    for name in ("spring/job-1", "acme/autumn/job-1", "alone-1"):
        store.put(name, URL, [PNG])
    store.describe("acme/autumn/job-1", b'{"a": 1}')
    store.describe("acme/autumn/without-a-picture-1", b"{}")
    found = {each.name: each for each in store.kept()}
    assert {name: each.about for name, each in found.items()} == {
        "spring/job-1": b"", "acme/autumn/job-1": b'{"a": 1}', "alone-1": b"",
    }  # fmt: skip
    artifact = found["spring/job-1"].artifact
    assert (artifact.media_type, artifact.bytes, artifact.sha256) == ("image/png", len(PNG), None)
    with fsspec.open(artifact.path, "rb") as file:
        assert file.read() == PNG


def test_what_stands_beside_a_picture_is_replaced(root):
    store = Artifacts(root)
    for about in (b"first", b"second"):
        store.describe("spring/job-1", about)
    assert files(root) == {"spring/job-1.json": b"second"}


# --- storage that fails --------------------------------------------------------------------------------


class BackendError(Exception):
    """What an fsspec backend raises is often no OSError: botocore's ClientError, gcsfs' HttpError, …"""


def named(name: str) -> Exception:
    """An error of a class of this name, as a backend's that is not installed here."""
    return type(name, (Exception,), {})("a-secret-key")


def failing(
    root: str, monkeypatch: pytest.MonkeyPatch, error: Exception, step: str = "put_file"
) -> Artifacts:
    """A place that takes nothing but what is tried with `pipe_file`."""
    store = Artifacts(root)

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(store._files, step, fail)
    return store


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "x"), "no space is left; make room in "),
        (OSError(errno.EDQUOT, "x"), "no space is left; make room in "),
        (OSError(errno.EROFS, "x"), "it is mounted read-only; mount "),
        (PermissionError("Access Denied"), "writing is not allowed; let the workers' user, or "),
        (
            FileNotFoundError("The specified bucket does not exist"),
            "there is no such bucket or folder; create ",
        ),
        (TimeoutError(), "it does not answer; is "),
        (ConnectionResetError(), "it does not answer; is "),
        (OSError(errno.EBUSY, "Please reduce your request rate"), "Device or resource busy; see the log"),
        (named("NoCredentialsError"), "it has no credentials; give the workers the credentials for "),
        (named("EndpointConnectionError"), "it does not answer; is "),
        (named("ClientAuthenticationError"), "writing is not allowed; "),
        (
            BackendError("a-secret-key"),
            "BackendError; see the log of the workers, and try `orchestrator doctor`",
        ),
        (KeyError("x"), "KeyError; "),
    ],
)
def test_storage_that_fails_is_told_with_the_cure(tmp_path, monkeypatch, error, words):
    store = failing(f"memory://{tmp_path.name}", monkeypatch, error)
    with pytest.raises(StorageFailed) as failed:
        store.put("spring/job-1", URL, [PNG])
    told = str(failed.value)
    assert told.startswith(f"the picture could not be kept: {words}")
    assert "{" not in told and "a-secret-key" not in told


@pytest.mark.parametrize(
    ("error", "takes_others", "wide"),
    [
        (OSError(errno.ENOSPC, "x"), True, True),  # a small file may still fit
        (PermissionError(), True, False),  # it is one folder that is closed
        (PermissionError(), False, True),
        (OSError(errno.ENAMETOOLONG, "x"), True, False),
        (BackendError(), True, True),
    ],
)
def test_trouble_with_one_name_is_not_trouble_with_all(tmp_path, monkeypatch, error, takes_others, wide):
    store = failing(f"memory://{tmp_path.name}", monkeypatch, error)
    if not takes_others:
        monkeypatch.setattr(store._files, "pipe_file", store._files.put_file)
    with pytest.raises(StorageFailed) as failed:
        store.put("spring/job-1", URL, [PNG])
    assert failed.value.wide is wide
    assert files(f"memory://{tmp_path.name}") == {}


def test_a_file_that_may_not_grow_is_told_and_leaves_nothing_behind(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # the system refuses to write more
    try:
        with pytest.raises(StorageFailed, match="the system allows no file so large; raise the limit"):
            Artifacts(f"file://{tmp_path}").put("spring/job-1", URL, [PNG])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files(f"file://{tmp_path}") == {}


@pytest.mark.parametrize(("stands", "wide"), [("spring", False), ("", True)])
def test_a_folder_that_cannot_be_made_is_told(tmp_path, stands, wide):
    root = tmp_path / "kept"
    if stands:
        root.mkdir()
    (root / stands).write_text("a file stands where the folder should")
    with pytest.raises(
        StorageFailed, match="a file stands where a folder should be; move it away from"
    ) as failed:
        Artifacts(f"file://{root}").put("spring/job-1", URL, [PNG])
    assert failed.value.wide is wide


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this user may not mount")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_is_told_and_leaves_nothing_behind(small_disk):
    store = Artifacts(f"file://{small_disk}")
    with pytest.raises(StorageFailed, match=f"no space is left; make room in {small_disk}") as failed:
        store.put("spring/job-1", URL, [PNG] * 200)
    assert failed.value.wide
    assert files(f"file://{small_disk}") == {}
    store.put("spring/job-1", URL, [PNG])


def test_a_disk_that_is_mounted_read_only_is_told(small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(
        StorageFailed, match=f"it is mounted read-only; mount {small_disk} for writing"
    ) as failed:
        Artifacts(f"file://{small_disk}").put("spring/job-1", URL, [PNG])
    assert failed.value.wide


MEASURED = """
import resource, sys
from orchestrator.artifacts import Artifacts
chunk = b"\\x89PNG\\r\\n\\x1a\\n" + bytes(2**16)
store = Artifacts(sys.argv[1])
store.put("warm/up-1", "", [chunk])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
kept = store.put("spring/job-1", "", (chunk for _ in range(3200)))
assert kept.bytes > 200 * 2**20
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_large_picture_is_never_whole_in_memory(tmp_path):
    command = [sys.executable, "-c", MEASURED, f"file://{tmp_path}"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(run.stdout) < 8 * 1024  # KiB


# --- places that nothing here speaks to ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (
            "s3://key:a-secret@bucket/x",
            "what speaks to s3:// is not installed here: pip install 'orchestrator[s3]'",
        ),
        ("gs://bucket", "what speaks to gs:// is not installed here: pip install 'orchestrator[gcs]'"),
        (
            "abfs://container",
            "what speaks to abfs:// is not installed here: pip install 'orchestrator[azure]'",
        ),
        (
            "nonsense://x",
            "nonsense:// cannot be used (ValueError): is it one of file://, s3://, gs://, abfs://",
        ),
    ],
)
def test_a_place_that_nothing_speaks_to_is_told_with_the_cure(monkeypatch, url, words):
    for name in ("s3fs", "gcsfs", "adlfs"):
        monkeypatch.setitem(sys.modules, name, None)  # whether it is installed or not
    with pytest.raises(ConfigurationError) as refused:
        Artifacts(url)
    assert words in str(refused.value) and "a-secret" not in str(refused.value)


def test_doctor_names_the_extra_that_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.setenv("ORCHESTRATOR_ARTIFACTS", "s3://bucket")
    (finding,) = examine()
    assert finding.verdict == "fault" and "pip install 'orchestrator[s3]'" in finding.text
