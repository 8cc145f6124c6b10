"""Telemetry at one moment, for readers without a live front end: charts, and the same figures as a table. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exo_lab.front import html
from exo_lab.front.roster import Roster
from exo_lab.front.text import table
from exo_lab.front.units import show_seconds
from exo_lab.front.view import View
from exo_lab.front.widgets.charts_svg import charts_svg
from exo_lab.front.widgets.history import METRICS, History, Metric

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from exo_lab.core.device import Device

NOTHING = "Nothing was measured yet."


class TelemetryView(View):
    """A history as it is when the view is drawn.

    Args:
        history: what was measured.
        devices: those that are known, for names and "emulated".
        metrics: which ones.
    """

    def __init__(self, history: History, devices: Iterable[Device] = (), metrics: Sequence[Metric] = METRICS) -> None:
        self.history, self.metrics = history, tuple(metrics)
        self.roster = Roster(devices, history.names)

    def title(self) -> str:
        """How long it was looked at, and how often."""
        moments = self.history.moments
        if not moments:
            return f"Telemetry. {NOTHING}"
        if len(moments) == 1:
            return "Telemetry of one moment (measured)"
        return f"Telemetry of the last {show_seconds(moments[-1].at - moments[0].at)}, {len(moments)} looks (measured)"

    def html(self) -> str:
        """Charts, a legend that is the table, remarks."""
        if not self.history.moments:
            return html.block(html.line(self.title(), bold=True))
        return html.block(
            html.line(self.title(), bold=True),
            charts_svg(self.history, self.roster, self.metrics),
            html.grid("Latest figures, and from least to most", *self._table(in_html=True)),
            html.bullets([f"{metric.title}: {metric.note}." for metric in self.metrics if metric.note]),
        )

    def text(self) -> str:
        """The table."""
        if not self.history.moments:
            return self.title()
        return "\n".join([self.title(), *table(*self._table(in_html=False))])

    def _table(self, *, in_html: bool) -> tuple[tuple[str, ...], list[tuple[str, ...]], tuple[str, ...]]:
        """A row a metric, a column a node: there are more metrics than most people have nodes."""
        devices = sorted(self.history.names, key=lambda id_: self.roster[id_].mark.index)
        escape = html.esc if in_html else str
        heads = [self.roster[id_].label for id_ in devices]
        rows: list[tuple[str, ...]] = [("emulated", *(escape(self.roster[id_].emulated) for id_ in devices))]
        for metric in self.metrics:
            name = f"{metric.title}, {metric.unit}" if metric.unit else metric.title
            rows.append((name, *(self._cell(id_, metric, in_html=in_html) for id_ in devices)))
        return ("figure", *heads), [row for row in rows if any(row[1:])], tuple(heads)

    def _cell(self, device: str, metric: Metric, *, in_html: bool) -> str:
        values = [value for _, value in self.history.series(device, metric)]
        if not values:
            return ""
        latest, span = f"{values[-1]:.3g}", f"{min(values):.3g} to {max(values):.3g}"
        over = metric.threshold is not None and values[-1] > metric.threshold
        if over:
            span += f"; above {metric.threshold:g}"
        return html.stacked(latest, span) if in_html else f"{latest} ({span})"
