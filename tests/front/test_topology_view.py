"""`topology show`: what is known of a cluster as a tree, tables, a drawing and JSON."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import msgspec
import pytest

from exo_lab.core.status import NodeStatus
from exo_lab.core.topology import Sighting, Topology, link, topology
from exo_lab.front.picture import Picture, picture
from exo_lab.front.svg import as_file
from exo_lab.front.topology_view import TopologyView
from tests.front import scenes

ME = f"{99:012x}"


def shell(members) -> tuple[NodeStatus, ...]:
    """The nodes as a command of the shell sees them."""
    me, *others = scenes.nodes(members)
    command = msgspec.structs.replace(me.device, name="shell-4711", visits=True)
    return (msgspec.structs.replace(me, device=command), *others)


def known(members=None) -> Topology:
    members = members or scenes.devices()
    a, b, c = (member.id for member in members[:3])
    links = [
        link(a, b, kind="loopback", latency_s=0.00018, bandwidth_bytes_per_s=1.2e9, measured_at=5.0),
        link(b, c, kind="loopback", latency_s=0.0002),
        link(a, c, kind="wifi", description="mDNS on wlan0"),
        link(a, ME, kind="loopback", latency_s=0.0003),
    ]
    return topology([Sighting(device=member) for member in members], links)


def seen(**changes) -> Picture:
    fields = {"nodes": shell(scenes.devices()), "known": known(), "models": (scenes.loaded(),), **changes}
    return picture(fields["nodes"], fields["known"], fields["models"])


def test_the_tree_has_every_node_with_its_layers_and_every_link_at_both_of_its_ends():
    text = TopologyView(seen()).text()
    assert text.splitlines()[0] == "3 nodes, 3 links (2 measured); smollm2-135m over 3 nodes"
    assert "1 kernel-1" in text
    assert "holds emb, 0–12" in text  # noqa: RUF001 - an en dash is meant
    assert text.count("loopback, 180 µs, 1.20 GB/s (measured)") == 2
    assert text.count("wifi, not measured, mDNS on wlan0") == 2
    assert text.count("emulated: memory 96 MB, 2x slower") == 1
    assert "shell-" not in text


def test_tables_have_a_row_a_node_and_a_row_a_link():
    view = TopologyView(seen(), tables=True)
    lines = view.text().splitlines()
    assert len(lines) == 1 + 1 + 3 + 1 + 1 + 3
    assert "not measured" in lines[-2]
    assert "mDNS on wlan0" in lines[-2]
    assert "alive" in lines[2]


def test_json_says_everything_with_units_and_no_figure_where_none_was_measured():
    told = json.loads(TopologyView(seen()).json())
    assert [member["device"]["name"] for member in told["members"]] == ["kernel-1", "kernel-2", "kernel-3"]
    assert told["members"][0]["holds"] == [
        {"model": scenes.MODEL, "stage": 0, "start": 0, "end": 13, "n_layers": 30},
    ]
    wifi = next(edge for edge in told["links"] if edge["kind"] == "wifi")
    assert wifi["latency_s"] is None
    assert wifi["description"] == "mDNS on wlan0"


@pytest.mark.parametrize("count", [1, 2, 4, 9])
def test_the_drawing_is_a_file_of_its_own_with_every_node(count):
    members = scenes.devices(count)
    full = topology(
        [Sighting(device=member) for member in members],
        [link(a.id, b.id, latency_s=0.001) for i, a in enumerate(members) for b in members[:i]],
    )
    view = TopologyView(picture(shell(members), full))
    drawn = ElementTree.fromstring(as_file(view.svg()))
    texts = ["".join(element.itertext()) for element in drawn.iter() if element.tag.endswith("text")]
    assert [name for name in texts if name.startswith("kernel-")] == [member.name for member in members]
    assert texts.count("1.00 ms") == (count * (count - 1) // 2 if count <= 4 else 0)


def test_who_is_only_heard_of_is_shown_and_said():
    view = TopologyView(seen(nodes=scenes.nodes(scenes.devices())[:2]))
    states = {member.device.name: member.state for member in view.picture.members}
    assert states == {"laptop": "alive", "kernel-1": "alive", "kernel-2": "heard of", "kernel-3": "heard of"}


def test_an_empty_neighbourhood_says_what_to_do():
    view = TopologyView(picture((), Topology()))
    assert "exo-lab node" in view.text()
    assert "exo-lab node" in view.html()
    assert view.svg() == ""


def test_how_a_peer_says_that_a_link_was_found_cannot_break_out_of_html_or_lines():
    a, b = (member.id for member in scenes.devices()[:2])
    edges = topology(known().sightings, [link(a, b, kind="wifi", description="<script>\n\x1b[31m")])
    view = TopologyView(seen(known=edges))
    assert "<script>" not in view.html()
    assert "\x1b" not in view.text()


def test_names_of_peers_cannot_break_out_of_html_or_lines():
    evil = scenes.device(1, name="<script>alert(1)</script>\n\x1b[31m", chip="<b>", emulated="<i>")
    view = TopologyView(picture(scenes.nodes((evil,)), topology([Sighting(device=evil)])))
    assert "<script>" not in view.html()
    assert "<i>" not in view.html()
    assert "\x1b" not in view.text()
