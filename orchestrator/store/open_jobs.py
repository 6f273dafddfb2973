"""The jobs that are not over, as far as they are asked for: a million may wait."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.store.link import PREFIX, Link


class OpenJobs:
    """Reading alone. Thread-safe."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def due(self, most: int) -> list[str]:
        """Ids of those that something of ours looks at next: what is begun, collected, or begun later."""
        found: list[str] = self._link.call(
            lambda: self._link.client.zrange(f"{PREFIX}due", 0, max(0, most - 1))
        )
        return [name.removeprefix("job:") for name in found if name.startswith("job:")]

    def waiting(self, pools: Iterable[str], most: int) -> list[str]:
        """Ids of at most so many that wait in lanes, the first of each lane alike.

        `pools`: providers, and `<provider>/<account>` for what is pinned. Paused batches are among them.
        """
        lanes = self._lanes(pools)
        if not lanes:
            return []
        of_each = max(1, most // len(lanes))
        with self._link.client.pipeline(transaction=False) as pipeline:
            for lane in lanes[:most]:
                pipeline.zrange(f"{PREFIX}lane:{lane}", 0, of_each - 1)
            return [job for ids in self._link.call(pipeline.execute) for job in ids]

    def _lanes(self, pools: Iterable[str]) -> list[str]:
        paused = self._link.call(lambda: self._link.client.smembers(f"{PREFIX}paused"))
        batches = [each.removeprefix("batch:") for each in sorted(paused) if each.startswith("batch:")]
        with self._link.client.pipeline(transaction=False) as pipeline:
            for pool in pools:
                pipeline.zrange(f"{PREFIX}lanes:{pool}", 0, -1)
            for batch in batches:
                pipeline.smembers(f"{PREFIX}lanes-of:{batch}")
            found = self._link.call(pipeline.execute)
        return list(dict.fromkeys(lane for lanes in found for lane in lanes))
