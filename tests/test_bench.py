"""The benchmarks run, and their figures are right; how fast it was is judged nowhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.sampler import Sample, backlog_until, utilisation
from bench.usage import Row, read_ps, read_stat, usage_of
from bench.workloads.fairness import freed_until_started
from tests.stack_kit import REPOSITORY


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
    assert all(process["rss_bytes"] > 0 for process in found["processes"].values())
    assert found["cpu_ms_per_job"] > 0
    assert "jobs per second" in run.stdout


def test_enqueueing_is_measured_beside_a_loop_of_celery(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", "bench", "enqueue", "--jobs", "50", "--rounds", "1", "--json", str(file)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text())
    assert found["lost"] == 0
    figures = found["figures"]
    ratio = figures["product_jobs_per_second"] / figures["celery_jobs_per_second"]
    assert figures["times_as_fast_as_celery"] == pytest.approx(ratio)


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
    assert read_stat(7, f"7 (a (name) of it) {fields}") == Row(7, 77, 450 / ticks, 25 * page)
    assert read_ps("  7  77 100 1:02.50") == Row(7, 77, 62.5, 102_400)
    assert read_ps("7 77 0 2-03:04:05") == Row(7, 77, 2 * 86_400 + 3 * 3_600 + 4 * 60 + 5, 0)


def test_usage_counts_a_whole_process_group_and_this_process() -> None:
    usages = usage_of({"group": os.getpgrp()}, aside=0.0)
    assert usages["group"].rss_bytes >= usages["client"].rss_bytes > 0
    assert usages["client"].cpu_seconds > 0
