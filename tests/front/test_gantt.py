"""The Gantt chart of a simulation: nothing is lost when small bars are put together, and nothing is drawn unmarked."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections import defaultdict
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exo_lab.core.errors import ConfigError
from exo_lab.front.gantt import SEVERAL, chart, ticks
from exo_lab.front.gantt_svg import gantt_svg
from exo_lab.front.gantt_view import GanttView
from exo_lab.planning.simulation.run import simulate
from exo_lab.planning.simulation.scenario import Fail, Request, Scenario
from tests.planning.clusters import device, model, problem

COMPUTING = ("prefill", "decode")


def simulated(names="abc", requests=3, answer=40, changes=(), **fields):
    links = [(a, b, 2e-3, 1e7) for a, b in itertools.combinations(names, 2)]
    task = problem([device(name) for name in names], links, context_tokens=2000, sessions=2)
    asked = tuple(Request(prompt_tokens=300, answer_tokens=answer, at_s=0.2 * at) for at in range(requests))
    return simulate(Scenario(problem=task, strategy="uniform", requests=asked, changes=tuple(changes), **fields))


def failing():
    return simulated(changes=[Fail(at_s=0.8, device="a")], load_bytes_per_s=50e6)


def busy(parts, of):
    """Seconds by (device or row, computing or not)."""
    found = defaultdict(float)
    for part in parts:
        found[of(part), "computing" if part.kind in COMPUTING else part.kind] += (
            part.busy_s if hasattr(part, "busy_s") else part.end_s - part.start_s
        )
    return found


@settings(max_examples=20, deadline=None)
@given(steps=st.sampled_from([1, 7, 100, 5000]), requests=st.integers(1, 5))
def test_whatever_is_put_together_the_busy_time_stays_and_bars_do_not_overlap(steps, requests):
    made = simulated(requests=requests)
    shown = chart(made, steps=steps)
    expected = busy(made.spans, lambda span: span.device)
    found = busy(shown.bars, lambda bar: shown.rows[bar.row].device)
    assert found == pytest.approx(expected)
    assert sum(bar.spans for bar in shown.bars) == len(made.spans)
    for row in range(len(shown.rows)):
        for kinds in (COMPUTING, ("link",), ("load",)):
            lane = sorted((bar for bar in shown.bars if bar.row == row and bar.kind in kinds), key=lambda b: b.start_s)
            assert all(a.end_s <= b.start_s + 1e-9 for a, b in itertools.pairwise(lane))
    assert all(0 < bar.share <= 1 for bar in shown.bars)


def test_bars_are_bounded_by_what_can_be_told_apart_and_not_by_the_length_of_the_simulation():
    made = simulated(requests=6, answer=600)
    assert len(made.spans) > 20_000
    assert len(chart(made, steps=100).bars) < 3 * 3 * 2 * 100
    assert any(bar.session == SEVERAL for bar in chart(made, steps=100).bars)


def test_a_window_shows_what_is_in_it_and_cuts_what_sticks_out():
    made = simulated()
    shown = chart(made, start_s=0.3, end_s=0.5)
    assert shown.bars
    assert all(0.3 <= bar.start_s < bar.end_s <= 0.5 for bar in shown.bars)


def test_what_cannot_be_drawn_says_why():
    with pytest.raises(ConfigError, match="no time between 5 s and 2 s"):
        chart(simulated(), start_s=5, end_s=2)
    with pytest.raises(ConfigError, match="keep_spans=True"):
        chart(simulated(keep_spans=False))


@pytest.mark.parametrize(("start", "end"), [(0, 1), (0.31, 0.47), (0, 3600), (12.5, 12.50001)])
def test_ticks_are_round_and_few(start, end):
    found = ticks(start, end)
    assert 2 <= len(found) <= 10
    assert all(start <= at <= end for at in found)


def test_the_drawing_is_predicted_and_says_what_happened():
    made = failing()
    svg = gantt_svg(made)
    root = ElementTree.fromstring(svg)
    text = " ".join(root.itertext())
    assert "predicted" in text
    assert "predicted" in root.attrib["aria-label"]
    assert "it is noticed that a is gone" in text
    assert "<script" not in svg
    assert " id=" not in svg
    assert "stroke-dasharray" in svg


def test_names_from_peers_are_harmless():
    hostile = msgspec.structs.replace(device("a"), name="<script>alert(1)</script>\x1b[2J")
    task = problem([hostile], context_tokens=100)
    made = simulate(Scenario(problem=task, requests=(Request(prompt_tokens=1, answer_tokens=3),)))
    view = GanttView(made)
    assert "<script>" not in view.html()
    assert "\x1b" not in view.text() + view.html()


def test_many_devices_are_counted_and_not_drawn():
    names = [f"d{at:02d}" for at in range(20)]
    links = [(names[0], name, 1e-3, 1e8) for name in names[1:]]
    task = problem([device(name) for name in names], links, config=model(20), context_tokens=100)
    made = simulate(Scenario(problem=task, strategy="uniform", requests=(Request(prompt_tokens=1, answer_tokens=2),)))
    assert "and 4 devices more" in gantt_svg(made)
    assert "and 4 devices more" in GanttView(made).text()


def test_the_view_has_devices_requests_and_what_went_wrong():
    made = simulated("a", requests=1, answer=100, changes=[Fail(at_s=0.5, device="a")])
    text = GanttView(made).text()
    assert "predicted" in text
    assert "no device to plan for" in text
    assert "a fails" in text


def test_the_bokeh_figure_shows_the_same_bars():
    from exo_lab.front.gantt_bokeh import HEIGHTS, STEPS, gantt_figure

    made = failing()
    plot: Any = gantt_figure(made)
    assert type(GanttView(made).figure()) is type(plot)
    shown = chart(made, steps=STEPS)
    drawn = [renderer.data_source.data for renderer in plot.renderers]
    assert len(drawn) == len(HEIGHTS)
    assert sum(len(data["left"]) for data in drawn) == len(shown.bars)
    assert "predicted" in plot.title.text
    assert [name.split(" ·")[0] for name in plot.y_range.factors] == [row.name for row in reversed(shown.rows)]


def test_bokeh_is_imported_when_a_figure_is_made_and_not_before():
    code = "import sys, exo_lab.front.gantt_bokeh, exo_lab.front.gantt_view; sys.exit('bokeh' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
