"""The Gantt chart of a simulation as a Bokeh figure: to zoom in, and to ask each bar what it is.

Bokeh is imported when a figure is made, and not before. What it shows is what `gantt.chart` says, in finer steps.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from exo_lab.front.gantt import SEVERAL, chart
from exo_lab.front.gantt_svg import gantt_facts
from exo_lab.front.palette import Mark
from exo_lab.front.text import clean, clean_name

if TYPE_CHECKING:
    from bokeh.plotting import figure

    from exo_lab.front.gantt import Bar, Chart
    from exo_lab.planning.simulation.result import Simulation

WIDTH, ROW = 900, 38
STEPS = 4000  # pieces of time that can be told apart when zoomed in
GREY = "#7a7a7a"  # readable on white and on black, until the theme's own colour is known
PATTERNS = {
    "plain": " ", "rising": "/", "falling": "\\", "cross": "x", "level": "-", "upright": "|", "dots": ".",
}  # fmt: skip
HEIGHTS = {"prefill": 0.64, "decode": 0.3, "link": 0.09, "load": 0.64}
NAMES = {"prefill": "prompt", "decode": "token", "link": "sending", "load": "loading"}

# Follows the theme of the page, once the figure is laid out.
_INK = """
const ink = getComputedStyle(document.body).getPropertyValue('--jp-ui-font-color1').trim()
if (ink !== '') {
  plot.title.text_color = ink
  for (const axis of [...plot.below, ...plot.left]) {
    axis.setv({major_label_text_color: ink, axis_label_text_color: ink})
  }
}
"""


def gantt_figure(made: Simulation, *, start_s: float | None = None, end_s: float | None = None) -> figure:
    """A figure of the whole simulation or a part of it; see `gantt.chart` for arguments and errors."""
    from bokeh.models import CustomJS, FactorRange, HoverTool, Range1d, Span
    from bokeh.plotting import figure

    shown = chart(made, start_s=start_s, end_s=end_s, steps=STEPS)
    names = _names(shown)
    plot = figure(
        title=f"predicted: {gantt_facts(made)}",
        width=WIDTH,
        height=110 + ROW * len(names),
        x_range=Range1d(start=shown.start_s, end=shown.end_s),
        y_range=FactorRange(factors=names[::-1]),
        tools="xpan,xwheel_zoom,xbox_zoom,reset,save",
        active_scroll="xwheel_zoom",
        background_fill_alpha=0.0,
        border_fill_alpha=0.0,
        toolbar_location="above",
    )
    bars: list[Any] = [plot.hbar(source=_source(shown, names, kind), **_look(kind)) for kind in HEIGHTS]
    plot.add_tools(
        HoverTool(
            renderers=bars,
            tooltips=[
                ("device", "@row"), ("what", "@what"), ("request", "@request"), ("from", "@left{0.0000} s"),
                ("until", "@right{0.0000} s"), ("busy", "@busy{0%}"), ("pieces", "@spans"),
            ],
        )
    )  # fmt: skip
    for event in shown.events:
        plot.add_layout(Span(location=event.at_s, dimension="height", line_color="#D55E00", line_dash="dashed"))
    _dress(plot)
    plot.js_on_change("inner_width", CustomJS(args={"plot": plot}, code=_INK))
    return plot


def _names(shown: Chart) -> list[str]:
    """What rows are called: no two alike."""
    found: dict[str, None] = {}
    for number, row in enumerate(shown.rows, 1):
        name = f"{clean_name(row.name)} · {row.utilisation:.0%} busy"
        found[f"{name} ({number})" if name in found else name] = None
    return list(found)


def _source(shown: Chart, names: list[str], kind: str) -> Any:
    """The bars of one kind, as columns."""
    from bokeh.models import ColumnDataSource

    columns: dict[str, list[Any]] = defaultdict(list)
    for bar in shown.bars:
        if bar.kind == kind:
            for name, value in _columns(bar, names).items():
                columns[name].append(value)
    empty = ("row", "left", "right", "colour", "pattern", "alpha", "what", "request", "busy", "spans")
    return ColumnDataSource(dict(columns) or {name: [] for name in empty})


def _columns(bar: Bar, names: list[str]) -> dict[str, Any]:
    mark = Mark(bar.session) if bar.session >= 0 else None
    return {
        "row": (names[bar.row], -0.42) if bar.kind == "link" else names[bar.row],
        "left": bar.start_s,
        "right": bar.end_s,
        "colour": GREY if mark is None else mark.colour,
        "pattern": " " if mark is None else PATTERNS[mark.hatching],
        "alpha": max(0.2, bar.share),
        "what": NAMES[bar.kind],
        "request": "several" if bar.session == SEVERAL else "" if mark is None else mark.number,
        "busy": bar.share,
        "spans": bar.spans,
    }


def _look(kind: str) -> dict[str, Any]:
    look: dict[str, Any] = {
        "y": "row", "left": "left", "right": "right", "height": HEIGHTS[kind], "fill_color": "colour",
        "fill_alpha": "alpha", "line_color": GREY, "line_alpha": 0.6, "line_width": 0.5,
    }  # fmt: skip
    if kind == "load":
        return look | {"line_dash": "dashed", "line_width": 1.5, "fill_alpha": 0.15}
    if kind == "link":
        return look | {"line_width": 0}
    return look | {"hatch_pattern": "pattern", "hatch_alpha": 0.45, "hatch_scale": 7.0, "hatch_weight": 0.8}


def _dress(plot: figure) -> None:
    plot.title.text_color = GREY  # type: ignore[union-attr]
    plot.xaxis.axis_label = clean("seconds (predicted)")
    for axis in (*plot.xaxis, *plot.yaxis):
        axis.major_label_text_color = axis.axis_label_text_color = GREY
        axis.axis_line_color = axis.major_tick_line_color = axis.minor_tick_line_color = GREY
    plot.grid.grid_line_alpha = 0.25
    plot.grid.grid_line_color = GREY
    plot.outline_line_alpha = 0.0
