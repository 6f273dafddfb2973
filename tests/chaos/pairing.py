"""Which of our attempts each generation at the providers belongs to. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.chaos.evidence import Evidence, Generation, Record, Try

CLOCK_SECONDS = 0.005  # between the reading of a clock and what it is noted for


def pair(evidence: Evidence) -> dict[str, Try]:
    """Generation id → attempt. By the callback URL, else by the upstream id, else by who was open then.

    A generation that belongs to none of our attempts is left out.
    """
    found: dict[str, Try] = {}
    by_job: dict[int, list[Generation]] = {}
    for generation in evidence.generations:
        by_job.setdefault(generation.number, []).append(generation)
    for number, generations in by_job.items():
        record = evidence.records.get(number)
        if record:
            found |= _pair_job(record, sorted(generations, key=lambda each: each.created_at))
    return found


def _pair_job(record: Record, generations: Sequence[Generation]) -> Mapping[str, Try]:
    tries = {each.id: each for each in record.tries}
    found: dict[str, Try] = {}
    for generation in generations:
        if generation.attempt:
            if generation.attempt in tries:
                found[generation.id] = tries[generation.attempt]
            continue
        named = [each for each in record.tries if each.upstream_id and generation.id in each.upstream_id]
        open_then = [
            each
            for each in record.tries
            if (each.provider, each.account) == (generation.provider, generation.account)
            and 0 < each.opened_at <= generation.created_at + CLOCK_SECONDS
        ]
        if named or open_then:
            found[generation.id] = (named or open_then)[-1]
    return found
