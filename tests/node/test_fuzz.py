"""Everything that a hostile member, or a stranger, can throw at a live node (law 5).

Afterwards the node answers, its memory is bounded, what was wrong is counted, and it still says the right tokens.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import struct

import msgspec

from exo_lab.core import messages as msg
from exo_lab.core.errors import ExoError
from exo_lab.core.plan import plan_from_counts
from exo_lab.node.peers import MAX_MEMBERS
from exo_lab.node.plan_book import MAX_LOADS, MAX_MODELS
from exo_lab.transport import exchange, frames
from exo_lab.transport.keys import Identity
from tests.fuzzing import FRAMES, wrong
from tests.node.attack import TIMING, still_well
from tests.node.clusters import MODEL, Cluster, cluster, until
from tests.node.seeds import control_messages, data_messages

FEW = FRAMES // 10  # here every frame can be followed; all of them come through real sockets, see `test_fuzz_sockets`


def test_wrong_frames_from_a_member_on_the_data_port_change_nothing():
    async def check():
        async with cluster(2, timing=TIMING) as made:
            plan = await made.load((2, 2))
            rng = random.Random(21)
            for number in range(FEW):
                node = made.nodes[number % 2]
                message, tensor = rng.choice(data_messages(node, plan))
                if rng.random() < 0.5 and not isinstance(message, msg.Token):
                    message = msgspec.structs.replace(message, request=f"fuzz{number}")
                parts = [bytes(part) for part in frames.encode(message, tensor)]
                if rng.random() < 0.9:
                    victim = rng.randrange(len(parts))
                    parts[victim] = (
                        wrong(rng, parts[1]) if victim == 1 else rng.randbytes(rng.randrange(len(parts[victim]) + 9))
                    )
                if rng.random() < 0.02:
                    parts.append(b"more")
                await asyncio.to_thread(made.network.inject, node.card.data, parts)
            await until(lambda: all(not node.parts.data._frames for node in made.nodes), "everything is read")
            counters = [node.stats().counters for node in made.nodes]
            refused = [node.parts.data.stats().refused for node in made.nodes]
            assert all(sum(counts.values()) > FEW // 20 for counts in refused)
            assert all(counts.get("failed: FrameError", 0) > 0 for counts in counters)
            assert all(counts.get("unknown request", 0) > 0 for counts in counters)
            await still_well(made, made.expected())

    asyncio.run(check())


def test_wrong_questions_from_a_member_on_the_control_port_change_nothing():
    async def check():
        async with cluster(2, timing=TIMING) as made:
            plan = await made.load((2, 2))
            rng = random.Random(22)
            for number in range(FEW):
                node = made.nodes[number % 2]
                frame = frames.encode_control(rng.choice(control_messages(node, plan, made.source.config.digest)))
                if rng.random() < 0.9:
                    frame = frame[:2] + wrong(rng, frame[2:])
                head = rng.choice((exchange.ASK_ONE, exchange.ASK_ALL, exchange.ASK_ALL, exchange.STOP))
                head += struct.pack("<Q", number if rng.random() < 0.9 else rng.randrange(2**64))
                parts = [rng.randbytes(rng.randrange(12)) if rng.random() < 0.05 else head, frame]
                made.network.inject(node.card.control, parts, control=True)
                if number % 16 == 0:
                    await asyncio.sleep(0)
            await until(lambda: all(not node.parts.control._tasks for node in made.nodes), "everything is answered")
            for node in made.nodes:
                assert sum(node.parts.control.stats().refused.values()) > FEW // 20
                assert node.stats().counters["card refused"] > 0
            await still_well(made, made.expected())

    asyncio.run(check())


def test_a_crowd_of_strangers_with_good_cards_does_not_fill_a_node():
    async def check():
        async with cluster(1, timing=TIMING) as made:
            node = made[0]
            for number in range(MAX_MEMBERS + 20):
                identity = Identity.create()
                device = type(node.device)(id=identity.device_id, name=f"crowd{number}")
                hello = msg.Hello(card=identity.sign_card(msg.NodeCard(device=device, control="memory://x", data="x")))
                with contextlib.suppress(ExoError):
                    await node.parts.control.request(node.card.control, hello, timeout_s=10)
            assert len(node.members.peers) == MAX_MEMBERS
            assert node.counters["cluster full"] == 20

    asyncio.run(check())


def test_plans_without_end_do_not_fill_a_node():
    async def check():
        async with cluster(1, timing=TIMING) as made:
            plan = await made.load((4,))
            control, address = made[0].parts.control, made[0].card.control
            refused = 0
            elsewhere = msgspec.structs.replace(plan, devices=("f" * 12,))
            for number in range(MAX_MODELS + 10):
                name = f"m{number}"
                shards = tuple(msgspec.structs.replace(shard, model=name) for shard in plan.shards)
                other = msgspec.structs.replace(elsewhere, model=name, shards=shards)
                try:
                    model = msg.ModelRef(name=name, digest="d")
                    await control.request(address, msg.Activate(plan=other, model=model), timeout_s=10)
                except ExoError:
                    refused += 1
            assert (len(made[0].plans), refused) == (MAX_MODELS, 11)
            for bad in (
                msgspec.structs.replace(elsewhere, why=("x" * 100_000,), epoch=5),
                msgspec.structs.replace(elsewhere, epoch=2**52),
            ):
                order = msg.Activate(plan=bad, model=made[0].models[MODEL])
                with contextlib.suppress(ExoError):
                    await control.request(address, order, timeout_s=10)
                assert made[0].plans[MODEL] == plan
            for model in list(made[0].plans):
                await control.request(address, msg.Unload(model=model), timeout_s=10)
            await still_well_alone(made)

    asyncio.run(check())


async def still_well_alone(made: Cluster) -> None:
    await made.load((4,))
    assert await made.answer() == made.expected()


def test_orders_about_plans_that_nobody_knows_are_refused_or_do_nothing():
    async def check():
        async with cluster(2, timing=TIMING) as made:
            plan = await made.load((2, 2))
            node, model = made[1], made[1].models[MODEL]
            ask = made[0].parts.control.request
            unknown = msgspec.structs.replace(plan, epoch=7)
            said: list[str] = []
            for order in (
                msg.Activate(plan=unknown, model=model),
                msg.LoadShard(plan=plan, stage=0, model=model),
                msg.LoadShard(plan=plan, stage=99, model=model),
                msg.LoadShard(plan=plan, stage=-1, model=model),
                msg.LoadShard(plan=plan, stage=1, model=model),  # it has that one
                msg.LoadShard(plan=unknown, stage=1, model=msgspec.structs.replace(model, digest="other")),
                msg.Collect(visited=("x",) * 5000),
                msg.Ping(sequence=1, payload=b"x" * ((1 << 20) + 1)),
                msg.Done(),
            ):
                try:
                    reply = await ask(node.card.control, order, timeout_s=10)
                except ExoError as exc:
                    said.append(str(exc))
                else:
                    raise AssertionError(f"{type(order).__name__} was answered with {reply}")
            assert all("[reported by node n1]" in one for one in said)
            for harmless in (
                msg.Unload(model="nothing"),
                msg.Unload(model=MODEL, epoch=99),
                msg.Unload(model=MODEL, epoch=plan.epoch, proposer="nobody"),
                msg.Leave(node="nobody"),
                msg.Collect(visited=(), max_depth=10**9),
                msg.Collect(visited=(), max_depth=-5),
            ):
                await ask(node.card.control, harmless, timeout_s=10)
            assert node.plans == {MODEL: plan}
            assert await made.answer() == made.expected()

    asyncio.run(check())


def test_shards_that_are_loaded_and_never_used_are_bounded_and_freed_with_their_proposer():
    async def check():
        async with cluster(2, timing=TIMING) as made:
            plan = await made.load((2, 2))
            model = made[1].models[MODEL]
            for number in range(10):  # of as many models: of one, the plan before would give way
                other = plan_from_counts(f"tiny{number}", plan.devices, (1, 3))  # other layers: they must be loaded
                order = msg.LoadShard(
                    plan=msgspec.structs.replace(other, epoch=2, proposer=plan.proposer), stage=1, model=model
                )
                await made[0].parts.control.request(made[1].card.control, order, timeout_s=10)
            loaded = made.engines["n1"][1:]
            assert [engine.closed for engine in loaded] == [True] * (10 - MAX_LOADS) + [False] * MAX_LOADS
            made.cut_off(0)
            await until(lambda: all(engine.closed for engine in loaded), "the proposer is lost")

    asyncio.run(check())
