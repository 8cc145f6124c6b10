"""Live views carry a picture of their moment for readers without a kernel, and no private state."""

from __future__ import annotations

import json

import msgspec
import pytest

from exo_lab.cluster import Cluster
from exo_lab.core.errors import NotConnected
from exo_lab.front.panel_messages import VIEW_MIME, OutputView
from exo_lab.front.widgets import answer, placement, topology
from exo_lab.node.parts import NodeOptions
from exo_lab.transport.keys import new_token
from tests.tiny import tiny_config, write_gguf


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    write_gguf(path, tiny_config())
    with Cluster(NodeOptions(name="only", engine="numpy"), new_token()) as made:
        made.load(str(path), context=64)
        yield made


@pytest.mark.parametrize("make", [topology, placement, answer])
def test_a_view_shows_itself_live_and_still(cluster, make):
    bundle = make(cluster)._repr_mimebundle_()
    assert list(bundle) == [VIEW_MIME, "text/html", "text/plain"]
    json.dumps(bundle, allow_nan=False)
    output = msgspec.convert(bundle[VIEW_MIME], OutputView)
    assert output.snapshot.status is not None
    assert output.snapshot.status.nodes[0].device.name == "only"
    assert "A picture of the moment" in bundle["text/html"]
    assert "only" in bundle["text/html"]
    assert "only" in bundle["text/plain"]
    assert "<script" not in bundle["text/html"]


@pytest.mark.parametrize(
    ("name", "remark"), [("VSCODE_PID", "VS Code does not show"), ("COLAB_RELEASE_TAG", "Colab does not show")]
)
@pytest.mark.parametrize("make", [topology, placement, answer])
def test_where_no_extension_can_be_a_view_is_a_picture_and_says_so(cluster, make, name, remark, monkeypatch):
    monkeypatch.setenv(name, "1")
    monkeypatch.setattr("exo_lab.front.widgets.place.in_kernel", lambda: True)
    bundle = make(cluster)._repr_mimebundle_()
    assert list(bundle) == ["text/html", "text/plain"]
    assert remark in bundle["text/html"]


@pytest.mark.parametrize("make", [topology, placement])
def test_the_picture_is_drawn(cluster, make):
    assert "<svg" in make(cluster)._repr_mimebundle_()["text/html"]


def test_the_picture_holds_nothing_secret(cluster):
    text = json.dumps(topology(cluster)._repr_mimebundle_())
    assert cluster._token not in text


def test_a_kernel_that_is_no_node_is_told_how_to_become_one():
    with pytest.raises(NotConnected, match="%exo connect"):
        topology()
