"""What nodes measured of themselves as small charts, one a quantity, a line a node. Pure.

A node has many links and many sensors: of latencies, temperatures and loads the highest is drawn, of bandwidths the
lowest, since that is the one to look at.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from exo_lab.front import svg
from exo_lab.front.widgets.charts_svg import CHART_H, CHART_W, COLUMNS, chart, charts_label
from exo_lab.front.widgets.history import Metric, with_rules

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from exo_lab.core.telemetry import Series
    from exo_lab.core.watching import Rule
    from exo_lab.front.report.facts import NodeFacts
    from exo_lab.front.roster import Roster
    from exo_lab.front.widgets.charts_svg import Line

METRICS = (
    Metric(key="compute", quantity="compute", title="Compute use", unit="%", scale=100.0),
    Metric(key="memory", quantity="memory", title="Memory used", unit="%", scale=100.0),
    Metric(key="load", quantity="load", title="Load, the highest", unit="%", scale=100.0),
    Metric(key="temperature", quantity="temperature", title="Temperature, the highest", unit="°C"),
    Metric(key="latency", quantity="latency", title="Latency, of the slowest link", unit="ms", scale=1e3),
    Metric(key="bandwidth", quantity="bandwidth", title="Bandwidth, of the narrowest link", unit="MB/s", scale=1e-6),
)


def series_svg(nodes: Sequence[NodeFacts], roster: Roster, now_s: float, rules: Sequence[Rule] = ()) -> str:
    """Every quantity that somebody measured, with lines where rules put alerts; an empty string if nobody did."""
    shown = [(metric, lines) for metric in with_rules(METRICS, rules) if (lines := _lines(nodes, roster, metric))]
    if not shown:
        return ""
    first = min(at for _, lines in shown for _, points in lines for at, _ in points)
    rows = math.ceil(len(shown) / COLUMNS)
    parts = "".join(
        chart((i % COLUMNS) * CHART_W, (i // COLUMNS) * CHART_H, metric, lines, first, now_s)
        for i, (metric, lines) in enumerate(shown)
    )
    return svg.picture(COLUMNS * CHART_W, rows * CHART_H, charts_label(shown, now_s - first), parts)


def _lines(nodes: Sequence[NodeFacts], roster: Roster, metric: Metric) -> list[Line]:
    found: list[Line] = []
    for node in nodes:
        points = worst((one for one in node.series if one.quantity == metric.key), lowest=metric.key == "bandwidth")
        if points:
            found.append((roster[node.id], [(at, value * metric.scale) for at, value in points]))
    return sorted(found, key=lambda line: line[0].mark.index)


def worst(series: Iterable[Series], *, lowest: bool) -> list[tuple[float, float]]:
    """Of readings of one moment, the highest, or the lowest."""
    found: dict[float, float] = {}
    for one in series:
        for at, value in one.points:
            known = found.get(at)
            found[at] = value if known is None else min(known, value) if lowest else max(known, value)
    return sorted(found.items())
