"""Us and the peers on the same work: each with everything fresh, in turns, the figures of every round."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from bench.batch import Ran, run_batch, slot_figures, warm
from bench.contestants import OURS, PEERS
from bench.peer_stack import peer_started
from bench.report import MEBIBYTE, Report
from bench.rows import gathered
from bench.stack import Place, Setup, started
from bench.usage import in_sum
from orchestrator.local.errors import LocalError

NAMES = (OURS, *PEERS)
SLOTS = (
    *("jobs_per_second", "utilisation", "utilisation_while_backlog", "posts_per_job", "cpu_ms_per_job"),
    *("pss_mib", "rss_mib", "lost", "paid_twice"),
)
THROUGHPUT = tuple(figure for figure in SLOTS if not figure.startswith("utilisation"))
Figures = Mapping[str, float | None]


@dataclass(frozen=True)
class Work:
    """What each of them is given: `jobs` that all succeed. `warm_up`: jobs before them, not measured."""

    setup: Setup
    jobs: int
    warm_up: int
    figures: Sequence[str]


def compare(
    work: Work, place: Place, rounds: int, names: Sequence[str], say: Callable[[str], None]
) -> Report:
    """One row for each name; a round that a peer could not end has no figures.

    Lost, paid twice and the usage in the report itself are ours. Raises: `LocalError` where we fail.
    """
    told: dict[str, list[Figures]] = {name: [] for name in names}
    ours: list[Ran] = []
    for turn in range(rounds):
        for name in list(names)[:: -1 if turn % 2 else 1]:
            say(f"round {turn + 1} of {rounds}: {name}")
            own = replace(place, folder=place.folder / f"{turn + 1}-{name}") if place.folder else place
            if name == OURS:
                ours.append(_our_run(work, own))
                found = figures_of(ours[-1], work)
            else:
                found = _their_figures(name, work, own, say)
            told[name].append(found)
    return Report(
        {"jobs": work.jobs, "rounds": rounds},
        work.jobs,
        ours[-1].usage if ours else {},
        lost=sum(lost(ran) for ran in ours),
        paid_twice=sum(ran.stats["duplicates_by_prompt"] for ran in ours),
        rows=[gathered(name, each) for name, each in told.items()],
    )


def figures_of(ran: Ran, work: Work) -> Figures:
    """What one contestant reached in one round."""
    whole = in_sum(ran.usage)
    found = {
        **slot_figures(ran, work.setup.all_slots),
        "cpu_ms_per_job": whole.cpu_seconds * 1000 / ran.jobs,
        "pss_mib": whole.pss_bytes / MEBIBYTE,
        "rss_mib": whole.rss_bytes / MEBIBYTE,
        "lost": lost(ran),
        "paid_twice": ran.stats["duplicates_by_prompt"],
    }
    return {figure: found[figure] for figure in work.figures}


def lost(ran: Ran) -> int:
    """Jobs without a picture: the simulator makes one for each."""
    return ran.jobs - ran.counts["succeeded"]


def _our_run(work: Work, place: Place) -> Ran:
    with started(work.setup, place) as running:
        warm(running, work.warm_up)
        return run_batch(running, work.jobs)


def _their_figures(name: str, work: Work, place: Place, say: Callable[[str], None]) -> Figures:
    try:
        with peer_started(PEERS[name], work.setup, place) as peer:
            peer.warm(work.warm_up)
            return figures_of(peer.run(work.jobs), work)
    except LocalError as error:
        say(f"{name}: {error}")
        return dict.fromkeys(work.figures)
