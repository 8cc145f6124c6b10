"""Charts are pure pictures: peaks survive, hostile names do not, every device can be told without colour."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exo_lab.core.topology import link
from exo_lab.core.watching import RULES, Watching, with_thresholds
from exo_lab.front.widgets.charts_svg import POINTS, ceiling, thinned
from exo_lab.front.widgets.history import METRICS, History, Moment, Paced, Reading, moment, with_rules
from exo_lab.front.widgets.telemetry_view import NOTHING, TelemetryView
from tests.front import scenes


def history(moments: int = 40, members=None) -> History:
    made = History()
    members = members or scenes.devices()
    status = scenes.status(nodes=scenes.nodes(members))
    links = [
        link(f"{99:012x}", one.id, latency_s=2e-4 * (i + 1), bandwidth_bytes_per_s=2e9) for i, one in enumerate(members)
    ]
    for i in range(moments):
        paced = Paced(30.0 + i % 5, tuple((one.id, 0.004 + 0.001 * (i % 3)) for one in members))
        names = {node.device.id: node.device.name for node in status.nodes}
        made.add(moment(1000.0 + i, status, links, None, paced), names)
    return made


def everyone(members=None):
    return [node.device for node in scenes.nodes(members or scenes.devices())]


def test_the_picture_is_well_formed_and_says_in_words_what_it_shows():
    view = TelemetryView(history(), everyone(), with_rules(METRICS, RULES))
    picture = view.html()
    svg = ElementTree.fromstring(picture[picture.index("<svg") : picture.index("</svg>") + 6])
    said = svg.get("aria-label", "")
    assert "kernel-1" in said
    assert "CPU load" in said
    assert "threshold 85 %" in picture
    assert "emulated" in picture


def test_the_text_has_every_figure_that_the_picture_has():
    text = TelemetryView(history(), everyone()).text()
    assert "memory 96 MB, 2x slower" in text
    assert "Stage time, ms" in text
    assert "Requests" not in text  # nobody was asked: no empty row
    assert "25 (25 to 25)" in text


def test_without_a_moment_it_says_so():
    view = TelemetryView(History())
    assert NOTHING in view.text()
    assert NOTHING in view.html()


def test_a_name_from_a_peer_stays_text():
    members = (scenes.device(1, '<script>alert(1)</script>"'), scenes.device(2, "b\x1b[2J"))
    view = TelemetryView(history(members=members), everyone(members))
    assert "<script" not in view.html()
    assert "\x1b" not in view.text()


def test_two_lines_differ_in_more_than_colour():
    picture = TelemetryView(history(), everyone()).html()
    assert 'stroke-dasharray="7 3"' in picture
    assert ">1</text>" in picture
    assert ">2</text>" in picture


@given(st.lists(st.floats(0, 1e12), min_size=1, max_size=2000))
def test_thinning_keeps_the_highest_peak_and_the_order(values):
    series = [(float(i), value) for i, value in enumerate(values)]
    thin = thinned(series)
    assert len(thin) <= POINTS
    assert max(value for _, value in thin) == max(values)
    assert [at for at, _ in thin] == sorted(at for at, _ in thin)


@given(st.lists(st.floats(1e-12, 1e12), min_size=1, max_size=20))
def test_the_axis_ends_at_a_round_number_close_above_the_highest_figure(values):
    top = ceiling(values)
    assert max(values) <= top * (1 + 1e-9)
    assert top <= max(values) * 10 * (1 + 1e-9)


def test_an_axis_of_nothing_has_a_length():
    assert ceiling([]) == ceiling([0.0]) == 1.0


def test_a_figure_above_its_threshold_is_said_in_words():
    hot = History()
    status = scenes.status()
    made = moment(1.0, status)
    device, reading = made.readings[0]
    busy = msgspec.structs.replace(reading, memory=0.97)
    hot.add(msgspec.structs.replace(made, readings=((device, busy),)), {device: "laptop"})
    assert "97 (97 to 97; above 85)" in TelemetryView(hot, everyone(), with_rules(METRICS, RULES)).text()


def test_lines_are_drawn_where_this_nodes_own_rules_put_an_alert_and_nowhere_else():
    rules = with_thresholds(Watching(), {"memory": 20.0, "compute": 0.0}).rules
    lines = {metric.key: metric.threshold for metric in with_rules(METRICS, rules) if metric.threshold is not None}
    assert lines == {"memory": pytest.approx(20), "latency_s": pytest.approx(100), "temperature_c": pytest.approx(80)}
    picture = TelemetryView(history(), everyone(), with_rules(METRICS, rules)).html()
    assert re.findall(r"threshold [^<]*", picture) == ["threshold 20 %"]


def test_a_line_ends_where_nothing_was_measured_and_begins_anew():
    made = History()
    for at in (0.0, 1.0, 2.0, 3.0, 100.0, 101.0, 300.0):
        made.add(Moment(at, ((f"{1:012x}", Reading(load=0.5)),)), {})
    (line,) = re.findall(r'<path d="(M[^"]*)" fill="none" stroke="#0072B2"', TelemetryView(made).html())
    assert line.count("M") == 3
    assert line.endswith("h1")  # one reading alone is a point
