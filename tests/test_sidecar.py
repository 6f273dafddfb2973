"""What stands beside a picture tells where it came from, and no secret."""

from __future__ import annotations

import json

import pytest

from orchestrator.models import Artifact
from orchestrator.providers import registry
from orchestrator.sidecar import read, sidecar, written
from tests.test_naming import ID, job

URL = "https://user:pw@d1.cloudfront.net/0.png?_jwt=a-signature#x"
PICTURE = Artifact(URL, "/kept/autumn/line-7-2.png", "image/png", 7, "ab" * 32)
WON = {
    "number": "3",
    "opened": "1763700010.5",
    "closed": "1763700020",
    "upstream_id": "user:me@example.com-task",
}
PARAMETERS = {
    "text_prompt": "a poster that says write to me@example.com",
    "seed": 42,
    "email": "me@example.com",
    "image": "https://example.com/in.png?X-Amz-Signature=a-signature",
    "inline": "data:image/png;base64," + "A" * 9000,
    "nested": [{"uri": "https://example.com/r.png?sig=a-signature", "email": "me@example.com"}],
}


def told(**fields):
    made = job(parameters=PARAMETERS, custom_id="line-7", attempts=4, artifact_urls=(URL, URL), **fields)
    return json.loads(written(sidecar(made, registry()["useapi_frames"], WON, 2, PICTURE)))


def test_it_tells_where_the_picture_came_from():
    about = told(tenant="acme")
    assert {name: about[name] for name in about if name not in ("prompt", "parameters")} == {
        "job": ID, "place": 2, "places": 2, "batch": "autumn", "custom_id": "line-7", "tenant": "acme",
        "provider": "useapi_frames", "account": "studio-1", "attempt": 3, "seed": 42,
        "created_at": "2025-11-21T04:40:00.000+00:00", "began_at": "2025-11-21T04:40:10.500+00:00",
        "ended_at": "2025-11-21T04:40:20.000+00:00", "url": "https://d1.cloudfront.net/0.png",
        "file": "line-7-2.png", "media_type": "image/png", "bytes": 7, "sha256": "ab" * 32,
    }  # fmt: skip


def test_it_tells_no_secret():
    about = told()
    assert about["prompt"] == "a poster that says write to <e-mail>"
    assert about["parameters"]["image"] == "https://example.com/in.png"
    assert about["parameters"]["inline"].startswith("data:image/png;base64,sha256=")
    text = json.dumps(about)
    assert not any(word in text for word in ("a-signature", "pw@", "me@example.com", "A" * 100))


def test_a_moment_that_a_late_success_was_told_at_is_its_end():
    late = sidecar(job(), registry()["useapi_frames"], {**WON, "told": "1763700030"}, 1, PICTURE)
    assert late.ended_at == "2025-11-21T04:40:30.000+00:00"


def test_where_the_attempt_is_not_known_its_number_is_the_last():
    about = sidecar(job(attempts=4), registry()["useapi_frames"], {}, 1, PICTURE)
    assert (about.attempt, about.began_at, about.ended_at, about.seed) == (4, None, None, None)


def test_what_is_written_is_read():
    about = sidecar(job(parameters=PARAMETERS), registry()["useapi_frames"], WON, 2, PICTURE)
    assert read(written(about)) == about
    odd = sidecar(job(custom_id="\ud800 é"), registry()["useapi_frames"], WON, 2, PICTURE)
    assert read(written(odd)) is not None


@pytest.mark.parametrize(
    "change",
    [
        {"job": None},
        {"job": ""},
        {"place": 0},
        {"place": "1"},
        {"place": True},
        {"batch": 1},
        {"more": 1},
        {"file": []},
    ],
)
def test_what_others_wrote_is_not_believed(change):
    assert read(json.dumps(told() | change).encode()) is None


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b"\xff", b"null", b"[" * 100_000, b'"x"'])
def test_what_is_none_is_none(text):
    assert read(text) is None
