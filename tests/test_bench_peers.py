"""The peers that we are compared with do the same work; what is told of them is what was measured."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import click
import pytest
from rich.console import Console

from bench.batch import Ran
from bench.comparison import NAMES, SLOTS, THROUGHPUT, Work, compare, figures_of
from bench.contestants import OURS, PEERS, PYTHON
from bench.peers.apis import Frames, Generic
from bench.rows import Row, table
from bench.stack import Place, Setup
from bench.usage import Usage
from bench.workloads.compare import contestants
from tests.stack_kit import REPOSITORY

LOCKED = REPOSITORY / "bench/peers/requirements.txt"
SETUP = Setup(2, 5, "0.1", 0, pictures=False)
needs_peers = pytest.mark.skipif(not PYTHON.exists(), reason="the peers are not installed: make bench does")


@needs_peers
def test_a_peer_does_the_work_and_is_measured() -> None:
    report = compare(Work(SETUP, 20, 5, SLOTS), Place(), 1, ["asyncio"], [].append)
    (row,) = report.rows
    told = {figure: values[0] for figure, values in row.figures.items()}
    assert (told["posts_per_job"], told["lost"], told["paid_twice"]) == (1, 0, 0)
    assert min(told["jobs_per_second"], told["cpu_ms_per_job"], told["rss_mib"]) > 0
    assert 0 < told["utilisation"] <= 1


def test_the_figures_of_a_round_leave_the_simulator_out() -> None:
    stats = {
        "first_submit_at": 10.0, "last_end_at": 20.0, "busy_seconds": 30.0,
        "posts": 60, "refused": {"429A": 40}, "max_concurrent": {"a": 4}, "refills": 1,
        "refill_p50_ms": 1.0, "refill_p95_ms": 1.0, "duplicates_by_prompt": 2,
    }  # fmt: skip
    usage = {
        "worker": Usage(0.03, 2**20, 2**19), "client": Usage(0.01, 2**20, 2**20),
        "simulator": Usage(9.0, 2**30, 2**30),
    }  # fmt: skip
    ran = Ran(20, 10.0, {"succeeded": 17, "failed": 1, "cancelled": 0}, stats, (), usage)
    told = figures_of(ran, Work(SETUP, 20, 0, SLOTS))
    assert told["jobs_per_second"] == 2
    assert told["utilisation"] == pytest.approx(30 / (10 * 10))
    assert told["utilisation_while_backlog"] is None
    assert (told["posts_per_job"], told["lost"], told["paid_twice"]) == (3, 3, 2)
    assert told["cpu_ms_per_job"] == pytest.approx(2)
    assert (told["pss_mib"], told["rss_mib"]) == (1.5, 2)
    assert set(figures_of(ran, Work(SETUP, 20, 0, THROUGHPUT))) < set(told)


def test_many_rows_stand_below_each_other_with_the_median_and_the_outermost() -> None:
    rows = [Row(f"contestant-number-{number}", {"posts_per_job": [3.0, 1.0, 2.0]}) for number in range(4)]
    out = io.StringIO()
    Console(file=out, width=80).print(table(rows))
    lines = out.getvalue().splitlines()
    assert "POSTs per job" in lines[0]
    told = [[part.strip() for part in line.split(None, 1)] for line in lines[1:]]
    assert told == [[row.name, "2 (1 to 3)"] for row in rows]


def test_accounts_take_turns_and_a_further_try_goes_to_the_next() -> None:
    frames = Frames("http://simulator", "token", ["a", "b"], 10)
    tried = Counter(frames.order(number)["email"] for number in range(10))
    assert tried == {"a": 5, "b": 5}
    assert frames.order(1, 1)["email"] == "a"
    assert "replyUrl" not in frames.order(1)
    assert frames.order(1, 0, "http://us", "7")["replyRef"] == "7"


def test_a_success_without_a_picture_is_a_failure_to_every_peer() -> None:
    frames, generic = Frames("", "", ["a"], 1), Generic("", "")
    assert frames.outcome({"status": "RUNNING", "artifacts": []}) is None
    assert frames.outcome({"status": "SUCCEEDED", "artifacts": []}) == {"state": "failed", "url": None}
    assert generic.outcome({"job": {"state": "waiting", "images": []}}) is None
    done = {"job": {"state": "done", "images": [{"url": "u"}]}}
    assert generic.outcome(done) == {"state": "succeeded", "url": "u"}


def test_a_peer_has_as_many_jobs_at_once_as_suits_it() -> None:
    assert PEERS["celery-poll"].concurrency(20) == 40
    assert PEERS["celery-callbacks"].concurrency(20) == 20
    assert PEERS["huey"].concurrency(10_000) == 200
    assert NAMES[0] == OURS
    assert all((REPOSITORY / f"{peer.module.replace('.', '/')}.py").exists() for peer in PEERS.values())


def test_what_the_peers_need_is_locked_and_names_no_registry() -> None:
    wanted = {line.split("[")[0] for line in LOCKED.with_suffix(".in").read_text().split()}
    locked = LOCKED.read_text()
    assert all(f"\n{name}" in locked for name in wanted)
    assert locked.count("--hash=sha256:") > len(wanted)
    assert "http:" not in locked and "https:" not in locked and "file:" not in locked


def test_no_peer_is_compared_where_none_is_installed(tmp_path: Path) -> None:
    assert contestants([OURS], tmp_path / "python") == [OURS]
    with pytest.raises(click.ClickException, match="not installed"):
        contestants(["huey"], tmp_path / "python")
