"""The verbs that draw, as cells: what they return shows itself, what is wrong is said."""

from __future__ import annotations

import json
import threading

import pytest

from exo_lab.cluster import Cluster
from exo_lab.front.panel_messages import VIEW_MIME
from exo_lab.front.widgets import HeatView, LiveView
from exo_lab.node.parts import NodeOptions
from exo_lab.transport.keys import new_token
from tests.tiny import tiny_config, write_gguf


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


def test_monitor_in_a_cell_is_the_charts_and_records_until_they_end(run, node, real, tmp_path):
    path = tmp_path / "m.jsonl"
    view = run(f"view = %exo monitor --interval 250ms --for 600ms --record {path}\nview").value
    assert "CPU load" in view.html()
    deadline = threading.Event()
    for _ in range(200):
        if not view.running:
            break
        deadline.wait(0.05)
    assert not view.running
    assert [json.loads(line)["nodes"][0]["name"] for line in path.read_text().splitlines()] == ["only"] * 3
