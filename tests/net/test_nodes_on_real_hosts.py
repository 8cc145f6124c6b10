"""Whole nodes on hosts of their own: they meet through encrypted sockets, and clusters with two secrets never mix."""

from __future__ import annotations

import pytest

from exo_lab.transport.keys import new_token

pytestmark = pytest.mark.slow


def members(*hosts):
    """A condition: exactly these nodes are alive, at their hosts' addresses of now."""
    wanted = {name: host.address for name, host in hosts}
    return lambda said: {name: _host(address) for name, address in said["nodes"].items()} == wanted


def _host(address):
    return address.removeprefix("tcp://").rpartition(":")[0]


def test_of_two_networks_to_one_node_the_better_is_used_and_the_other_when_it_fails(lan, tmp_path):
    token = new_token()
    lan.bridge("air")
    a, b = (lan.host(f"10.88.0.{i}", "wlan0", "air") for i in (1, 2))
    a.run("node", "a", "udp", folder=tmp_path, EXO_LAB_TOKEN=token)
    b.run("node", "b", "udp", folder=tmp_path, EXO_LAB_TOKEN=token)

    def by(address):
        return lambda said: _host(said["nodes"].get("b", "")) == address

    a.until(by("10.88.0.2"), "b is reached by Wi-Fi")
    for host, address in ((a, "10.77.0.1"), (b, "10.77.0.2")):
        host.cable("eth0")
        host.up(address)
    a.until(by("10.77.0.2"), "b is reached by cable, as soon as there is one")
    b.strand("eth0")
    a.until(by("10.88.0.2"), "b is reached by Wi-Fi again")
    assert a.latest()["nodes"].keys() == {"a", "b"}


def test_two_clusters_never_mix_and_a_node_comes_back_under_another_address(lan, tmp_path):
    ours, theirs = new_token(), new_token()
    a, b, c = (lan.host(f"10.77.0.{i}") for i in (1, 2, 3))
    x, y = (lan.host(f"10.77.0.{i}") for i in (8, 9))
    for name, host, token in (("a", a, ours), ("b", b, ours), ("c", c, ours), ("x", x, theirs), ("y", y, theirs)):
        host.run("node", name, "udp,mdns", folder=tmp_path, EXO_LAB_TOKEN=token)
    everybody = members(("a", a), ("b", b), ("c", c))
    pair = members(("x", x), ("y", y))
    for host in (a, b, c):
        host.until(everybody, "the three meet")
    for host in (x, y):
        host.until(pair, "the two meet")

    c.down()
    a.until(members(("a", a), ("b", b)), "a loses c")
    c.up("10.77.0.33")
    # Its own card names the address that it started with; the others use the one at which it answers.
    for host in (a, b):
        host.until(
            lambda said: (
                {name: _host(address) for name, address in said["nodes"].items()}
                == {"a": "10.77.0.1", "b": "10.77.0.2", "c": "10.77.0.33"}
            ),
            "c is back at its new address",
        )
    c.until(lambda said: set(said["nodes"]) == {"a", "b", "c"}, "c sees a and b again")

    # All the time each cluster announced itself to the other: nobody was let in, and nobody even tried.
    for host in (x, y):
        assert pair(host.latest())
        assert host.latest()["refused"] == {}
    for host in (a, b, c):
        assert not {"x", "y"} & host.ever("nodes")
        assert "handshake" not in str(host.latest()["refused"])
