"""A change that takes long is made once, however often the rebalancer looks meanwhile."""

from __future__ import annotations

import asyncio

from exo_lab.cluster import rebalance
from exo_lab.cluster.rebalance import Proposal, Rebalancer
from tests.node.clusters import MODEL, cluster, until
from tests.node.test_changes import Hatch


def test_a_load_that_takes_longer_than_a_look_is_not_begun_again(monkeypatch):
    monkeypatch.setattr(rebalance, "SETTLE_S", 0.01)
    monkeypatch.setattr(rebalance, "LOOK_AGAIN_S", 0.02)

    async def check():
        async with cluster(1) as made:
            old = await made.load((4,))
            watcher = Rebalancer(made[0], "auto")
            watcher._note_newcomers()
            looks = []
            real = watcher._consider_all
            monkeypatch.setattr(watcher, "_consider_all", lambda: looks.append(1) or real())
            proposed = []

            def propose(plan, config):
                proposed.append(plan)
                return Proposal(made.plan((2, 2)), 100.0, None)  # as if the plan in use were broken: at once

            monkeypatch.setattr(watcher, "_propose", propose)
            newcomer = await made.add()
            hatch = Hatch(newcomer)
            await made.all_met()
            await until(lambda: hatch.count > 0, "it loads")
            before = len(looks)
            await until(lambda: len(looks) > before + 1, "it has looked again")
            watcher.policy = "never"  # once this one is over
            hatch.opened.set()
            await until(lambda: made[0].plans[MODEL] != old, "the plan was changed")
            assert made[0].plans[MODEL].shards == made.plan((2, 2)).shards
            assert hatch.count == 1
            await until(lambda: newcomer.plans == made[0].plans, "everybody has it")
            assert await made.answer() == made.expected()
            assert not [text for text in made[0].problems.values() if "anew" in text]

    asyncio.run(check())
