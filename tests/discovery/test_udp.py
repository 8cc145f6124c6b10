"""Nodes on one LAN find each other by announcements; time stands still until a test moves it."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest
from lab import KEY, Clock, Signature, Watched, card_of, ethernet, rest, until
from test_announcement import announcement

from exo_lab.discovery.announcement import MAGIC, MAX_DATAGRAM_BYTES, read, seal
from exo_lab.discovery.hearing import MAX_NODES
from exo_lab.discovery.interfaces import Interface
from exo_lab.discovery.lan import SocketLan
from exo_lab.discovery.lan_memory import MemoryLan
from exo_lab.discovery.udp import ANNOUNCE_EVERY_S, HASTE_S, OPEN_AGAIN_S, TTL_S, UdpDiscovery

TAG, OTHER_TAG = "a" * 16, "b" * 16
OTHER_KEY = KEY[::-1]
LOOPBACK = Interface(name="lo", address="127.0.0.1", prefix=8, kind="loopback")


class Host:
    """A machine with some interfaces, and a node on it."""

    def __init__(self, lan, clock, name, *addresses, tag=TAG, bind="0.0.0.0", identity=None, version=1, **card):
        self.name, self.interfaces = name, [LOOPBACK, *self._at(*addresses)]
        self.identity = identity or Signature(name)
        self.card = card_of(self.identity, name, version=version, **card)
        self.discovery = UdpDiscovery(
            self.identity,
            cluster_tag=tag,
            cluster_key=KEY,
            bind=bind,
            look=lambda: tuple(self.interfaces),
            lan=lan,
            now=clock.now,
            wait=clock.wait,
        )

    @staticmethod
    def _at(*addresses):
        return [ethernet(one, f"eth{i}") for i, one in enumerate(addresses)]

    def move(self, *addresses):
        self.interfaces = [LOOPBACK, *self._at(*addresses)]


class Network:
    def __init__(self):
        self.lan, self.clock, self.watched = MemoryLan(), Clock(), []

    async def join(self, name, *addresses, **options) -> tuple[Host, Watched]:
        host = Host(self.lan, self.clock, name, *addresses, **options)
        watched = Watched(host.discovery, host.card)
        self.watched.append(watched)
        await until(lambda: watched.lists and (watched.discovery.stats().announced or watched.discovery.problems))
        return host, watched

    async def leave(self, watched):
        await watched.stop()
        await rest()


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
        assert net.lan.ports == []

    asyncio.run(whole())


def test_two_nodes_know_each_other_within_a_moment_of_the_second_ones_start():
    async def scenario(net):
        _, a = await net.join("a", "10.0.0.1")
        await net.clock.advance(100 * ANNOUNCE_EVERY_S + 1.0)
        _, b = await net.join("b", "10.0.0.2")
        await net.clock.advance(HASTE_S)  # not a whole period: who hears a newcomer answers
        assert a.addresses == ["tcp://10.0.0.2:4000"]
        assert b.addresses == ["tcp://10.0.0.1:4000"]
        (found,) = a.found
        assert (found.name, found.interface, found.kind, found.source) == ("b", "eth0", "ethernet", "UDP on eth0")
        assert found.device_id == Signature("b").device_id

    run(scenario)


def test_a_node_does_not_find_itself_but_knows_that_it_was_heard():
    async def scenario(net):
        _, a = await net.join("a", "10.0.0.1")
        await net.clock.advance(ANNOUNCE_EVERY_S)
        assert a.found == ()
        assert a.discovery.stats().echoes["eth0"] > 0

    run(scenario)


def test_who_leaves_is_forgotten_at_once():
    async def scenario(net):
        _, a = await net.join("a", "10.0.0.1")
        _, b = await net.join("b", "10.0.0.2")
        await net.clock.advance(HASTE_S)
        assert a.names == ["b"]
        await net.leave(b)
        assert a.found == ()

    run(scenario)


def test_who_is_cut_off_is_forgotten_in_time_and_comes_back_under_another_address():
    async def scenario(net):
        _, a = await net.join("a", "10.0.0.1")
        host, b = await net.join("b", "10.0.0.2")
        await net.clock.advance(ANNOUNCE_EVERY_S)
        net.lan.cut.add("10.0.0.2")
        await net.clock.advance(TTL_S - ANNOUNCE_EVERY_S - 0.5)
        assert a.names == ["b"]
        await net.clock.advance(ANNOUNCE_EVERY_S + 1)
        assert a.found == ()
        assert b.found == ()
        host.move("10.0.0.77")
        await net.clock.advance(ANNOUNCE_EVERY_S + HASTE_S)
        assert a.addresses == ["tcp://10.0.0.77:4000"]
        assert b.addresses == ["tcp://10.0.0.1:4000"]

    run(scenario)


def test_an_address_that_changes_while_connected_is_replaced_and_not_added():
    async def scenario(net):
        _, a = await net.join("a", "10.0.0.1")
        host, _ = await net.join("b", "10.0.0.2")
        await net.clock.advance(ANNOUNCE_EVERY_S)
        host.move("10.0.0.3")
        await net.clock.advance(ANNOUNCE_EVERY_S)
        assert a.addresses == ["tcp://10.0.0.3:4000"]

    run(scenario)


def test_a_laptop_that_slept_is_there_again_after_it_woke():
    async def scenario(net):
        _, a = await net.join("a", "10.0.0.1")
        _, b = await net.join("b", "10.0.0.2")
        await net.clock.advance(ANNOUNCE_EVERY_S)
        net.lan.cut.add("10.0.0.2")
        await net.clock.advance(1200)
        assert a.found == b.found == ()
        net.lan.cut.clear()
        await net.clock.advance(ANNOUNCE_EVERY_S + HASTE_S)
        assert (a.names, b.names) == (["b"], ["a"])

    run(scenario)


def test_two_networks_to_one_node_are_two_addresses():
    async def scenario(net):
        _, a = await net.join("a", "10.0.0.1", "192.168.1.1")
        _, b = await net.join("b", "10.0.0.2", "192.168.1.2")
        _, c = await net.join("c", "192.168.1.3")
        await net.clock.advance(ANNOUNCE_EVERY_S + HASTE_S)
        assert a.addresses == ["tcp://10.0.0.2:4000", "tcp://192.168.1.2:4000", "tcp://192.168.1.3:4000"]
        assert c.addresses == ["tcp://192.168.1.1:4000", "tcp://192.168.1.2:4000"]
        assert {one.interface for one in b.found if one.name == "a"} == {"eth0", "eth1"}

    run(scenario)


def test_two_clusters_on_one_lan_do_not_see_each_other():
    async def scenario(net):
        _, a = await net.join("a", "10.0.0.1")
        _, x = await net.join("x", "10.0.0.2", tag=OTHER_TAG)
        _, b = await net.join("b", "10.0.0.3")
        await net.clock.advance(3 * ANNOUNCE_EVERY_S)
        assert (a.names, b.names, x.names) == (["b"], ["a"], [])
        assert a.discovery.stats().other_clusters == {"10.0.0.2": "x"}
        assert a.discovery.problems == ()

    run(scenario)


def test_a_node_of_another_protocol_is_named_and_not_tried():
    async def scenario(net):
        _, a = await net.join("a", "10.0.0.1")
        await net.join("old", "10.0.0.2", protocol=99)
        await net.clock.advance(ANNOUNCE_EVERY_S)
        assert a.found == ()
        assert "10.0.0.2 announces another version (old speaks protocol 99" in a.discovery.problems[0]
        assert "Install the same exo_lab" in a.discovery.problems[0]

    run(scenario)


def test_a_copied_identity_is_reported_by_the_two_and_by_others():
    async def scenario(net):
        twin = Signature("twin")
        _, a = await net.join("a", "10.0.0.1", identity=twin, version=1)
        _, b = await net.join("b", "10.0.0.2", identity=twin, version=2)
        _, c = await net.join("c", "10.0.0.3")
        await net.clock.advance(5 * ANNOUNCE_EVERY_S)
        assert "uses this node's identity" in a.discovery.problems[0]
        assert "10.0.0.1" in b.discovery.problems[0]
        assert "two nodes use the id" in c.discovery.problems[0]

    run(scenario)


def test_a_node_that_listens_on_loopback_says_why_nobody_finds_it():
    async def scenario(net):
        _, a = await net.join("a", "10.0.0.1", bind="127.0.0.1")
        _, b = await net.join("b", "10.0.0.2")
        await net.clock.advance(ANNOUNCE_EVERY_S)
        assert a.found == b.found == ()
        assert "--lan" in a.discovery.problems[0]

    run(scenario)


def test_a_node_that_listens_on_one_address_is_announced_there_only():
    async def scenario(net):
        await net.join("a", "10.0.0.1", "192.168.1.1", bind="192.168.1.1")
        _, b = await net.join("b", "10.0.0.2", "192.168.1.2")
        await net.clock.advance(ANNOUNCE_EVERY_S)
        assert b.addresses == ["tcp://192.168.1.1:4000"]
        _, lost = await net.join("lost", "10.0.0.9", bind="10.5.5.5")
        assert "10.0.0.9 (eth0)" in lost.discovery.problems[0]

    run(scenario)


def test_a_machine_without_a_network_says_so_and_finds_others_when_it_gets_one():
    async def scenario(net):
        _, a = await net.join("a", "10.0.0.1")
        host, b = await net.join("b")
        assert "no network interface is up" in b.discovery.problems[0]
        host.move("10.0.0.2")
        await net.clock.advance(ANNOUNCE_EVERY_S + HASTE_S)
        assert (a.names, b.names) == (["b"], ["a"])
        assert b.discovery.problems == ()

    run(scenario)


def test_a_node_of_the_same_machine_is_reached_by_loopback_kind():
    async def scenario(net):
        _, a = await net.join("a", "10.0.0.1")
        await net.join("b", "10.0.0.1")
        await net.clock.advance(ANNOUNCE_EVERY_S)
        assert [one.kind for one in a.found] == ["loopback"]

    run(scenario)


def test_a_forged_announcement_is_reported_and_names_who_sent_it():
    async def scenario(net):
        _, a = await net.join("a", "10.0.0.1")
        victim = Signature("victim")
        net.lan.spread("10.0.0.66", seal(announcement(victim, tag=TAG), Signature("mallory"), KEY))
        await rest()
        assert a.found == ()
        assert "10.0.0.66 sends announcements that are not genuine" in a.discovery.problems[0]
        await net.clock.advance(70.0)
        assert a.discovery.problems == ()

    run(scenario)


def test_made_up_nodes_of_somebody_without_the_token_fill_no_list_and_are_reported():
    async def scenario(net):
        _, a = await net.join("a", "10.0.0.1")
        for i in range(MAX_NODES + 10):
            made_up = Signature(f"made up {i}")
            said = announcement(made_up, tag=TAG, controls=(f"tcp://10.0.1.{i % 256}:4000",))
            net.lan.spread(f"10.0.0.{i % 5 + 60}", seal(said, made_up, OTHER_KEY))
        await rest()
        assert a.found == ()
        assert a.discovery.stats().heard == 0
        assert a.discovery.stats().refused == {"forged": MAX_NODES + 10}
        assert "10.0.0.60 sends announcements that are not genuine" in a.discovery.problems[0]
        assert "has not its token" in a.discovery.problems[0]
        _, b = await net.join("b", "10.0.0.2")
        await net.clock.advance(HASTE_S)
        assert (a.names, b.names) == (["b"], ["a"])

    run(scenario)


def test_a_recorded_announcement_played_again_keeps_nobody_alive():
    async def scenario(net):
        _, a = await net.join("a", "10.0.0.1")
        _, b = await net.join("b", "10.0.0.2")
        await net.clock.advance(ANNOUNCE_EVERY_S)
        recorded = [one for one in net.lan.log if one[0] == "10.0.0.2"]
        net.lan.cut.add("10.0.0.2")
        for _ in range(3):
            await net.clock.advance(TTL_S / 3)
            for _, data in recorded:
                net.lan.spread("10.0.0.66", data)
        await rest()
        await net.clock.advance(0.1)
        assert a.found == ()
        await b.stop()

    run(scenario)


def test_a_flood_is_dropped_unread_and_reported_while_others_are_still_heard():
    async def scenario(net):
        _, a = await net.join("a", "10.0.0.1")
        for i in range(2000):
            net.lan.spread("10.0.0.66", MAGIC + i.to_bytes(100, "big"))
        net.lan.spread("10.0.0.66", bytes(MAX_DATAGRAM_BYTES + 1))
        await rest()
        _, b = await net.join("b", "10.0.0.2")
        await net.clock.advance(HASTE_S)
        assert (a.names, b.names) == (["b"], ["a"])
        refused = a.discovery.stats().refused
        assert refused["malformed"] <= 100
        assert refused["too often"] >= 1900
        assert refused["too large"] == 1
        assert any("10.0.0.66 sends more announcements" in one for one in a.discovery.problems)

    run(scenario)


def test_a_crowd_of_newcomers_is_answered_together():
    async def scenario(net):
        _, a = await net.join("a", "10.0.0.1")
        await net.clock.advance(ANNOUNCE_EVERY_S)
        before = a.discovery.stats().announced
        for i in range(20):
            identity = Signature(f"new {i}")
            said = announcement(identity, tag=TAG, controls=(f"tcp://10.0.0.{i + 2}:4000",))
            net.lan.spread(f"10.0.0.{i + 2}", seal(said, identity, KEY))
        await net.clock.advance(HASTE_S)
        assert len(a.found) == 20
        assert a.discovery.stats().announced - before <= 2

    run(scenario)


def test_announcing_goes_on_while_the_reader_is_busy():
    async def scenario(net):
        host = Host(net.lan, net.clock, "slow", "10.0.0.1")
        watching = host.discovery.watch(host.card)
        await anext(watching)  # and then the reader does something else for a long time
        await until(lambda: host.discovery.stats().announced)
        await net.clock.advance(60.0)
        assert host.discovery.stats().announced >= 60 / ANNOUNCE_EVERY_S
        await watching.aclose()
        assert read(net.lan.log[-1][1]).announcement.leaving

    run(scenario)


def test_a_port_that_was_taken_at_the_start_is_listened_on_once_it_is_free(monkeypatch):
    # Announced loopback addresses are refused, as nobody else can reach them; here everybody can.
    monkeypatch.setattr("exo_lab.discovery.announcement.is_endpoint", lambda text: True)

    async def scenario(net):
        lo = Interface(name="lo", address="127.0.0.1", prefix=8, broadcast="127.255.255.255", kind="ethernet")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("0.0.0.0", 0))
            host = Host(SocketLan(other.getsockname()[1]), net.clock, "a")
            host.interfaces = [lo]
            a = Watched(host.discovery, host.card)
            net.watched.append(a)
            await until(lambda: "cannot listen" in "".join(host.discovery.problems))
            await net.clock.advance(OPEN_AGAIN_S + ANNOUNCE_EVERY_S)
            assert "cannot listen" in host.discovery.problems[0]  # it is held still
        await net.clock.advance(OPEN_AGAIN_S + ANNOUNCE_EVERY_S)
        assert host.discovery.problems == ()
        await until(lambda: host.discovery.stats().echoes)

    run(scenario)


def test_sockets_that_work_are_left_alone():
    async def scenario(net):
        host, _ = await net.join("a", "10.0.0.1")
        port = host.discovery._port
        await net.clock.advance(10 * OPEN_AGAIN_S)
        assert host.discovery._port is port

    run(scenario)


def test_what_breaks_the_work_is_raised_to_the_reader():
    async def scenario(net):
        def broken():
            raise RuntimeError("the system says nothing")

        identity = Signature("a")
        discovery = UdpDiscovery(
            identity, cluster_tag=TAG, cluster_key=KEY, look=broken, lan=net.lan, now=net.clock.now, wait=net.clock.wait
        )
        with pytest.raises(RuntimeError, match="says nothing"):
            async for _ in discovery.watch(card_of(identity, "a")):
                pass

    run(scenario)


def test_closing_twice_is_closing_once():
    async def scenario(net):
        host, a = await net.join("a", "10.0.0.1")
        await a.stop()
        sent = len(net.lan.log)
        await host.discovery.close()
        assert len(net.lan.log) == sent

    run(scenario)
