"""How a batch stands, while it goes on: a live picture on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from orchestrator.errors import OrchestratorError
from orchestrator.models import State
from orchestrator.standing import Standing, standing
from orchestrator.views.printing import amount, counted, span

if TYPE_CHECKING:
    from orchestrator.insight import Insight

LOOK_SECONDS = 1.0
LINE_SECONDS = 10.0  # between lines where there is no terminal
RATE_SECONDS = 30.0  # over which the rate is measured
REFRESHES_PER_SECOND = 4
IN_TENTHS = 1_000  # jobs, from which on a tenth of a percent is some of them
COLOURS = {
    State.SUCCEEDED: "green", State.FAILED: "red", State.CANCELLED: "magenta",
    State.SUBMITTED: "cyan", State.COLLECTING: "cyan", State.QUEUED: "",
}  # fmt: skip


class Rate:
    """Jobs that end in a second, measured over the latest looks."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def of(self, now: Standing) -> float | None:
        """None: it is not known yet."""
        self._seen.append((now.at, now.ended))
        while now.at - self._seen[0][0] > RATE_SECONDS:
            self._seen.popleft()
        (first_at, first), (at, ended) = self._seen[0], self._seen[-1]
        return max(0, ended - first) / (at - first_at) if at > first_at else None


class Progress:
    """Looks at a batch about once a second, and shows it. Trouble in looking is no trouble of the batch."""

    def __init__(self, insight: Insight, console: Console, every: float | None = None) -> None:
        """`every`: seconds between looks; None: by whether the console is a terminal."""
        self._insight, self._console = insight, console
        self._batch, self._total, self._rate = "", 0, Rate()
        self._every = every or (LOOK_SECONDS if console.is_terminal else LINE_SECONDS)
        self._next_at = time.monotonic() + self._every
        self._shown = ""  # line
        self._live = Live(console=console, refresh_per_second=REFRESHES_PER_SECOND)
        if console.is_terminal:
            self._live.start()

    def checking(self, records: int) -> None:
        if self._is_time():
            self._show(f"checking: {counted(records, 'record')}")

    def running(self, batch: str, total: int) -> None:
        """`total`: how many jobs it will have, where it is still being filled."""
        self._batch, self._total, self._next_at = batch, total, 0.0

    def look(self) -> None:
        if self._is_time():
            self._look()

    def until_over(self) -> Standing:
        """Look until the batch is over, and give how it stands then. Raises: NotFound."""
        while not (now := standing(self._insight, self._batch)).is_over:
            self.look()
            time.sleep(LOOK_SECONDS)
        return now

    def say(self, text: str) -> None:
        self._console.print(text, soft_wrap=True)

    def close(self) -> None:
        """Safe to call twice. What is shown last is how it stands."""
        if self._batch:
            self._look()
            self._batch = ""
        self._live.stop()

    def _is_time(self) -> bool:
        now = time.monotonic()
        if now < self._next_at:
            return False
        self._next_at = now + self._every
        return True

    def _look(self) -> None:
        try:
            now = standing(self._insight, self._batch, self._total)
        except OrchestratorError:
            return
        rate = self._rate.of(now)
        self._show(line(now, rate), picture(now, rate) if self._live.is_started else None)

    def _show(self, line: str, picture: Group | None = None) -> None:
        if self._live.is_started:
            self._live.update(picture or Text(line))
        elif line != self._shown:
            self._console.print(line, soft_wrap=True)
        self._shown = line


def picture(now: Standing, rate: float | None) -> Group:
    """For a terminal."""
    head = Table.grid(padding=(0, 1), expand=True)
    head.add_column(no_wrap=True, max_width=30)
    head.add_column(ratio=1)
    head.add_column(no_wrap=True, justify="right")
    bar = ProgressBar(total=max(1, now.total), completed=now.ended, complete_style="green")
    head.add_row(Text(now.batch, "bold"), bar, f"{now.ended:,}/{now.total:,}  {_percent(now)}")
    states = Text("  ").join(
        Text(f"{now.counts[state.value]:,} {state.value}", COLOURS[state])
        for state in COLOURS
        if now.counts.get(state.value)
    )
    notes = [Text(note, "yellow") for note in now.notes]
    return Group(head, states, Text("  ".join(_figures(now, rate))), *notes)


def line(now: Standing, rate: float | None) -> str:
    """For a log."""
    states = [f"{now.counts[state.value]} {state.value}" for state in COLOURS if now.counts.get(state.value)]
    told = [f"{now.ended} of {now.total} ended ({_percent(now)})", *states, *_figures(now, rate), *now.notes]
    return f"{now.batch}: {', '.join(told)}"


def _figures(now: Standing, rate: float | None) -> list[str]:
    cap = f" of {amount(now.max_spend)}" if now.max_spend else ""
    cost = f"cost {amount(now.cost)}{cap}"
    if now.is_over:
        return [cost]
    left = (
        f"ends in about {span(now.ends_at - now.at)}"
        if now.ends_at is not None
        else "no telling when it ends"
    )
    speed = [] if rate is None else [f"{rate:.3g} jobs/s"]
    return [*speed, f"slots {now.used}/{now.slots:.4g}", left, cost]


def _percent(now: Standing) -> str:
    """Rounded down: 100 is all of them."""
    if now.ended >= now.total:
        return "100%"
    tenths = 1_000 * now.ended // now.total
    return f"{tenths / 10:.1f}%" if now.total >= IN_TENTHS else f"{tenths // 10}%"
