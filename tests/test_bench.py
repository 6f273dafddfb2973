"""The benchmarks run, and their figures are right; how fast it was is judged nowhere."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
from pathlib import Path
from xml.etree.ElementTree import fromstring

import pytest

from bench.picture import Panel, picture
from bench.rows import Row, Spread, spread
from bench.sampler import Sample, backlog_until, utilisation
from bench.suite import Floor, Part, beside_celery
from bench.tables import Found, page
from bench.usage import HAS_PROC, read_ps, read_rollup, read_stat, usage_of
from bench.usage import Row as Process
from bench.workloads.fairness import freed_until_started
from bench.workloads.receiver import WARM_UP
from tests.stack_kit import REPOSITORY

BENCH = (sys.executable, "-m", "bench")
MACHINE = {
    "processor": "P", "cpus": 2, "memory_bytes": 2**30, "platform": "L", "python": "3", "server": "V",
    "load_average": 0.0, "day": "2026-11-21",
}  # fmt: skip


def test_a_workload_accounts_for_every_job(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    command = [
        sys.executable,
        "-m",
        "bench",
        "slots",
        "--jobs",
        "40",
        "--seconds",
        "0.2",
        "--json",
        str(file),
    ]
    run = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    found = json.loads(file.read_text(encoding="utf-8"))
    figures = found["figures"]
    assert (figures["jobs"], figures["succeeded"], figures["posts"]) == (40, 40, 40)
    assert (found["lost"], found["paid_twice"], figures["refused_429"]) == (0, 0, 0)
    assert max(figures["max_in_flight"].values()) <= 10
    assert 0 < figures["utilisation"] <= 1
    assert set(found["processes"]) == {"worker", "receiver", "ticker", "valkey", "simulator", "client"}
    assert all(0 < each["pss_bytes"] <= each["rss_bytes"] for each in found["processes"].values())
    assert found["cpu_ms_per_job"] > 0
    assert "jobs per second" in run.stdout


def test_all_of_it_is_told_as_a_table_as_json_and_as_a_picture(tmp_path: Path) -> None:
    options = ["all", "--quick", "--rounds", "1", "--only", "enqueue", "--out", str(tmp_path)]
    done = subprocess.run([*BENCH, *options], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "results.json").read_text())
    (part,) = found["parts"]
    ours, celery = part["rows"]
    assert (ours["name"], celery["name"]) == ("orchestrator", "celery")
    rates = [row["figures"]["jobs_per_second"][0] for row in (ours, celery)]
    assert ours["figures"]["times_celery"] == pytest.approx([rates[0] / rates[1]])
    assert found["machine"]["processor"] and found["machine"]["server"] != "unknown"
    assert (tmp_path / "table.md").read_text().strip() == done.stdout.strip()
    assert fromstring((tmp_path / "picture.svg").read_text()).tag.endswith("svg")


def test_callbacks_are_measured_by_attempts_that_they_settle(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    options = ["receiver", "--callbacks", "100", "--rounds", "1", "--rate", "100", "--rate-seconds", "1"]
    done = subprocess.run(
        [*BENCH, *options, "--json", str(file)], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text())
    assert found["figures"]["settled"] == WARM_UP + 200
    assert [row["name"] for row in found["rows"]] == ["bare", "progress", "final"]
    assert all(row["figures"]["p99_ms_at_rate"][0] > 0 for row in found["rows"])


def test_what_is_compared_is_compared_round_by_round() -> None:
    def row(name: str, rates: list[float], costs: list[float]) -> Row:
        return Row(name, {"jobs_per_second": rates, "cpu_ms_per_job": costs})

    rows = [
        row("orchestrator", [90, 40], [2, 4]),
        row("celery-a", [30, 10], [8, 8]),
        row("celery-b", [10, 20], [4, 16]),
    ]
    (ours, *_) = beside_celery(rows)
    assert ours.figures["times_best_celery"] == [3, 2]
    assert ours.figures["cpu_of_best_celery"] == [0.5, 0.5]
    assert spread([3.0, None, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)
    assert spread([None]) is None


def test_a_floor_is_held_against_the_middle_of_all_rounds() -> None:
    part = Part("{jobs} jobs", ("enqueue",), (), ("rate",), (Floor("rate", least=2), Floor("cost", most=1)))
    found = [Found(part, "7 jobs", [Row("orchestrator", {"rate": [1.0, 3.0, 2.0], "cost": [1.5]})], 3)]
    told = page(MACHINE, found)
    assert "| 7 jobs | rate | ≥ 2 | 2 (1 to 3) | yes |" in told
    assert "| 7 jobs | cost | ≤ 1 | 1.5 | no |" in told
    assert "floor" not in page(MACHINE, found, quick=True)


def test_the_picture_has_a_bar_for_each_row_and_escapes_what_it_is_told() -> None:
    rows = [Row("a<b", {"rate": [1.0, 2.0]}), Row("other", {"rate": [4.0]}), Row("without", {"rate": [None]})]
    drawn = fromstring(picture([Panel("title & all", "rate", rows, ["a<b"], 3.0)], "caption"))
    kinds = [each.get("class") for each in drawn.iter()]
    assert (kinds.count("ours"), kinds.count("other"), kinds.count("range"), kinds.count("floor")) == (
        1,
        1,
        1,
        1,
    )
    assert {"a<b", "title & all", "caption"} <= {each.text for each in drawn.iter()}


def test_files_are_accounted_for_though_the_command_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", "bench", "files", "--jobs", "60", "--seconds", "0.2", "--kills", "1"]
    done = subprocess.run(
        [*command, "--json", str(file)], cwd=REPOSITORY, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text())
    figures = found["figures"]
    assert (figures["outcomes"], figures["succeeded"], figures["posts"]) == (60, 60, 60)
    assert (figures["outcomes_told_twice"], found["lost"], found["paid_twice"]) == (0, 0, 0)
    assert figures["peak_mib"] > 0


def test_utilisation_is_what_was_held_of_a_window_from_the_first_submit() -> None:
    samples = [Sample(100.0, 0, 0, 2), Sample(101.0, 4, 3, 4), Sample(102.0, 9, 7, 5), Sample(103.0, 9, 9, 5)]
    assert backlog_until(samples, 9) == 101.0
    assert utilisation(samples, 4, 100.0, 102.0) == pytest.approx(7 / 8)
    assert utilisation(samples, 4, 100.5, 102.5) == pytest.approx(8 / 8)
    assert utilisation(samples, 4, 100.5, 102.5, foreign=True) == pytest.approx((8 + 2) / 8)
    assert utilisation(samples, 4, 100.0, 100.0) is None
    assert backlog_until(samples[:1], 9) is None


def test_slots_are_counted_until_the_small_batch_has_all_it_needs() -> None:
    assert freed_until_started(10.0, [10.5, 12.0], [9.0, 10.0, 11.0, 11.5, 12.5]) == 5


def test_usage_is_read_from_proc_and_from_ps() -> None:
    fields = "S 1 77 77 0 -1 0 0 0 0 0 300 100 40 10 20 0 1 0 5 1000 25"
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    assert read_stat(7, f"7 (a (name) of it) {fields}") == Process(7, 77, 450 / ticks, 25 * page)
    assert (
        read_rollup("55d0-7ffc ---p 0 00:00 0 [rollup]\nRss:  90 kB\nPss:  40 kB\nPss_Dirty: 9 kB\n")
        == 40_960
    )
    assert read_ps("  7  77 100 1:02.50") == Process(7, 77, 62.5, 102_400)
    assert read_ps("7 77 0 2-03:04:05") == Process(7, 77, 2 * 86_400 + 3 * 3_600 + 4 * 60 + 5, 0)


def test_usage_counts_a_whole_process_group_and_this_process() -> None:
    usages = usage_of({"group": os.getpgrp()}, aside=0.0)
    assert usages["group"].rss_bytes >= usages["client"].rss_bytes > 0
    assert usages["client"].cpu_seconds > 0


TOUCHES = """
import mmap, sys
with open(sys.argv[1], "r+b") as file, mmap.mmap(file.fileno(), 0) as pages:
    assert not any(pages[::4096])
    print("touched", flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(not HAS_PROC, reason="nobody tells it here")
def test_a_page_that_processes_share_is_counted_once(tmp_path: Path) -> None:
    path, size = tmp_path / "pages", 32 * 2**20
    path.write_bytes(bytes(size))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as pages:
        assert not any(pages[::4096])
        alone = usage_of({}, aside=0.0)["client"]
        command = [sys.executable, "-c", TOUCHES, str(path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            assert other.stdout and other.stdout.readline() == b"touched\n"
            shared = usage_of({}, aside=0.0)["client"]
    assert alone.pss_bytes - shared.pss_bytes > 0.4 * size
    assert abs(alone.rss_bytes - shared.rss_bytes) < 0.4 * size
