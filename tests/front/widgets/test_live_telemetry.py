"""Telemetry in a cell: one a cluster, a picture where it cannot be live, an end with the cluster; over a real one."""

from __future__ import annotations

import threading

import pytest

from exo_lab import hearing
from exo_lab.cluster import Cluster
from exo_lab.core.errors import NotConnected
from exo_lab.core.watching import Watching, with_thresholds
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
