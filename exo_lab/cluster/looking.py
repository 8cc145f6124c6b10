"""What a node sees of the others, as pictures for people, and waiting until they are there."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

from exo_lab.core.errors import ExoError, NodeError
from exo_lab.core.messages import GetStats, Stats
from exo_lab.core.status import LinkMoment, NodeStatus, residents

if TYPE_CHECKING:
    from exo_lab.cluster.cluster import Cluster
    from exo_lab.node.membership import Peer
    from exo_lab.node.node import Node


def node_statuses(node: Node) -> tuple[NodeStatus, ...]:
    """See `Cluster.nodes`."""
    now = time.monotonic()
    me = NodeStatus(
        device=node.device,
        is_self=True,
        address=node.card.control,
        seen_s_ago=0.0,
        load=node.load.value,
        memory_available_bytes=node.memory_available_bytes(),
        compute=node.sensing.vitals.value("compute"),
        temperature_c=node.sensing.vitals.value("temperature"),
        low_power=node.card.heartbeat_s > 0,
        how_found="this node",
    )
    peers = [
        NodeStatus(
            device=peer.card.device,
            liveness=peer.liveness,
            address=peer.control,
            latency_s=_latency_s(node, peer),
            link=node.peers.link_kind(peer),
            seen_s_ago=now - peer.heard_at,
            load=peer.load,
            memory_available_bytes=peer.memory_available_bytes,
            compute=peer.vitals.value("compute"),
            temperature_c=peer.vitals.value("temperature"),
            low_power=peer.card.heartbeat_s > 0,
            how_found=peer.found_by,
        )
        for peer in node.members.peers.values()
    ]
    return (me, *sorted(peers, key=lambda peer: (peer.device.name, peer.device.id)))


def link_history(node: Node, peer: str) -> tuple[LinkMoment, ...]:
    """See `Cluster.link_history`."""
    to_wall_clock = time.time() - time.perf_counter()
    return tuple(
        LinkMoment(
            at_s=to_wall_clock + moment.at,
            latency_s=moment.figures.latency_s,
            bandwidth_bytes_per_s=moment.figures.bandwidth_bytes_per_s,
        )
        for moment in node.ring.echoes.history(peer)
    )


async def counters(node: Node, timeout_s: float) -> dict[str, Stats]:
    """This node's counters and its living peers', by id; who does not answer in time is left out."""

    async def ask(peer: Peer) -> tuple[str, Stats] | None:
        try:
            answer = await node.parts.control.request(peer.control, GetStats(), timeout_s=timeout_s)
        except ExoError:
            return None  # it is slow or on its way out; membership says which
        return (peer.id, answer) if isinstance(answer, Stats) else None

    told = await asyncio.gather(*map(ask, node.members.alive()))
    return {node.id: node.stats(), **dict(one for one in told if one is not None)}


def _latency_s(node: Node, peer: Peer) -> float | None:
    """By echoes between data threads if there are some: a ping goes through two control loops as well."""
    figures = node.peers.link_figures(peer.id)
    return peer.latency_s if figures is None else figures.latency_s


def wait_for(cluster: Cluster, count: int, timeout_s: float) -> tuple[NodeStatus, ...]:
    """See `Cluster.wait_for`."""
    changed = threading.Event()
    stop = cluster.on_change(lambda what: changed.set())
    deadline = time.monotonic() + timeout_s
    try:
        while True:
            changed.clear()
            alive = tuple(node for node in residents(cluster.nodes()) if node.liveness == "alive")
            if len(alive) >= count:
                return alive
            left = deadline - time.monotonic()
            if left <= 0:
                there = ", ".join(node.device.name for node in alive)
                problems = " ".join(cluster.node.problems.values())
                raise NodeError(f"{len(alive)} of {count} nodes after {timeout_s:g} s: {there}. {problems}".rstrip())
            changed.wait(min(left, 0.1))
    finally:
        stop()
