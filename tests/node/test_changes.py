"""Plans are changed one after the other, and wholly or not at all: nobody computes half of one and half of another."""

from __future__ import annotations

import asyncio
import threading

import msgspec
import pytest

from exo_lab.core.errors import ExoError, NodeError, NodeLost, StaleEpoch
from exo_lab.core.messages import Activate, LoadShard, ModelRef
from exo_lab.node import changes, planner
from exo_lab.node.moves import moved
from tests.node.clusters import DEADLINE_S, MODEL, cluster, tokens_of, until

PROMPT = tuple(range(5, 25))
SHORT = {"max_tokens": 24}


def reference(made):
    return ModelRef(name=MODEL, digest=made.source.config.digest)


class Hatch:
    """Holds up the opening of the model on a node; counts how often it was wanted."""

    def __init__(self, node):
        self.opened, self.count, self._real = threading.Event(), 0, node.loader._open_model
        node.loader._open_model = self._open

    def _open(self, name):
        self.count += 1
        assert self.opened.wait(DEADLINE_S), "nobody opened the hatch"
        return self._real(name)


def on_activate(node, act, *, switch=False):
    """`await act(plan)` before a node answers to an order to activate one. It does not, if that raises."""
    control = node.parts.control
    real = control._handler

    async def handler(message):
        if isinstance(message, Activate) and message.switch == switch:
            await act(message.plan)
        async for reply in real(message):
            yield reply

    control._handler = handler


def test_two_loads_at_once_by_one_node_get_epochs_of_their_own_and_every_node_ends_on_the_later(monkeypatch):
    monkeypatch.setattr(changes, "SAY_EVERY_S", 0.01)

    async def check():
        async with cluster(3) as made:
            hatch, said = Hatch(made[1]), []
            first = asyncio.create_task(made.load((2, 2), (0, 1)))
            await until(lambda: hatch.count > 0, "the first one loads")
            second = asyncio.create_task(made.load((1, 3), (1, 2), progress=lambda *what: said.append(what[3])))
            await until(lambda: any("waiting for another" in what for what in said), "the second one waits")
            assert made[0].recovery.busy
            assert not any(made.engines["n2"])
            hatch.opened.set()
            before, after = await asyncio.gather(first, second)
            assert after.rank > before.rank
            assert [node.plans[MODEL] for node in made.nodes] == [after] * 3
            assert not made[0].recovery.busy
            assert await made.answer(2) == made.expected()
            await until(lambda: made.engines["n0"][0].closed and made.engines["n1"][0].closed, "the first is freed")

    asyncio.run(check())


def test_an_epoch_that_was_given_to_a_plan_is_not_given_again():
    async def check():
        async with cluster(2) as made:
            epochs = [planner.next_epoch(made[0]) for _ in range(3)]
            assert epochs == sorted(set(epochs))
            assert (await made.load((2, 2))).epoch > epochs[-1]

    asyncio.run(check())


def test_a_plan_is_changed_only_if_it_is_still_the_one_that_was_looked_at():
    async def check():
        async with cluster(3) as made:
            old = await made.load((2, 2), (0, 1))
            hatch = Hatch(made[2])
            change = made[0].recovery.change
            first = asyncio.create_task(change(old, moved(old, 3, 4, made[2].id), reference(made), "x"))
            await until(lambda: hatch.count > 0, "it loads")
            late = asyncio.create_task(change(old, moved(old, 1, 2, made[1].id), reference(made), "x"))
            hatch.opened.set()
            new = await first
            with pytest.raises(StaleEpoch, match="has another plan by now"):
                await late
            assert [node.plans[MODEL] for node in made.nodes] == [new] * 3
            # What is replaced while it loads is seen at the end, too: by another node, say.
            hatch.opened.clear()
            late = asyncio.create_task(change(new, made.plan((4,), (2,)), reference(made), "x"))
            await until(lambda: hatch.count > 1, "it loads")
            newest = await made.load((3, 1), (0, 1), by=1)
            hatch.opened.set()
            with pytest.raises(StaleEpoch, match="has another plan by now"):
                await late
            assert [node.plans[MODEL] for node in made.nodes] == [newest] * 3
            assert await made.answer(2) == made.expected()
            await until(lambda: all(engine.closed for engine in made.engines["n2"]), "what was loaded is freed")

    asyncio.run(check())


def test_a_stage_that_dies_while_a_plan_comes_into_use_leaves_the_old_one_with_everybody():
    async def check():
        async with cluster(4) as made:
            old = await made.load((2, 2), (0, 1))
            taken = []

            async def die(plan):
                await until(lambda: made[1].book.holds(plan), "the other stage has taken it into use")
                taken.append(plan)
                made.kill(2)
                made.stopped.append(made[2])
                raise NodeLost("gone")

            on_activate(made[2], die)
            with pytest.raises(ExoError):
                await made.load((1, 3), (1, 2))
            assert taken
            for number in (0, 1, 3):
                assert made[number].plans == {MODEL: old}
                request = made.ask(number)
                assert await tokens_of(request) == made.expected()
                assert request.notices == ()
            await until(lambda: made.engines["n1"][1].closed, "what was loaded for nothing is freed")
            assert not made.engines["n1"][0].closed

    asyncio.run(check())


def test_a_second_loss_while_the_plan_of_a_recovery_comes_into_use_is_survived():
    async def check():
        async with cluster(4) as made:
            await made.load((2, 1, 1), (1, 2, 3))
            gate = made.gates["n2"]
            gate.close_before(4)
            request = made.ask(1, PROMPT, **SHORT)
            await until(gate.reached.is_set, "it is at work")

            async def die(plan):
                await until(lambda: made[1].book.holds(plan), "the requester's stage has taken it into use")
                made.kill(3)
                made.stopped.append(made[3])
                raise NodeLost("gone")

            on_activate(made[3], die)
            made.kill(2)
            made.stopped.append(made[2])
            gate.open()
            assert await tokens_of(request) == made.expected(PROMPT, **SHORT)
            assert request.plan.devices == (made[1].id,)
            await made.free_of_sessions()

    asyncio.run(check())


def test_a_stage_that_did_not_hear_of_the_switch_learns_of_it_from_the_others():
    async def check():
        async with cluster(3) as made:
            await made.load((2, 2), (0, 1))

            async def deaf(plan):
                raise NodeError("not now")

            on_activate(made[1], deaf, switch=True)
            new = await made.load((1, 3), (0, 1))
            await until(lambda: all(node.plans == {MODEL: new} for node in made.nodes), "all have switched")
            assert await made.answer(1) == made.expected()

    asyncio.run(check())


def test_a_shard_in_use_to_which_nobody_switches_is_freed_with_its_proposer():
    async def check():
        async with cluster(3) as made:
            old = await made.load((2, 2), (1, 2))
            plan = msgspec.structs.replace(made.plan((1, 3), (1, 2)), epoch=7, proposer=made[0].id)
            ask, address = made[0].parts.control.request, made[1].card.control
            await ask(address, LoadShard(plan=plan, stage=0, model=reference(made)), timeout_s=10)
            await ask(address, Activate(plan=plan, model=reference(made), switch=False), timeout_s=10)
            assert made[1].plans == {MODEL: old}
            assert not made.engines["n1"][1].closed
            made.cut_off(0)
            await until(lambda: made.engines["n1"][1].closed, "it is freed")
            assert await made.answer(1) == made.expected()

    asyncio.run(check())
