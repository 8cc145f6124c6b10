"""Looking now and then whether generations of this node still move: who does not is replayed, then given up."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from exo_lab.core.errors import ExoError, GenerationTimeout
from exo_lab.node.orders import Stop

if TYPE_CHECKING:
    from exo_lab.node.node import Node
    from exo_lab.node.session import Request


async def watch_requests(node: Node) -> None:
    """For ever, on the control loop."""
    while True:
        now = time.perf_counter()
        for request in node.ring.requests:
            if request.overdue(now) and request.fail(_timeout(node, request)):
                node.ring.post(Stop(request))
            elif request.stalled(now, node.timing.stalled_after_s):
                node.recovery.stalled(request, now)
        await asyncio.sleep(node.timing.sweep_every_s)


def _timeout(node: Node, request: Request) -> ExoError:
    silent = [
        peer.card.device.name
        for peer in node.members.peers.values()
        if peer.liveness != "alive" and request.plan.stage_of(peer.id) is not None
    ]
    who = f"; {', '.join(silent)} did not answer" if silent else "; every node of the plan answers pings"
    return GenerationTimeout(
        f"no token for {request.timeout_s:g} s{who}. Look at `%exo status`, or allow more with timeout_s."
    )
