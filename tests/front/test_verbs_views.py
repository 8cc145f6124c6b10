"""The verbs that draw, as cells: what they return shows itself, what is wrong is said."""

from __future__ import annotations

import json
import queue
import threading
import time

import pytest

from exo_lab.cluster import Cluster
from exo_lab.core.errors import ConfigError
from exo_lab.front.panel_messages import VIEW_MIME
from exo_lab.front.recording import Recording
from exo_lab.front.screen import CellScreen
from exo_lab.front.widgets import HeatView, LiveView
from exo_lab.front.widgets.live_telemetry import watching
from exo_lab.front.widgets.monitored import Recorder
from exo_lab.node.parts import NodeOptions
from exo_lab.transport.keys import new_token
from tests.front.fakes import FakeCluster
from tests.tiny import tiny_config, write_gguf

WITHIN_S = 20.0


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    write_gguf(path, tiny_config())
    with Cluster(NodeOptions(name="only", engine="numpy"), new_token()) as made:
        made.load(str(path), context=64)
        yield made


@pytest.fixture
def node(shell, backend, real):
    """The shell's cluster is a real one; it is not closed with the shell."""
    magics = shell.magics_manager.registry["ExoMagics"]
    backend.current = lambda: real
    backend.require = lambda: real
    yield magics
    backend.current = lambda: None


@pytest.mark.parametrize("verb", ["topology", "placement"])
def test_live_views_have_verbs(run, node, verb):
    ran = run(f"%exo {verb}")
    assert isinstance(ran.value, LiveView)
    assert VIEW_MIME in ran.value.bundle()
    assert "only" in ran.value.text()


def test_the_heatmap_is_of_the_last_answer_or_of_a_kept_one(run, node, tmp_path):
    assert "no answer was asked for" in str(run("%exo heatmap").error)
    run("%%exo --raw --max-tokens 8 -o answer\nthe cat")
    last, kept = run("%exo heatmap").value, run("%exo heatmap answer --last 3").value
    assert isinstance(last, HeatView)
    assert len(last.heat.splits) == 7
    assert len(kept.heat.splits) == 3
    assert "layers 0" in last.html()
    assert last.bundle()[VIEW_MIME]["follow"]
    assert not kept.bundle()[VIEW_MIME]["follow"]
    assert len(kept.bundle()[VIEW_MIME]["answer"]["tokens"]) == 4
    run(f"%exo heatmap answer --csv {tmp_path / 'heat.csv'}")
    assert (tmp_path / "heat.csv").read_text().count("\n") == 8
    assert "rows holds no answer" in str(run("rows = 3\n%exo heatmap rows").error)
    assert "1 token or more" in str(run("%exo heatmap --last 0").error)
    assert "cannot be written" in str(run(f"%exo heatmap --csv {tmp_path}/no/folder.csv").error)


def test_telemetry_shows_a_picture_here_and_writes_what_it_measured(run, node, real, tmp_path):
    assert "Run %exo telemetry first" in str(run(f"%exo telemetry --csv {tmp_path / 't.csv'}").error)
    ran = run("view = %exo telemetry --every 0.25")
    assert ran.error is None
    shown = run("view")
    assert "CPU load" in shown.outputs[-1]["data"]["text/html"]
    ran = run(f"%exo telemetry --csv {tmp_path / 't.csv'}")
    assert "lines of figures" in ran.value.text()
    assert ",only," in (tmp_path / "t.csv").read_text()
    node.shell.user_ns["view"].close()


def test_verbs_that_draw_need_a_node(run):
    for verb in ("topology", "placement", "telemetry"):
        assert "%exo connect" in str(run(f"%exo {verb}").error)


def test_topology_is_shown_in_the_form_that_was_asked_for(run, node, tmp_path):
    shown = run("%exo topology show").value
    assert "1 only" in shown.text()
    assert "<svg" in shown.html()
    assert "layers held" in run("%exo topology --table").value.text()
    assert '"name": "only"' in run("%exo topology --json").value.text()
    run(f"%exo topology show --svg {tmp_path / 'cluster.svg'}")
    assert (tmp_path / "cluster.svg").read_text().startswith("<svg")


def test_monitor_in_a_cell_is_the_charts_and_records_for_its_time(run, node, real, tmp_path):
    path = tmp_path / "m.jsonl"
    ran = run(f"view = %exo monitor --interval 250ms --for 600ms --record {path}\nview")
    assert "CPU load" in ran.value.html()
    until(lambda: not ran.value.running)
    until(lambda: "Recorded: 3 looks in" in said(ran)[-1])
    assert [json.loads(line)["nodes"][0]["name"] for line in path.read_text().splitlines()] == ["only"] * 3
    assert "Recording for 0.6 s into" in said(ran)[0]


def test_a_recording_outlives_its_charts_and_is_ended_by_name(run, node, tmp_path):
    path, other = tmp_path / "m.jsonl", tmp_path / "other.csv"
    assert "nothing is being recorded" in str(run("%exo monitor --record off").error)
    first = run(f"%exo monitor --interval 250ms --record {path}")
    assert "--record off ends it" in said(first)[0]
    view = run("view = %exo telemetry --every 0.25\nview").value
    looks = path.read_text().count("\n")
    until(lambda: path.read_text().count("\n") > looks)
    assert "cannot be written" in str(run(f"%exo monitor --record {tmp_path}/no/m.csv").error)
    second = run(f"%exo monitor --interval 250ms --record {other}")
    looks = path.read_text().count("\n")
    assert f"Recorded: {looks} looks in {path}" in said(first)[-1]
    assert f"Recorded: {looks} looks in {path}" in said(second)[0]
    assert f"in {other}" in run("%exo monitor --record off").value.text()
    assert f"in {other}" in said(second)[-1]
    assert path.read_text().count("\n") == looks
    assert not any(one.name == "exo-monitor" for one in threading.enumerate())
    assert view.running is False
    node.shell.user_ns["view"].close()
    watching(node.backend.require()).close()


def test_what_breaks_a_recording_off_is_said_in_its_output(run, node, tmp_path, monkeypatch):
    def full(*_):
        raise ConfigError("the disk is full")

    monkeypatch.setattr("exo_lab.front.recording.Recording.add", full)
    ran = run(f"%exo monitor --interval 250ms --for 1s --record {tmp_path / 'm.csv'}")
    until(lambda: "The recording broke off: the disk is full" in said(ran)[-1])
    assert "Recorded: 0 looks in" in said(ran)[-1]
    watching(node.backend.require()).close()


def test_a_recording_ends_with_the_cluster(tmp_path):
    left, shown = FakeCluster(), queue.Queue()
    screen = CellScreen(lambda data, *_, **__: shown.put(data["text/plain"]))
    Recorder(left, screen, Recording(str(tmp_path / "m.csv")), every_s=3600.0).start([])
    assert shown.get(timeout=WITHIN_S).startswith("Recording into")
    left.close()
    assert shown.get(timeout=WITHIN_S).endswith("This node has left the cluster.")


def said(ran) -> list[str]:
    """What was shown in the first output of a cell, in the end too."""
    first = ran.outputs[0]["transient"]
    return [one["data"]["text/plain"] for one in list(ran.outputs) if one["transient"] == first]


def until(condition) -> None:
    ends = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < ends
        threading.Event().wait(0.02)
