"""Nodes find each other as services; with the in-process twin, with real multicast DNS on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab import KEY, Clock, Signature, Watched, card_of, ethernet, rest, until
from test_announcement import announcement

from exo_lab.discovery.announcement import Sealed, read, seal
from exo_lab.discovery.interfaces import Interface
from exo_lab.discovery.mdns import LOOK_EVERY_S, MdnsDiscovery, sightings
from exo_lab.discovery.services import Service, ZeroconfServices
from exo_lab.discovery.services_memory import MemoryServices
from exo_lab.discovery.txt import MAX_PIECES, from_text, to_text

TAG, OTHER_TAG = "a" * 16, "b" * 16


class Network:
    def __init__(self):
        self.services, self.clock, self.watched, self.places = MemoryServices(), Clock(), [], {}

    async def join(self, name, *addresses, tag=TAG, bind="0.0.0.0", identity=None, **card) -> Watched:
        identity = identity or Signature(name)
        self.places[name] = [ethernet(one, f"eth{i}") for i, one in enumerate(addresses)]
        discovery = MdnsDiscovery(
            identity,
            cluster_tag=tag,
            cluster_key=KEY,
            bind=bind,
            look=lambda: tuple(self.places[name]),
            services=self.services,
            now=self.clock.now,
            wait=self.clock.wait,
        )
        watched = Watched(discovery, card_of(identity, name, **card))
        self.watched.append(watched)
        await until(lambda: watched.lists and (discovery.stats().registered or discovery.problems))
        await rest()
        return watched

    def move(self, name, *addresses):
        self.places[name] = [ethernet(one, f"eth{i}") for i, one in enumerate(addresses)]


@contextlib.asynccontextmanager
async def network():
    made = Network()
    try:
        yield made
    finally:
        for one in made.watched:
            await one.stop()


def run(scenario):
    async def whole():
        async with network() as net:
            await scenario(net)
        assert net.services.ports == []

    asyncio.run(whole())


def test_two_nodes_see_each_other_and_not_themselves():
    async def scenario(net):
        a, b = await net.join("a", "10.0.0.1"), await net.join("b", "10.0.0.2")
        (found,) = a.found
        assert (found.address, found.name, found.device_id) == ("tcp://10.0.0.2:4000", "b", Signature("b").device_id)
        assert (found.source, found.interface, found.kind) == ("mDNS on eth0", "eth0", "ethernet")
        assert b.addresses == ["tcp://10.0.0.1:4000"]
        assert a.discovery.stats().echoed

    run(scenario)


def test_who_leaves_is_forgotten_and_who_moves_has_its_new_address_only():
    async def scenario(net):
        a, b = await net.join("a", "10.0.0.1"), await net.join("b", "10.0.0.2")
        net.move("b", "10.0.0.77")
        await net.clock.advance(LOOK_EVERY_S)
        assert a.addresses == ["tcp://10.0.0.77:4000"]
        assert b.addresses == ["tcp://10.0.0.1:4000"]
        await b.stop()
        await rest()
        assert a.found == ()

    run(scenario)


def test_clusters_do_not_mix_and_other_protocols_are_named():
    async def scenario(net):
        a = await net.join("a", "10.0.0.1")
        x = await net.join("x", "10.0.0.2", tag=OTHER_TAG)
        await net.join("old", "10.0.0.3", protocol=99)
        assert a.found == x.found == ()
        assert list(a.discovery.stats().other_clusters.values()) == ["x"]
        assert "old speaks protocol 99" in a.discovery.problems[0]

    run(scenario)


def test_a_copied_identity_is_reported_by_the_two_and_by_others():
    async def scenario(net):
        twin = Signature("twin")
        c = await net.join("c", "10.0.0.3")
        a, b = await net.join("a", "10.0.0.1", identity=twin), await net.join("b", "10.0.0.2", identity=twin)
        assert "uses this node's identity" in a.discovery.problems[0]
        assert "uses this node's identity" in b.discovery.problems[0]
        assert "2 nodes use the id" in c.discovery.problems[0]

    run(scenario)


def test_a_forged_service_is_refused_and_reported():
    async def scenario(net):
        a = await net.join("a", "10.0.0.1")
        said = announcement(Signature("victim"), tag=TAG)
        port = await net.services.open(["10.0.0.66"], lambda instance, text: None)
        for instance, text in {
            "forged": to_text(seal(said, Signature("mallory"), KEY)),
            "stranger": to_text(seal(said, Signature("victim"), KEY[::-1])),
            "empty": {},
            "rubbish": {"s0": "ä" * 20},
        }.items():
            await port.register(Service(instance=instance, host="h", port=1, addresses=("10.0.0.66",), text=text))
        await rest()
        assert a.found == ()
        assert "forged sends announcements that are not genuine" in a.discovery.problems[0]
        assert "stranger sends announcements that are not genuine" in a.discovery.problems[1]
        assert a.discovery.stats().refused == {"forged": 2, "not an announcement": 2}
        await port.close()

    run(scenario)


def test_sockets_that_cannot_be_opened_are_a_problem_and_tried_again():
    async def scenario(net):
        net.services.fails = OSError(98, "Address already in use")
        a = await net.join("a", "10.0.0.1")
        assert "5353" in a.discovery.problems[0]
        b = await net.join("b", "10.0.0.2")
        assert b.found == ()
        await net.clock.advance(LOOK_EVERY_S)
        assert (a.names, b.names) == (["b"], ["a"])
        assert a.discovery.problems == ()

    run(scenario)


def test_a_node_without_a_network_or_on_loopback_says_so():
    async def scenario(net):
        a, b = await net.join("a", "10.0.0.1", bind="127.0.0.1"), await net.join("b")
        assert "--lan" in a.discovery.problems[0]
        assert "no network interface is up" in b.discovery.problems[0]
        net.move("b", "10.0.0.2")
        await net.clock.advance(LOOK_EVERY_S)
        assert b.discovery.problems == ()

    run(scenario)


ETH0 = ethernet("10.0.0.1", "eth0")
DOCKER = ethernet("172.17.0.1", "docker0", prefix=16)
WIFI = ethernet("192.168.1.1", "wlan0", kind="wifi")


@pytest.mark.parametrize(
    ("controls", "expected"),
    [
        (["10.0.0.2", "192.168.1.2"], {("10.0.0.2", "ethernet"), ("192.168.1.2", "wifi")}),
        (["10.0.0.2", "172.17.0.1"], {("10.0.0.2", "ethernet")}),  # every Docker host has that address
        (["10.0.0.2", "10.77.0.2"], {("10.0.0.2", "ethernet")}),  # a network that this machine is not in
        (["10.77.0.2"], {("10.77.0.2", "unknown")}),  # reflected from elsewhere: better than nothing
        (["10.0.0.1", "172.17.0.1"], {("10.0.0.1", "loopback"), ("172.17.0.1", "loopback")}),  # the same machine
    ],
)
def test_of_a_nodes_addresses_those_are_tried_that_lead_to_it(controls, expected):
    said = announcement(controls=tuple(f"tcp://{one}:4000" for one in controls))
    found = sightings([said], [ETH0, DOCKER, WIFI])
    assert {(one.address, one.kind) for one in found} == {(f"tcp://{host}:4000", kind) for host, kind in expected}


@given(st.binary(max_size=1200))
def test_a_datagram_survives_a_txt_record(datagram):
    text = to_text(datagram)
    assert all(len(key) + len(value) + 1 <= 255 for key, value in text.items())
    assert len(text) <= MAX_PIECES
    assert from_text(text) == datagram


@given(st.dictionaries(st.sampled_from([f"s{i}" for i in range(10)]), st.text(max_size=300), max_size=10))
def test_any_txt_record_is_read_without_breaking(text):
    sealed = read(from_text(text))
    assert not isinstance(sealed, Sealed)


# -- real multicast DNS, on loopback ------------------------------------------------------------------------

LO = Interface(name="lo", address="127.0.0.1", prefix=8, broadcast="127.255.255.255", kind="ethernet")


def real(name, tag, identity=None):
    identity = identity or Signature(f"{tag} {name}")
    discovery = MdnsDiscovery(
        identity, cluster_tag=tag, cluster_key=KEY, look=lambda: (LO,), services=ZeroconfServices(ttl_s=10), every_s=0.2
    )
    return Watched(discovery, card_of(identity, name))


@pytest.fixture
def loopback_counts(monkeypatch):
    # Announced loopback addresses are refused, as nobody else can reach them; here everybody can.
    monkeypatch.setattr("exo_lab.discovery.announcement.is_endpoint", lambda text: True)


@pytest.mark.usefixtures("loopback_counts")
def test_real_services_appear_and_vanish_on_goodbye():
    async def whole():
        tag = secrets.token_hex(8)  # another run of this test may be going on on this machine
        a, b, x = real("a", tag), real("b b.ü", tag), real("x", secrets.token_hex(8))
        try:
            await until(lambda: a.names == ["b b.ü"] and b.names == ["a"] and a.discovery.stats().other_clusters)
            assert x.found == ()
            assert a.discovery.stats().echoed
            assert a.discovery.problems == b.discovery.problems == ()
            await b.stop()
            await until(lambda: a.found == ())
        finally:
            for one in (a, b, x):
                await one.stop()

    asyncio.run(whole())


@pytest.mark.usefixtures("loopback_counts")
def test_a_name_that_another_has_is_changed_and_reported():
    async def whole():
        tag = secrets.token_hex(8)
        twin = Signature(tag)
        a = real("same", tag, twin)
        try:
            await until(lambda: a.discovery.stats().registered)
            b = real("same", tag, twin)
            try:
                await until(lambda: any("is called" in one for one in b.discovery.problems))
                assert "identity" in b.discovery.problems[0]
            finally:
                await b.stop()
        finally:
            await a.stop()

    asyncio.run(whole())
