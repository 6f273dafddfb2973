"""What `python -m bench all` runs, what it tells of each, and the floors that this is held against."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bench.contestants import OURS
from bench.rows import Row, ratios

CELERY = "celery-"  # so begins the name of each peer that is built on it


@dataclass(frozen=True)
class Floor:
    """What a figure of ours is meant to reach: `least` or `most`, whichever is given."""

    figure: str
    least: float | None = None
    most: float | None = None
    row: str = OURS

    def is_reached(self, value: float) -> bool:
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)


@dataclass(frozen=True)
class Part:
    """One workload. `title`: with places for its settings. `command`: after `python -m bench`; `quick`: its
    options for a short look instead.

    `figures`: those of the table. `in_rounds`: it has rounds of its own; else it is run once a round.
    `once`: it is too long for more than one round. `bars`: those of the picture.
    """

    title: str
    command: tuple[str, ...]
    quick: tuple[str, ...]
    figures: tuple[str, ...]
    floors: tuple[Floor, ...] = ()
    bars: tuple[str, ...] = ()
    in_rounds: bool = False
    once: bool = False
    peers: bool = False

    @property
    def name(self) -> str:
        return "-".join(word.removeprefix("--") for word in self.command)


COSTS = ("cpu_ms_per_job", "pss_mib", "rss_mib", "lost", "paid_twice")
SLOTS = ("utilisation", "utilisation_while_backlog", "posts_per_job")
LOOKS = tuple(f"{name}_command_ms" for name in ("status", "status_job", "accounts", "explain"))
WAITING = (
    *("waiting", "done", "redis_bytes_per_waiting_job", "cores_busy_while_they_wait"),
    *("worker_mib_before", "worker_mib_waiting", "worker_mib_done", "worker_mib_grown_while_they_wait"),
)
WAITS_WELL = (Floor("lost", most=0), Floor("worker_mib_grown_while_they_wait", most=1))
PARTS = (
    Part(
        "{jobs:,} jobs on 20 slots, {seconds} s each, two progress callbacks, pictures kept",
        ("slots",),
        ("--jobs", "100", "--seconds", "0.5"),
        (*SLOTS, "refill_p50_ms", "refill_p95_ms", *COSTS),
        (
            Floor("utilisation", least=0.985),
            Floor("utilisation_while_backlog", least=0.995),
            Floor("posts_per_job", most=1.01),
            Floor("cpu_ms_per_job", most=4),
            Floor("pss_mib", most=238),  # 250 MB
            Floor("refill_p95_ms", most=50),
        ),
    ),
    Part(
        "{jobs:,} jobs on 20 slots, {seconds} s each, no pictures",
        ("compare-slots",),
        ("--jobs", "100", "--seconds", "0.5"),
        ("jobs_per_second", *SLOTS, *COSTS),
        bars=("utilisation", "cpu_ms_per_job"),
        in_rounds=True,
        peers=True,
    ),
    Part(
        "{jobs:,} jobs without a cap, {seconds} s each, pictures kept",
        ("throughput",),
        ("--jobs", "300"),
        ("jobs_per_second", "posts_per_job", *COSTS),
    ),
    Part(
        "{jobs:,} jobs without a cap, {seconds} s each, no pictures",
        ("compare-throughput",),
        ("--jobs", "300"),
        ("jobs_per_second", "times_best_celery", "cpu_ms_per_job", "cpu_of_best_celery", *COSTS[1:]),
        (Floor("times_best_celery", least=2), Floor("cpu_of_best_celery", most=0.5)),
        bars=("jobs_per_second", "cpu_ms_per_job"),
        in_rounds=True,
        peers=True,
    ),
    Part(
        "{jobs:,} jobs on 200 slots, {seconds} s each, polls alone",
        ("polling",),
        ("--jobs", "100", "--warm-up", "20", "--scale", "0.1"),
        ("utilisation_while_backlog", "polls_per_job", "lag_p50_ms", "lag_p95_ms", *COSTS),
        (Floor("utilisation_while_backlog", least=0.95), Floor("polls_per_job", most=5.6)),
    ),
    Part(
        "{jobs:,} jobs wait for a slot, then end",
        ("waiting",),
        ("--jobs", "500"),
        (*WAITING, *COSTS),
        (Floor("redis_bytes_per_waiting_job", most=1024), *WAITS_WELL),
        once=True,
    ),
    Part(
        "{jobs:,} jobs wait at the provider, then end",
        ("waiting", "--in-flight"),
        ("--jobs", "300"),
        (*WAITING, *COSTS),
        WAITS_WELL,
        once=True,
    ),
    Part(
        "{jobs:,} jobs enqueued, prompts of 200 characters",
        ("enqueue",),
        ("--jobs", "2000"),
        ("jobs_per_second", "times_celery", "cpu_ms_per_job", "peak_mib"),
        (Floor("jobs_per_second", least=15_000), Floor("times_celery", least=5)),
        bars=("jobs_per_second",),
        in_rounds=True,
    ),
    Part(
        "{callbacks:,} callbacks of a kind, then {rate} a second",
        ("receiver",),
        ("--callbacks", "1000", "--rate-seconds", "2"),
        (
            "callbacks_per_second",
            "share_of_bare",
            "p99_ms",
            "p99_ms_at_rate",
            "door_cpu_us",
            "cpu_times_bare",
            "load_busy_share",
        ),
        (
            Floor("share_of_bare", least=0.6, row="progress"),
            Floor("share_of_bare", least=0.6, row="final"),
            Floor("p99_ms_at_rate", most=50, row="progress"),
            Floor("p99_ms_at_rate", most=50, row="final"),
        ),
        bars=("callbacks_per_second", "p99_ms_at_rate"),
        in_rounds=True,
    ),
    Part(
        "{jobs:,} queued jobs",
        ("million",),
        ("--jobs", "20000"),
        ("enqueued_per_second", "redis_bytes_per_job", "step_settle_us", "step_fill_us", "status_ms", *LOOKS),
        bars=("step_settle_us", "status_command_ms"),
        once=True,
    ),
)


def beside_celery(rows: Sequence[Row]) -> list[Row]:
    """Ours with two figures more: how it compares, round by round, with the best peer built on Celery."""
    peers = [row for row in rows if row.name.startswith(CELERY)]
    if not peers:
        return list(rows)
    fastest, cheapest = _best(max, peers, "jobs_per_second"), _best(min, peers, "cpu_ms_per_job")
    return [
        Row(
            row.name,
            {
                **row.figures,
                "times_best_celery": ratios(row.figures["jobs_per_second"], fastest),
                "cpu_of_best_celery": ratios(row.figures["cpu_ms_per_job"], cheapest),
            },
        )
        if row.name == OURS
        else row
        for row in rows
    ]


def _best(choose: Callable[[Iterable[float]], float], rows: Sequence[Row], figure: str) -> list[float | None]:
    """Of all rows, in each round."""
    rounds = zip(*(row.figures[figure] for row in rows), strict=True)
    return [
        choose(told) if (told := [each for each in some if each is not None]) else None for some in rounds
    ]
