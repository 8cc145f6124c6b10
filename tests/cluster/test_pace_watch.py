"""A node becomes slow in the middle of an answer: its layers move once, the tokens are the same, and nothing flaps."""

from __future__ import annotations

import asyncio
import contextlib

import msgspec
import pytest

from exo_lab.cluster import pace_watch
from exo_lab.cluster.pace_watch import PaceWatch
from exo_lab.cluster.planning import Wish
from exo_lab.core.pace import Measured
from exo_lab.node import planner
from exo_lab.planning.choose import choose
from exo_lab.planning.drift import SUSTAIN_S
from tests.node.clusters import MODEL, cluster, tokens_of, until
from tests.tiny import tiny_config, tiny_source

LAYERS = 8
LAYER_S = 0.01  # as "measured": the hops of this process are small beside it, on a busy machine too
PROMPT = tuple(range(5, 25))


class Lab:
    """Three nodes that each hold six of eight layers at most; what they measure is up to the test, and so is time."""

    def __init__(self, made, monkeypatch, policy="auto"):
        self.made, self.policy, self.now = made, policy, 100.0
        self.factors = dict.fromkeys((node.id for node in made.nodes), 1.0)
        self.config = made.source.config
        monkeypatch.setattr(planner, "measurements", lambda *_: self.measurements())
        self.wish = Wish(strategy="optimal", context=64)
        self.watch = PaceWatch(
            made[0],
            lambda: self.policy,
            lambda plan: self.wish,
            lambda plan: True,
            clock=lambda: self.now,
        )

    def measurements(self):
        return tuple(
            (device, Measured(layer_s=LAYER_S * factor, head_s=LAYER_S * factor, overhead_s=0.0))
            for device, factor in sorted(self.factors.items())
        )

    async def load(self):
        """By the strategy, with the figures of now."""
        problem = pace_watch.problem_of(self.made[0], self.config, self.wish)
        plan = choose(problem, self.wish.strategy)
        counts = [len(shard) for shard in plan.shards]
        ids = [node.id for node in self.made.nodes]
        order = [ids.index(device) for device in plan.devices]
        loaded = await self.made.load(counts, order)
        # As `Cluster.load` would have it: the plan says by which strategy it was made.
        self.made[0].book.plans[MODEL] = msgspec.structs.replace(loaded, strategy=self.wish.strategy)
        return self.plan

    @property
    def plan(self):
        return self.made[0].plans[MODEL]

    def layers_of(self, device):
        stage = self.plan.stage_of(device)
        return 0 if stage is None else len(self.plan.shards[stage])

    async def pass_by(self, seconds):
        """One look a second."""
        for _ in range(int(seconds)):
            self.now += 1.0
            await self.watch.look()


@contextlib.asynccontextmanager
async def lab(monkeypatch, policy="auto"):
    source = tiny_source(tiny_config(n_layers=LAYERS, name=MODEL))
    caches = 64 * LAYERS * source.config.kv_bytes_per_token_per_layer
    room = int(1.04 * source.config.total_bytes) + caches  # with 5 % to spare, not quite all
    async with cluster(3, source=source, parts={"memory_bytes": room}) as made:
        yield Lab(made, monkeypatch, policy)


def test_a_stage_that_becomes_slow_gives_its_layers_away_once_and_the_tokens_are_the_same(monkeypatch):
    async def check():
        async with lab(monkeypatch) as here:
            made, before = here.made, await here.load()
            slow = before.devices[0]
            await here.pass_by(20)
            assert here.plan == before  # all is well
            node = next(one for one in made.nodes if one.id == slow)
            gate = made.gates[node.device.name]
            gate.close_before(6)
            answer = made.ask(0, PROMPT, max_tokens=24)
            await until(gate.reached.is_set, "it is at work")
            here.factors[slow] = 8.0
            await here.pass_by(SUSTAIN_S)
            assert here.plan == before  # it may be over in a moment
            await here.pass_by(2)
            after = here.plan
            assert after.rank > before.rank
            assert here.layers_of(slow) < len(before.shards[0])
            gate.open()
            assert await tokens_of(answer) == made.expected(PROMPT, max_tokens=24)
            assert "stages take otherwise" in answer.notices[0]
            await here.pass_by(200)
            assert here.plan == after  # it is the best that there is, and nothing else happens
            assert await made.answer(0) == made.expected()
            await made.free_of_sessions()

    asyncio.run(check())


def test_noise_and_short_spells_move_nothing(monkeypatch):
    async def check():
        async with lab(monkeypatch) as here:
            before = await here.load()
            for number in range(60):
                for place, device in enumerate(here.factors):
                    here.factors[device] = 1 + 0.06 * (-1) ** (number + place)
                await here.pass_by(1)
            for _ in range(10):
                for factor, seconds in ((8.0, SUSTAIN_S), (1.0, 1)):
                    here.factors[before.devices[0]] = factor
                    await here.pass_by(seconds)
            assert here.plan == before

    asyncio.run(check())


def test_layers_go_back_only_after_twice_as_long(monkeypatch):
    async def check():
        async with lab(monkeypatch) as here:
            made = here.made
            fast = made[0].id
            here.factors = {node.id: 1.0 if node.id == fast else 3.0 for node in made.nodes}
            before = await here.load()
            assert here.layers_of(fast) > LAYERS // 2
            await here.pass_by(3)
            here.factors[fast] = 12.0
            await here.pass_by(SUSTAIN_S + 1)
            assert here.layers_of(fast) < LAYERS // 2
            away = here.plan
            await here.pass_by(3)
            here.factors[fast] = 1.0
            await here.pass_by(2 * SUSTAIN_S)
            assert here.plan == away
            await here.pass_by(1)
            assert here.layers_of(fast) == dict(zip(before.devices, map(len, before.shards), strict=True))[fast]
            assert await made.answer(0) == made.expected()

    asyncio.run(check())


@pytest.mark.parametrize("policy", ["ask", "never"])
def test_without_leave_nothing_moves_and_who_wants_to_be_asked_is_told(monkeypatch, policy):
    async def check():
        async with lab(monkeypatch, policy) as here:
            before = await here.load()
            await here.pass_by(2)
            here.factors[before.devices[0]] = 8.0
            await here.pass_by(SUSTAIN_S + 2)
            assert here.plan == before
            said = [text for text in here.made[0].problems.values() if "stages take otherwise" in text]
            assert len(said) == (policy == "ask")
            here.factors[before.devices[0]] = 1.0
            await here.pass_by(1)
            assert not any("stages take otherwise" in text for text in here.made[0].problems.values())

    asyncio.run(check())


def test_what_was_cut_by_hand_stays_and_chosen_nodes_keep_their_order(monkeypatch):
    async def check():
        async with lab(monkeypatch) as here:
            made = here.made
            await made.load((4, 4), (1, 2))
            by_hand = here.plan
            assert by_hand.strategy == "manual"
            await here.pass_by(3)
            here.factors[made[1].id] = 8.0
            await here.pass_by(60)
            assert here.plan == by_hand

            here.factors = dict.fromkeys(here.factors, 1.0)
            here.wish = Wish(strategy="optimal", context=64, devices=("n1", "n2"))
            made[0].book.plans[MODEL] = msgspec.structs.replace(by_hand, strategy="uniform")
            await here.pass_by(3)
            here.factors[made[1].id] = 8.0
            await here.pass_by(SUSTAIN_S + 2)
            assert here.plan.devices == (made[1].id, made[2].id)
            assert 0 < here.layers_of(made[1].id) < 4

    asyncio.run(check())


def test_a_move_that_fails_is_told_and_not_tried_again_at_once(monkeypatch):
    async def check():
        async with lab(monkeypatch) as here:
            before = await here.load()
            await here.pass_by(2)
            tries = []

            async def change(*_):
                tries.append(here.now)
                raise planner.NodeLost("somebody went away")

            here.made[0].recovery.change = change
            here.factors[before.devices[0]] = 8.0
            await here.pass_by(4 * SUSTAIN_S)
            assert len(tries) == 2
            assert tries[1] - tries[0] > 2 * SUSTAIN_S
            assert here.plan == before

    asyncio.run(check())
