"""One answer for several processes: the sum of what each wrote into their folder, the dead ones included."""

from __future__ import annotations

import fcntl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

from orchestrator.metrics.place import is_alive

ENDED = "ended"  # in the place of a process id: the sum of those that ended
LOCK = "lock"


class Shared(MultiProcessCollector):
    """Reads the folder. What a process counted goes on counting after its end, in a file that all share."""

    def __init__(self, registry: CollectorRegistry, folder: Path) -> None:
        self._folder = folder
        super().__init__(registry, str(folder))  # type: ignore[no-untyped-call]

    def collect(self) -> Iterable[Metric]:
        with _locked(self._folder / LOCK):
            fold_ended(self._folder)
            found: Iterable[Metric] = super().collect()  # type: ignore[no-untyped-call]
            return list(found)


def fold_ended(folder: Path) -> None:
    """Add the files of processes that ended to one file of each kind, and delete them."""
    for file in sorted(folder.glob("*_*.db")):
        kind, _, process = file.stem.rpartition("_")
        if process == ENDED or is_alive(process):
            continue
        into = MmapedDict(str(folder / f"{kind}_{ENDED}.db"))  # type: ignore[no-untyped-call]
        for key, number, stamp, _ in MmapedDict.read_all_values_from_file(str(file)):  # type: ignore[no-untyped-call]
            before, _ = into.read_value(key)  # type: ignore[no-untyped-call]
            into.write_value(key, before + number, stamp)  # type: ignore[no-untyped-call]
        into.close()  # type: ignore[no-untyped-call]
        file.unlink()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time. Unlocked by name: a child forked meanwhile holds the same open file."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)
