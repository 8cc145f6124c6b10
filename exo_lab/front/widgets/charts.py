"""The same charts drawn by Bokeh: they move while somebody looks, stand still on Pause, and export what they show.

One source holds everything, so that a look is one message, however many devices there are. Pause, window and export run
in the browser: they work while a cell runs. Bokeh is imported when charts are made, and not before.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from exo_lab.front import html
from exo_lab.front.widgets.charts_js import FOLLOW, SAVE_CSV, SAVE_PNG, THEMED
from exo_lab.front.widgets.charts_svg import DASHES, ceiling, dash
from exo_lab.front.widgets.history import METRICS, MOMENTS, History, Metric, Moment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.front.palette import Mark
    from exo_lab.front.roster import Roster

WINDOWS_S = (30, 60, 120, 300, 600)
WINDOW_S = 60
CHART_W, CHART_H = 460, 170
COLUMNS = 2
DRAWN = 16  # devices; the table and the CSV have them all
GREY = "#7a7a7a"  # until the theme's own colour is known


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
        self.slots: dict[str, int] = {}
        self.drawn_to = -math.inf  # seconds since the epoch
        self.source = ColumnDataSource({"at": []})
        self._range = Range1d()
        self.figures = [self._figure(metric) for metric in self.metrics]
        self.remarks = [_remark(metric, figure) for metric, figure in zip(self.metrics, self.figures, strict=True)]
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
        controls = row(self.pause, self.window, save, draw)
        self.layout = column(controls, self.legend, self.grid, max_width=COLUMNS * CHART_W, **wide)
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
        """Draw what was measured since the last time."""
        for now in history.moments:
            if now.at > self.drawn_to:
                self.push(now, roster)

    def push(self, now: Moment, roster: Roster) -> None:
        """Add one moment; devices that are new get their lines first."""
        new = [id_ for id_, _ in now.readings if id_ not in self.slots][: max(0, DRAWN - len(self.slots))]
        if new:
            self._admit(new, roster)
        readings = dict(now.readings)
        row: dict[str, list[float]] = {"at": [now.at * 1e3]}
        for id_, slot in self.slots.items():
            reading = readings.get(id_)
            for metric in self.metrics:
                value = None if reading is None else getattr(reading, metric.key)
                row[_column(slot, metric)] = [math.nan if value is None else value * metric.scale]
        self.source.stream(row, rollover=MOMENTS)
        self.drawn_to = now.at

    def _admit(self, devices: Sequence[str], roster: Roster) -> None:
        """New columns, filled with gaps, and the lines that show them."""
        data: dict[str, Any] = {name: list(values) for name, values in self.source.data.items()}
        length = len(data["at"])
        for id_ in devices:
            slot = self.slots[id_] = len(self.slots)
            for metric in self.metrics:
                data[_column(slot, metric)] = [math.nan] * length
        self.source.data = data
        labels: dict[str, str] = {}
        for id_, slot in self.slots.items():
            for metric in self.metrics:
                labels[_column(slot, metric)] = f"{roster[id_].name} {metric.heading}"
        self.export.args = {"source": self.source, "labels": labels}
        entries = sorted((roster[id_] for id_ in self.slots), key=lambda entry: entry.mark.index)
        named = [
            [f"{one.label}{' (emulated)' if one.emulated else ''}", one.mark.colour, _dashes(one.mark)]
            for one in entries
        ]
        self.picture.args = {"grid": self.grid, "entries": named}
        for id_ in devices:
            self._lines(id_, roster)
        self.legend.text = legend_html(roster, list(self.slots), self.metrics)

    def _lines(self, id_: str, roster: Roster) -> None:
        from bokeh.models import HoverTool

        entry, slot = roster[id_], self.slots[id_]
        dashes: Any = _dashes(entry.mark) or "solid"
        for metric, figure in zip(self.metrics, self.figures, strict=True):
            name = _column(slot, metric)
            drawn = figure.line("at", name, source=self.source, color=entry.mark.colour, line_width=2, line_dash=dashes)
            tips = [("node", _plain(entry.label)), (metric.title, f"@{{{name}}}{{0.[00]}} {metric.unit}")]
            figure.add_tools(HoverTool(renderers=[drawn], tooltips=tips, mode="vline", visible=False))

    def _figure(self, metric: Metric) -> Any:
        from bokeh.models import CustomJSTickFormatter, DatetimeTicker, Range1d, Span
        from bokeh.plotting import figure

        made = figure(
            sizing_mode="stretch_width",
            height=CHART_H,
            x_axis_type="datetime",
            x_range=self._range,
            y_range=Range1d(start=0, end=100, tags=["fixed"]) if metric.unit == "%" else Range1d(start=0, end=1),
            title=metric.heading,
            tools=[],
            background_fill_color=None,
            border_fill_color=None,
            outline_line_color=GREY,
            min_border_left=52,
        )
        made.title.text_color = GREY  # type: ignore[union-attr]
        made.grid.grid_line_color = GREY
        made.grid.grid_line_alpha = 0.2
        for axis in (*made.below, *made.left):
            axis.update(axis_line_color=GREY, major_tick_line_color=GREY, minor_tick_line_color=None)
            axis.update(major_label_text_color=GREY)
        # The reader's own time of day; Bokeh's is UTC.
        made.xaxis[0].formatter = CustomJSTickFormatter(code="return new Date(tick).toLocaleTimeString()")
        made.xaxis[0].ticker = DatetimeTicker(desired_num_ticks=4)
        if metric.threshold is not None:
            made.add_layout(
                Span(
                    location=metric.threshold, dimension="width", line_color="#D55E00", line_dash="dotted", line_width=2
                )
            )
        return made


def _remark(metric: Metric, figure: Any) -> Any:
    """What an empty chart says."""
    from bokeh.models import Label

    made = Label(x=10, y=10, x_units="screen", y_units="screen", text=metric.empty, text_color=GREY)
    figure.add_layout(made)
    return made


def legend_html(roster: Roster, devices: Sequence[str], metrics: Sequence[Metric] = ()) -> str:
    """Which line is whose: number, name, colour and dash; "emulated" where it is so; what the figures are."""
    entries = sorted((roster[id_] for id_ in devices), key=lambda entry: entry.mark.index)
    notes = " \u00b7 ".join(f"{metric.title.lower()}: {metric.note}" for metric in metrics if metric.note)
    return (
        '<div style="color:var(--jp-ui-font-color1,currentColor);font-size:13px">'
        + " ".join(
            f'<span style="margin-right:18px;white-space:nowrap">{_sample(entry.mark)} {html.esc(entry.label)}'
            f"{' ' + html.badge('emulated') if entry.emulated else ''}</span>"
            for entry in entries
        )
        + f'<div style="{html.FAINT};margin-top:4px">{html.esc(notes)}</div></div>'
    )


def _sample(mark: Mark) -> str:
    pattern = DASHES[mark.index % len(DASHES)]
    dashed = f' stroke-dasharray="{pattern}"' if pattern else ""
    return (
        '<svg width="34" height="10" aria-hidden="true" style="vertical-align:middle">'
        f'<path d="M1 5h32" stroke="{mark.colour}" stroke-width="3"{dashed}/></svg>'
    )


def _dashes(mark: Mark) -> list[int]:
    return [int(part) for part in dash(mark).split()]


def _column(slot: int, metric: Metric) -> str:
    return f"{metric.key}_{slot}"


def _plain(text: str) -> str:
    """A name in a tooltip's template, where @ and $ would mean something; Bokeh escapes the rest."""
    return text.replace("@", "(at)").replace("$", "(dollar)")
