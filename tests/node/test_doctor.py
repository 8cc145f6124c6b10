"""The doctor names what is wrong at each step and what to do; and it looks without changing anything."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from exo_lab.core.device import Device
from exo_lab.core.messages import NodeCard
from exo_lab.discovery.base import Found
from exo_lab.discovery.echo import Echo, Echoes, echoes
from exo_lab.discovery.host import host_id
from exo_lab.discovery.interfaces import Interface
from exo_lab.discovery.lan import GROUP
from exo_lab.discovery.lan import PORT as UDP_PORT
from exo_lab.discovery.lan_memory import MemoryLan
from exo_lab.discovery.loopback import LoopbackRegistry
from exo_lab.discovery.mdns import MdnsDiscovery
from exo_lab.discovery.services_memory import MemoryServices
from exo_lab.discovery.tailnet import NoTailscale, TailPeer, TailStatus
from exo_lab.discovery.tailscale import CONTROL_PORT
from exo_lab.discovery.udp import UdpDiscovery
from exo_lab.engines import native
from exo_lab.node.doctor import STEPS, Facts, doctor, examine, gather, rows
from exo_lab.node.doctor.facts import Kernels, KnownPeer, Way, kernels_here
from exo_lab.node.doctor.trust import PROTOCOL
from exo_lab.transport.frames import KIND_DATA, Malformed, decode
from exo_lab.transport.keys import Identity
from exo_lab.transport.zap import HANDSHAKE, WRONG_KEY
from tests.node.clusters import Cluster, until

ETH = Interface(name="eth0", address="10.0.0.1", prefix=24, broadcast="10.0.0.255", kind="ethernet")
LO = Interface(name="lo", address="127.0.0.1", prefix=8, kind="loopback")
SEEN = Found(address="tcp://10.0.0.2:4000", source="UDP on eth0", name="box", device_id="id-box", kind="ethernet")
BOX = KnownPeer(id="id-box", name="box", liveness="alive", found_by="UDP on eth0")

WELL = Facts(
    interfaces=(ETH, LO),
    bind="0.0.0.0",
    control="tcp://10.0.0.1:4000",
    listening=True,
    echoes=Echoes(echoes=(Echo(interface="eth0", address="10.0.0.1", multicast=True, broadcast=True),)),
    ways=(Way(name="udp", announces=True, active=True, sightings=(SEEN,)), Way(name="loopback")),
    peers=(BOX,),
    wall_clock_s=1_800_000_000.0,
)
UDP = WELL.ways[0]


def but(**changes):
    return msgspec.structs.replace(WELL, **changes)


def udp(**changes):
    return but(ways=(msgspec.structs.replace(UDP, **changes),))


def bad(facts):
    """What is not well, as {step: "seen -> do"}."""
    return {one.step: f"{one.seen} -> {one.do}" for one in examine(facts) if one.verdict != "ok"}


def test_a_healthy_node_has_nothing_to_do():
    findings = examine(WELL)
    assert {one.verdict for one in findings} == {"ok"}
    assert not any(one.do for one in findings)
    assert [one.step for one in findings] == [
        "interfaces", "address", "port", "datagrams", "discovery", "discovery", "handshake", "keys", "version",
        "identity", "clock",
    ]  # fmt: skip


ILL = {
    "no interface": (but(interfaces=(LO,)), "interfaces", "no LAN interface is up (there is lo)", "cable"),
    "loopback only": (but(bind="127.0.0.1"), "address", "nodes of this machine only", "--lan"),
    "an address that is not ours": (but(bind="10.9.9.9"), "address", "10.9.9.9", "10.0.0.1 (eth0)"),
    "no node": (but(control="", listening=None, ways=(), peers=()), "port", "is no node", "exo-lab node"),
    "port closed": (but(listening=False), "port", "does not answer", "TCP ports 4000"),
    "no echo": (
        but(echoes=Echoes(echoes=(Echo(interface="eth0", address="10.0.0.1", multicast=False, broadcast=False),))),
        "datagrams", "multicast and broadcast on eth0 (10.0.0.1) did not come back", "UDP port 52418",
    ),
    "no multicast": (
        but(echoes=Echoes(echoes=(Echo(interface="eth0", address="10.0.0.1", multicast=False, broadcast=True),))),
        "datagrams", "multicast on eth0", "5353",
    ),
    "UDP port taken": (
        but(echoes=Echoes(problems=("cannot listen on UDP port 52418",))), "datagrams", "cannot listen", "free",
    ),
    "no discovery": (but(ways=()), "discovery", "no discovery is on", "--discovery udp,mdns"),
    "a discovery that fails": (udp(problems=("port 5 is taken",)), "discovery", "udp: port 5 is taken", ""),
    "not announced yet": (udp(active=False), "discovery", "has not announced", "second"),
    "alone": (
        but(ways=(msgspec.structs.replace(UDP, sightings=()),), peers=()), "silence", "udp hear nobody", "same token",
    ),
    "swallowed announcements": (
        but(
            ways=(msgspec.structs.replace(UDP, sightings=()),),
            peers=(msgspec.structs.replace(BOX, found_by="peers.toml, peer 'box'"),),
        ),
        "silence", "although there is box (peers.toml", "firewall",
    ),
    "seen and not met": (
        but(peers=(), problems=("box (UDP on eth0): tcp://10.0.0.2:4000 did not answer within 3 s",)),
        "handshake", "announces itself at tcp://10.0.0.2:4000", "did not answer within 3 s",
    ),
    "no compiler": (
        but(kernels=Kernels(why_not="there is no C compiler")), "kernels", "no C compiler: quantised", "restart",
    ),
    "another cluster": (
        udp(other_clusters={"10.0.0.9": "neighbour"}), "keys", "neighbour at 10.0.0.9", "exo-lab token",
    ),
    "a knock without the key": (but(refused={HANDSHAKE: 7, "packet": 1}), "keys", "7 x handshake failed", "token"),
    "another client key": (but(refused={WRONG_KEY: 2}), "keys", "2 x client key of another", "fingerprints"),
    "another version": (
        udp(other_versions={"10.0.0.3": "old speaks protocol 9"}), "version", "10.0.0.3: old speaks", "same exo_lab",
    ),
    "frames of another version": (but(refused={PROTOCOL: 3}), "version", "3 frames", "same exo_lab"),
    "a copied identity": (
        udp(problems=("two nodes use the id x: an identity file was copied.",)), "identity", "one id", "Delete",
    ),
    "a clock ahead": (
        but(peers=(msgspec.structs.replace(BOX, started_at=WELL.wall_clock_s + 3600),)),
        "clock", "box by 3600 s", "NTP",
    ),
    "Tailscale wanted and absent": (
        but(tailscale=NoTailscale("not installed", True), tailscale_wanted=True), "tailscale", "not there", "installed",
    ),
    "Tailscale silent": (but(tailscale=NoTailscale("no answer", False)), "tailscale", "does not answer", "no answer"),
    "Tailscale stopped": (
        but(tailscale=TailStatus(state="Stopped"), tailscale_wanted=True), "tailscale", "Stopped", "tailscale up",
    ),
    "Tailscale complains": (
        but(tailscale=TailStatus(state="Running", health=("no DERP",))), "tailscale", "no DERP", "tailscale status",
    ),
    "another port than Tailscale's": (
        but(tailscale=TailStatus(state="Running"), tailscale_wanted=True), "tailscale", "port 4000", "--port 52415",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("facts", "step", "seen", "do"), ILL.values(), ids=ILL.keys())
def test_what_is_wrong_is_named_at_its_step_with_what_to_do(facts, step, seen, do):
    found = bad(facts)
    assert step in found, found
    said, _, remedy = found[step].partition(" -> ")
    assert seen in said
    assert do in remedy


def test_who_hears_only_another_cluster_is_told_of_the_token_and_not_of_the_network():
    near = msgspec.structs.replace(UDP, sightings=(), other_clusters={"10.0.0.9": "neighbour"})
    mdns = msgspec.structs.replace(near, name="mdns", other_clusters={"neighbour-1234": "neighbour"})
    found = bad(but(ways=(near, mdns), peers=()))
    assert found.keys() == {"keys"}
    assert found["keys"].count("neighbour") == 1


def test_other_clusters_on_this_machine_and_on_the_lan_are_all_named_each_once():
    here = Way(name="loopback", other_clusters={"tcp://127.0.0.1:77": "mine too", "tcp://127.0.0.1:78": "neighbour"})
    near = msgspec.structs.replace(UDP, other_clusters={"10.0.0.9": "neighbour"})
    seen = bad(but(ways=(here, near)))["keys"]
    assert "mine too at tcp://127.0.0.1:77" in seen
    assert seen.count("neighbour") == 1


def test_every_step_can_complain():
    complaining = {step for _, step, _, _ in ILL.values()}
    assert len(complaining) == len({"interfaces", "address", "port", "datagrams", *complaining})
    assert len(STEPS) == len(complaining)


def test_tailscale_that_nobody_asked_for_is_mentioned_and_no_fault():
    assert not bad(but(tailscale=NoTailscale("not installed", True)))
    status = TailStatus(state="Running", address="100.64.0.1", peers=(TailPeer(name="x", address="1", online=True),))
    said = [one for one in examine(but(tailscale=status)) if one.step == "tailscale"]
    assert [one.verdict for one in said] == ["ok"]
    assert "1 of 1 machines online; to use it: --discovery tailscale" in said[0].seen


def test_rows_are_the_findings_as_text():
    assert rows(examine(WELL))[0] == ("ok", "interfaces", "eth0 10.0.0.1/24 (ethernet, to 10.0.0.255)", "")


def test_the_transports_word_for_another_version_is_the_one_that_is_looked_for():
    with pytest.raises(Malformed) as refused:
        decode([bytes([KIND_DATA, 255]), b""])
    assert refused.value.reason == PROTOCOL


# -- looking ---------------------------------------------------------------------------------------------


def test_what_comes_back_is_found_out_by_sending():
    async def run():
        lan = MemoryLan()
        heard = await echoes([ETH, LO], lan)
        assert heard.echoes == (Echo(interface="eth0", address="10.0.0.1", multicast=True, broadcast=True),)
        lan.cut.add("10.0.0.1")
        heard = await echoes([ETH], lan, within_s=0.01)
        assert heard.echoes == (Echo(interface="eth0", address="10.0.0.1", multicast=False, broadcast=False),)
        point_to_point = Interface(name="tun0", address="10.8.0.1", prefix=32)
        assert (await echoes([point_to_point], lan)).echoes == ()
        assert lan.ports == []

    asyncio.run(run())


class NoTail:
    async def status(self):
        return NoTailscale("not here", True)


EDGES = {"look": lambda: (ETH, LO), "ask": NoTail(), "kernels": lambda: None}


@pytest.mark.parametrize(
    ("kernels", "says"),
    [
        (Kernels(made=True), "are in use"),
        (Kernels(), "compiled when a model is loaded first"),
        (Kernels(possible=False, why_not="the kernels are for Linux"), "for Linux: quantised models run"),
    ],
)
def test_kernels_that_are_there_or_cannot_be_are_nothing_to_mend(kernels, says):
    (found,) = [one for one in examine(but(kernels=kernels)) if one.step == "kernels"]
    assert found.verdict == "ok"
    assert says in found.seen
    assert not found.do


def test_kernels_that_are_switched_off_or_cannot_be_made_say_why(monkeypatch):
    monkeypatch.setattr(native, "is_for_this_machine", lambda: True)
    monkeypatch.setattr(native, "_missing_instructions", lambda: "")
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv(native.SWITCH, raising=False)
    assert "install gcc" in kernels_here().why_not
    monkeypatch.setenv(native.SWITCH, "off")
    assert kernels_here().why_not == f"{native.SWITCH} is off"


def test_a_machine_that_is_no_node_is_looked_at_too():
    findings = asyncio.run(doctor(None, "127.0.0.1", lan=MemoryLan(), **EDGES))
    assert {one.step for one in findings if one.verdict == "warn"} == {"address", "port"}


def test_a_nodes_facts_are_gathered_and_it_answers_itself():
    async def run():
        lan, services = MemoryLan(), MemoryServices()
        cluster = Cluster()
        try:
            identity = Identity.create()
            ways = [
                UdpDiscovery(identity, cluster_tag="t", cluster_key=bytes(32), look=EDGES["look"], lan=lan),
                MdnsDiscovery(identity, cluster_tag="t", cluster_key=bytes(32), look=EDGES["look"], services=services),
            ]
            node = await cluster.add("me", identity=identity, discoveries=ways)
            other = Identity.create()
            said = UdpDiscovery(other, cluster_tag="t", cluster_key=bytes(32), look=EDGES["look"], lan=lan)
            card = NodeCard(device=Device(id=other.device_id, name="elsewhere"), control="tcp://10.0.0.1:77", data="")
            watching = said.watch(card)
            await anext(watching)
            await until(lambda: ways[0].stats().sightings and ways[1].stats().registered, "the other is seen")
            facts = await gather(node, "0.0.0.0", lan=lan, wall_clock=lambda: 5.0, **EDGES)
            await watching.aclose()
        finally:
            await cluster.stop()
        assert facts.listening is True
        assert facts.wall_clock_s == 5.0
        assert [(way.name, way.announces, way.active) for way in facts.ways] == [
            ("udp", True, True),
            ("mdns", True, True),
        ]
        assert [one.name for one in facts.ways[0].sightings] == ["elsewhere"]
        assert facts.echoes.echoes[0].multicast
        assert "elsewhere announces itself" in bad(facts)["handshake"]

    asyncio.run(run())


def test_another_cluster_of_the_same_user_on_this_machine_is_named_and_not_greeted(tmp_path):
    async def run():
        cluster = Cluster()
        theirs = LoopbackRegistry(tmp_path, cluster_tag="theirs").watch(
            NodeCard(device=Device(id="x", name="stranger"), control="tcp://127.0.0.1:1", data="", host=host_id())
        )
        try:
            await anext(theirs)
            ours = LoopbackRegistry(tmp_path, cluster_tag="ours", every_s=0.01)
            node = await cluster.add("me", discoveries=[ours])
            await until(lambda: ours.other_clusters, "the other cluster is seen")
            facts = await gather(node, "127.0.0.1", lan=MemoryLan(), **EDGES)
        finally:
            await theirs.aclose()
            await cluster.stop()
        assert "stranger at tcp://127.0.0.1:1" in bad(facts)["keys"]
        assert facts.problems == ()

    asyncio.run(run())


def test_the_page_on_discovery_explains_every_step():
    page = (Path(__file__).parents[2] / "docs" / "discovery.md").read_text(encoding="utf-8")
    for step in {step for _, step, _, _ in ILL.values()} | {one.step for one in examine(WELL)}:
        assert f"| `{step}` |" in page, step
    for port in (UDP_PORT, CONTROL_PORT, GROUP):
        assert str(port) in page
