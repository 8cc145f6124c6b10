"""Generation over nodes that share a process: the ring says what the uncut model says, whoever asks."""

from __future__ import annotations

import asyncio

import pytest

from tests.node.clusters import cluster


@pytest.mark.parametrize("counts", [(4,), (1, 3), (3, 1), (2, 1, 1), (1, 1, 1, 1)], ids=str)
def test_any_cut_of_the_model_gives_the_tokens_of_the_uncut_one(counts):
    async def check():
        async with cluster(len(counts)) as made:
            await made.load(counts)
            assert await made.answer(prompt=range(5, 40)) == made.expected(range(5, 40))

    asyncio.run(check())
