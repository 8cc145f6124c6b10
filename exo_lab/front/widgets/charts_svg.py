"""A history as a picture: one small chart a metric, one line a device. Pure.

A line has its device's colour, a dash of its own and, at its end, its number: colour never stands alone.
"""

from __future__ import annotations

import itertools
import math
import statistics
from typing import TYPE_CHECKING

from exo_lab.front import svg
from exo_lab.front.units import show_seconds
from exo_lab.front.widgets.history import METRICS, History, Metric

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.front.palette import Mark
    from exo_lab.front.roster import Entry, Roster

DASHES = ("", "7 3", "2 3", "9 3 2 3", "4 2", "12 4", "1 4")
COLUMNS = 2
CHART_W, CHART_H = 376.0, 132.0
LEFT, RIGHT, TOP, BOTTOM = 44.0, 24.0, 26.0, 18.0
GAP = 10  # times the usual step: nothing was measured in between
POINTS = 240  # of a line; more cannot be told apart

Line = tuple["Entry", list[tuple[float, float]]]


def charts_svg(history: History, roster: Roster, metrics: Sequence[Metric] = METRICS) -> str:
    """Every metric that has a figure; an empty string if none has.

    Args:
        history: what was measured.
        roster: has an entry for each device of the history.
        metrics: which ones, in this order.
    """
    shown = [(metric, lines) for metric in metrics if (lines := lines_of(history, roster, metric))]
    if not shown:
        return ""
    first, last = history.moments[0].at, history.moments[-1].at
    rows = math.ceil(len(shown) / COLUMNS)
    parts = "".join(
        chart((i % COLUMNS) * CHART_W, (i // COLUMNS) * CHART_H, metric, lines, first, last)
        for i, (metric, lines) in enumerate(shown)
    )
    return svg.picture(COLUMNS * CHART_W, rows * CHART_H, charts_label(shown, last - first), parts)


def lines_of(history: History, roster: Roster, metric: Metric) -> list[Line]:
    """The devices that have figures of a metric, with them, by number."""
    found = [(roster[id_], series) for id_ in history.names if (series := history.series(id_, metric))]
    return sorted(found, key=lambda line: line[0].mark.index)


def charts_label(shown: Sequence[tuple[Metric, list[Line]]], span_s: float) -> str:
    """The charts in sentences, for those who do not see them."""
    said = [
        f"{metric.title}: " + ", ".join(f"{entry.name} {series[-1][1]:.3g} {metric.unit}" for entry, series in lines)
        for metric, lines in shown
    ]
    return f"telemetry of the last {show_seconds(span_s)}. Latest figures: {'; '.join(said)}"


def ceiling(values: Sequence[float]) -> float:
    """A round number at or above all of them: 1, 2 or 5 times a power of ten."""
    top = max((value for value in values if math.isfinite(value)), default=0.0)
    if top <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(top))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= top * (1 - 1e-9))


def thinned(series: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most `POINTS` of them: of each stretch the largest, so that no peak is lost."""
    size = math.ceil(len(series) / POINTS)
    if size <= 1:
        return list(series)
    return [max(series[i : i + size], key=lambda point: point[1]) for i in range(0, len(series), size)]


def dash(mark: Mark) -> str:
    """A device's dash, as SVG has it; empty for a solid line."""
    return DASHES[mark.index % len(DASHES)]


def chart(x0: float, y0: float, metric: Metric, lines: list[Line], first: float, last: float) -> str:
    """One chart with its corner at (x0, y0), from `first` to `last`: a line a device."""
    values = [value for _, series in lines for _, value in series]
    top = 100.0 if metric.unit == "%" else ceiling(values)
    w, h = CHART_W - LEFT - RIGHT, CHART_H - TOP - BOTTOM
    left, floor = x0 + LEFT, y0 + TOP + h
    span = max(last - first, 1e-9)

    def place(at: float, value: float) -> tuple[float, float]:
        return left + w * (at - first) / span, floor - h * min(value / top, 1.0)

    parts = (
        svg.label(left, y0 + 16, metric.heading, bold=True)
        + f'<path d="M{svg.n(left)} {svg.n(floor - h)}V{svg.n(floor)}H{svg.n(left + w)}" fill="none" {svg.EDGE}/>'
        + f'<path d="M{svg.n(left)} {svg.n(floor - h)}h{svg.n(w)}M{svg.n(left)} {svg.n(floor - h / 2)}h{svg.n(w)}" '
        'stroke="currentColor" stroke-opacity="0.15"/>'
        + svg.label(left - 5, floor - h + 4, _tick(top), anchor="end", size=11, faint=True)
        + svg.label(left - 5, floor + 4, "0", anchor="end", size=11, faint=True)
        + svg.label(left, floor + 14, f"{show_seconds(last - first)} ago", size=10, faint=True)
        + svg.label(left + w, floor + 14, "now", anchor="end", size=10, faint=True)
    )
    if metric.threshold is not None and metric.threshold <= top:
        y = floor - h * metric.threshold / top
        parts += (
            f'<path d="M{svg.n(left)} {svg.n(y)}h{svg.n(w)}" stroke="#D55E00" stroke-width="1.5" '
            'stroke-dasharray="3 3"/>'
            + svg.label(left + 3, y + 11, f"threshold {metric.threshold:g} {metric.unit}", size=10, faint=True)
        )
    ends: list[tuple[float, Entry]] = []
    for entry, series in lines:
        kept = thinned(series)
        points = [place(at, value) for at, value in kept]
        gaps = _gaps([at for at, _ in kept])
        path = "".join(
            f"{'M' if i in gaps else 'L'}{svg.n(x)} {svg.n(y)}{'h1' if {i, i + 1} <= gaps else ''}"
            for i, (x, y) in enumerate(points)
        )
        dashed = f' stroke-dasharray="{dash(entry.mark)}"' if dash(entry.mark) else ""
        parts += (
            f'<path d="{path}" fill="none" stroke="{entry.mark.colour}" stroke-width="2" stroke-linejoin="round"'
            f"{dashed}/>"
        )
        ends.append((points[-1][1], entry))
    return parts + "".join(
        svg.label(left + w + 4, y + 4, entry.mark.number, size=11, bold=True) for y, entry in _apart(ends)
    )


def _gaps(times: Sequence[float]) -> set[int]:
    """Where a line begins anew: after a time in which nothing was measured. Also 0 and the number of times."""
    steps = [after - before for before, after in itertools.pairwise(times)]
    usual = statistics.median(steps) if steps else 0.0
    return {0, len(times), *(i + 1 for i, step in enumerate(steps) if step > GAP * usual)}


def _tick(value: float) -> str:
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"


def _apart(ends: list[tuple[float, Entry]], least: float = 11.0) -> list[tuple[float, Entry]]:
    """Labels moved up so that none covers another, from the lowest one."""
    placed: list[tuple[float, Entry]] = []
    for y, entry in sorted(ends, key=lambda end: -end[0]):
        placed.append((min(y, placed[-1][0] - least) if placed else y, entry))
    return placed
