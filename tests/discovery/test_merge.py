"""Sightings of many discoveries become nodes with ways, the best first, whatever the order they came in."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exo_lab.core.topology import LinkKind
from exo_lab.discovery.base import Found
from exo_lab.discovery.merge import BETTER_BY, RANKS, choose, merge, move

KINDS = get_args(LinkKind)
ADDRESSES = [f"tcp://10.0.{net}.{host}:4000" for net in range(3) for host in (1, 2)]

found = st.builds(
    Found,
    address=st.sampled_from(ADDRESSES),
    source=st.sampled_from(["UDP on eth0", "mDNS on wlan0", "peers.toml, peer 'x'"]),
    name=st.sampled_from(["", "a", "b"]),
    device_id=st.sampled_from(["", "id-a", "id-b"]),
    interface=st.sampled_from(["", "eth0", "wlan0"]),
    kind=st.sampled_from(KINDS),
)
lists = st.lists(found, max_size=12)
measured = st.dictionaries(st.sampled_from(ADDRESSES), st.floats(1e-6, 1.0))
proofs = st.dictionaries(st.sampled_from(ADDRESSES), st.sampled_from(["id-a", "id-b", "id-c"]))


@given(lists, proofs, measured, st.data())
def test_the_order_of_sightings_does_not_matter(seen, known, latency_s, data):
    mixed = data.draw(st.permutations(seen))
    assert merge(mixed, known=known, latency_s=latency_s) == merge(seen, known=known, latency_s=latency_s)


@given(lists, proofs)
def test_seeing_again_changes_nothing(seen, known):
    assert merge([*seen, *seen], known=known) == merge(seen, known=known)


@given(lists, proofs)
def test_no_address_is_lost_and_none_belongs_to_one_node_twice(seen, known):
    nodes = merge(seen, known=known)
    assert {one.address for node in nodes for one in node.ways} == {one.address for one in seen}
    for node in nodes:
        assert len({one.address for one in node.ways}) == len(node.ways)
    named = [node.device_id for node in nodes if node.device_id]
    assert len(named) == len(set(named))


@given(lists, proofs)
def test_who_proved_an_address_to_be_its_own_has_it(seen, known):
    for node in merge(seen, known=known):
        for one in node.ways:
            if one.address in known:
                assert node.device_id == known[one.address]


@given(lists, measured)
def test_ways_are_sorted_by_kind_and_then_by_latency(seen, latency_s):
    for node in merge(seen, latency_s=latency_s):
        keys = [(RANKS[one.kind], latency_s.get(one.address, float("inf"))) for one in node.ways]
        assert keys == sorted(keys)


def test_every_kind_has_a_rank_in_the_promised_order():
    assert set(RANKS) == set(KINDS)
    order = ["loopback", "shared-memory", "thunderbolt", "ethernet", "wifi", "tailscale"]
    assert sorted(order, key=lambda kind: RANKS[kind]) == order
    assert RANKS["thunderbolt"] == RANKS["infiniband"]


def way(address, kind, **fields):
    return Found(address=f"tcp://{address}:4000", source="", device_id="id-a", kind=kind, **fields)


WIFI, ETH, ETH2, TAIL = (
    way("192.168.1.2", "wifi"),
    way("10.0.0.2", "ethernet"),
    way("10.0.5.2", "ethernet"),
    way("100.64.0.2", "tailscale"),
)


def test_one_node_by_two_networks_is_one_node_reached_by_the_better():
    (node,) = merge([WIFI, TAIL, ETH])
    assert node.ways == (ETH, WIFI, TAIL)
    assert node.best == ETH


def test_a_peers_file_and_an_announcement_of_one_address_are_one_way():
    file = Found(address=ETH.address, source="peers.toml, peer 'box'", name="box")
    (node,) = merge([file, ETH])
    assert node.ways == (ETH,)
    (node,) = merge([file], known={ETH.address: "id-a"})
    assert node.device_id == "id-a"


def test_an_address_nobody_knows_is_a_node_of_its_own_until_somebody_answers():
    file = Found(address="tcp://10.9.9.9:4000", source="peers.toml", name="box")
    assert len(merge([file, ETH])) == 2
    (node,) = merge([file, ETH], known={file.address: "id-a"})
    assert [one.address for one in node.ways] == [ETH.address, file.address]


def test_the_way_in_use_changes_when_a_better_kind_appears_and_when_it_vanishes():
    def after(current, *seen, **measured):
        (node,) = merge(seen, **measured)
        return choose(node, current, **measured).address

    assert after(WIFI.address, WIFI) == WIFI.address
    assert after(WIFI.address, WIFI, ETH) == ETH.address
    assert after(ETH.address, WIFI, TAIL) == WIFI.address
    assert after(ETH.address, TAIL) == TAIL.address


def test_ways_of_one_kind_are_changed_for_a_clearly_better_latency_only():
    def using(current_s, other_s):
        latency_s = {ETH.address: current_s, ETH2.address: other_s}
        (node,) = merge([ETH, ETH2], latency_s=latency_s)
        return choose(node, ETH.address, latency_s=latency_s)

    assert using(0.010, 0.010 * BETTER_BY * 1.01) == ETH
    assert using(0.010, 0.010 * BETTER_BY * 0.99) == ETH2
    (node,) = merge([ETH, ETH2], latency_s={ETH2.address: 0.001})
    assert choose(node, ETH.address, latency_s={ETH2.address: 0.001}) == ETH  # nobody knows how fast it is


@given(lists.filter(bool), measured, st.sampled_from(ADDRESSES))
def test_choosing_ends_after_one_change(seen, latency_s, current):
    for node in merge(seen, latency_s=latency_s):
        chosen = choose(node, current, latency_s=latency_s)
        again = choose(node, chosen.address, latency_s=latency_s)
        assert RANKS[again.kind] == RANKS[chosen.kind] == RANKS[node.best.kind]
        last = choose(node, again.address, latency_s=latency_s)
        assert last == again


@pytest.mark.parametrize(
    ("endpoint", "way", "moved"),
    [
        ("tcp://192.168.1.2:4001", "tcp://10.0.0.2:4000", "tcp://10.0.0.2:4001"),
        ("tcp://192.168.1.2:4001", "tcp://[fe80::1]:4000", "tcp://[fe80::1]:4001"),
    ],
)
def test_the_other_ports_of_a_node_are_on_the_same_way(endpoint, way, moved):
    assert move(endpoint, way) == moved
