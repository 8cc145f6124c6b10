"""A ring whose tensors go through shared memory: the same tokens, and a link that says so."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator

import pytest

from exo_lab.cluster.looking import node_statuses
from exo_lab.transport.keys import new_token
from exo_lab.transport.secure import SecureContext
from exo_lab.transport.shared_memory import SharedMemory
from tests.node.clusters import FAST, Cluster, over, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory without a name is Linux'")

PROMPT = tuple(range(1, 60))


@contextlib.asynccontextmanager
async def ring(*, shared: bool) -> AsyncIterator[Cluster]:
    """Two nodes with real sockets between their data threads."""
    made, token, contexts = Cluster(), new_token(), []
    try:
        for _ in range(2):
            contexts.append(SecureContext(token))
            side = SharedMemory(enabled=shared, threshold_bytes=1)
            await made.add(data=contexts[-1].data(side=side), timing=FAST)
        await made.all_met()
        yield made
    finally:
        await made.stop()
        assert all(context.close() for context in contexts)


@pytest.mark.parametrize("sampled", [{}, {"temperature": 0.8, "seed": 3}])
def test_tokens_and_probabilities_are_those_of_the_socket(sampled):
    async def answers(*, shared: bool):
        async with ring(shared=shared) as made:
            if shared:
                await until(lambda: all(_kinds(node) == {"shared-memory"} for node in made.nodes), "both ways are open")
            await made.load((2, 2))
            request = await over(made.ask(0, PROMPT, logprobs=3, **sampled))
            assert request.error is None
            counts = [node.parts.data.stats() for node in made.nodes]
            assert all((stats.shared_out > 5) is shared and stats.refused == {} for stats in counts)
            return [(token.token, token.logprob, token.alternatives) for token in _tokens(request)]

    with_it, without = asyncio.run(answers(shared=True)), asyncio.run(answers(shared=False))
    assert len(without) == 12
    assert with_it == without


def _tokens(request):
    while (arrival := request.take(0)) is not None:
        yield arrival.token


def _kinds(node) -> set[str]:
    return {edge.kind for edge in node.topology.links}


def test_the_link_says_what_it_is_and_says_otherwise_when_the_peer_is_gone():
    async def scenario():
        async with ring(shared=True) as made:
            await until(lambda: all(_kinds(node) == {"shared-memory"} for node in made.nodes), "both ways are open")
            assert [status.link for status in node_statuses(made[0])] == [None, "shared-memory"]
            peer, gone = made[0].members.alive()[0], made[1]
            await made.remove(gone)
            await until(lambda: not made[0].peers.shares_memory(peer.data), "its ring is let go of")

    asyncio.run(scenario())
