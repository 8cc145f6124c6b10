"""A node behind an emulated link: the same tokens, later, and links say what was measured and that it is emulated."""

from __future__ import annotations

import asyncio

from exo_lab.core.emulated_link import EmulatedLink
from exo_lab.transport.emulated import EmulatedPort
from tests.node.clusters import cluster, until

LINK = EmulatedLink(latency_s=0.004, bandwidth_bytes_per_s=5e6)


def test_a_ring_with_an_emulated_link_says_the_same_later_and_measures_what_is_emulated():
    async def check():
        async with cluster(1) as made:
            port = EmulatedPort(made.network.data("slow"), LINK)
            await made.add("far", data=port, emulated=LINK.text, emulated_link=LINK.text)
            await made.all_met()
            await made.load((2, 2))
            request = made.ask(0, max_tokens=8)
            assert await made.answer(0) == made.expected()
            arrivals = []
            while not request.drained:
                arrival = request.take(1.0)
                arrivals += [] if arrival is None else [arrival.at]
            assert len(arrivals) == 8
            assert arrivals[-1] - arrivals[0] >= 7 * 2 * LINK.latency_s  # there and back for each token
            edges = lambda: made[0].topology.between(made[0].id, made[1].id)  # noqa: E731
            await until(lambda: edges()[0].bandwidth_bytes_per_s is not None, "the link is measured", 60.0)
            (edge,) = edges()
            assert edge.emulated == "far: link 4 ms, 40 Mbit/s"
            assert edge.latency_s >= LINK.latency_s
            assert edge.bandwidth_bytes_per_s <= 1.05 * LINK.bandwidth_bytes_per_s

    asyncio.run(check())
