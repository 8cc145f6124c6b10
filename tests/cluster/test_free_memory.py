"""A plan is made with what nodes say is free now, and not with what was free when they connected."""

from __future__ import annotations

import asyncio

import msgspec

from exo_lab.cluster.planning import Wish, problem_of
from tests.node.clusters import MODEL, cluster, until
from tests.tiny import tiny_config, tiny_source

LAYERS = 8


def test_plans_follow_what_is_free_on_each_machine_and_count_the_layers_that_are_loaded():
    async def check():
        source = tiny_source(tiny_config(n_layers=LAYERS))
        free = {"mine": 10 << 20, "theirs": 20 << 20}

        def parts(memory):
            return {"memory_id": memory, "free_memory": lambda: free[memory]}

        async with cluster(0, source=source) as made:
            for memory in ("mine", "mine", "theirs"):
                await made.add(**parts(memory))
            await made.all_met()
            config = msgspec.structs.replace(source.config, name=MODEL)

            def rooms():
                asked = problem_of(made[0], config, Wish(strategy="uniform", context=64))
                return [asked.memory_bytes(asked.device(node.id)) for node in made.nodes]

            await until(lambda: rooms() == [5 << 20, 5 << 20, 20 << 20], "pongs have come")
            await made.load((3, 5), (1, 2))
            held = [engine.info.weight_bytes for name in ("n1", "n2") for engine in made.engines[name]]
            assert rooms() == [((10 << 20) + held[0]) // 2] * 2 + [(20 << 20) + held[1]]
            free["mine"] = 4 << 20
            await until(lambda: rooms()[0] == ((4 << 20) + held[0]) // 2, "what is free now")

    asyncio.run(check())
