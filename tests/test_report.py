"""`orchestrator report`: the figures of a batch, and its pictures, from a real store to a page on disk."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from orchestrator import Orchestrator
from orchestrator.cli import main
from orchestrator.errors import NotFound
from orchestrator.models import NewJob, State
from orchestrator.providers.useapi_frames import UseapiFrames
from orchestrator.report import thumbnails, write
from orchestrator.report.charts import Series, area, bars, parts
from orchestrator.report.durations import Durations, edges
from orchestrator.report.figures import BARS, Timeline, Use
from orchestrator.report.write import Wanted, Written, write_report
from orchestrator.store import Store
from tests import store_kit
from tests.store_kit import NOW, PROVIDER, lose, submit
from tests.test_gallery import Page

server, raw, store = store_kit.server, store_kit.raw, store_kit.store

PROVIDERS = {PROVIDER: UseapiFrames()}
BATCH = "autumn"


@pytest.fixture
def reported(store: Store, tmp_path: Path) -> Callable[..., tuple[Written, Page]]:
    def report(now: float = NOW + 1000, **wanted: object) -> tuple[Written, Page]:
        path = tmp_path / "report.html"
        written = write_report(store, PROVIDERS, now, BATCH, path, Wanted(**wanted))
        return written, Page(path.read_text(encoding="utf-8"))

    return report


def opened(store: Store, *ids: str) -> None:
    jobs = [
        NewJob(each, PROVIDER, {"text_prompt": f"a {each}"}, batch=BATCH, custom_id=f"row-{each}")
        for each in ids
    ]
    store.enqueue(jobs, NOW)
    for each in ids:
        assert store.open(f"{each}.1", NOW + 2)


def delivered(
    store: Store, job_id: str, *paths: Path | str | None, at: float = NOW + 12, tries: int = 1
) -> None:
    """Ends a job that was opened, with these pictures."""
    kept = {
        "url": "https://pictures.example/1.png",
        "media_type": "image/png",
        "bytes": 7,
        "sha256": "c0ffee",
    }
    artifacts = [{**kept, "path": path and str(path)} for path in paths]
    submit(store, f"{job_id}.{tries}", f"up-{job_id}", at + 60, now=at - 9)
    assert store.settle(f"{job_id}.{tries}", "succeeded", at, artifact_urls=store_kit.URLS).finish
    assert store.begin_finish(job_id, at)
    assert store.end(job_id, at + 3, State.SUCCEEDED, {"artifacts": artifacts}, "")


def drawn(path: Path, *size: int) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", size or (640, 320), (200, 90, 40)).save(path)
    return path


# --- the whole ---------------------------------------------------------------------------------------------


def test_what_became_of_a_batch(store: Store, tmp_path: Path, reported: Callable) -> None:
    store_kit.have(store, a=3)
    opened(store, "fox", "owl", "elk")
    delivered(store, "fox", drawn(tmp_path / "pictures" / "fox.png"))
    store.settle(
        "owl.1", "failed", NOW + 5, error={"kind": "Moderated", "message": "no <people>", "http_status": 400}
    )
    assert store.begin_finish("owl", NOW + 5)
    assert store.end("owl", NOW + 6, State.FAILED, None, "it was refused")
    written, shown = reported()
    assert (written.jobs, written.shown, written.thumbnails, written.note) == (3, 3, 1, "")
    assert "3 accepted = 1 succeeded + 1 failed + 0 cancelled + 1 open" in shown.within("p")
    assert shown.within("h3") == ["a fox", "a owl", "a elk"]
    assert [item["class"] for item in shown.cards()] == ["card succeeded", "card failed", "card open"]
    assert [each["href"] for each in shown.all("a")] == ["./pictures/fox.png"]
    assert "row-fox" in shown.within("dd")
    assert {"Moderated", f"{PROVIDER}/a"} <= set(shown.within("th"))
    assert written.bytes == written.path.stat().st_size


def test_an_attempt_that_failed_is_counted_though_its_job_succeeded(store: Store, reported: Callable) -> None:
    opened(store, "fox")
    assert lose(store, "fox.1") == ["fox.2"]
    assert store.open("fox.2", NOW + 3)
    delivered(store, "fox", tries=2)
    failures = reported()[0].figures.failures
    assert {kind: (each.attempts, each.jobs) for kind, each in failures.items()} == {"Unavailable": (1, 0)}


def test_what_is_not_known_any_more_is_counted_as_such(store: Store, raw, reported: Callable) -> None:
    store_kit.have(store, a=2)
    opened(store, "fox", "owl")
    raw.delete("orc:job:owl")
    assert any(text.endswith("+ 1 of which no record is kept any more") for text in reported()[1].within("p"))


def test_seconds_are_told_apart_by_where_they_went(store: Store, reported: Callable) -> None:
    opened(store, "fox")
    delivered(store, "fox")
    durations = reported()[0].figures.durations
    assert {part: each.longest for part, each in durations.items()} == {
        "waiting in the queue": 2.0, "at the provider": 10.0, "collecting": 3.0, "in all": 15.0
    }  # fmt: skip


def test_slots_are_used_from_submit_to_outcome(store: Store, reported: Callable) -> None:
    store_kit.have(store, a=2)
    opened(store, "fox", "owl")
    delivered(store, "fox", at=NOW + 12)
    delivered(store, "owl", at=NOW + 22)
    use = reported()[0].figures.use[PROVIDER]
    assert (use.attempts, use.open_seconds, use.last - use.first) == (2, 30.0, 20.0)
    assert use.share(2) == 0.75
    assert use.share(0) == 0


def test_more_jobs_than_wanted_are_in_the_figures_alone(store: Store, reported: Callable) -> None:
    store_kit.have(store, a=3)
    opened(store, "fox", "owl", "elk")
    written, shown = reported(limit=2)
    assert (written.jobs, written.shown) == (3, 2)
    assert len(shown.cards()) == 2
    assert "the first 2 of 3 jobs (--limit)" in shown.within("p")


def test_a_batch_that_nobody_knows_leaves_nothing_behind(store: Store, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        write_report(store, PROVIDERS, NOW, "nobody", tmp_path / "report.html", Wanted())
    assert not list(tmp_path.iterdir())


def test_memory_does_not_grow_with_the_batch(store: Store, tmp_path: Path) -> None:
    def peak(jobs: int) -> int:
        store.enqueue(
            [
                NewJob(f"{jobs}-{n}", PROVIDER, {"text_prompt": "x" * 500}, batch=f"{jobs}")
                for n in range(jobs)
            ],
            NOW,
        )
        tracemalloc.start()
        write_report(store, PROVIDERS, NOW + 9, f"{jobs}", tmp_path / "report.html", Wanted(limit=jobs))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(600)  # what is read and compiled once
    assert peak(4_800) < 1.3 * peak(1_200)


# --- pictures ----------------------------------------------------------------------------------------------


def test_pictures_that_cannot_be_shown_do_not_break_the_page(
    store: Store, tmp_path: Path, reported: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thumbnails, "MOST_PIXELS", 1_000_000)
    broken, short, html = tmp_path / "broken.png", tmp_path / "short.png", tmp_path / "html.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    short.write_bytes(drawn(tmp_path / "whole.png").read_bytes()[:300])
    html.write_text("<svg onload=alert(1)>")
    huge = drawn(tmp_path / "huge.png", 1_001, 1_000)
    opened(store, "fox")
    delivered(
        store,
        "fox",
        drawn(tmp_path / "good.png"),
        broken,
        short,
        html,
        huge,
        tmp_path / "gone.png",
        "s3://b/a.png",
        None,
    )
    written, shown = reported()
    assert written.thumbnails == len(shown.pictures()) == 1
    told = shown.within("span")
    assert told.count("The file cannot be read as a picture.") == 3
    assert "Too large for a thumbnail: 1001 by 1000 pixels." in told
    assert "The file is not there any more." in told
    assert told.count("Kept elsewhere.") == 2
    assert [each["href"] for each in shown.all("a")][-1] == "https://pictures.example/1.png"


def test_a_decompression_bomb_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = drawn(tmp_path / "bomb.png", 400, 400)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    with thumbnails.thumbnails() as made:
        assert list(made.of([str(path)])) == ["Too large for a thumbnail."]


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1"])
def test_every_kind_of_picture_becomes_a_small_webp(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    Image.new(mode, (900, 300)).save(path)
    with thumbnails.thumbnails() as made:
        (small,) = made.of([str(path)])
    kept = tmp_path / "small.webp"
    kept.write_bytes(small)
    with Image.open(kept) as image:
        assert (image.format, max(image.size)) == ("WEBP", thumbnails.EDGE)


def test_without_pillow_pictures_are_links_and_the_cure_is_said(
    store: Store, tmp_path: Path, reported: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "PILLOW", False)
    opened(store, "fox")
    delivered(store, "fox", drawn(tmp_path / "fox.png"))
    written, shown = reported()
    assert "pip install 'orchestrator[report]'" in written.note
    assert [each["href"] for each in shown.all("a")] == ["./fox.png"]
    assert not shown.pictures()


def test_a_picture_elsewhere_on_this_machine_is_linked_absolutely(
    store: Store, tmp_path_factory: pytest.TempPathFactory, reported: Callable
) -> None:
    path = drawn(tmp_path_factory.mktemp("elsewhere") / "a #1.png")
    opened(store, "fox")
    delivered(store, "fox", path)
    assert [each["href"] for each in reported()[1].all("a")] == [path.as_uri()]
    assert "%231" in path.as_uri()


# --- what it is made of ------------------------------------------------------------------------------------


def test_a_bar_that_is_covered_in_part_counts_that_part() -> None:
    series = [0.0] * 4
    Timeline(0, 40, 4).cover(series, 5, 25)
    assert series == [0.5, 1.0, 0.5, 0.0]


def test_what_lies_outside_the_time_shown_is_left_out() -> None:
    series = [0.0] * 4
    for first, last in ((-50, -10), (50, 90), (10, 10)):
        Timeline(0, 40, 4).cover(series, first, last)
    assert series == [0.0] * 4
    assert [Timeline(0, 40, 4).place(moment) for moment in (-1, 0, 39.9, 40, 99)] == [0, 0, 3, 3, 3]
    assert len(Use().open) == BARS


def test_quantiles_are_right_within_five_percent() -> None:
    spread = Durations()
    for tenths in range(1, 10_001):
        spread.add(tenths / 10)
    for share in (0.5, 0.95, 0.99):
        assert spread.quantile(share) == pytest.approx(share * 1000, rel=0.05)
    assert spread.longest == 1000
    assert sum(spread.bars(edges([spread]))) == 10_000
    assert Durations().quantile(0.5) == 0


def test_charts_are_drawn_to_scale() -> None:
    assert 'y="50" width="0.85" height="50"' in bars([Series("bar", [1, 2])], 2.0, "a chart")
    assert 'd="M0,100L0,75H1L1,0H2V100Z"' in area([1, 4], 4.0, 0.0, "a chart")
    assert 'x="25" y="0" width="75"' in parts([("a", 1), ("b", 3)], 4, "a chart")
    assert "&lt;i&gt;" in bars([Series("bar", [1])], 1.0, "<i>", ["<i>"])


# --- the command -------------------------------------------------------------------------------------------


def test_the_command_says_where_the_page_is_and_how_large(orchestrator: Orchestrator, tmp_path: Path) -> None:
    parameters = [{"text_prompt": f"a report of {n}"} for n in range(3)]
    batch = orchestrator.enqueue_many(PROVIDER, parameters, batch="to-report")
    batch.wait(timeout=60)
    path = tmp_path / "page.html"
    done = CliRunner().invoke(main, ["report", batch.name, "-o", str(path), "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told == {
        "path": str(path), "bytes": path.stat().st_size, "jobs": 3, "shown": 3, "thumbnails": 3, "note": None
    }  # fmt: skip
    done = CliRunner().invoke(main, ["report", batch.name, "-o", str(path), "--limit", "1"])
    assert done.stdout.startswith(f"{path}: 3 jobs, 1 thumbnail, ")
    assert "the first 1 of 3 jobs" in done.stderr


@pytest.mark.parametrize(
    ("batch", "path", "words"),
    [
        ("nobody", "page.html", "no batch 'nobody'"),
        ("to-report", "none/page.html", "cannot be written: No such file"),
    ],
)
def test_mistakes_end_in_a_sentence(
    orchestrator: Orchestrator, tmp_path: Path, batch: str, path: str, words: str
) -> None:
    orchestrator.enqueue_many(PROVIDER, [{"text_prompt": "a report"}], batch="to-report", custom_ids=["once"])
    done = CliRunner().invoke(main, ["report", batch, "-o", str(tmp_path / path)])
    assert done.exit_code == 1
    assert words in done.stderr and "Traceback" not in done.output
