"""Caches that come from a peer are believed in nothing: what does not fit is refused and told, and nothing is left."""

from __future__ import annotations

import asyncio

import pytest

from exo_lab.core.messages import Adopted, Cache, HandOver, SessionSpec
from exo_lab.core.sampling import SamplingParams
from exo_lab.core.tensor import Tensor
from exo_lab.node.handover import MAX_ARRIVING, SILENCE_S
from exo_lab.node.orders import RequesterLost
from tests.node.clusters import cluster, until


def layer(rows=3, heads=2, dtype="float32"):
    return Tensor(dtype, (rows, 2, heads, 16), bytes(rows * 2 * heads * 16 * (4 if dtype == "float32" else 2)))


class Forger:
    """A member that builds frames by hand, and listens for what is answered."""

    def __init__(self, made, plan):
        self.made, self.plan = made, plan
        self.port = made.network.data("forger")
        self.spec = SessionSpec(
            requester="forger",
            reply_to=self.port.address,
            sampling=SamplingParams(),
            eos=(),
            prompt_tokens=4,
            total_tokens=8,
        )

    def cache(self, number, request="forged", **changes):
        fields = {"model": self.plan.model, "epoch": self.plan.epoch, "proposer": self.plan.proposer, **changes}
        return Cache(request=request, layer=number, spec=self.spec, **fields)

    def send(self, node, message, tensor=None):
        self.port.send(self.made[node].card.data, message, tensor)

    async def answer(self):
        message, _ = await asyncio.to_thread(self.port.recv, 10.0)
        return message


WRONG = {
    "no tensor": ({}, None, "is float32 or bfloat16"),
    "another number of heads": ({}, layer(heads=3), "is float32 or bfloat16"),
    "another dtype": ({}, layer(dtype="float16"), "is float32 or bfloat16"),
    "no dimensions": ({}, Tensor("float32", (), bytes(4)), "is float32 or bfloat16"),
    "no positions": ({}, layer(rows=0), "a cache of 0 positions"),
    "all positions": ({}, layer(rows=8), "a cache of 8 positions"),
    "another epoch": ({"epoch": 77}, layer(), "the plan has changed"),
    "another's layer": ({"number": 3}, layer(), "came to who holds 0 to 1"),
    "a layer that is none": ({"number": -1}, layer(), "came to who holds"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_cache_that_does_not_fit_is_refused_and_told(wrong):
    changes, tensor, says = WRONG[wrong]

    async def check():
        async with cluster(2) as made:
            forger = Forger(made, await made.load((2, 2)))
            forger.send(0, forger.cache(0), layer())  # a good one before it: that is forgotten, too
            forger.send(0, forger.cache(**{"number": 1, **changes}), tensor)
            failed = await forger.answer()
            assert failed.error in ("NodeLost", "StaleEpoch")
            assert says in failed.message
            assert made[0].ring.handovers._arriving == {}
            await made.free_of_sessions()
            assert await made.answer() == made.expected()

    asyncio.run(check())


def test_layers_of_different_lengths_are_no_cache():
    async def check():
        async with cluster(2) as made:
            forger = Forger(made, await made.load((2, 2)))
            forger.send(0, forger.cache(0), layer(3))
            forger.send(0, forger.cache(1), layer(4))
            assert "with [3, 4] positions" in (await forger.answer()).message
            await made.free_of_sessions()

    asyncio.run(check())


def test_a_whole_cache_is_taken_in_once_and_told():
    async def check():
        async with cluster(2) as made:
            forger = Forger(made, await made.load((2, 2)))
            for number in (1, 0, 0, 1):
                forger.send(0, forger.cache(number), layer())
            assert await forger.answer() == Adopted(request="forged", node=made[0].id)
            assert made[0].stages.shelf.session("forged").next_position == 3
            assert made[0].ring.handovers._arriving == {}

    asyncio.run(check())


def test_who_has_no_cache_to_give_says_so():
    async def check():
        async with cluster(2) as made:
            forger = Forger(made, await made.load((2, 2)))
            forger.send(0, HandOver(request="next", ended="nobody", plan=forger.plan, positions=3, spec=forger.spec))
            failed = await forger.answer()
            assert (failed.error, failed.request) == ("NodeLost", "next")

    asyncio.run(check())


def test_a_cache_that_an_engine_cannot_take_in_is_told_at_once_and_nothing_is_left_of_it():
    async def check():
        async with cluster(2) as made:
            forger = Forger(made, await made.load((2, 2)))
            engine = made.engines["n0"][0]

            def full(session, kv):
                raise RuntimeError("out of memory")

            engine.import_kv = full
            for number in range(2):
                forger.send(0, forger.cache(number), layer())
            failed = await forger.answer()
            assert (failed.error, failed.message) == ("NodeLost", "out of memory")
            await made.free_of_sessions()
            assert made.count("broken") == 0

    asyncio.run(check())


def test_caches_that_come_in_are_bounded():
    async def check():
        async with cluster(2) as made:
            forger = Forger(made, await made.load((2, 2)))
            for number in range(MAX_ARRIVING + 1):
                forger.send(0, forger.cache(0, request=f"r{number}"), layer())
                if number % 8 == 7:
                    await until(lambda: not made[0].parts.data._frames, "they are read")
            failed = await forger.answer()
            assert failed.request == f"r{MAX_ARRIVING}"
            assert "takes over 64 requests already" in failed.message

    asyncio.run(check())


def test_caches_that_come_no_more_are_forgotten_whether_others_come_or_not_and_with_who_asked():
    async def check():
        async with cluster(2) as made:
            forger, handovers = Forger(made, await made.load((2, 2))), made[0].ring.handovers
            later = [0.0]
            handovers._clock = lambda: later[0]
            forger.send(0, forger.cache(0), layer())
            await until(lambda: len(handovers._arriving) == 1, "it is coming in")
            later[0] = SILENCE_S - 1
            forger.send(0, forger.cache(0), layer())
            await until(lambda: not made[0].parts.data._frames, "it is read")
            later[0] = 2 * SILENCE_S - 2  # of which it was silent for less than one
            made[0].ring.post(RequesterLost("somebody else", "memory://somebody"))
            await until(lambda: not made[0].parts.data._frames, "it is read")
            assert len(handovers._arriving) == 1
            later[0] = 2 * SILENCE_S
            await until(lambda: not handovers._arriving, "it is forgotten")
            forger.send(0, forger.cache(0, request="other"), layer())
            await until(lambda: len(handovers._arriving) == 1, "another is coming in")
            made[0].ring.post(RequesterLost("forger", forger.port.address))
            await until(lambda: not handovers._arriving, "it is forgotten with who asked")

    asyncio.run(check())
