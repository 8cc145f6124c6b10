"""One figure of the live charts, what it says while it is empty, and a line in it. Imports Bokeh when called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exo_lab.front.widgets.charts_legend import dashes

if TYPE_CHECKING:
    from exo_lab.front.roster import Entry
    from exo_lab.front.widgets.history import Metric

CHART_H = 170
GREY = "#7a7a7a"  # until the theme's own colour is known


class Line:
    """A column of the source in a figure, as the line of one device, and later of another. Nobody's before `show`."""

    def __init__(self, figure: Any, metric: Metric, source: Any, column: str) -> None:
        from bokeh.models import HoverTool

        self._metric, self._column = metric, column
        self._drawn = figure.line("at", column, source=source, line_width=2)
        self._hover = HoverTool(renderers=[self._drawn], mode="vline", visible=False)
        figure.add_tools(self._hover)

    def show(self, entry: Entry) -> None:
        """The line of this device, from now on."""
        self._drawn.glyph.update(line_color=entry.mark.colour, line_dash=dashes(entry.mark) or "solid")
        value = f"@{{{self._column}}}{{0.[00]}} {self._metric.unit}"
        self._hover.tooltips = [("node", _plain(entry.label)), (self._metric.title, value)]


def make_figure(metric: Metric, x_range: Any) -> Any:
    """Axes, a grid and the threshold, without lines; the time axis is `x_range`, which all figures share."""
    from bokeh.models import CustomJSTickFormatter, DatetimeTicker, Range1d, Span
    from bokeh.plotting import figure

    made = figure(
        sizing_mode="stretch_width",
        height=CHART_H,
        x_axis_type="datetime",
        x_range=x_range,
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
            Span(location=metric.threshold, dimension="width", line_color="#D55E00", line_dash="dotted", line_width=2)
        )
    return made


def make_remark(metric: Metric, figure: Any) -> Any:
    """What an empty chart says."""
    from bokeh.models import Label

    made = Label(x=10, y=10, x_units="screen", y_units="screen", text=metric.empty, text_color=GREY)
    figure.add_layout(made)
    return made


def _plain(text: str) -> str:
    """A name in a tooltip's template, where @ and $ would mean something; Bokeh escapes the rest."""
    return text.replace("@", "(at)").replace("$", "(dollar)")
