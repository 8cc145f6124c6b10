"""Bokeh's charts: as many messages for many devices as for one, flat memory, nothing asked of the network."""

from __future__ import annotations

import math
import sys

import pytest
from bokeh.core.json_encoder import serialize_json
from bokeh.document import Document

from exo_lab.core.watching import RULES
from exo_lab.front.roster import Roster
from exo_lab.front.widgets.charts import DRAWN, Charts
from exo_lab.front.widgets.charts_legend import legend_html
from exo_lab.front.widgets.history import METRICS, MOMENTS, History, Moment, Reading, with_rules
from tests.front import scenes


def moment(at: float, ids: list[str], load: float | None = 0.5) -> Moment:
    return Moment(at, tuple((id_, Reading(load=load, stage_s=0.004)) for id_ in ids))


def named(ids: list[str]) -> Roster:
    return Roster([scenes.device(int(id_, 16)) for id_ in ids])


def ids(count: int) -> list[str]:
    return [f"{i:012x}" for i in range(1, count + 1)]


@pytest.mark.parametrize("count", [1, 8])
def test_a_look_is_one_change_of_the_document_however_many_devices_there_are(count):
    charts = Charts(History(), named(ids(count)))
    document, changes = Document(), []
    charts.push(moment(1.0, ids(count)), named(ids(count)))
    document.add_root(charts.layout)
    document.on_change(changes.append)
    charts.push(moment(2.0, ids(count)), named(ids(count)))
    assert len(changes) == 1


def test_ten_minutes_and_more_of_four_looks_a_second_stay_flat():
    charts, roster = Charts(History(), named(ids(3))), named(ids(3))
    document = Document()
    document.add_root(charts.layout)
    for i in range(MOMENTS):
        charts.push(moment(0.25 * i, ids(3)), roster)
    models = len(document.models)

    def size() -> int:
        return sum(sys.getsizeof(column) for column in charts.source.data.values())

    full = size()
    for i in range(MOMENTS, MOMENTS + 500):
        charts.push(moment(0.25 * i, ids(3)), roster)
    assert {len(column) for column in charts.source.data.values()} == {MOMENTS}
    assert size() <= full * 1.2
    assert len(document.models) == models


def test_a_node_that_comes_later_has_a_gap_before_and_one_that_goes_has_one_after():
    charts, roster = Charts(History(), named(ids(2))), named(ids(2))
    charts.push(moment(1.0, ids(1)), roster)
    charts.push(moment(2.0, ids(2)), roster)
    charts.push(moment(3.0, ids(1)), roster)
    late = charts.source.data["load_1"]
    assert [math.isnan(value) for value in late] == [True, False, True]
    assert late[1] == pytest.approx(50.0)


def test_what_was_measured_while_it_was_paused_is_drawn_afterwards():
    history, roster = History(), named(ids(1))
    charts = Charts(history, roster)
    for at in (1.0, 2.0, 3.0):
        history.add(moment(at, ids(1)), {})
    charts.catch_up(history, roster)
    charts.catch_up(history, roster)
    assert list(charts.source.data["at"]) == [1000.0, 2000.0, 3000.0]


def test_of_more_devices_than_can_be_told_apart_it_says_how_many_are_not_drawn():
    everyone = ids(DRAWN + 5)
    charts, roster = Charts(History(), named(everyone)), named(everyone)
    charts.push(moment(1.0, everyone), roster)
    assert len(charts.slots) == DRAWN
    assert "and 5 more are not drawn" in charts.legend.text
    charts.push(moment(2.0, everyone[:DRAWN]), roster)
    assert "not drawn" not in charts.legend.text


def test_a_device_that_is_gone_gives_its_line_to_one_that_comes():
    everyone = ids(DRAWN + 2)
    charts, roster = Charts(History(), named(everyone)), named(everyone)
    charts.push(moment(1.0, everyone[:DRAWN]), roster)
    lines = len(charts.figures[0].renderers)
    charts.push(moment(2.0, everyone[1:DRAWN]), roster)
    charts.push(moment(3.0, everyone[2:]), roster)  # the first has been gone for longest; it and the second go
    assert set(charts.slots) == set(everyone[2:])
    assert "not drawn" not in charts.legend.text
    assert len(charts.figures[0].renderers) == lines
    slot = charts.slots[everyone[-1]]
    assert slot in (0, 1)
    assert [math.isnan(value) for value in charts.source.data[f"load_{slot}"]] == [True, True, False]
    mark = roster[everyone[-1]].mark
    assert charts.figures[0].renderers[slot].glyph.line_color == mark.colour
    assert f"{roster[everyone[-1]].name} " in charts.export.args["labels"][f"load_{slot}"]


def test_a_clock_that_is_set_back_starts_the_charts_anew():
    history, roster = History(), named(ids(1))
    charts = Charts(history, roster)
    for at in (5000.0, 5000.5, 1400.0, 1400.5):
        history.add(moment(at, ids(1)), {})
        charts.catch_up(history, roster)
    assert list(charts.source.data["at"]) == [1_400_000.0, 1_400_500.0]
    assert list(charts.source.data["load_0"]) == [50.0, 50.0]


def test_a_number_that_changes_with_who_comes_changes_on_the_lines_too():
    charts = Charts(History(), named(ids(1)))
    first, early = scenes.device(1, "b"), scenes.device(2, "a")
    charts.push(moment(1.0, ids(1)), Roster([first]))
    roster = Roster([first, early])
    charts.push(moment(2.0, ids(2)), roster)
    drawn = charts.figures[0].renderers
    assert [one.glyph.line_color for one in drawn] == [roster[id_].mark.colour for id_ in ids(2)]


def test_thresholds_are_drawn_and_lines_differ_in_more_than_colour():
    charts = Charts(History(), named(ids(3)), with_rules(METRICS, RULES))
    charts.push(moment(1.0, ids(3)), named(ids(3)))
    memory, load = (charts.figures[[metric.key for metric in METRICS].index(key)] for key in ("memory", "load"))
    spans = [[one.location for one in drawn.center if type(one).__name__ == "Span"] for drawn in (memory, load)]
    assert spans == [[85.0], []]
    assert len({str(one.glyph.line_dash) for one in memory.renderers}) == 3


def test_a_chart_without_figures_has_axes_and_says_that_there_are_none():
    history = History()
    history.add(moment(1.0, ids(1), load=0.4), {})
    charts = Charts(history, named(ids(1)))
    shown = dict(zip((metric.key for metric in METRICS), zip(charts.figures, charts.remarks, strict=True), strict=True))
    figure, remark = shown["tokens_per_s"]
    assert (figure.y_range.start, figure.y_range.end) == (0, 1)
    assert remark.visible
    assert remark.text == "no tokens yet"
    figure, remark = shown["stage_s"]
    assert figure.y_range.end == pytest.approx(5)  # 4 ms
    assert not remark.visible


def test_the_table_has_a_column_for_each_line_and_a_row_for_each_figure():
    charts, roster = Charts(History(), named(ids(3))), named(ids(3))
    charts.push(moment(1.0, ids(3)), roster)
    given = charts.tabulate.args
    assert [slot for _, slot in given["devices"]] == [0, 1, 2]
    assert [label for label, _ in given["devices"]] == [roster[id_].label for id_ in ids(3)]
    assert [key for key, *_ in given["metrics"]] == [metric.key for metric in METRICS]
    assert given["source"] is charts.source


def test_a_name_from_a_peer_is_neither_markup_nor_a_template():
    hostile = Roster([scenes.device(1, "<img src=x>@at $x")])
    charts = Charts(History(), hostile)
    charts.push(moment(1.0, ids(1)), hostile)
    assert "<img" not in legend_html(hostile, ids(1))
    document = Document()
    document.add_root(charts.layout)
    tips = [tool.tooltips[0][1] for figure in charts.figures for tool in figure.tools if hasattr(tool, "tooltips")]
    assert tips
    assert all("@" not in tip and "$" not in tip for tip in tips)
    assert "http" not in serialize_json(document.to_json()).replace("http://www.w3.org", "")
