"""Who is in the cluster: nodes meet, are checked, fall silent, leave, come back."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exo_lab.core.device import Device
from exo_lab.core.errors import FrameError, NodeLost, PeerUnreachable
from exo_lab.core.messages import Hello, NodeCard
from exo_lab.node import membership as m
from exo_lab.node.peers import GREETINGS
from exo_lab.node.problems import MAX_CHARACTERS, MAX_PROBLEMS, Problems
from exo_lab.transport.keys import Identity
from tests.node.clusters import FAST, cluster, until


def test_nodes_find_each_other_and_measure_the_way():
    async def check():
        async with cluster(4) as made:
            for node in made.nodes:
                assert {peer.card.device.name for peer in node.members.alive()} == {"n0", "n1", "n2", "n3"} - {
                    node.device.name
                }
                await until(lambda node=node: all(p.latency_s is not None for p in node.members.alive()), "pings")
                topology = node.topology
                assert len(topology.devices) == 4
                assert all(edge.kind == "loopback" and edge.latency_s > 0 for edge in topology.links)
                assert [edge for edge in topology.links if node.id not in (edge.a, edge.b)] == []

    asyncio.run(check())


def test_one_that_leaves_is_gone_at_once_and_is_not_greeted_again():
    async def check():
        async with cluster(3) as made:
            changes = []
            made[0].listeners.add(changes.append)
            await made[2].stop()
            assert [peer.card.device.name for peer in made[0].members.alive()] == ["n1"]
            assert changes == ["nodes"]
            with pytest.raises(NodeLost, match="is not in the cluster any more"):
                made[0].control_address(made[2].id)
            await made[2].stop()  # twice is fine

    asyncio.run(check())


def test_one_that_falls_silent_is_suspect_then_lost_then_back():
    async def check():
        async with cluster(2) as made:
            peer = lambda: made[0].members.peers[made[1].id].liveness  # noqa: E731
            made.cut_off(1)
            await until(lambda: peer() == "suspect", "a ping went unanswered")
            await until(lambda: peer() == "lost", "it was silent for too long")
            made.network.restore(made[1].card.control)
            await until(lambda: peer() == "alive", "it is greeted again")

    asyncio.run(check())


def forged(card, **changes):
    return msgspec.structs.replace(card, **changes)


FORGERIES = {
    "another address": lambda node: forged(node.card, control="memory://evil"),
    "another version": lambda node: forged(node.card, version=node.card.version + 1),
    "another's key": lambda node: forged(node.card, public_key=Identity.create().public_key),
    "no signature": lambda node: forged(node.card, signature=b""),
    "a better device": lambda node: forged(node.card, device=forged(node.device, memory_bytes=2**50)),
    "no key": lambda node: forged(node.card, public_key=b""),
}


@pytest.mark.parametrize("kind", FORGERIES)
def test_a_forged_card_is_refused_and_counted(kind):
    async def check():
        async with cluster(2) as made:
            before = made[0].members.peers[made[1].id].card
            with pytest.raises(FrameError, match="the card of"):
                hello = Hello(card=FORGERIES[kind](made[1]))
                await made[1].parts.control.request(made[0].card.control, hello, timeout_s=10)
            assert made[0].members.peers[made[1].id].card == before
            assert made[0].stats().counters["card refused"] == 1

    asyncio.run(check())


def test_a_forged_card_in_an_answer_is_refused_too_and_does_not_stop_discovery():
    async def check():
        async with cluster(1) as made:
            liar = made.network.control("liar")
            card = Identity.create()
            device = Device(id=card.device_id, name="liar")
            false = NodeCard(device=device, control=liar.address, data="memory://x", public_key=card.public_key)

            async def lie(message):
                yield Hello(card=false)

            await liar.start(lie)
            made.directory.enter(false)
            await until(lambda: "card refused" in made[0].stats().counters, "its answer is refused")
            assert made[0].members.peers == {}
            assert any("liar" in problem and "not signed" in problem for problem in made[0].problems.values())
            await made.add()
            await until(lambda: len(made[0].members.alive()) == 1, "honest nodes are still found")
            await liar.close()

    asyncio.run(check())


def test_a_second_node_with_a_copied_identity_is_told_apart_and_reported():
    async def check():
        identity = Identity.create()
        async with cluster(1) as made:
            first = await made.add("first", identity=identity)
            await until(lambda: len(made[0].members.alive()) == 1, "the first is met")
            second = await made.add("second", identity=identity)
            await until(lambda: any("one identity" in text for text in made[0].problems.values()), "it is reported")
            await until(
                lambda: (
                    any("has the identity of this node" in text for text in first.problems.values())
                    or any("has the identity of this node" in text for text in second.problems.values())
                ),
                "they notice each other",
            )
            assert len(made[0].members.peers) == 1

    asyncio.run(check())


def test_an_older_card_does_not_replace_a_newer_one():
    async def check():
        async with cluster(1) as made:
            identity = Identity.create()
            device = Device(id=identity.device_id, name="x")
            for version, kept in ((5, 5), (4, 5), (6, 6)):
                card = identity.sign_card(
                    NodeCard(device=device, control="memory://x", data="memory://x", version=version)
                )
                await made[0].parts.control.request(made[0].card.control, Hello(card=card), timeout_s=10)
                assert made[0].members.peers[identity.device_id].card.version == kept

    asyncio.run(check())


def test_a_listener_that_fails_does_not_stop_the_node():
    async def check():
        async with cluster(1) as made:

            def broken(what):
                raise RuntimeError("a bug of the front end")

            made[0].listeners.add(broken)
            await made.add()
            await made.all_met()
            await until(lambda: made[0].members.alive()[0].latency_s is not None, "pings go on")

    asyncio.run(check())


def test_an_address_where_nobody_answers_is_a_problem_until_somebody_does():
    async def check():
        async with cluster(1) as made:
            identity = Identity.create()
            device = Device(id=identity.device_id, name="slowly")
            made.directory.enter(NodeCard(device=device, control="memory://n1", data="memory://n1"))
            await until(lambda: any("slowly" in text for text in made[0].problems.values()), "it is a problem")
            await made.add("n1")
            await until(lambda: made[0].problems.values() == (), "it is none any more")

    asyncio.run(check())


def test_a_newcomer_knows_the_loaded_plans_at_once_and_not_with_the_next_round_of_pings():
    async def check():
        async with cluster(2) as made:
            plan = await made.load((2, 2))
            await made.add("late", timing=msgspec.structs.replace(FAST, ping_every_s=3600.0))
            await until(lambda: made[2].plans == {plan.model: plan}, "it knows the plan")
            assert await made.answer(2) == made.expected()

    asyncio.run(check())


def test_however_many_are_announced_few_are_greeted_at_a_time_and_nobody_twice_at_once():
    async def check():
        async with cluster(2) as made:
            node, asked, answer = made[0], [], asyncio.Event()
            before = node.parts.control.request

            async def request(address, message, *, timeout_s):
                if not address.startswith("memory://nobody"):
                    return await before(address, message, timeout_s=timeout_s)
                asked.append(address)
                await answer.wait()
                raise PeerUnreachable("nobody is there")

            node.parts.control.request = request
            for number in range(3 * GREETINGS):
                device = Device(id=f"{number:012x}", name=f"nobody{number}")
                made.directory.enter(NodeCard(device=device, control=f"memory://nobody{number}", data=""))
            await until(lambda: len(asked) == GREETINGS, "as many as may be are greeted")
            await made.add("n2")  # discovery goes on meanwhile, and so does everything else
            await until(lambda: len(node.members.alive()) == 2, "somebody greeted us")
            assert len(asked) == len(set(asked)) == GREETINGS
            answer.set()
            await until(lambda: len(set(asked)) == 3 * GREETINGS, "everybody has been greeted")

    asyncio.run(check())


# -- the pure part -----------------------------------------------------------------------------------------

IDS = ("a", "b")


def card(name, version=1):
    return NodeCard(
        device=Device(id=name, name=name), control=f"memory://{name}", data=f"memory://{name}", version=version
    )


def events(now):
    ids = st.sampled_from(IDS)
    return st.one_of(
        st.builds(lambda i, v: m.Heard(card=card(i, v), found_by="x", now=now), ids, st.integers(1, 3)),
        st.builds(lambda i: m.Silent(id=i, now=now), ids),
        st.builds(lambda i: m.Gone(id=i, now=now), ids),
        st.builds(
            lambda i: m.Answered(id=i, round_trip_s=0.05, load=0, memory_available_bytes=1, plans=(), now=now), ids
        ),
        st.just(m.Ticked(now=now)),
    )


@given(st.data(), st.lists(st.floats(0.1, 100), min_size=1, max_size=12))
def test_whatever_happens_a_peer_is_known_once_and_lost_is_told_once(data, pauses):
    members, now = m.Members(), 0.0
    told_lost: set[str] = set()
    for pause in pauses:
        now += pause
        event = data.draw(events(now))
        after = m.step(members, event)
        for lost in m.newly_lost(members, after):
            assert lost not in told_lost
            told_lost.add(lost)
        told_lost -= {key for key, peer in after.peers.items() if peer.liveness != "lost"}
        assert all(key == peer.id for key, peer in after.peers.items())
        match event:
            case m.Heard() | m.Answered():
                known = getattr(event, "id", None) or event.card.device.id
                if known in after.peers and not isinstance(event, m.Heard):
                    assert after.peers[known].liveness == "alive"
            case m.Gone(id=gone) if gone in after.peers:
                assert after.peers[gone].liveness == "lost"
            case m.Ticked():
                assert all(p.liveness != "lost" or now - p.heard_at < m.FORGET_AFTER_S for p in after.peers.values())
            case _:
                pass
        members = after


def test_who_said_goodbye_is_not_back_by_an_answer_to_what_was_asked_before():
    def answered(now):
        return m.Answered(id="a", round_trip_s=0.5, load=0, memory_available_bytes=1, plans=(), now=now)

    members = m.step(m.Members(), m.Heard(card=card("a"), found_by="x", now=10.0))
    members = m.step(members, m.Gone(id="a", now=11.0))
    assert m.step(members, answered(11.2)).peers["a"].liveness == "lost"
    assert m.step(members, answered(12.0)).peers["a"].liveness == "alive"  # it only seemed to have ended


def test_a_greeting_again_takes_nothing_away_of_what_is_known():
    answered = m.Answered(
        id="a", round_trip_s=0.5, load=0.5, memory_available_bytes=7, plans=(("x", 1, "y"),), now=11.0
    )
    members = m.step(m.Members(), m.Heard(card=card("a"), found_by="x", now=10.0))
    before = m.step(members, answered).peers["a"]
    after = m.step(m.Members(peers={"a": before}), m.Heard(card=card("a"), found_by="z", now=12.0)).peers["a"]
    assert after == msgspec.structs.replace(before, heard_at=12.0)
    lost = m.step(m.Members(peers={"a": before}), m.Gone(id="a", now=12.0))
    back = m.step(lost, m.Heard(card=card("a"), found_by="z", now=13.0)).peers["a"]
    assert (back.liveness, back.load, back.plans) == ("alive", None, ())


def test_silence_makes_suspect_and_then_lost():
    members = m.step(m.Members(), m.Heard(card=card("a"), found_by="x", now=10.0))
    for now, state in ((11.0, "suspect"), (11.9, "suspect"), (12.0, "lost")):
        members = m.step(members, m.Silent(id="a", now=now))
        assert members.peers["a"].liveness == state
    members = m.step(members, m.Ticked(now=10.0 + m.FORGET_AFTER_S))
    assert members.peers == {}


def test_problems_are_bounded_and_the_oldest_goes_first():
    problems = Problems()
    for number in range(MAX_PROBLEMS + 5):
        problems.note(f"s{number}", "x" * 5000)
    assert len(problems.values()) == MAX_PROBLEMS
    assert problems.about("s0") is None
    assert len(problems.about(f"s{MAX_PROBLEMS}")) == MAX_CHARACTERS
    problems.settle("s5")
    problems.settle("s5")
    assert len(problems.values()) == MAX_PROBLEMS - 1


def one_peer(**fields):
    members = m.step(m.Members(), m.Heard(card=card("a"), found_by="x", now=10.0))
    answered = {"round_trip_s": 0.01, "load": 0, "memory_available_bytes": 1, "plans": (), "now": 10.0, **fields}
    return m.step(members, m.Answered(id="a", **answered)).peers["a"]


def test_patience_is_short_unless_something_excuses_the_silence():
    patience = lambda peer, process: m.patience_s(peer, process, 2.0, 8.0)  # noqa: E731
    assert patience(one_peer(), "unknown") == 2.0
    assert patience(one_peer(), "running") == 8.0  # its process is there: it computes, or imports
    assert patience(one_peer(busy=True), "unknown") == 8.0
    assert patience(one_peer(busy=True), "stopped") == 2.0
    assert 2.0 < patience(one_peer(round_trip_s=0.5), "unknown") <= 8.0
    assert patience(one_peer(round_trip_s=100.0), "unknown") == 8.0


def test_what_this_node_slept_through_is_nobody_elses_silence():
    members = m.step(m.Members(), m.Heard(card=card("a"), found_by="x", now=10.0))
    members = m.step(members, m.Stalled(seconds=30.0))
    assert m.step(members, m.Silent(id="a", now=41.0)).peers["a"].liveness == "suspect"
    assert m.step(members, m.Silent(id="a", now=42.0)).peers["a"].liveness == "lost"


def test_a_broken_connection_and_no_answer_is_a_death_and_one_that_answers_is_none():
    async def check():
        slow = msgspec.structs.replace(FAST, ping_timeout_s=15.0, lost_after_s=15.0, ping_every_s=15.0, confirm_s=0.3)
        async with cluster(3, timing=slow) as made:
            made[0].parts.control._cut(made[2].card.control)  # broken, and made again at once
            made.kill(1)
            await until(lambda: made[1].id not in [peer.id for peer in made[0].members.alive()], "it is lost", 5.0)
            assert [peer.id for peer in made[0].members.alive()] == [made[2].id]

    asyncio.run(check())
