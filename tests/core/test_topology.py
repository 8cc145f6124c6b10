"""Merging topologies is commutative, associative and idempotent (law 4): all nodes end with the same picture."""

from __future__ import annotations

import itertools
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exo_lab.core.device import Device, device_id
from exo_lab.core.topology import Sighting, Topology, link, topology

IDS = ("a", "b", "c")
devices = st.builds(Device, id=st.sampled_from(IDS), name=st.sampled_from(("x", "y")), memory_bytes=st.integers(0, 2))
sightings = st.builds(Sighting, device=devices, version=st.integers(0, 2))
links = st.builds(
    lambda ends, kind, at, latency: link(*ends, kind=kind, measured_at=at, latency_s=latency),
    st.sampled_from(list(itertools.permutations(IDS, 2))),
    st.sampled_from(("ethernet", "wifi")),
    st.sampled_from((0.0, 1.0, 2.0)),
    st.none() | st.sampled_from((0.0, 0.5)),
)
graphs = st.builds(topology, st.lists(sightings, max_size=4), st.lists(links, max_size=4))


@given(graphs, graphs)
def test_merging_is_commutative(a, b):
    assert a.merge(b) == b.merge(a)


@given(graphs, graphs, graphs)
def test_merging_is_associative(a, b, c):
    assert a.merge(b).merge(c) == a.merge(b.merge(c))


@given(graphs, graphs)
def test_merging_is_idempotent_and_the_empty_topology_is_neutral(a, b):
    merged = a.merge(b)
    assert merged.merge(b) == merged == merged.merge(merged)
    assert a.merge(Topology()) == a == Topology().merge(a)


@given(st.lists(graphs, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_gossip_in_any_order_with_repeats_ends_the_same(parts, random):
    def gossip():
        order = [*parts, *random.choices(parts, k=3)]
        random.shuffle(order)
        end = Topology()
        for part in order:
            end = end.merge(part)
        return end

    first, second = gossip(), gossip()
    assert first == second


@given(graphs, graphs)
def test_nothing_is_lost_and_the_later_description_wins(a, b):
    merged = a.merge(b)
    assert {one.id for one in merged.devices} == {one.id for one in (*a.devices, *b.devices)}
    for one in merged.sightings:
        versions = [other.version for other in (*a.sightings, *b.sightings) if other.device.id == one.device.id]
        assert one.version == max(versions)
    for edge in merged.links:
        same = [
            other for other in (*a.links, *b.links) if (other.a, other.b, other.kind) == (edge.a, edge.b, edge.kind)
        ]
        assert edge.measured_at == max(other.measured_at for other in same)


def test_a_link_whose_age_is_not_a_number_loses_in_either_order():
    odd, good = topology((), [link("a", "b", measured_at=math.nan)]), topology((), [link("a", "b", measured_at=1.0)])
    assert odd.merge(good) == good.merge(odd) == good


@given(graphs, st.sampled_from(IDS))
def test_without_a_device_its_links_are_gone_too(graph, gone):
    rest = graph.without(gone)
    assert rest.device(gone) is None
    assert all(gone not in (edge.a, edge.b) for edge in rest.links)
    assert all(rest.device(one.id) == one for one in graph.devices if one.id != gone)


def test_a_link_has_two_ends_in_one_order_and_may_be_one_of_several():
    graph = topology((), [link("b", "a", kind="ethernet"), link("a", "b", kind="wifi"), link("a", "c")])
    assert [edge.kind for edge in graph.between("b", "a")] == ["ethernet", "wifi"]
    assert graph.between("b", "c") == ()
    with pytest.raises(ValueError, match="carrier-pigeon"):
        link("a", "b", kind="carrier-pigeon")


@given(st.binary(), st.binary())
def test_a_device_id_depends_on_nothing_but_the_key(one, other):
    assert (device_id(one) == device_id(other)) == (one == other)
    assert len(device_id(one)) == 12
    int(device_id(one), 16)


@given(graphs, st.sets(st.sampled_from(IDS)))
def test_residents_are_those_who_do_not_visit_with_the_links_between_them(graph, visiting):
    said = [
        msgspec.structs.replace(one, device=msgspec.structs.replace(one.device, visits=one.device.id in visiting))
        for one in graph.sightings
    ]
    rest, there = topology(said, graph.links).residents, {device.id for device in graph.devices}
    assert {device.id for device in rest.devices} == there - visiting
    assert set(rest.links) == {edge for edge in graph.links if not {edge.a, edge.b} & visiting & there}
