"""How a node learns of plans that were made without it: from its peers, when their pongs name newer ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exo_lab.core import messages as msg
from exo_lab.core.errors import ExoError

if TYPE_CHECKING:
    from exo_lab.node.node import Node


async def get_to_know(node: Node, peer: str) -> None:
    """Ask a peer at once how it is and what it has loaded: a newcomer need not wait for the next round of pings."""
    await node.peers.pulse.ask(peer)
    await catch_up(node)


async def catch_up(node: Node) -> None:
    """Ask for plans that a peer has and that are newer than ours: how a late joiner learns of them."""
    for peer in node.members.alive():
        if not any(node.book.is_news(*one) for one in peer.plans):
            continue
        subject = f"plans of {peer.id}"
        try:
            reply = await node.parts.control.request(peer.control, msg.GetPlans(), timeout_s=node.timing.ping_timeout_s)
            if isinstance(reply, msg.Plans):
                for plan, model in zip(reply.plans, reply.models, strict=False):
                    # A stage must have its shard in use already: it was told of the plan, and not yet to switch.
                    able = plan.stage_of(node.id) is None or node.book.holds(plan)
                    if able and node.book.is_news(plan.model, *plan.rank):
                        node.book.adopt(plan, model)
        except ExoError as exc:
            node.problems.note(subject, f"{peer.card.device.name} did not say what it has loaded: {exc}")
        else:
            node.problems.settle(subject)
