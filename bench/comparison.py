"""Us and the peers on the same work: each with everything fresh, in turns, the figures of every round."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bench.batch import Ran, lost, run_batch, slot_figures, warm
from bench.contestants import OURS, PEERS
from bench.peer_stack import peer_started
from bench.report import MEBIBYTE, Report
from bench.rows import gathered
from bench.stack import Place, Setup, started
from bench.usage import in_sum

NAMES = (OURS, *PEERS)
Say = Callable[[str], None]


def compare(
    setup: Setup, place: Place, jobs: int, warm_up: int, rounds: int, names: Sequence[str], say: Say,
    figures: Sequence[str] = (),
) -> Report:  # fmt: skip
    """One row for each name; `figures` are those of `figures_of` that are wanted, by default all.

    What is lost and paid twice in the report as a whole is ours. Raises: `LocalError` and its kinds.
    """
    told: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    last: dict[str, Ran] = {}
    for turn in range(rounds):
        for name in list(names)[:: -1 if turn % 2 else 1]:
            say(f"round {turn + 1} of {rounds}: {name}")
            own = replace(place, folder=place.folder / f"{turn + 1}-{name}") if place.folder else place
            last[name] = ran = _ran(name, setup, own, jobs, warm_up)
            found = figures_of(ran, setup.all_slots)
            told[name].append({figure: found[figure] for figure in figures or found})
    ours = told.get(OURS, ())
    return Report(
        {"jobs": jobs, "rounds": rounds},
        jobs,
        last[OURS].usage if OURS in last else {},
        lost=sum(each["lost"] for each in ours),
        paid_twice=sum(each["paid_twice"] for each in ours),
        rows=[gathered(name, each) for name, each in told.items()],
    )


def figures_of(ran: Ran, slots: int) -> Mapping[str, float | None]:
    """What one contestant reached in one round."""
    told, whole = slot_figures(ran, slots), in_sum(ran.usage)
    return {
        "jobs_per_second": told["jobs_per_second"],
        "utilisation": told["utilisation"],
        "utilisation_while_backlog": told["utilisation_while_backlog"],
        "posts_per_job": told["posts_per_job"],
        "cpu_ms_per_job": whole.cpu_seconds * 1000 / ran.jobs,
        "rss_mib": whole.rss_bytes / MEBIBYTE,
        "lost": lost(ran.jobs, ran.counts),
        "paid_twice": ran.stats["duplicates_by_prompt"],
    }


def _ran(name: str, setup: Setup, place: Place, jobs: int, warm_up: int) -> Ran:
    if name == OURS:
        with started(setup, place) as running:
            warm(running, warm_up)
            return run_batch(running, jobs)
    with peer_started(PEERS[name], setup, place) as peer:
        peer.warm(warm_up)
        return peer.run(jobs)
