"""Who only visits asks and looks: no layer goes to it, however hard a plan is to find."""

from __future__ import annotations

import asyncio

import pytest

from exo_lab.core.errors import BadPlan
from exo_lab.node import planner
from tests.node.clusters import cluster, tokens_of, until


def test_a_stage_that_was_lost_is_not_given_to_a_visitor_that_asked_for_the_answer():
    async def check():
        async with cluster(2) as made:
            visitor = await made.add("shell", visits=True)
            await made.all_met()
            await made.load((4,), (1,))
            await until(lambda: visitor.plans != {}, "the visitor knows the plan")
            gate = made.gates["n1"]
            gate.close_before(5)
            request = made.ask(2, max_tokens=24)
            await until(gate.reached.is_set, "it is at work")
            made.kill(1)
            made.stopped.append(made[1])
            gate.open()
            assert await tokens_of(request) == made.expected(max_tokens=24)
            assert request.plan.devices == (made[0].id,)

    asyncio.run(check())


def test_a_visitor_refuses_layers_and_is_in_reach_all_the_same():
    async def check():
        async with cluster(1) as made:
            visitor = await made.add("shell", visits=True)
            await made.all_met()
            for node in made.nodes:
                assert planner.residents(node) == {made[0].id}
                assert planner.reachable(node) == {made[0].id, visitor.id}
            with pytest.raises(BadPlan, match="shell is here for the length of a command and holds no layers"):
                await made.load((2, 2), (0, 1))
            assert made[0].stages.weight_bytes == visitor.stages.weight_bytes == 0

    asyncio.run(check())
