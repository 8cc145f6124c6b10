"""Topology collection over neighbours (law 4): `visited` and `max_depth` really travel, and a cycle ends (S16)."""

from __future__ import annotations

import asyncio

import pytest

from exo_lab.core.errors import FrameError
from exo_lab.core.messages import Collect, Collected
from exo_lab.node.collect import MAX_DEPTH, MAX_VISITED
from tests.node.clusters import cluster, until

CHAIN = 8


def neighbours_only(a: str, b: str) -> bool:
    """n2 sees n1 and n3."""
    return abs(int(a[1:]) - int(b[1:])) == 1


def round_table(size: int):
    def sees(a: str, b: str) -> bool:
        return (int(a[1:]) - int(b[1:])) % size in (1, size - 1)

    return sees


async def met(made, degree):
    """Every node knows as many neighbours as `degree` says of its number."""
    for number, node in enumerate(made.nodes):
        await until(lambda node=node, n=number: len(node.members.alive()) == degree(n), "neighbours meet")


def names(topology):
    return {device.name for device in topology.devices}


def log_questions(made):
    """Every Collect that a node is asked: (its name, the message)."""
    asked = []
    for node in made.nodes:
        answer = node.parts.control._handler

        def logged(message, node=node, answer=answer):
            if isinstance(message, Collect):
                asked.append((node.device.name, message))
            return answer(message)

        node.parts.control._handler = logged
    return asked


@pytest.mark.parametrize("depth", range(MAX_DEPTH + 1))
def test_along_a_chain_nodes_are_asked_as_far_away_as_the_depth_says(depth):
    async def check():
        async with cluster(CHAIN, sees=neighbours_only) as made:
            await met(made, lambda n: 1 if n in (0, CHAIN - 1) else 2)
            asked = log_questions(made)
            found = await made[0].collect(depth)
            # Who is asked tells of its own neighbour, too.
            assert names(found) == {f"n{i}" for i in range(depth + 2)}
            assert [name for name, _ in asked] == [f"n{i}" for i in range(1, depth + 1)]
            assert [question.max_depth for _, question in asked] == list(range(depth))[::-1]
            for number, (_, question) in enumerate(asked):
                assert set(question.visited) == {made[i].id for i in range(number + 2)}
            assert len(found.links) == depth + 1

    asyncio.run(check())


def test_in_a_cycle_nobody_is_asked_for_ever_and_everybody_is_found():
    async def check():
        size = 5
        async with cluster(size, sees=round_table(size)) as made:
            await met(made, lambda n: 2)
            asked = log_questions(made)
            found = await made[0].collect()
            assert names(found) == {f"n{i}" for i in range(size)}
            assert "n0" not in [name for name, _ in asked]
            assert len(asked) <= size + 1
            assert len(found.links) == size

    asyncio.run(check())


def test_among_nodes_that_all_know_each_other_each_is_asked_once():
    async def check():
        async with cluster(4) as made:
            asked = log_questions(made)
            found = await made[1].collect()
            assert names(found) == {"n0", "n1", "n2", "n3"}
            assert sorted(name for name, _ in asked) == ["n0", "n2", "n3"]
            assert len(found.links) == 6

    asyncio.run(check())


def test_all_nodes_collect_the_same_topology_but_for_what_each_measured_last():
    async def check():
        async with cluster(3) as made:
            pictures = [await node.collect() for node in made.nodes]
            for picture in pictures:
                assert picture.sightings == pictures[0].sightings
                assert [(e.a, e.b, e.kind) for e in picture.links] == [(e.a, e.b, e.kind) for e in pictures[0].links]

    asyncio.run(check())


def test_a_neighbour_that_does_not_answer_is_left_out_and_holds_up_nothing_for_long():
    async def check():
        async with cluster(CHAIN, sees=neighbours_only) as made:
            await met(made, lambda n: 1 if n in (0, CHAIN - 1) else 2)
            made.cut_off(2)
            found = await asyncio.wait_for(made[0].collect(1), 10)
            assert {"n0", "n1"} <= names(found) <= {"n0", "n1", "n2"}

    asyncio.run(check())


def test_more_depth_than_is_sensible_is_taken_as_the_most_that_is():
    async def check():
        async with cluster(CHAIN, sees=neighbours_only) as made:
            await met(made, lambda n: 1 if n in (0, CHAIN - 1) else 2)
            assert names(await made[0].collect(10**9)) == names(await made[0].collect(MAX_DEPTH))
            assert names(await made[0].collect(-3)) == names(await made[0].collect(0))

    asyncio.run(check())


def test_who_was_visited_is_not_asked_again_and_absurd_lists_are_refused():
    async def check():
        async with cluster(3, sees=neighbours_only) as made:
            await met(made, lambda n: 1 if n in (0, 2) else 2)
            asked = log_questions(made)
            question = Collect(visited=(made[2].id,), max_depth=3)
            reply = await made[0].parts.control.request(made[1].card.control, question, timeout_s=10)
            assert isinstance(reply, Collected)
            assert [name for name, _ in asked] == ["n1", "n0"]
            assert set(reply.visited) == {node.id for node in made.nodes}
            absurd = Collect(visited=("x",) * (MAX_VISITED + 1))
            with pytest.raises(FrameError, match="are said to have been visited"):
                await made[0].parts.control.request(made[1].card.control, absurd, timeout_s=10)

    asyncio.run(check())
