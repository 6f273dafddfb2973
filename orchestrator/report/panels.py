"""What a batch's figures look like: charts, and rows of tables in words. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from markupsafe import Markup

from orchestrator.bill import Bill
from orchestrator.models import Spend, State
from orchestrator.report import charts
from orchestrator.report.charts import Series
from orchestrator.report.durations import edges
from orchestrator.report.figures import PARTS, Failures, Figures, Timeline
from orchestrator.views.printing import counted, span

TICKS = 5
JOBS_PER_BAR = 3  # of what is shown over time, at least …
LEAST_BARS = 12  # … unless that would be fewer bars
DAY_SECONDS = 86_400
ENDS = (State.SUCCEEDED, State.FAILED, State.CANCELLED)


@dataclass(frozen=True)
class Chart:
    """A drawing, what is said over it, its highest value, and what stands below it from left to right."""

    drawing: Markup
    title: str
    top: str
    ticks: tuple[str, ...]


@dataclass(frozen=True)
class SpendRow:
    account: str
    counts: tuple[int, ...]  # confirmed, at risk, committed, refunded
    cost: str
    drawing: Markup


@dataclass(frozen=True)
class Panels:
    """All that stands above the gallery. A row of a table is its cells."""

    summary: tuple[tuple[str, str], ...]
    identity: str
    throughput: Chart
    use: tuple[Chart, ...]
    use_rows: tuple[tuple[str, ...], ...]
    durations: tuple[Chart, ...]
    duration_rows: tuple[tuple[str, ...], ...]
    failures: tuple[tuple[str, Failures], ...]
    spend: tuple[SpendRow, ...]


def panels(
    figures: Figures, bill: Bill, slots: Mapping[str, float], accepted: int, more: Sequence[tuple[str, str]]
) -> Panels:
    """`slots`: provider → those its accounts have. `accepted`: jobs the batch ever had. `more`: figures."""
    failures = sorted(figures.failures.items(), key=lambda each: (-each[1].jobs, -each[1].attempts, each[0]))
    most_spent = max((line.spend.most + line.spend.refunded for line in bill.lines), default=0)
    return Panels(
        summary=(*_summary(figures, bill, accepted), *more),
        identity=_identity(figures, accepted),
        throughput=_throughput(figures),
        use=tuple(_use(figures, name, slots.get(name, 0.0)) for name in sorted(figures.use)),
        use_rows=tuple(_use_row(figures, name, slots.get(name, 0.0)) for name in sorted(figures.use)),
        durations=_durations(figures),
        duration_rows=tuple(_duration_row(figures, part) for part in PARTS),
        failures=tuple(failures),
        spend=tuple(
            _spend_row(f"{line.provider}/{line.account}", line.spend, line.cost, most_spent)
            for line in bill.lines
        ),
    )


def seconds(value: float | None) -> str:
    """As exact as a reader needs: `4.2 s`, `2 min 5 s`."""
    if value is None:
        return "\N{EN DASH}"
    if value < 10:
        return f"{value:.{1 if value >= 1 else 2}f} s"
    return span(value)


def _summary(figures: Figures, bill: Bill, accepted: int) -> list[tuple[str, str]]:
    paid = bill.paid_per_delivered
    return [
        ("accepted", f"{accepted:,}"),
        *((state.value, f"{figures.states[state]:,}") for state in ENDS),
        ("open", f"{figures.open:,}"),
        ("from enqueue to end", seconds(figures.timeline.end - figures.timeline.start)),
        ("generations paid per delivered job, at most", "\N{EN DASH}" if paid is None else f"{paid:.3g}"),
        ("cost, at most", f"{bill.cost:,.6g}"),
    ]


def _identity(figures: Figures, accepted: int) -> str:
    told = [f"{figures.states[state]:,} {state.value}" for state in ENDS] + [f"{figures.open:,} open"]
    if forgotten := accepted - figures.jobs:
        told.append(f"{forgotten:,} of which no record is kept any more")
    return f"{accepted:,} accepted = {' + '.join(told)}"


def _throughput(figures: Figures) -> Chart:
    timeline = figures.timeline
    by = _joined(timeline.bars, figures.jobs)
    ended = {state: _sums(figures.ended[state], by) for state in ENDS}
    a_minute = 60 / (timeline.bar_seconds * by)
    series = [Series(state.value, [count * a_minute for count in ended[state]]) for state in ENDS]
    sums = [sum(values) for values in zip(*(each.values for each in series), strict=True)]
    top = max(sums) or 1.0
    titles = [f"{_clock(timeline, place * by)}: {_ended(ended, place)}" for place in range(len(sums))]
    over = sum(sum(values) for values in ended.values())
    mean = over / max(timeline.end - timeline.start, 1.0) * 60
    title = f"Jobs that ended, per minute: {mean:.3g} on average"
    drawing = charts.bars(series, top, f"{title}, {top:.3g} at most, of {over:,.0f} jobs", titles)
    return Chart(drawing, title, f"{top:.3g} a minute", _ticks(timeline))


def _ended(ended: Mapping[State, Sequence[float]], place: int) -> str:
    return ", ".join(f"{ended[state][place]:g} {state.value}" for state in ENDS if ended[state][place])


def _sums(counts: Sequence[float], by: int) -> list[float]:
    return [sum(counts[first : first + by]) for first in range(0, len(counts), by)]


def _joined(bars: int, jobs: int) -> int:
    """How many bars become one, so that few jobs do not look like noise."""
    wanted = max(jobs / JOBS_PER_BAR, LEAST_BARS)
    return next(by for by in range(1, bars + 1) if bars % by == 0 and bars / by <= wanted)


def _use(figures: Figures, provider: str, slots: float) -> Chart:
    use = figures.use[provider]
    top = max(*use.open, slots) or 1.0
    used = f"{use.share(slots):.0%} of {counted(int(slots), 'slot')} used"
    words = used if slots else "no account any more"
    label = f"{provider}: attempts open over time, at most {max(use.open):.3g}; {words}"
    return Chart(
        charts.area(use.open, top, slots, label), f"{provider}: {words}", f"{top:.3g} open",
        _ticks(figures.timeline),
    )  # fmt: skip


def _use_row(figures: Figures, provider: str, slots: float) -> tuple[str, ...]:
    use = figures.use[provider]
    share = f"{use.share(slots):.1%}" if slots else "\N{EN DASH}"
    busy = use.last - use.first
    average = f"{use.open_seconds / busy:.3g}" if busy else "0"
    return (provider, f"{slots:g}", f"{use.attempts:,}", average, share)


def _durations(figures: Figures) -> tuple[Chart, ...]:
    scale = edges(list(figures.durations.values()))
    made = []
    for part in PARTS:
        spread = figures.durations[part]
        counts = spread.bars(scale)
        titles = [
            f"{seconds(edge)} and more: {counted(n, 'job')}" for edge, n in zip(scale, counts, strict=False)
        ]
        title = f"{part.capitalize()}: half within {seconds(spread.quantile(0.5))}"
        top = max(counts, default=0)
        drawing = charts.bars([Series("bar", counts)], top or 1, f"{title}, of {spread.count:,} jobs", titles)
        ticks = tuple(seconds(scale[round(place * (len(scale) - 1) / 2)]) for place in range(3))
        made.append(Chart(drawing, title, counted(top, "job"), ticks))
    return tuple(made)


def _duration_row(figures: Figures, part: str) -> tuple[str, ...]:
    spread = figures.durations[part]
    quantiles = (seconds(spread.quantile(share)) for share in (0.5, 0.95, 0.99))
    return (part, f"{spread.count:,}", *quantiles, seconds(spread.longest))


def _spend_row(account: str, spend: Spend, cost: float, most: int) -> SpendRow:
    counts = (spend.confirmed, spend.at_risk, spend.committed, spend.refunded)
    tones = ("confirmed", "at-risk", "committed", "refunded")
    label = ", ".join(f"{count} {tone.replace('-', ' ')}" for tone, count in zip(tones, counts, strict=True))
    drawing = charts.parts(list(zip(tones, counts, strict=True)), most or 1, label)
    return SpendRow(account, counts, f"{cost:,.6g}", drawing)


def _ticks(timeline: Timeline) -> tuple[str, ...]:
    return tuple(_clock(timeline, place * timeline.bars / (TICKS - 1)) for place in range(TICKS))


def _clock(timeline: Timeline, place: float) -> str:
    """The moment at which a bar begins, in UTC; with its day where there are several."""
    moment = datetime.fromtimestamp(timeline.start + place * timeline.bar_seconds, UTC)
    return moment.strftime("%m-%d %H:%M" if timeline.end - timeline.start > DAY_SECONDS else "%H:%M:%S")
