"""Collecting the topology: every node asks its neighbours, they ask theirs, and what comes back is merged (S16).

`visited` travels along, so that a cycle ends; `max_depth` travels along and counts down, so that distance is bounded.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from exo_lab.core.errors import ExoError, FrameError
from exo_lab.core.messages import Collect, Collected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exo_lab.node.peers import Peers
    from exo_lab.transport.base import ControlPort

MAX_DEPTH = 4
MAX_VISITED = 4096


async def collect(
    peers: Peers,
    control: ControlPort,
    visited: Sequence[str] = (),
    max_depth: int = MAX_DEPTH,
    *,
    hop_timeout_s: float = 1.0,
) -> Collected:
    """What this node and everybody within `max_depth` hops of it know.

    A neighbour that does not answer is left out; it is in the result as this node sees it.

    Args:
        peers: this node's.
        control: asks them.
        visited: nodes that have been asked and are not to be asked again.
        max_depth: how many hops away nodes may still be asked; 0: only what this node knows itself. More than
            `MAX_DEPTH` is taken as `MAX_DEPTH`.
        hop_timeout_s: a neighbour has this long for each hop that it may go.

    Raises:
        FrameError: `visited` is absurdly long.
    """
    if len(visited) > MAX_VISITED:
        raise FrameError(f"{len(visited)} nodes are said to have been visited; at most {MAX_VISITED} are believed")
    depth = max(0, min(max_depth, MAX_DEPTH))
    seen = {*visited, peers.card.device.id}
    known = peers.topology
    if not depth:
        return Collected(topology=known, visited=tuple(sorted(seen)))
    new = [peer for peer in peers.members.alive() if peer.id not in seen]
    # Marked before they are asked, all at once: neighbours of each other need not ask each other.
    seen |= {peer.id for peer in new}
    question = Collect(visited=tuple(sorted(seen)), max_depth=depth - 1)

    async def ask(address: str) -> Collected | None:
        try:
            reply = await control.request(address, question, timeout_s=hop_timeout_s * depth)
        except ExoError:
            return None
        return reply if isinstance(reply, Collected) else None

    for answer in await asyncio.gather(*(ask(peer.control) for peer in new)):
        if answer is not None:
            known = known.merge(answer.topology)
            seen |= set(answer.visited)
    return Collected(topology=known, visited=tuple(sorted(seen)))
