"""Telemetry in a cell: one a cluster, a picture where it cannot be live, an end with the cluster; over a real one."""

from __future__ import annotations

import json
import threading

import bokeh
import pytest

from exo_lab import hearing
from exo_lab.cluster import Cluster
from exo_lab.core.errors import NotConnected
from exo_lab.core.watching import Watching, with_thresholds
from exo_lab.front.panel_messages import CHARTS_MIME
from exo_lab.front.widgets import live_telemetry, place, telemetry
from exo_lab.node.parts import NodeOptions
from exo_lab.transport.keys import new_token


class Outputs:
    """What is published, and an event for every one of it."""

    def __init__(self) -> None:
        self.all: list[tuple[dict, str, bool]] = []
        self.updated = threading.Event()

    def __call__(self, data, metadata=None, *, transient, update=False, **_) -> None:
        self.all.append((data, transient["display_id"], update))
        if update:
            self.updated.set()


@pytest.fixture
def outputs(monkeypatch):
    made = Outputs()
    monkeypatch.setattr("IPython.display.publish_display_data", made)
    monkeypatch.setattr(live_telemetry, "_load_bokeh", lambda: None)
    return made


@pytest.fixture
def cluster():
    watching = with_thresholds(Watching(), {"memory": 20.0})
    with Cluster(NodeOptions(name="only", engine="numpy", watching=watching), new_token()) as made:
        yield made
    last = live_telemetry.watching(made)
    if last is not None and last._sampler._thread is not threading.current_thread():
        last._sampler._thread.join(10)
    assert hearing.ears() == ()


def test_it_measures_at_once_and_shows_a_picture_where_nothing_can_be_live(cluster, outputs):
    made = telemetry(cluster)
    made._ipython_display_()
    ((data, _, update),) = outputs.all
    assert not update
    assert set(data) == {"text/html", "text/plain"}
    assert "only" in data["text/plain"]
    assert "CPU load" in data["text/html"]
    assert "<script" not in data["text/html"]
    assert "threshold 20 %" in data["text/html"]


@pytest.mark.parametrize(("where", "said"), [("vscode", "VS Code does not show"), ("colab", "Colab does not show")])
def test_a_front_end_that_cannot_show_it_live_is_told_so(cluster, outputs, monkeypatch, where, said):
    monkeypatch.setattr(live_telemetry, "place", lambda: where)
    telemetry(cluster)._ipython_display_()
    assert said in outputs.all[0][0]["text/html"]


def test_in_jupyter_it_is_live_beside_its_picture_and_becomes_one_at_the_end(cluster, outputs, monkeypatch):
    monkeypatch.setattr(live_telemetry, "place", lambda: "jupyter")
    made = telemetry(cluster)
    made._ipython_display_()
    live = outputs.all[0][0]
    assert "application/vnd.jupyter.widget-view+json" in live
    assert "text/html" in live
    assert live[CHARTS_MIME] == {"bokeh": bokeh.__version__}
    made.close()
    made.close()
    last, display_id, update = outputs.all[-1]
    assert update
    assert display_id == outputs.all[0][1]
    assert set(last) == {"text/html", "text/plain"}
    assert len(outputs.all) == 2


def test_a_new_one_takes_over_the_history_and_ends_the_old_one(cluster, outputs):
    first = telemetry(cluster)
    began = first.history.moments[0].at
    second = telemetry(cluster)
    assert not first.running
    assert second.running
    assert second.history.moments[0].at == began
    assert len(hearing.ears()) == 1
    assert live_telemetry.watching(cluster) is second


def test_leaving_the_cluster_ends_it_and_keeps_what_was_measured(outputs, monkeypatch):
    monkeypatch.setattr(live_telemetry, "place", lambda: "jupyter")
    cluster = Cluster(NodeOptions(name="leaver", engine="numpy"), new_token())
    try:
        made = telemetry(cluster, every_s=0.25)
        made._ipython_display_()
    finally:
        cluster.close()
    assert outputs.updated.wait(10)
    assert not made.running
    assert made.csv().count("\n") >= 2


def test_a_paused_one_goes_on_measuring(cluster, outputs, monkeypatch):
    monkeypatch.setattr(live_telemetry, "place", lambda: "jupyter")
    made = telemetry(cluster)
    made._sampler.stop()  # its looks are made here, one by one
    made._sampler._over.clear()
    made._sampler._thread = threading.current_thread()
    made._ipython_display_()
    drawn = made._charts.drawn_to
    made.pause()
    made._sampler.look()
    assert made._charts.drawn_to == drawn
    made.resume()
    made._sampler.look()
    assert made._charts.drawn_to == made.history.moments[-1].at
    assert len(made._charts.source.data["at"]) == len(made.history.moments)


def test_a_page_that_comes_later_gets_what_was_measured_until_then(cluster, outputs, monkeypatch):
    monkeypatch.setattr(live_telemetry, "place", lambda: "jupyter")
    made = telemetry(cluster)
    made._sampler.stop()
    made._sampler._over.clear()
    made._sampler._thread = threading.current_thread()
    made._ipython_display_()
    for _ in range(3):
        made._sampler.look()
    looks = [json.dumps(one.at * 1e3) for one in made.history.moments]
    assert len(looks) == 4
    first, now = (state["render_bundle"] for state in (made._shown.get_state("render_bundle"), made._shown.get_state()))
    assert [look in first for look in looks] == [True, False, False, False]
    assert all(look in now for look in looks)


@pytest.mark.parametrize("missed", range(3))
def test_a_page_that_comes_in_the_middle_of_a_change_hears_of_all_that_follow(cluster, outputs, monkeypatch, missed):
    made = telemetry(cluster)
    made._sampler.stop()
    widget, charts = made._draw()
    told: list[str] = []
    monkeypatch.setattr(widget, "send", lambda content: told.append(content["payload"]))
    try:
        for at in range(5):
            charts.source.stream({name: [float(at)] for name in charts.source.data})
    finally:
        live_telemetry._end(widget)
    heard = told[missed:]
    contents = [json.loads(heard[i + 2]) for i in range(0, len(heard) - 2, 3)]  # as BokehJS's Receiver counts
    streamed = [dict(one["events"][0]["data"]["entries"]) for one in contents]
    assert [one["at"] for one in streamed][-4:] == [[1.0], [2.0], [3.0], [4.0]]


def test_what_a_page_repeats_of_the_data_is_not_taken_for_more_of_it(cluster, outputs, monkeypatch):
    monkeypatch.setattr(live_telemetry, "place", lambda: "jupyter")
    made = telemetry(cluster)
    made._sampler.stop()
    widget, charts = made._draw()
    try:
        source, before = charts.source, dict(charts.source.data)
        streamed = {"kind": "ColumnsStreamed", "model": source.ref, "data": {"at": [1.0]}, "rollover": None}
        replaced = {"kind": "ModelChanged", "model": source.ref, "attr": "data", "new": {"at": [1.0]}}
        paused = {"kind": "ModelChanged", "model": charts.pause.ref, "attr": "active", "new": True}
        for said in (streamed, replaced, paused):
            widget._handle_custom_msg({"event": "jsevent", **said}, [])
        assert dict(source.data) == before
        assert charts.pause.active
    finally:
        live_telemetry._end(widget)


def test_a_csv_is_written_where_it_is_asked_for(cluster, outputs, tmp_path):
    made = telemetry(cluster)
    made.csv(tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text().startswith("at_s,device,name,")


def test_a_kernel_that_is_no_node_is_told_how_to_become_one():
    with pytest.raises(NotConnected, match="%exo connect"):
        telemetry()


@pytest.mark.parametrize(
    ("environment", "modules", "kernel", "expected"),
    [
        ((), (), False, "terminal"),
        (("VSCODE_PID",), (), False, "terminal"),
        ((), (), True, "jupyter"),
        (("VSCODE_CWD",), (), True, "vscode"),
        (("COLAB_RELEASE_TAG",), (), True, "colab"),
        ((), ("google.colab",), True, "colab"),
    ],
)
def test_the_place_is_told_by_the_environment(environment, modules, kernel, expected):
    assert place.place(environment, modules, kernel) == expected
