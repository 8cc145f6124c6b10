"""Telemetry's memory is flat, its figures are what was measured, and what was not measured stays empty."""

from __future__ import annotations

import csv
import io
import sys

import msgspec
import pytest

from exo_lab.core.messages import Stats
from exo_lab.core.status import NodeStatus
from exo_lab.core.topology import link
from exo_lab.front.widgets.history import DEVICES, METRIC, METRICS, History, Moment, Paced, Reading, moment
from tests.front import scenes

HERE, FIRST = f"{99:012x}", f"{1:012x}"


def fill(history: History, seconds: float, every_s: float = 0.25, start: float = 1000.0) -> None:
    for i in range(int(seconds / every_s)):
        status = scenes.status()
        history.add(moment(start + i * every_s, status), {node.device.id: node.device.name for node in status.nodes})


def weight(history: History) -> int:
    """Bytes of everything that a history holds, each object once."""
    seen: set[int] = set()

    def size(value: object) -> int:
        if id(value) in seen or value is None:
            return 0
        seen.add(id(value))
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
        if isinstance(value, msgspec.Struct):
            inner = [getattr(value, name) for name in value.__struct_fields__]
        return sys.getsizeof(value) + sum(map(size, inner))

    return size(list(history.moments)) + size(history.names)


def test_memory_is_flat_over_an_hour_of_four_updates_a_second():
    history = History()
    fill(history, 600)
    full, count = weight(history), len(history.moments)
    fill(history, 3000, start=1600.0)
    assert len(history.moments) == pytest.approx(count, abs=1)
    assert weight(history) <= full * 1.01


def test_what_is_older_than_ten_minutes_is_gone_even_if_few_moments_came():
    history = History()
    for at in range(0, 1201, 60):
        history.add(Moment(float(at), ()), {})
    assert [one.at for one in history.moments] == [float(at) for at in range(600, 1201, 60)]


def test_a_clock_that_is_set_back_starts_anew_and_time_never_runs_backwards():
    history = History()
    fill(history, 10)
    history.add(Moment(3.0, ()), {})
    assert [one.at for one in history.moments] == [3.0]


def test_nodes_that_come_and_go_for_ever_do_not_pile_up():
    history = History(moments=10)
    for i in range(10 * DEVICES):
        history.add(Moment(float(i), ((f"node{i}", Reading()),)), {f"node{i}": "n"})
    assert len(history.names) == DEVICES


def test_a_moment_takes_each_figure_from_where_it_is_measured():
    status = scenes.status()
    made = moment(
        5.0,
        status,
        [link(HERE, FIRST, latency_s=0.0004, bandwidth_bytes_per_s=3e9), link("x", FIRST, latency_s=9.0)],
        {FIRST: Stats(sessions=2)},
        Paced(31.5, ((FIRST, 0.004),)),
    )
    readings = dict(made.readings)
    first = readings[FIRST]
    assert (first.latency_s, first.bandwidth_bytes_per_s) == (0.0004, 3e9)
    assert (first.queue, first.tokens_per_s, first.stage_s, first.load) == (2.0, 31.5, 0.004, 0.25)
    assert first.memory == pytest.approx(1 - 6000 / 8192)
    second = readings[f"{2:012x}"]
    assert (second.queue, second.tokens_per_s, second.stage_s, second.bandwidth_bytes_per_s) == (None,) * 4
    assert second.latency_s == status.nodes[2].latency_s  # the ping's, for want of a better one
    assert readings[HERE].latency_s is None


def test_a_lost_node_has_no_figures():
    lost = msgspec.structs.replace(scenes.nodes(scenes.devices())[1], liveness="lost")
    assert moment(1.0, scenes.status(nodes=(lost,))).readings == ()


def test_series_are_in_the_metrics_unit_and_have_gaps_where_nothing_was_measured():
    history = History()
    for at, value in ((1.0, 0.002), (2.0, None), (3.0, 0.004)):
        history.add(Moment(at, ((FIRST, Reading(stage_s=value)),)), {FIRST: "kernel-1"})
    assert history.series(FIRST, METRIC["stage_s"]) == [(1.0, 2.0), (3.0, 4.0)]
    assert history.series("nobody", METRIC["stage_s"]) == []


def test_the_csv_has_a_line_a_device_and_moment_and_no_formula():
    history = History()
    history.add(Moment(1.5, ((FIRST, Reading(load=0.25, queue=1.0)), ("b", Reading()))), {FIRST: "=cmd()", "b": "b"})
    rows = list(csv.reader(io.StringIO(history.csv())))
    assert rows[0][:3] == ["at_s", "device", "name"]
    assert len(rows[0]) == 3 + len(METRICS)
    assert rows[1][:3] == ["1.500", FIRST, "'=cmd()"]
    assert rows[1][3 + METRICS.index(METRIC["load"])] == "25"
    assert rows[2][3:] == [""] * len(METRICS)


def test_a_node_without_memory_figures_is_no_division_by_zero():
    bare = NodeStatus(device=scenes.device(7, memory_bytes=0), memory_available_bytes=5)
    assert dict(moment(1.0, scenes.status(nodes=(bare,))).readings)[bare.device.id].memory is None
