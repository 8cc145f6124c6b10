"""The same charts drawn by Bokeh: they move while somebody looks, stand still on Pause, and export what they show.

One source holds everything, so that a look is one message, however many devices there are. Pause, window and export run
in the browser: they work while a cell runs. Bokeh is imported when charts are made, and not before.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from exo_lab.front.widgets.charts_figure import Line, make_figure, make_remark
from exo_lab.front.widgets.charts_js import FOLLOW, SAVE_CSV, SAVE_PNG, TABLED, TABULATE, THEMED
from exo_lab.front.widgets.charts_legend import dashes, legend_html
from exo_lab.front.widgets.charts_svg import ceiling
from exo_lab.front.widgets.history import METRICS, MOMENTS, History, Metric, Moment

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from exo_lab.front.roster import Roster

WINDOWS_S = (30, 60, 120, 300, 600)
WINDOW_S = 60
CHART_W = 460
COLUMNS = 2
DRAWN = 16  # devices; more lines cannot be told apart. `History.csv` has them all, what the browser saves has these


class Charts:
    """Figures, controls and a source. One writer at a time: who made it, then who pushes.

    Args:
        history: what is drawn at the start.
        roster: has an entry for each device of the history.
        metrics: one figure each.
    """

    def __init__(self, history: History, roster: Roster, metrics: Sequence[Metric] = METRICS) -> None:
        from bokeh.layouts import column, gridplot, row
        from bokeh.models import Button, ColumnDataSource, CustomJS, Div, Range1d, Select, Toggle

        self.metrics = tuple(metrics)
        self.slots: dict[str, int] = {}  # by device; the one that was seen last at the end
        self.left_out = 0  # devices that are there and have no line
        self._lines: dict[int, list[Line]] = {}  # by slot
        self.drawn_to = -math.inf  # seconds since the epoch
        self.source = ColumnDataSource({"at": []})
        self._range = Range1d()
        self.figures = [make_figure(metric, self._range) for metric in self.metrics]
        self.remarks = [make_remark(metric, figure) for metric, figure in zip(self.metrics, self.figures, strict=True)]
        self.legend = Div(text="", tags=[""], sizing_mode="stretch_width")
        themed: Any = {"stylesheets": [THEMED]}
        self.pause = Toggle(label="Pause", width=90, **themed)
        choices: list[Any] = [(str(seconds), f"last {seconds} s") for seconds in WINDOWS_S]
        self.window = Select(title="Window", value=str(WINDOW_S), options=choices, width=130, **themed)
        shared = {"source": self.source, "range": self._range, "pause": self.pause, "window_s": self.window}
        drawn = {"figures": self.figures, "remarks": self.remarks, "keys": [metric.key for metric in self.metrics]}
        follow = CustomJS(args={**shared, **drawn, "legend": self.legend}, code=FOLLOW)
        self.source.js_on_change("streaming", follow)
        self.source.js_on_change("data", follow)
        self.window.js_on_change("value", follow)
        self.pause.js_on_change("active", follow)
        self.export = CustomJS(args={"source": self.source, "labels": {}}, code=SAVE_CSV)
        save = Button(label="Save as CSV", width=110, **themed)
        save.js_on_click(self.export)
        wide: Any = {"sizing_mode": "stretch_width"}  # as wide as the cell, up to a limit
        self.grid = gridplot(self.figures, ncols=COLUMNS, toolbar_location=None, **wide)
        self.picture = CustomJS(args={"grid": self.grid, "entries": []}, code=SAVE_PNG)
        draw = Button(label="Save as PNG", width=110, **themed)
        draw.js_on_click(self.picture)
        self.as_table = Toggle(label="Show as a table", width=130, **themed)
        self.table = Div(text="", tags=["0"], visible=False, stylesheets=[TABLED], **wide)
        self._tabulated = {**shared, "grid": self.grid, "table": self.table, "as_table": self.as_table, "draw": draw}
        self._tabulated["metrics"] = [[one.key, one.heading, one.threshold] for one in self.metrics]
        self.tabulate = CustomJS(args={**self._tabulated, "devices": []}, code=TABULATE)
        for model, event in ((self.source, "streaming"), (self.window, "value"), (self.as_table, "active")):
            model.js_on_change(event, self.tabulate)
        controls = row(self.pause, self.window, self.as_table, save, draw)
        self.layout = column(controls, self.legend, self.table, self.grid, max_width=COLUMNS * CHART_W, **wide)
        self.catch_up(history, roster)
        if history.moments:
            end = history.moments[-1].at * 1e3
            self._range.update(start=end - WINDOW_S * 1e3, end=end)
        for metric, figure, remark in zip(self.metrics, self.figures, self.remarks, strict=True):
            values = [value for id_ in history.names for _, value in history.series(id_, metric)]
            remark.visible = not values
            if metric.unit != "%":
                figure.y_range.end = ceiling(values)

    def catch_up(self, history: History, roster: Roster) -> None:
        """Draw what was measured since the last time. A clock that was set back starts anew, as the history does."""
        moments = history.moments
        if moments and moments[-1].at < self.drawn_to:
            self.source.data = {name: [] for name in self.source.data}
            self.drawn_to = -math.inf
        for now in moments:
            if now.at > self.drawn_to:
                self.push(now, roster)

    def push(self, now: Moment, roster: Roster) -> None:
        """Add one moment; devices that are new get their lines first."""
        readings = dict(now.readings)
        self._seat(readings, roster)
        row: dict[str, list[float]] = {"at": [now.at * 1e3]}
        for id_, slot in self.slots.items():
            reading = readings.get(id_)
            for metric in self.metrics:
                value = None if reading is None else getattr(reading, metric.key)
                row[_column(slot, metric)] = [math.nan if value is None else value * metric.scale]
        self.source.stream(row, rollover=MOMENTS)
        self.drawn_to = now.at

    def _seat(self, there: Collection[str], roster: Roster) -> None:
        """A slot for each device; where all are taken, those of devices that are gone are given away."""
        for id_ in there:
            if id_ in self.slots:
                self.slots[id_] = self.slots.pop(id_)
        new = [id_ for id_ in there if id_ not in self.slots]
        free = list(range(len(self.slots), DRAWN))
        gone = [id_ for id_ in self.slots if id_ not in there]  # for longest first
        free += [self.slots.pop(id_) for id_ in gone[: max(0, len(new) - len(free))]]
        seated, left_out = dict(zip(new, free, strict=False)), max(0, len(new) - len(free))
        if seated:
            self._admit(seated, roster)
        if seated or left_out != self.left_out:
            self.left_out = left_out
            self.legend.text = legend_html(roster, list(self.slots), self.metrics, left_out)

    def _admit(self, seated: Mapping[str, int], roster: Roster) -> None:
        """Columns filled with gaps, and the lines that show them."""
        data: dict[str, Any] = {name: list(values) for name, values in self.source.data.items()}
        self.slots.update(seated)
        for slot in seated.values():
            data |= {_column(slot, metric): [math.nan] * len(data["at"]) for metric in self.metrics}
        self.source.data = data
        for id_, slot in self.slots.items():  # all of them: who comes can change the others' numbers
            if slot not in self._lines:
                self._lines[slot] = [
                    Line(figure, metric, self.source, _column(slot, metric))
                    for metric, figure in zip(self.metrics, self.figures, strict=True)
                ]
            for line in self._lines[slot]:
                line.show(roster[id_])
        self._name(roster)

    def _name(self, roster: Roster) -> None:
        """What is saved and tabulated is named: columns of the CSV, lines of the picture, columns of the table."""
        labels = {
            _column(slot, metric): f"{roster[id_].name} {metric.heading}"
            for id_, slot in self.slots.items()
            for metric in self.metrics
        }
        self.export.args = {"source": self.source, "labels": labels}
        lines: list[Any] = []
        columns: list[Any] = []
        for id_, slot in sorted(self.slots.items(), key=lambda seat: roster[seat[0]].mark.index):
            entry = roster[id_]
            label = f"{entry.label}{' (emulated)' if entry.emulated else ''}"
            lines.append([label, entry.mark.colour, dashes(entry.mark)])
            columns.append([label, slot])
        self.picture.args = {"grid": self.grid, "entries": lines}
        self.tabulate.args = {**self._tabulated, "devices": columns}


def _column(slot: int, metric: Metric) -> str:
    return f"{metric.key}_{slot}"
