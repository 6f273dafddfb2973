"""Utilisation over any window, from what the simulator says four times a second."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import requests

EVERY_SECONDS = 0.25


@dataclass(frozen=True)
class Sample:
    """The simulator at one moment (unix seconds).

    `ours` and `foreign`: seconds that slots were held from the start until then, by what has ended and by
    what runs. So the difference of two samples is exact, however the ends of generations fall between them.
    """

    now: float
    accepted: int
    ours: float
    foreign: float


class Sampler:
    """Samples on a thread of its own, while it is open as a context manager."""

    def __init__(self, stats_url: str) -> None:
        self._url = stats_url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="sampler")
        self.samples: list[Sample] = []
        self.cpu_seconds = 0.0  # what the sampling has cost this process

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with requests.Session() as session:
            over = False
            while not over:  # the first sample comes at once, the last one after the end
                over = self._stop.wait(EVERY_SECONDS if self.samples else 0)
                try:
                    self.samples.append(read_sample(session.get(self._url, timeout=5).json()))
                except requests.RequestException:
                    pass  # a busy simulator: the next one tells all that this one would have
                self.cpu_seconds = time.thread_time()


def read_sample(stats: dict[str, Any]) -> Sample:
    """What `/__stats__` answers."""
    held = stats["total"]["held_seconds"]
    return Sample(stats["now"], stats["total"]["accepted"], held["ours"], held["foreign"])


def utilisation(
    samples: Sequence[Sample], slots: int, first: float, last: float, *, foreign: bool = False
) -> float | None:
    """Share of the slots that was held from our first submit to a later moment, by us or by all.

    None of an empty window.
    """
    if last <= first or not samples:
        return None
    held = _at(samples, last, lambda sample: sample.ours)  # before the first submit nothing was
    if foreign:
        held += _at(samples, last, _foreign) - _at(samples, first, _foreign)
    return held / (slots * (last - first))


def backlog_until(samples: Sequence[Sample], jobs: int) -> float | None:
    """The last moment at which a job was seen to wait for its submit; None where none was seen to."""
    return max((sample.now for sample in samples if 0 < sample.accepted < jobs), default=None)


def _foreign(sample: Sample) -> float:
    return sample.foreign


def _at(samples: Sequence[Sample], moment: float, value: Callable[[Sample], float]) -> float:
    """The value at a moment, on the straight line between the samples around it."""
    after = bisect_left(samples, moment, key=lambda sample: sample.now)
    left, right = samples[max(0, after - 1)], samples[min(after, len(samples) - 1)]
    if left.now == right.now:
        return value(left)
    share = (moment - left.now) / (right.now - left.now)
    return value(left) + (value(right) - value(left)) * share
