"""A peer is reached by the best address that it has proved to be its own, and by another when that one falls silent."""

from __future__ import annotations

import asyncio
import time

from exo_lab.core.device import Device
from exo_lab.core.messages import NodeCard, SessionSpec
from exo_lab.core.sampling import SamplingParams
from exo_lab.discovery.base import Found
from exo_lab.node import membership as m
from exo_lab.node.session import Request
from exo_lab.node.ways import Ways
from tests.node.clusters import DEADLINE_S, cluster, tokens_of

ETH = Found(address="tcp://10.0.0.2:4000", source="UDP on eth0", device_id="box", kind="ethernet")
WIFI = Found(address="tcp://192.168.1.2:4000", source="mDNS on wlan0", device_id="box", kind="wifi")
FILE = Found(address="tcp://172.16.0.2:4000", source="peers.toml, peer 'box'")
OWN = "tcp://10.0.0.1:4000"
BOX = Device(id="box", name="box")
CARD = NodeCard(device=BOX, control="tcp://127.0.0.1:4000", data="tcp://127.0.0.1:4001", version=7)


def members(card=CARD, *events):
    now = m.step(m.Members(), m.Heard(card=card, found_by="said hello", now=0.0))
    for event in events:
        now = m.step(now, event)
    return now


def reached(way, **fields):
    return m.Reached(id="box", way=way.address, kind=way.kind, found_by=way.source, **fields)


def test_a_peer_is_reached_as_its_card_says_until_another_way_is_known():
    peer = members().peers["box"]
    assert (peer.control, peer.data) == (CARD.control, CARD.data)
    peer = members(CARD, reached(ETH)).peers["box"]
    assert (peer.control, peer.data) == ("tcp://10.0.0.2:4000", "tcp://10.0.0.2:4001")
    assert (peer.kind, peer.found_by) == ("ethernet", "UDP on eth0")


def test_a_way_says_who_saw_it_and_on_which_interface():
    assert members().peers["box"].way_in_words == "said hello"
    for way, words in ((ETH, "UDP on eth0"), (FILE, "peers.toml, peer 'box'")):
        assert members(CARD, reached(way, interface=way.interface)).peers["box"].way_in_words == words
    loopback = Found(address=CARD.control, source="loopback registry", interface="lo", kind="loopback")
    again = m.Heard(card=CARD, found_by="said hello", now=1.0)
    peer = members(CARD, reached(loopback, interface="lo"), again).peers["box"]
    assert peer.way_in_words == "loopback registry on lo"


def test_a_live_link_is_described_by_the_way_in_use():
    async def check():
        async with cluster(2) as made:
            (edge,) = made[0].topology.links
            assert edge.description == made[0].members.peers[made[1].id].way_in_words != ""
            peer = made[1].id
            made[0].peers.apply(
                m.Reached(id=peer, way="tcp://10.0.0.2:4000", kind="ethernet", found_by="mDNS", interface="eth0")
            )
            (edge,) = made[0].topology.links
            assert (edge.kind, edge.description) == ("ethernet", "mDNS on eth0")

    asyncio.run(check())


def test_a_way_stays_when_the_same_card_comes_again_and_goes_with_a_new_one():
    again = m.Heard(card=CARD, found_by="said hello", now=1.0)
    assert members(CARD, reached(ETH), again).peers["box"].control == ETH.address
    anew = NodeCard(device=CARD.device, control="tcp://10.0.0.2:5000", data="tcp://10.0.0.2:5001", version=8)
    peer = members(CARD, reached(ETH), m.Heard(card=anew, found_by="said hello", now=1.0)).peers["box"]
    assert (peer.control, peer.data) == (anew.control, anew.data)


def test_a_latency_belongs_to_the_way_that_it_was_measured_on():
    answered = m.Answered(id="box", round_trip_s=0.2, load=0.0, memory_available_bytes=0, plans=(), now=1.0)
    assert members(CARD, reached(ETH), answered, reached(ETH)).peers["box"].latency_s == 0.1
    assert members(CARD, reached(ETH), answered, reached(WIFI)).peers["box"].latency_s is None


def test_every_address_is_greeted_until_its_owner_is_met():
    ways = Ways()
    ways.see("udp", [ETH])
    ways.see("mdns", [WIFI, ETH])
    nobody = m.Members()
    assert {one.address for one in ways.to_greet(nobody, "me", OWN)} == {ETH.address, WIFI.address}
    ways.prove(ETH.address, "box")
    assert [one.address for one in ways.to_greet(members(), "me", OWN)] == [WIFI.address]
    gone = members(CARD, m.Gone(id="box", now=1.0))
    assert {one.address for one in ways.to_greet(gone, "me", OWN)} == {ETH.address, WIFI.address}


def test_this_nodes_own_addresses_are_greeted_once_at_most():
    ways = Ways()
    ways.see("manual", [FILE, Found(address=OWN, source="peers.toml")])
    assert [one.address for one in ways.to_greet(m.Members(), "me", OWN)] == [FILE.address]
    ways.prove(FILE.address, "me")
    assert ways.to_greet(m.Members(), "me", OWN) == ()


def test_only_proved_addresses_are_used_and_of_these_the_best():
    ways = Ways()
    ways.see("udp", [ETH])
    ways.see("mdns", [WIFI])
    assert ways.better(members()) == ()
    ways.prove(WIFI.address, "box")
    assert ways.better(members()) == (("box", WIFI),)
    ways.prove(ETH.address, "box")
    assert ways.better(members(CARD, reached(WIFI))) == (("box", ETH),)
    assert ways.better(members(CARD, reached(ETH))) == ()


def test_an_address_that_fell_silent_gives_way_to_the_next_one():
    ways = Ways()
    ways.see("udp", [ETH, WIFI])
    ways.prove(ETH.address, "box")
    ways.prove(WIFI.address, "box")
    ways.doubt(ETH.address)
    assert ways.better(members(CARD, reached(ETH))) == (("box", WIFI),)
    assert [one.address for one in ways.to_greet(members(CARD, reached(WIFI)), "me", OWN)] == [ETH.address]
    ways.doubt(WIFI.address)
    assert ways.better(members(CARD, reached(WIFI))) == ()  # there is nothing better than what does not answer


def test_an_address_out_of_sight_is_reported_and_proves_nothing_any_more():
    ways = Ways()
    ways.see("udp", [ETH])
    ways.prove(ETH.address, "box")
    assert ways.see("udp", [WIFI]) == (ETH.address,)
    assert ways.see("udp", [ETH]) == (WIFI.address,)
    assert ways.better(members()) == ()


def test_who_answers_owns_an_address_whatever_was_announced():
    ways = Ways()
    ways.see("udp", [Found(address=ETH.address, source="UDP on eth0", device_id="liar", kind="ethernet")])
    ways.prove(ETH.address, "box")
    ((peer, way),) = ways.better(members())
    assert (peer, way.address) == ("box", ETH.address)


def test_a_lost_peer_is_not_moved():
    ways = Ways()
    ways.see("udp", [ETH])
    ways.prove(ETH.address, "box")
    assert ways.better(members(CARD, m.Gone(id="box", now=1.0))) == ()


def test_tokens_reach_the_requester_by_the_way_that_is_known_here_whatever_it_calls_itself():
    async def run():
        async with cluster(2) as made:
            await made.load((2, 2))
            node, plan, prompt = made[0], made[0].plans["tiny"], (5, 6, 7)
            sampling = SamplingParams(max_tokens=4)
            spec = SessionSpec(
                requester=node.id,
                reply_to="memory://an-address-of-another-network",
                sampling=sampling,
                eos=(),
                prompt_tokens=len(prompt),
                total_tokens=len(prompt) + sampling.max_tokens,
            )
            request = Request("elsewhere", plan, prompt, spec, DEADLINE_S)
            request.begin(time.perf_counter())
            node.ring.begin(request)
            assert await tokens_of(request) == made.expected(prompt, max_tokens=4)

    asyncio.run(run())
