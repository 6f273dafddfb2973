"""What a simulator is started with, and how long its generations take."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field

MEDIAN_SECONDS = 12.0
SIGMA = 0.35


@dataclass(frozen=True)
class Seconds:
    """How long one generation takes, before scaling: uniform from `low` to `high`, or log-normal."""

    low: float | None = None
    high: float | None = None

    @classmethod
    def parse(cls, text: str) -> Seconds:
        """`2.0` is fixed, `5-15` uniform, `lognormal` has a median of 12 s. Raises: ValueError."""
        if text == "lognormal":
            return cls()
        low, _, high = text.partition("-")
        parsed = cls(float(low), float(high or low))
        if not 0 <= float(low) <= float(high or low) < math.inf:
            raise ValueError(f"not a span of seconds: {text!r}")
        return parsed

    def draw(self, dice: random.Random) -> float:
        """Unscaled seconds; the same for dice of the same seed."""
        if self.low is None or self.high is None:
            return dice.lognormvariate(math.log(MEDIAN_SECONDS), SIGMA)
        return dice.uniform(self.low, self.high)


@dataclass(frozen=True)
class Options:
    """All that can be chosen at the start. `port` 0 takes any free one; `scale` 0.01 is 100 times faster."""

    port: int = 0
    host: str = "127.0.0.1"
    seed: int = 1
    scale: float = 1.0
    seconds: Seconds = Seconds()
    max_jobs: int = 5
    accounts: Mapping[str, int] = field(default_factory=dict)
    """Account e-mail to its `maxJobs`; others come into being when first named, with `max_jobs`."""
    progress: int = 2
    """How many progress callbacks are sent before the final one, at most."""
    freepik_secrets: Mapping[str, str] = field(default_factory=dict)
    """API key to the secret that signs its callbacks; those of other keys are not signed."""
    runway_overflow: str = "queue"
    """The official API beyond an account's limit: `queue` (THROTTLED, as it really does) or `refuse`."""
