"""Every slot busy without callbacks: all that is known is known by asking."""

from __future__ import annotations

from datetime import datetime
from urllib.parse import quote

import click
import requests

from bench.batch import lost, run_batch, slot_figures, warm
from bench.report import Report
from bench.stack import Place, Running, Setup, started
from bench.workload import jobs_option, seconds_option, warm_up_option, workload
from orchestrator.simulator.tally import percentile_ms


@workload
@jobs_option(2_000)
@seconds_option("5-15")
@warm_up_option(400)
@click.option("--accounts", type=click.IntRange(1), default=20, show_default=True, help="Of 10 slots each.")
def polling(place: Place, jobs: int, seconds: str, warm_up: int, accounts: int) -> Report:
    """Many slots, no public URL: how often is asked, and how late is an end known?"""
    setup = Setup(accounts, 10, seconds, callbacks=False, numbers={"min_poll_seconds": 0.5})
    with started(setup, place) as running:
        warm(running, warm_up)
        ran = run_batch(running, jobs)
        lags = _lags(running)
    figures = {
        **slot_figures(ran, setup.all_slots),
        "polls": ran.stats["polls"],
        "polls_per_job": ran.stats["polls"] / jobs,
        "lag_p50_ms": percentile_ms(lags, 0.5),
        "lag_p95_ms": percentile_ms(lags, 0.95),
    }
    return Report(figures, jobs, ran.usage, lost(jobs, ran.counts), ran.stats["duplicates_by_prompt"])


def _lags(running: Running) -> list[float]:
    """Seconds from each generation's end, as the simulator tells it, to when we settled it; ascending."""
    store = running.client.flow.store
    root = f"{running.stack.simulator_url}/v1/runwayml/tasks"
    found: list[float] = []
    with requests.Session() as session:
        session.headers["Authorization"] = "Bearer bench"
        for job in (each for ids in store.batches.ids("bench") for each in store.jobs(ids)):
            for row in store.attempts(job):
                if row.get("verdict") == "succeeded":
                    task = session.get(f"{root}/{quote(row['upstream_id'])}", timeout=30).json()
                    over = datetime.fromisoformat(task["updatedAt"]).timestamp()
                    found.append(float(row["closed"]) - over)
    return sorted(found)
