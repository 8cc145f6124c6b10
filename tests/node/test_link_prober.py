"""Testing links on being asked: within bounds, one at a time, never against a generation, never without an end."""

from __future__ import annotations

import asyncio

import pytest

from exo_lab.cluster import network
from exo_lab.core.errors import ConfigError, FrameError, NodeError
from exo_lab.core.messages import Progress
from exo_lab.core.probe import Probed, ProbeLinks
from exo_lab.core.topology import topology
from exo_lab.node import link_prober
from exo_lab.node.link_prober import LINK_BYTES, REPEATS, LinkProber, repeats
from tests.node.clusters import cluster, until

SMALL = (2048, 16384)


async def asked(prober: LinkProber, order: ProbeLinks) -> list:
    return [reply async for reply in prober.probe(order)]


def test_a_node_tests_its_links_and_says_how_far_it_is():
    async def check():
        async with cluster(3) as made:
            a, b, c = made.nodes
            order = ProbeLinks(peers=(b.id, c.id), sizes=SMALL, pings=20)
            stream = a.parts.control.stream(
                b.parts.control.address, ProbeLinks(peers=(a.id,), sizes=SMALL), timeout_s=9
            )
            assert [type(reply) async for reply in stream] == [Progress, Probed]
            replies = await asked(a.prober, order)
            assert [type(reply) for reply in replies] == [Progress, Progress, Probed]
            for found, peer in zip(replies[-1].links, (b, c), strict=True):
                assert (found.a, found.b) == (a.id, peer.id)
                assert (found.pings, found.sent, found.lost) == (20, 20 + 2 * REPEATS, 0)
                assert found.p50_s is not None
                assert found.p50_s <= (found.p99_s or 0)
                assert found.sent_bytes == REPEATS * sum(SMALL)
                assert [one.size_bytes for one in found.transfers] == list(SMALL)

    asyncio.run(check())


def test_a_test_is_refused_while_a_generation_runs_unless_it_is_asked_for():
    async def check():
        async with cluster(2) as made:
            await made.load((2, 2))
            gate = made.gates["n1"]
            gate.close_before(1)
            request = made.ask(0, max_tokens=4)
            await until(gate.reached.is_set, "it is at work")
            with pytest.raises(NodeError, match="--while-busy"):
                await asked(made[0].prober, ProbeLinks(peers=(made[1].id,)))
            gate.open()
            await until(request.over.is_set, "it is over")
            await until(lambda: not made[0].prober._busy, "its sessions are freed")
            assert isinstance((await asked(made[0].prober, ProbeLinks(peers=(made[1].id,), pings=3)))[-1], Probed)

    asyncio.run(check())


def test_a_generation_that_begins_breaks_a_test_off_and_one_that_was_allowed_goes_on():
    async def check():
        async with cluster(2) as made:
            await made.load((2, 2))
            gate = made.gates["n0"]
            gate.close_before(1)
            prober, order = made[0].prober, ProbeLinks(peers=(made[1].id,), sizes=SMALL, pings=1000)
            test = asyncio.create_task(asked(prober, order))
            await until(lambda: prober._at_work, "the test runs")
            request = made.ask(0, max_tokens=3)
            (found,) = (await test)[-1].links
            assert found.remark == "broken off: a generation began"
            gate.open()
            await until(request.over.is_set, "the answer is there")

    asyncio.run(check())


def test_one_test_at_a_time_and_one_that_is_left_frees_the_node():
    async def check():
        async with cluster(2) as made:
            prober = made[0].prober
            first = prober.probe(ProbeLinks(peers=(made[1].id,)))
            assert isinstance(await anext(first), Progress)
            with pytest.raises(NodeError, match="already"):
                await asked(prober, ProbeLinks(peers=(made[1].id,)))
            await first.aclose()
            assert isinstance((await asked(prober, ProbeLinks(peers=(), pings=1)))[-1], Probed)

    asyncio.run(check())


def test_frames_that_do_not_come_back_are_lost_and_the_link_is_given_up(monkeypatch):
    monkeypatch.setattr(link_prober, "ECHO_S", 0.02)

    async def check():
        async with cluster(2) as made:
            made[1].ring._message = lambda message, tensor: None  # hears, and never answers
            (found,) = (await asked(made[0].prober, ProbeLinks(peers=(made[1].id,))))[-1].links
            assert (found.loss, found.p50_s, found.sent) == (1.0, None, 2)  # the first of three made the connection
            assert "given up" in found.remark
            (unknown,) = (await asked(made[0].prober, ProbeLinks(peers=("f" * 12,))))[-1].links
            assert "does not know it" in unknown.remark

    asyncio.run(check())


def test_a_slow_link_is_tested_with_small_frames_only():
    class Clock:
        now = 0.0

        def __call__(self) -> float:
            return self.now

    clock = Clock()

    async def send(size: int) -> float:
        took_s = 0.01 + size / 100_000
        clock.now += took_s
        return took_s

    async def check():
        test = link_prober._Test(send, lambda: False, clock)
        assert len(await test.frames(0, 10)) == 10
        assert len(await test.frames(16384, 8)) == 8
        assert await test.frames(1 << 20, 8) == []
        assert "left out" in test.remark
        assert clock.now < link_prober.LINK_S

    asyncio.run(check())


@pytest.mark.parametrize(
    "order",
    [
        ProbeLinks(peers=(), sizes=(1 << 40,)),
        ProbeLinks(peers=(), sizes=(0,)),
        ProbeLinks(peers=(), sizes=(1,) * 100),
        ProbeLinks(peers=(), pings=0),
        ProbeLinks(peers=(), pings=10**9),
        ProbeLinks(peers=("a",) * 300),
    ],
)
def test_more_than_is_ever_done_is_refused(order):
    async def check():
        async with cluster(1) as made:
            with pytest.raises(FrameError):
                await asked(made[0].prober, order)

    asyncio.run(check())


def test_the_ordinary_sizes_stay_below_the_bound_of_bytes():
    assert sum(size * repeats(size) for size in ProbeLinks(peers=()).sizes) < LINK_BYTES


# -- the whole cluster -----------------------------------------------------------------------------------------


def test_every_pair_is_tested_both_ways_and_the_rest_is_said():
    async def check():
        async with cluster(3) as made:
            a, b, c = made.nodes
            devices = [node.device for node in made.nodes]
            told: list[tuple[str, int]] = []
            asked = network.questions(devices, "all")
            made[2].prober._at_work = True
            report = await network.run(a, asked, sizes=SMALL, progress=lambda name, done, *_: told.append((name, done)))
            assert {(one.a, one.b) for one in report.probes} == {
                (a.id, b.id), (a.id, c.id), (b.id, a.id), (b.id, c.id),
            }  # fmt: skip
            ((refuser, why),) = report.refused
            assert refuser == c.id
            assert "already" in why
            assert told[:3] == [("n0", 0), ("n0", 1), ("n0", 2)]
            known = topology([], [])
            fresh = network.with_figures(known, report)
            assert all(edge.latency_s is not None for edge in fresh.links)
            assert len(fresh.links) == 3

    asyncio.run(check())


def test_one_target_is_tested_from_and_to_itself_and_an_unknown_one_is_an_error():
    async def check():
        async with cluster(3) as made:
            devices = [node.device for node in made.nodes]
            pairs = {(asked.device.name, len(asked.peers)) for asked in network.questions(devices, "n1")}
            assert pairs == {("n1", 2), ("n0", 1), ("n2", 1)}
            with pytest.raises(ConfigError, match="no node named"):
                network.questions(devices, "nobody")
            with pytest.raises(ConfigError, match="two nodes"):
                network.questions(devices[:1], "all")

    asyncio.run(check())


def test_a_node_that_is_gone_is_reported_and_nothing_hangs():
    async def check():
        async with cluster(2) as made:
            devices = [node.device for node in made.nodes]
            await made.remove(made[1])
            report = await asyncio.wait_for(network.run(made[0], network.questions(devices, "all"), sizes=SMALL), 10)
            assert [node for node, _ in report.refused] == [devices[1].id]
            assert all(one.p50_s is None for one in report.probes)

    asyncio.run(check())
