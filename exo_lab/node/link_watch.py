"""When the ways to the others are measured: new ones in quick succession, all of them now and then. No frames.

The data thread sends them, if it has nothing to do.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from exo_lab.node.cadence import Due, interval_s
from exo_lab.node.orders import Measure

if TYPE_CHECKING:
    from exo_lab.node.node import Node

QUICK = 10  # so many times as often, new ways are measured


async def watch_links(node: Node) -> None:
    """For ever; cancelling it ends it. Nodes that save power are asked as seldom as they ask."""
    every_s = node.timing.measure_every_s
    seldom = every_s / node.timing.ping_every_s
    due = Due(every_s, lambda peer: interval_s(every_s, seldom * interval_s(0.0, peer.card.heartbeat_s)))
    quick = False
    while True:
        await asyncio.sleep(every_s / QUICK if quick else every_s)
        alive = node.members.alive()
        young = [peer.id for peer in alive if node.ring.echoes.young(peer.id)]
        asked = dict.fromkeys([*young, *(peer.id for peer in due.take(alive, time.monotonic()))])
        if asked:
            node.ring.post(Measure(tuple(asked)))
        quick = bool(young)
