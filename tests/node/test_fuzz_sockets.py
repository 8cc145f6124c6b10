"""Live nodes behind real, encrypted sockets under a storm of wrong frames, with the secret and without it (law 5)."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from exo_lab.transport.keys import ClusterKeys, new_token
from exo_lab.transport.secure import SecureContext
from tests.fuzzing import FRAMES, Steady
from tests.node import attack
from tests.node.clusters import Cluster, until
from tests.node.seeds import control_messages, data_messages

pytestmark = pytest.mark.timeout(300)


@contextlib.asynccontextmanager
async def on_sockets(token: str, count: int = 2):
    """Nodes that talk through ZeroMQ, with a plan over the first two; yields the cluster and the plan."""
    made = Cluster(timing=attack.TIMING)
    for number in range(count):
        name, context = f"n{number}", SecureContext(token)
        edges = {"control": context.control(name=name), "data": context.data()}
        await made.add(name, **edges, refused=context.refused, close=context.close)
    try:
        await made.all_met()
        yield made, await made.load((2, 2))
        await attack.still_well(made, made.expected())
    finally:
        await made.stop()


def test_noise_without_the_secret_changes_nothing():
    async def check():
        async with on_sockets(new_token()) as (made, _):
            steady, doors = Steady(), [at for node in made.nodes for at in (node.card.control, node.card.data)]
            await asyncio.to_thread(attack.knock, doors, FRAMES, 23, steady.frame)
            refused = [sum(node.parts.refused().values()) for node in made.nodes]
            assert sum(refused) > FRAMES // 2  # who hangs up in the middle of a greeting is not refused
            steady.check()
            assert all(node.members.alive() for node in made.nodes)

    asyncio.run(check())


def test_wrong_frames_with_the_secret_change_nothing():
    token = new_token()

    async def check():
        async with on_sockets(token) as (made, plan):
            node, steady, keys = made[1], Steady(), ClusterKeys.from_token(token)
            seeds = data_messages(node, plan)
            await asyncio.to_thread(attack.push_wrong_frames, node, keys, seeds, FRAMES, 24, steady.frame)
            await until(lambda: node.stages.shelf.is_ended("last"), "all frames are read")
            steady.check()
            assert sum(node.parts.data.stats().refused.values()) > FRAMES // 20

    asyncio.run(check())


def test_wrong_questions_with_the_secret_change_nothing():
    token = new_token()

    async def check():
        async with on_sockets(token) as (made, plan):
            node, steady, keys = made[1], Steady(), ClusterKeys.from_token(token)
            seeds = control_messages(node, plan, made.source.config.digest)
            await asyncio.to_thread(attack.ask_wrong_questions, node, keys, seeds, FRAMES, 25, steady.frame)
            await until(lambda: not node.parts.control._tasks, "all questions are answered")
            steady.check()
            assert sum(node.parts.control.stats().refused.values()) > FRAMES // 20

    asyncio.run(check())


def test_a_port_that_listens_says_nothing_to_who_only_listens():
    async def check():
        context = SecureContext(new_token())
        made = Cluster(timing=attack.TIMING)
        await made.add("n0", control=context.control(name="n0"), data=context.data(), close=context.close)
        try:
            for address in (made[0].card.control, made[0].card.data):
                host, _, port = address.removeprefix("tcp://").rpartition(":")
                with socket.create_connection((host, int(port)), 5) as plain:
                    plain.settimeout(0.3)
                    said = b""
                    with contextlib.suppress(TimeoutError):
                        while chunk := await asyncio.to_thread(plain.recv, 4096):
                            said += chunk
                    # The first ten bytes of ZMTP's greeting, which are the same for every ZeroMQ socket there is.
                    assert len(said) <= 64
                    assert b"exo" not in said
        finally:
            await made.stop()

    asyncio.run(check())
